//! Login homes: Codex homes for one login each. Codex revokes the login that it finds, so a login that must leave the
//! others alone runs in a home without one. The home is named after the process that made it. If that process is gone,
//! the next command that opens the pool adopts the login and removes the home.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::in_use::{self, Processes};
use super::{CodexHome, HomeKind, adopt_login, homes_with, own_home, rewrite};
use crate::auth_doc::{AuthDoc, MAX_BYTES};
use crate::error::{Error, Result};
use crate::files::{self, PoolLock};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{Liveness, ProcessId};
use crate::store::{LostFound, Mark, Origin, Why, path_key};

/// How long a home counts as used if its process cannot be seen from here.
const UNSEEN: Duration = Duration::from_secs(86_400);

/// Creates an empty home over the main home for a login that this process runs.
///
/// # Errors
/// It cannot be made.
pub fn create(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    process: &ProcessId,
) -> Result<CodexHome> {
    let home = main_home.login(paths, process);
    own_home::create(lock, paths, main_home, &home)?;
    Ok(home)
}

/// Creates a home with links to the main home, so that Codex finds the user's settings there.
///
/// # Errors
/// As [`create`].
pub(crate) fn create_linked(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    process: &ProcessId,
    now: i64,
) -> Result<CodexHome> {
    let home = main_home.login(paths, process);
    own_home::update_lenient(lock, paths, main_home, &home, now)?;
    Ok(home)
}

/// Takes the login that was made in a login home into the pool and into every home of its account, and commits.
/// Returns it. `None`: there was no login, or none that the pool can manage, which is kept in `lost+found/`. The home can
/// be removed then. `made_now`: the user has just made it, so it is newer than what the pool has.
///
/// # Errors
/// The login cannot be read or stored.
pub fn adopt(
    lock: &PoolLock,
    pool: &mut Pool,
    home: &CodexHome,
    made_now: bool,
    now: i64,
) -> Result<Option<AuthDoc>> {
    let path = home.auth_json();
    let bytes = files::read_small(&path, MAX_BYTES).map_err(|e| Error::io("read", &path, &e))?;
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let Ok(doc) = AuthDoc::parse(bytes.clone()).map(AuthDoc::corrected) else {
        LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now)?;
        return Ok(None);
    };
    if made_now {
        let (_, problems) = adopt_login(lock, pool, &doc, None, now)?;
        problems.into_iter().next().map_or(Ok(()), Err)?;
    } else {
        pool.adopt(lock, &doc, None, Origin::Found, now)?;
        for other in homes_with(lock, pool, doc.id(), now)? {
            if let Some(newest) = pool.credentials().load(doc.id())? {
                rewrite(lock, pool, &other, &newest, now)?;
            }
        }
    }
    pool.commit(lock)?;
    Ok(Some(doc))
}

/// Removes a login home with everything in it.
///
/// # Errors
/// It cannot be removed.
pub fn remove(home: &CodexHome) -> Result<()> {
    match fs::remove_dir_all(home.dir()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", home.dir(), &e)),
        _ => Ok(()),
    }
}

/// Returns the login homes whose process is gone, except for those of an unfinished operation: its mark says what is
/// to be done.
pub fn abandoned(paths: &PoolPaths, marks: &[Mark], processes: &Processes) -> Vec<CodexHome> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let homes = entries(&paths.homes()).flat_map(|over| entries(&over).collect::<Vec<_>>());
    let homes = homes.map(|dir| CodexHome::at(paths, dir)).filter(|home| *home.kind() == HomeKind::Login);
    let marked = |home: &CodexHome| {
        let key = path_key(&home.auth_json());
        marks.iter().any(|mark| mark.home.as_ref() == Some(&key))
    };
    homes.filter(|home| !marked(home) && is_abandoned(home, processes)).collect()
}

fn is_abandoned(home: &CodexHome, processes: &Processes) -> bool {
    let liveness = home.login_process().zip(processes.me.as_ref()).map(|(process, me)| {
        match process.liveness(me) {
            // The process that made the home was killed, and its Codex still runs.
            Liveness::Dead if !in_use::auth_commands_of(&process).is_empty() => Liveness::Alive,
            liveness => liveness,
        }
    });
    match liveness {
        Some(Liveness::Alive) => false,
        Some(Liveness::Dead) => true,
        Some(Liveness::Unknown) | None => {
            let modified = fs::metadata(home.dir()).and_then(|meta| meta.modified()).ok();
            modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > UNSEEN)
        }
    }
}

/// Adopts what is in the abandoned login homes, and removes them. One for which that fails stays for the next time.
pub fn clear_abandoned(lock: &PoolLock, pool: &mut Pool, processes: &Processes, now: i64) {
    for home in abandoned(&pool.paths, &pool.state().marks, processes) {
        let _ = adopt(lock, pool, &home, false, now).and_then(|_| remove(&home));
    }
}
