//! The place of the homes of a pool that is below the temporary folder, where Codex refuses a CODEX_HOME: a state folder
//! of the user's, to which `homes` in the pool is a link then. Never moves a home.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::codex_home::{CodexHome, MAIN_HOME_FILE};
use crate::account::AccountId;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::files::{self, PoolLock};
use crate::hash::short_hash_text;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::store::path_key;

/// The folder in the user's state folder.
const FOLDER: &str = "codex-pool";

/// Returns where the homes of this pool are, or will be once there is one. `None`: below the temporary folder, and there
/// is no better place.
pub(super) fn place(paths: &PoolPaths, env: &Env) -> Option<PathBuf> {
    let homes = nearest(&paths.homes());
    let temp = real(&env.temp_dir());
    if !homes.starts_with(&temp) {
        return Some(homes);
    }
    let state = folder(paths, env)?;
    let movable = match fs::read_link(paths.homes()) {
        Ok(to) => to == state,
        Err(_) => is_without_homes(&paths.homes()),
    };
    (movable && is_safe(&nearest(&state)) && !nearest(&state).starts_with(&temp)).then_some(state)
}

/// Makes the link to a state folder if the homes are not to stay where they are. That comes before the first home: none
/// is moved.
///
/// # Errors
/// It cannot be made.
pub fn settle(_lock: &PoolLock, paths: &PoolPaths, env: &Env) -> Result<()> {
    let homes = paths.homes();
    if !nearest(&homes).starts_with(real(&env.temp_dir())) {
        return Ok(());
    }
    let Some(place) = place(paths, env).filter(|place| Some(place) == folder(paths, env).as_ref()) else {
        return Ok(());
    };
    files::create_private_dir(&place).map_err(|e| Error::io("create", &place, &e))?;
    files::make_private(&place).map_err(|e| Error::io("change the mode of", &place, &e))?;
    if homes.is_symlink() {
        return Ok(());
    }
    let link = || {
        for over in entries(&homes) {
            files::remove_file(&over.join(MAIN_HOME_FILE))?;
            fs::remove_dir(&over)?;
        }
        match fs::remove_dir(&homes) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => symlink(&place, &homes),
        }
    };
    link().map_err(|e| Error::io("link", &homes, &e))
}

/// As [`settle`], before an account is put into a home: the file of another main home may move to an own home then.
///
/// # Errors
/// As [`settle`].
pub fn settle_for(lock: &PoolLock, pool: &Pool, home: &CodexHome, id: &AccountId, env: &Env) -> Result<()> {
    let here = path_key(&home.auth_json());
    match pool.state().homes.iter().any(|(key, record)| record.account == *id && *key != here) {
        true => settle(lock, &pool.paths, env),
        false => Ok(()),
    }
}

/// Returns the state folder of this pool, whether or not it is there.
fn folder(paths: &PoolPaths, env: &Env) -> Option<PathBuf> {
    let given = env.get("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let state = match given {
        Some(dir) => dir,
        None => env.home()?.join(".local/state"),
    };
    let name = short_hash_text(&[real(paths.root()).as_os_str().as_bytes()]);
    Some(state.join(FOLDER).join(format!("homes-{name}")))
}

/// Returns whether no other user can change what is in a folder.
fn is_safe(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|meta| {
        meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0
    })
}

/// Returns whether there is nothing but notes of main homes.
fn is_without_homes(homes: &Path) -> bool {
    let note = |path: &PathBuf| path.file_name().is_some_and(|name| name == MAIN_HOME_FILE);
    entries(homes).iter().all(|over| over.is_dir() && entries(over).iter().all(note))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Returns the folder without links, or the nearest one above it that is there.
pub(super) fn nearest(dir: &Path) -> PathBuf {
    dir.ancestors().find_map(|dir| fs::canonicalize(dir).ok()).unwrap_or_else(|| dir.to_owned())
}

fn real(dir: &Path) -> PathBuf {
    fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned())
}
