//! An account's own home: a CODEX_HOME of its own over the main home, with a private `auth.json`, server
//! and temporaries, and links for everything else, so that history and settings are shared.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::codex_home::{MAIN_HOME_FILE, main_home_of};
use super::{CodexHome, mcp_logins};
use crate::account::AccountId;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;

/// Names that each home has for itself.
const PRIVATE: [&str; 9] = [
    "auth.json",
    ".auth.json.codex-pool.tmp",
    ".auth.json.codex-pool.link",
    "app-server-control",
    "app-server-daemon",
    "tmp",
    ".tmp",
    "shell_snapshots",
    "models_cache.json",
];

/// Folders that Codex would otherwise create in the home, where the main home would not see them.
const SHARED_DIRS: [&str; 11] = [
    "sessions",
    "archived_sessions",
    "skills",
    "prompts",
    "rules",
    "memories",
    "plugins",
    "packages",
    "thread-writer-locks",
    "mcp-oauth-locks",
    "log",
];

/// Files that are linked even while they do not exist, so that Codex creates them in the main home.
const SHARED_FILES: [&str; 7] = [
    "config.toml",
    "history.jsonl",
    "installation_id",
    "AGENTS.md",
    "version.json",
    "session_index.jsonl",
    "session_index.jsonl.lock",
];

/// What stays of the home of an account that is removed.
const KEPT_LINKS: [&str; 2] = ["sessions", "archived_sessions"];

/// Makes the home's folder and says whose it is. What is in it comes with [`update`].
///
/// # Errors
/// If it cannot be made.
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

/// Why homes cannot be had here.
///
/// # Errors
/// The reason, as the end of a sentence ("… because …").
pub fn possible(paths: &PoolPaths, main_home: &CodexHome, temp: &Path) -> std::result::Result<(), String> {
    let root = fs::canonicalize(paths.root()).unwrap_or_else(|_| paths.root().to_owned());
    let temp = fs::canonicalize(temp).unwrap_or_else(|_| temp.to_owned());
    if root.starts_with(&temp) {
        return Err("the pool is in a temporary folder".to_owned());
    }
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev());
    match (device(&root), device(main_home.dir())) {
        (Ok(a), Ok(b)) if a == b => Ok(()),
        (Ok(_), Ok(_)) => Err("the pool and CODEX_HOME are on different file systems".to_owned()),
        // The main home is made with the first launch.
        (Ok(_), Err(e)) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err("the pool's folder cannot be read".to_owned()),
    }
}

/// Brings a home up to date with its main home. `free`: nobody is in the home, so that names which Codex
/// created there can move to the main home.
///
/// # Errors
/// If something cannot be linked: the home must then not be used.
pub fn update(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    home: &CodexHome,
    free: bool,
    now: i64,
) -> Result<()> {
    link_names(lock, paths, main_home, home, free)?;
    mcp_logins::share(lock, paths, main_home, Some(home.dir()), now)
}

/// The same for a home of no account. That must be possible wherever links are, so the logins of MCP servers are
/// shared only if they can be.
///
/// # Errors
/// As [`update`].
pub fn update_special(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    home: &CodexHome,
    now: i64,
) -> Result<()> {
    link_names(lock, paths, main_home, home, false)?;
    let _ = mcp_logins::share(lock, paths, main_home, Some(home.dir()), now);
    Ok(())
}

fn link_names(
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
    for name in SHARED_DIRS {
        if !in_main_home.contains_key(OsStr::new(name)) {
            let dir = main_home.dir().join(name);
            files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
            in_main_home.insert(name.into(), What::Other);
        }
    }
    for name in SHARED_FILES {
        in_main_home.entry(name.into()).or_insert(What::Other);
    }
    if free {
        gather(main_home, home, &in_main_home, &in_home)?;
    }
    for (name, what) in &in_main_home {
        if *what != What::Socket && !is_private(name) && !in_home.contains_key(name) {
            link(main_home.dir(), home.dir(), name)?;
        }
    }
    Ok(())
}

