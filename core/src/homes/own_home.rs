//! The homes over a main home: folders with a private `auth.json`, background server and temporaries, and links for
//! everything else, so that history and settings are shared. Never touches an `auth.json`, but for a removed account's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::codex_home::{MAIN_HOME_FILE, main_home_of, owner_of_name};
use super::names::{KEPT_LINKS, Place, SHARED_DIRS, SHARED_FILES, place};
use super::{CodexHome, Obstacle, elsewhere, mcp_logins, memories};
use crate::account::AccountId;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;

/// The most own homes of an account over one main home.
pub const MOST: u32 = 9;

/// Creates the folder of a home and notes its main home. [`update`] fills it.
///
/// # Errors
/// If it cannot be created.
pub fn create(_lock: &PoolLock, paths: &PoolPaths, main_home: &CodexHome, home: &CodexHome) -> Result<()> {
    let dir = home.dir();
    files::create_private_dir(dir).map_err(|e| Error::io("create", dir, &e))?;
    let note = main_home.dir_of_homes(paths).join(MAIN_HOME_FILE);
    if note.exists() {
        return Ok(());
    }
    files::write_whole(&note, main_home.dir().as_os_str().as_bytes(), Durability::Fast)
        .map_err(|e| Error::io("write", &note, &e))
}

/// Checks whether own homes are possible here. `env`: says where the temporary folder and the user's state folder are.
///
/// # Errors
/// The reason why not, as the end of a sentence ("… because …").
pub fn possible(paths: &PoolPaths, main_home: &CodexHome, env: &Env) -> std::result::Result<(), String> {
    let Some(place) = elsewhere::place(paths, env) else {
        return Err("the pool is in a temporary folder; CODEX_POOL_HOME can name another".to_owned());
    };
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev());
    match (device(&elsewhere::nearest(&place)), device(main_home.dir())) {
        (Ok(a), Ok(b)) if a == b => Ok(()),
        (Ok(_), Ok(_)) => Err("the pool and CODEX_HOME are on different file systems; CODEX_POOL_HOME can name a place on that of CODEX_HOME"
            .to_owned()),
        // The first launch creates the main home.
        (Ok(_), Err(e)) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err("the pool's folder cannot be read".to_owned()),
    }
}

/// Brings a home up to date with its main home. `free`: no process uses the home, so that names which Codex created
/// there can move to the main home.
///
/// # Errors
/// If something cannot be linked. The home must not be used then.
pub fn update(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    home: &CodexHome,
    free: bool,
    now: i64,
) -> Result<()> {
    if Obstacle::of_folder(main_home.dir()).is_some() {
        return update_lenient(lock, paths, main_home, home, now);
    }
    link_shared(lock, paths, main_home, home, free)?;
    share_memories(lock, paths, main_home, home, now);
    mcp_logins::share(lock, paths, main_home, Some(home.dir()), now)
}

/// Brings a home up to date, with the logins of MCP servers only where hard links are possible: for logins and for
/// sessions without an account, which must not fail for that. A main home that cannot be written shares what it has.
///
/// # Errors
/// As [`update`].
pub fn update_lenient(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    home: &CodexHome,
    now: i64,
) -> Result<()> {
    link_shared(lock, paths, main_home, home, false)?;
    share_memories(lock, paths, main_home, home, now);
    let _ = mcp_logins::share(lock, paths, main_home, Some(home.dir()), now);
    Ok(())
}

/// Shares the memories with an account's home. Codex does without them, so that a failure does not stop it.
fn share_memories(lock: &PoolLock, paths: &PoolPaths, main_home: &CodexHome, home: &CodexHome, now: i64) {
    if home.is_own() {
        let _ = memories::share(lock, paths, main_home, Some(home.dir()), now);
    }
}

fn link_shared(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    home: &CodexHome,
    free: bool,
) -> Result<()> {
    create(lock, paths, main_home, home)?;
    files::create_private_dir(main_home.dir()).map_err(|e| Error::io("create", main_home.dir(), &e))?;
    let mut in_main_home = names(main_home.dir())?;
    let in_home = names(home.dir())?;
    let writable = Obstacle::of_folder(main_home.dir()).is_none();
    for name in SHARED_DIRS.iter().filter(|_| writable) {
        if !in_main_home.contains_key(OsStr::new(name)) {
            let dir = main_home.dir().join(name);
            files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
            in_main_home.insert(name.into(), FileKind::Other);
        }
    }
    for name in SHARED_FILES.iter().filter(|_| writable) {
        in_main_home.entry(name.into()).or_insert(FileKind::Other);
    }
    if free {
        move_new_names(main_home, home, &in_main_home, &in_home)?;
    }
    for (name, kind) in &in_main_home {
        if *kind != FileKind::Socket && is_shared(name) && !in_home.contains_key(name) {
            link(main_home.dir(), home.dir(), name)?;
        }
    }
    unlink_private(main_home, home, &in_home)
}

