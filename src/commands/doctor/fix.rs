//! What `--fix` does. Only what is safe: nothing here loses a credential, ends a process or switches an account, and
//! outside the pool only the mode of `auth.json` changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use codex_pool_core::account::AccountId;
use codex_pool_core::env::Env;
use codex_pool_core::files::{self, PoolLock};
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::homes::{self, CodexHome, login_home};
use codex_pool_core::launch::login;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::renewal;
use codex_pool_core::store::{Credentials, State};
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Error, Result};

use crate::{context, programs};

/// One change that fixes something.
#[derive(Debug)]
pub(super) enum Fix {
    /// Makes these files and folders private.
    MakePrivate { paths: Vec<PathBuf> },
    /// Puts the shim in its place.
    PutShim { source: PathBuf },
    /// Makes the link through which the shim finds `codex-pool`.
    LinkAdmin { target: PathBuf },
    /// Brings accounts whose documents are in `auth/` back into the registry.
    Register { ids: Vec<AccountId> },
    /// Undoes what a killed login or logout left.
    UndoLogin,
    /// Stores the answer of a token renewal that waits in `lost+found/`.
    StoreRenewed,
    /// Sets a cache aside that cannot be read. It fills again.
    SetAside { cache: Cache },
    /// Removes a file of no more use.
    Remove { file: PathBuf },
    /// Adopts the login in the home of a login that is over, and removes the home.
    ClearLoginHome { home: CodexHome },
    /// Several changes.
    Several(Vec<Fix>),
}

/// A file of the pool that can be rebuilt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cache {
    Usage,
    State,
}

impl Cache {
    pub(super) fn path(self, paths: &PoolPaths) -> PathBuf {
        match self {
            Cache::Usage => paths.usage(),
            Cache::State => paths.state(),
        }
    }
}

/// Makes every change. Returns what was done, and why something could not be done.
pub(super) fn all(env: &Env, fixes: impl Iterator<Item = Fix>) -> (Vec<String>, Vec<String>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let Ok(paths) = context::paths(env) else { return (done, failed) };
    let mut all = Vec::new();
    flatten(fixes, &mut all);
    // A pool that cannot be written must be made writable first.
    all.sort_by_key(|fix| !matches!(fix, Fix::MakePrivate { .. }));
    for fix in all {
        match make(env, &paths, &fix) {
            Ok(text) => done.push(text),
            Err(error) => failed.push(error.to_string()),
        }
    }
    (done, failed)
}

fn flatten(fixes: impl Iterator<Item = Fix>, into: &mut Vec<Fix>) {
    for fix in fixes {
        match fix {
            Fix::Several(some) => flatten(some.into_iter(), into),
            one => into.push(one),
        }
    }
}

/// Makes one change. Returns what was done.
fn make(env: &Env, paths: &PoolPaths, fix: &Fix) -> Result<String> {
    if let Fix::MakePrivate { paths } = fix {
        return make_private(paths);
    }
    let lock = context::lock(paths)?;
    match fix {
        Fix::PutShim { source } => {
            programs::put_shim(&lock, paths, source)?;
            Ok(format!("put the shim in place: {}", paths.shim().display()))
        }
        Fix::LinkAdmin { target } => {
            programs::link_admin(&lock, paths, target)?;
            Ok(format!("linked {} to {}", paths.admin_link().display(), target.display()))
        }
        Fix::SetAside { cache } => Ok(set_aside(&lock, paths, *cache)),
        Fix::Remove { file } => {
            files::remove_file(file).map_err(|e| Error::io("remove", file, &e))?;
            Ok(format!("removed {}", file.display()))
        }
        Fix::Register { .. } | Fix::UndoLogin | Fix::StoreRenewed | Fix::ClearLoginHome { .. } => {
            let mut pool = homes::open_pool(&lock, paths, env.now)?;
            let text = in_pool(env, &lock, &mut pool, fix)?;
            pool.commit(&lock)?;
            Ok(text)
        }
        Fix::MakePrivate { .. } | Fix::Several(_) => Ok(String::new()),
    }
}

/// Makes a change of the registry or the state.
fn in_pool(env: &Env, lock: &PoolLock, pool: &mut Pool, fix: &Fix) -> Result<String> {
    match fix {
        Fix::Register { ids } => register(pool, ids, env.now),
        Fix::UndoLogin => {
            let processes = Processes::read(Some(lock), &pool.paths, env.now);
            login::undo_interrupted(lock, pool, &processes, env.now)?;
            Ok("tidied up after a killed login or logout".to_owned())
        }
        Fix::StoreRenewed => {
            renewal::exchange_newest(lock, pool, env.now)?;
            Ok("stored the answer of a token renewal".to_owned())
        }
        Fix::ClearLoginHome { home } => {
            login_home::adopt(lock, pool, home, false, env.now)?;
            login_home::remove(home)?;
            Ok(format!("removed {}", home.dir().display()))
        }
        _ => Ok(String::new()),
    }
}

fn make_private(paths: &[PathBuf]) -> Result<String> {
    for path in paths {
        let is_dir = path.is_dir();
        fs::set_permissions(path, fs::Permissions::from_mode(if is_dir { 0o700 } else { 0o600 }))
            .map_err(|e| Error::io("change the mode of", path, &e))?;
    }
    let what = paths.first().map_or_else(String::new, |p| p.display().to_string());
    Ok(match paths.len() {
        1 => format!("made {what} private"),
        n => format!("made {what} and {} more private", n - 1),
    })
}

fn register(pool: &mut Pool, ids: &[AccountId], now: i64) -> Result<String> {
    let mut labels = Vec::new();
    for id in ids {
        // The account may have come back meanwhile.
        if pool.registry().get(id).is_some() {
            continue;
        }
        let Some(doc) = Credentials::new(&pool.paths).load(id)? else { continue };
        pool.registry_mut().upsert(&doc, None, now);
        labels.extend(pool.registry().get(id).map(|account| account.label.clone()));
    }
    Ok(format!(
        "entered in the registry again: {} (`codex-pool rename` gives other labels, `codex-pool set` folders and reserves)",
        labels.join(", ")
    ))
}

fn set_aside(lock: &PoolLock, paths: &PoolPaths, cache: Cache) -> String {
    // Loading a cache with the lock sets it aside if it cannot be read.
    match cache {
        Cache::Usage => drop(UsageCache::load(Some(lock), paths)),
        Cache::State => drop(State::load(Some(lock), paths)),
    }
    format!("set {} aside; it fills again", cache.path(paths).display())
}