/// Moves what Codex created in a home to its main home, where everybody finds it. The caller knows that nobody is in the
/// home.
///
/// # Errors
/// If something cannot be moved.
pub(super) fn move_shared_to_main(_lock: &PoolLock, main_home: &CodexHome, home: &CodexHome) -> Result<()> {
    gather(main_home, home, &names(main_home.dir())?, &names(home.dir())?)
}

fn gather(
    main_home: &CodexHome,
    home: &CodexHome,
    in_main_home: &BTreeMap<OsString, What>,
    in_home: &BTreeMap<OsString, What>,
) -> Result<()> {
    let new =
        in_home.iter().filter(|(name, what)| **what == What::Other && !in_main_home.contains_key(*name));
    for (name, _) in new.filter(|(name, _)| !stays(name)) {
        move_to_main_home(main_home.dir(), home.dir(), name)?;
    }
    Ok(())
}

/// Empties the homes of a removed account. What stays are the links to sessions, through which Codex's
/// database remembers old ones, and whatever Codex created there that the main home never got.
///
/// # Errors
/// If something cannot be removed.
pub fn retire(_lock: &PoolLock, paths: &PoolPaths, id: &AccountId) -> Result<()> {
    for home in dirs_of(paths, id) {
        let Some(main_home) = main_home_of(paths, &home) else { continue };
        for (name, what) in names(&home)? {
            let path = home.join(&name);
            let private = PRIVATE.iter().any(|private| *private == name);
            let result = match what {
                What::Link if KEPT_LINKS.iter().any(|kept| *kept == name) => continue,
                What::Link if private || fs::read_link(&path).is_ok_and(|to| to.starts_with(&main_home)) => {
                    fs::remove_file(&path)
                }
                What::Other if private && path.is_dir() => fs::remove_dir_all(&path),
                What::Other if name == mcp_logins::NAME && !same_file(&path, &main_home.join(&name)) => {
                    continue;
                }
                What::Other if private || name == mcp_logins::NAME => fs::remove_file(&path),
                _ => continue,
            };
            result.map_err(|e| Error::io("remove", &path, &e))?;
        }
    }
    Ok(())
}

/// An account's homes, one for each main home it ever had one over.
pub fn dirs_of(paths: &PoolPaths, id: &AccountId) -> Vec<PathBuf> {
    let bases = fs::read_dir(paths.homes()).into_iter().flatten().flatten();
    bases.map(|main_home| main_home.path().join(id.as_str())).filter(|home| home.is_dir()).collect()
}

fn same_file(a: &Path, b: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    inode(a).is_some_and(|a| Some(a) == inode(b))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Link,
    Socket,
    Other,
}

fn names(dir: &Path) -> Result<BTreeMap<OsString, What>> {
    let read = || {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let what = if kind.is_symlink() {
                What::Link
            } else if kind.is_socket() || kind.is_fifo() {
                What::Socket
            } else {
                What::Other
            };
            names.insert(entry.file_name(), what);
        }
        Ok(names)
    };
    read().map_err(|e: io::Error| Error::io("read", dir, &e))
}

/// Not shared by link: what each home has for itself, and databases, which stay in the main home
/// (CODEX_SQLITE_HOME) since a linked one would get its `-wal` and `-shm` beside the link.
fn is_private(name: &OsStr) -> bool {
    let text = name.to_string_lossy();
    PRIVATE.contains(&&*text) || text == mcp_logins::NAME || text.contains(".sqlite")
}

/// Not moved to the main home either: somebody may rely on where it is.
fn stays(name: &OsStr) -> bool {
    let text = name.to_string_lossy();
    is_private(name) || text.ends_with(".pid") || text.ends_with(".lock")
}

fn link(main_home: &Path, home: &Path, name: &OsStr) -> Result<()> {
    let at = home.join(name);
    match symlink(main_home.join(name), &at) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("link", &at, &e)),
        _ => Ok(()),
    }
}

/// A name that Codex created in the home becomes everybody's. Not over something: the main home may get
/// the same name at this moment.
fn move_to_main_home(main_home: &Path, home: &Path, name: &OsStr) -> Result<()> {
    let from = home.join(name);
    match files::rename_new(&from, &main_home.join(name)) {
        Ok(()) => link(main_home, home, name),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("move", &from, &e)),
    }
}