/// Removes the links to what the main home has for itself. Earlier versions of this program made some: one home's lock
/// was every home's then.
fn unlink_private(
    main_home: &CodexHome,
    home: &CodexHome,
    in_home: &BTreeMap<OsString, FileKind>,
) -> Result<()> {
    let links = in_home.iter().filter(|(name, kind)| **kind == FileKind::Link && !is_shared(name));
    for (name, _) in links {
        let path = home.dir().join(name);
        // An `auth.json` that is a link leads to the file of its account, wherever that is.
        if name != "auth.json" && fs::read_link(&path).is_ok_and(|to| to == main_home.dir().join(name)) {
            files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
        }
    }
    Ok(())
}

/// Moves the names that Codex created in a home to its main home. The caller knows that no process uses the home.
///
/// # Errors
/// If something cannot be moved.
pub(super) fn move_shared_to_main(_lock: &PoolLock, main_home: &CodexHome, home: &CodexHome) -> Result<()> {
    move_new_names(main_home, home, &names(main_home.dir())?, &names(home.dir())?)
}

fn move_new_names(
    main_home: &CodexHome,
    home: &CodexHome,
    in_main_home: &BTreeMap<OsString, FileKind>,
    in_home: &BTreeMap<OsString, FileKind>,
) -> Result<()> {
    let new =
        in_home.iter().filter(|(name, kind)| **kind == FileKind::Other && !in_main_home.contains_key(*name));
    for (name, _) in new.filter(|(name, _)| is_shared(name)) {
        move_to_main_home(main_home.dir(), home.dir(), name)?;
    }
    Ok(())
}

/// Empties the own homes of a removed account. The links to sessions stay, and so does what Codex created there and
/// the main home does not have.
///
/// # Errors
/// If something cannot be removed.
pub fn retire(_lock: &PoolLock, paths: &PoolPaths, id: &AccountId) -> Result<()> {
    for home in dirs_of(paths, id) {
        let Some(main_home) = main_home_of(paths, &home) else { continue };
        for (name, kind) in names(&home)? {
            let path = home.join(&name);
            // The memories are those of the main home.
            let private = matches!(place(&name.to_string_lossy()), Place::Private | Place::Memories);
            let result = match kind {
                FileKind::Link if KEPT_LINKS.iter().any(|kept| *kept == name) => continue,
                FileKind::Link
                    if private || fs::read_link(&path).is_ok_and(|to| to.starts_with(&main_home)) =>
                {
                    fs::remove_file(&path)
                }
                FileKind::Other if private && path.is_dir() => fs::remove_dir_all(&path),
                FileKind::Other if name == mcp_logins::NAME && !same_file(&path, &main_home.join(&name)) => {
                    continue;
                }
                FileKind::Other if private || name == mcp_logins::NAME => fs::remove_file(&path),
                _ => continue,
            };
            result.map_err(|e| Error::io("remove", &path, &e))?;
        }
    }
    Ok(())
}

/// Returns the folders of an account's own homes, one for each main home that it had one over.
pub fn dirs_of(paths: &PoolPaths, id: &AccountId) -> Vec<PathBuf> {
    let inside = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_own = |home: &PathBuf| {
        let name = home.file_name().and_then(OsStr::to_str).unwrap_or_default();
        owner_of_name(name).as_ref() == Some(id) && home.is_dir()
    };
    inside(paths.homes()).flat_map(inside).filter(is_own).collect()
}

fn same_file(a: &Path, b: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    inode(a).is_some_and(|a| Some(a) == inode(b))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Link,
    Socket,
    Other,
}

fn names(dir: &Path) -> Result<BTreeMap<OsString, FileKind>> {
    let read = || {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = match entry.file_type()? {
                kind if kind.is_symlink() => FileKind::Link,
                kind if kind.is_socket() || kind.is_fifo() => FileKind::Socket,
                _ => FileKind::Other,
            };
            names.insert(entry.file_name(), kind);
        }
        Ok(names)
    };
    read().map_err(|e: io::Error| Error::io("read", dir, &e))
}

fn is_shared(name: &OsStr) -> bool {
    place(&name.to_string_lossy()) == Place::Shared
}

fn link(main_home: &Path, home: &Path, name: &OsStr) -> Result<()> {
    let at = home.join(name);
    match symlink(main_home.join(name), &at) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("link", &at, &e)),
        _ => Ok(()),
    }
}

/// Moves a name to the main home and leaves a link. If the main home has got the same name at this moment, nothing
/// is moved.
fn move_to_main_home(main_home: &Path, home: &Path, name: &OsStr) -> Result<()> {
    let from = home.join(name);
    match files::rename_new(&from, &main_home.join(name)) {
        Ok(()) => link(main_home, home, name),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("move", &from, &e)),
    }
}
