//! What `--fix` does, as data and then in deed. Only what is safe: nothing here loses a credential,
//! ends a process, switches an account, or touches anything but the pool and the mode of `auth.json`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use codex_pool_core::account::AccountId;
use codex_pool_core::env::Env;
use codex_pool_core::files::{self, PoolLock};
use codex_pool_core::homes::{self, in_use::Processes};
use codex_pool_core::homes::{CodexHome, login_home};
use codex_pool_core::launch::login;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::renewal;
use codex_pool_core::store::{Credentials, State};
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Error, Result};

use crate::{context, programs};

/// One repair.
#[derive(Debug)]
pub(super) enum Repair {
    /// Nobody else may read these files and folders.
    Private { paths: Vec<PathBuf> },
    /// The shim is put in its place.
    Shim { source: PathBuf },
    /// The link through which the shim finds `codex-pool`.
    AdminLink { target: PathBuf },
    /// Accounts whose documents are in auth/ come back into the registry.
    Enter { ids: Vec<AccountId> },
    /// What a killed login or logout left is undone.
    Undo,
    /// A renewed document that waits in `lost+found/` is put in its place.
    Settle,
    /// A cache that cannot be read is set aside; it fills again.
    SetAside { cache: PathBuf },
    /// A file of no more use.
    Remove { file: PathBuf },
    /// The home of a login that is over.
    LoginHome { home: CodexHome },
    /// Some of them.
    Several(Vec<Repair>),
}

impl Repair {
    /// What is there to mend, in a few words.
    pub(super) fn describe(&self) -> String {
        match self {
            Repair::SetAside { cache } => format!("the cache {} is damaged", cache.display()),
            Repair::Remove { file } => format!("{} is of no more use", file.display()),
            Repair::LoginHome { home } => format!("{} is left from a login", home.dir().display()),
            other => format!("{other:?}"),
        }
    }
}

/// Makes every repair; says what was done, and what could not be.
pub(super) fn all(env: &Env, mends: impl Iterator<Item = Repair>) -> (Vec<String>, Vec<String>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let Ok(paths) = context::paths(env) else { return (done, failed) };
    let mut flat = Vec::new();
    flatten(mends, &mut flat);
    // A pool that we may not write must first be made writable.
    flat.sort_by_key(|mend| !matches!(mend, Repair::Private { .. }));
    for mend in flat {
        match one(env, &paths, &mend) {
            Ok(text) => done.push(text),
            Err(error) => failed.push(error.to_string()),
        }
    }
    (done, failed)
}

fn flatten(mends: impl Iterator<Item = Repair>, into: &mut Vec<Repair>) {
    for mend in mends {
        match mend {
            Repair::Several(some) => flatten(some.into_iter(), into),
            one => into.push(one),
        }
    }
}

fn one(env: &Env, paths: &PoolPaths, mend: &Repair) -> Result<String> {
    if let Repair::Private { paths } = mend {
        return make_private(paths);
    }
    let lock = context::lock(paths)?;
    match mend {
        Repair::Shim { source } => {
            programs::put_shim(&lock, paths, source)?;
            Ok(format!("put the shim in place: {}", paths.shim().display()))
        }
        Repair::AdminLink { target } => {
            programs::link_admin(&lock, paths, target)?;
            Ok(format!("linked {} to {}", paths.admin_link().display(), target.display()))
        }
        Repair::SetAside { cache } => set_aside(&lock, paths, cache),
        Repair::Remove { file } => {
            files::remove_file(file).map_err(|e| Error::io("remove", file, &e))?;
            Ok(format!("removed {}", file.display()))
        }
        Repair::Enter { .. } | Repair::Undo | Repair::Settle | Repair::LoginHome { .. } => {
            let mut pool = homes::open_pool(&lock, paths, env.now)?;
            let text = in_pool(env, &lock, &mut pool, mend)?;
            pool.commit(&lock)?;
            Ok(text)
        }
        Repair::Private { .. } | Repair::Several(_) => Ok(String::new()),
    }
}

/// Repairs of what the registry and the state say.
fn in_pool(env: &Env, lock: &PoolLock, pool: &mut Pool, mend: &Repair) -> Result<String> {
    match mend {
        Repair::Enter { ids } => enter(pool, ids, env.now),
        Repair::Undo => {
            let processes = Processes::read(Some(lock), &pool.paths, env.now);
            login::undo_interrupted(lock, pool, &processes, env.now)?;
            Ok("tidied up after a killed login or logout".to_owned())
        }
        Repair::Settle => {
            renewal::settle(lock, pool, env.now)?;
            Ok("put the answer of a token renewal in its place".to_owned())
        }
        Repair::LoginHome { home } => clear_home(lock, pool, home, env.now),
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

fn enter(pool: &mut Pool, ids: &[AccountId], now: i64) -> Result<String> {
    let mut labels = Vec::new();
    for id in ids {
        // One that came back meanwhile needs nothing.
        if pool.registry().get(id).is_some() {
            continue;
        }
        let Some(doc) = Credentials::new(&pool.paths).load(id)? else { continue };
        pool.registry_mut().enter(&doc, None, now);
        labels.extend(pool.registry().get(id).map(|account| account.label.clone()));
    }
    Ok(format!(
        "entered in the registry again: {} (`codex-pool rename` gives other labels)",
        labels.join(", ")
    ))
}

fn set_aside(lock: &PoolLock, paths: &PoolPaths, cache: &Path) -> Result<String> {
    // Loading one with the lock does it.
    if *cache == paths.usage() {
        UsageCache::load(Some(lock), paths);
    } else {
        State::load(Some(lock), paths);
    }
    Ok(format!("set {} aside; it fills again", cache.display()))
}

/// Takes in the login that was made in a login home, and removes the home.
fn clear_home(lock: &PoolLock, pool: &mut Pool, home: &CodexHome, now: i64) -> Result<String> {
    login_home::adopt(lock, pool, home, now)?;
    login_home::remove(home)?;
    Ok(format!("removed {}", home.dir().display()))
}
