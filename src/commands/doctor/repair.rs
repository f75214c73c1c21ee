//! What `--fix` does, as data and then in deed. Only what is safe: nothing here loses a credential,
//! ends a process, switches an account, or touches anything but the pool and the mode of `auth.json`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use codex_pool_core::account::AccountId;
use codex_pool_core::auth_doc::{AuthDoc, MAX_BYTES};
use codex_pool_core::env::Env;
use codex_pool_core::files::{self, PoolLock};
use codex_pool_core::homes::{self, in_use::Processes};
use codex_pool_core::launch::login;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::process::{self, Liveness, ProcessId};
use codex_pool_core::renewal;
use codex_pool_core::store::{Credentials, LostFound, State, Why};
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Error, Result};

use super::scene::Place;
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
    /// A home that was made for one login, whose login is over.
    Home { dir: PathBuf },
    /// Some of them.
    Several(Vec<Repair>),
}

impl Repair {
    /// What is there to mend, in a few words.
    pub(super) fn describe(&self) -> String {
        match self {
            Repair::SetAside { cache } => format!("the cache {} is damaged", cache.display()),
            Repair::Remove { file } => format!("{} is of no more use", file.display()),
            Repair::Home { dir } => format!("{} is left from a login", dir.display()),
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
        Repair::Enter { .. } | Repair::Undo | Repair::Settle | Repair::Home { .. } => {
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
            Ok("put the answer of a token refresh in its place".to_owned())
        }
        Repair::Home { dir } => clear_home(lock, pool, dir, env.now),
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

/// Homes of logins whose process is gone and that no mark speaks of (those are undone, see
/// [`Mend::Undo`]).
pub(super) fn abandoned_homes(place: &Place) -> Vec<PathBuf> {
    let marked: Vec<PathBuf> = place.pool.as_ref().map_or_else(
        |_| Vec::new(),
        |pool| {
            let codex_homes = pool.state().marks.iter().filter_map(|mark| mark.home.as_deref());
            codex_homes.map(codex_pool_core::store::path_of_key).collect()
        },
    );
    let read = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let over = |dir: &PathBuf| is_over(dir) && !marked.contains(&dir.join("auth.json"));
    let of_codex_login = read(place.paths.homes()).flat_map(read).filter(over);
    let of_add = read(place.paths.logins()).filter(|dir| is_dead(dir, place.processes.me.as_ref()));
    of_codex_login.chain(of_add).collect()
}

/// Whether a private home (named after its process) belongs to a process that is gone.
fn is_dead(dir: &Path, me: Option<&ProcessId>) -> bool {
    let maker = dir.file_name().and_then(|name| ProcessId::parse(name.to_str()?));
    maker.zip(me).is_some_and(|(maker, me)| maker.liveness(me) == Liveness::Dead)
}

/// Whether a folder is a home for one login (`login-<pid>-<start>`) whose process is gone.
fn is_over(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let Some((pid, start)) = name.strip_prefix("login-").and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { return false };
    process::stat(pid).is_none_or(|stat| stat.ended || stat.start_ticks != start)
}

/// Removes such a home. A login that was made there and that nobody took over comes into the pool first.
fn clear_home(lock: &PoolLock, pool: &mut Pool, dir: &Path, now: i64) -> Result<String> {
    let auth = dir.join("auth.json");
    if let Some(bytes) = files::read_small(&auth, MAX_BYTES).map_err(|e| Error::io("read", &auth, &e))?
        && !bytes.is_empty()
    {
        match AuthDoc::parse(bytes.clone()) {
            Ok(doc) => {
                pool.adopt(lock, &doc.corrected(), None, false, now)?;
            }
            Err(_) => {
                LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now)?;
            }
        }
    }
    fs::remove_dir_all(dir).map_err(|e| Error::io("remove", dir, &e))?;
    Ok(format!("removed {}", dir.display()))
}
