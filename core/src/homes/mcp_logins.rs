//! The OAuth logins of MCP servers (`.credentials.json`), one file for a main home and the homes over it. Codex refuses
//! to write it through a symbolic link, so it is shared by hard links. They break when a client writes by rename, and
//! when Codex removes the file with its last login. Here they are made anew.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::CodexHome;
use crate::error::{Error, Result};
use crate::files::{self, PoolLock};
use crate::paths::PoolPaths;
use crate::store::{LostFound, Why};

pub(super) const NAME: &str = ".credentials.json";
/// One more hard link, beside the homes over a main home: the file that all of them had last.
const SHARED: &str = ".mcp-logins";
const TEMP: &str = ".credentials.json.codex-pool.tmp";
/// Larger files are refused, bytes.
const MAX_BYTES: u64 = 1 << 24;

/// Links the newest file into the main home, every home over it that has one, and the home `into`. Others go to
/// `lost+found/`. If the main home has lost its file, that was a logout, and the homes lose it, too.
///
/// # Errors
/// If a file cannot be read, kept or linked.
pub(crate) fn share(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    into: Option<&Path>,
    now: i64,
) -> Result<()> {
    let over = main_home.dir_of_homes(paths);
    let Ok(homes) = fs::read_dir(&over) else { return Ok(()) };
    // The user's own link is followed: its target is shared.
    let at_main_home = main_home.dir().join(NAME);
    let at_main_home = fs::canonicalize(&at_main_home).unwrap_or(at_main_home);
    let shared = over.join(SHARED);
    let (in_main_home, last) = (metadata(&at_main_home)?, metadata(&shared)?);
    let inode = |meta: &Metadata| (meta.dev(), meta.ino());
    let last = last.as_ref().map(inode);
    let logged_out = last.filter(|_| in_main_home.is_none());
    let mut files: Vec<(PathBuf, Metadata)> = Vec::new();
    for home in homes.flatten() {
        let path = home.path().join(NAME);
        let Some(meta) = metadata(&path)? else { continue };
        if logged_out == Some(inode(&meta)) {
            files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
        } else {
            files.push((path, meta));
        }
    }
    files.extend(in_main_home.map(|meta| (at_main_home.clone(), meta)));
    // File times are coarse. Of the same moment, the file counts that replaced the one that all had.
    let age = |file: &&(PathBuf, Metadata)| {
        let meta = &file.1;
        (meta.mtime(), meta.mtime_nsec(), last != Some(inode(meta)))
    };
    let Some((newest, meta)) = files.iter().max_by_key(age) else {
        return files::remove_file(&shared).map_err(|e| Error::io("remove", &shared, &e));
    };
    let is_newest = |other: &Metadata| inode(other) == inode(meta);
    for (path, _) in files.iter().filter(|(_, other)| !is_newest(other)) {
        let bytes = files::read_small(path, MAX_BYTES).map_err(|e| Error::io("read", path, &e))?;
        LostFound::new(paths).keep(lock, &bytes.unwrap_or_default(), Why::Replaced, None, now)?;
        link(newest, path)?;
    }
    for path in [Some(at_main_home), into.map(|home| home.join(NAME)), Some(shared)].into_iter().flatten() {
        if !metadata(&path)?.is_some_and(|there| is_newest(&there)) {
            link(newest, &path)?;
        }
    }
    Ok(())
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io("read", path, &e)),
    }
}

fn link(from: &Path, to: &Path) -> Result<()> {
    let temp = to.with_file_name(TEMP);
    let relink = || {
        files::remove_file(&temp)?;
        fs::hard_link(from, &temp)?;
        fs::rename(&temp, to)
    };
    relink().map_err(|e| Error::io("link", to, &e))
}
