//! The exchange of an `auth.json`: by rename, under Codex's own locks, and never without a look at what comes out. That
//! can be newer than what was read before: another Codex may have put it there at the last moment. What a killed Codex,
//! or a killed exchange, has left beside the file is taken in like the file itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::codex_locks::CodexLocks;
use super::reconcile::{adopt_late_write, is_abandoned};
use super::{AuthFile, CodexHome};
use crate::auth_doc::{AuthDoc, DocError, DocHash, MAX_BYTES};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Durability, PoolLock};
use crate::pool::Pool;
use crate::store::{LostFound, Origin, Why};

/// The beginning of the name of Codex's own temporary file.
pub(super) const CODEX_TEMP: &str = ".auth-";

/// What is put in the place of an `auth.json`.
#[derive(Debug, Clone, Copy)]
pub(super) enum New<'a> {
    /// A document.
    Document(&'a AuthDoc),
    /// A link to another home's file.
    Link(&'a Path),
    /// Nothing: the file is removed.
    Nothing,
}

/// What came out of an exchange. [`Out::adopt`] must follow.
#[derive(Debug)]
#[must_use]
pub(super) struct Out {
    file: Option<File>,
    /// Where it is now.
    temp: PathBuf,
}

/// Exchanges the file at `at`, the path of the home's `auth.json` or where its bytes are. `only`: the content that it
/// must have; otherwise nothing is done. Returns what came out. `None`: it had other content.
///
/// # Errors
/// It cannot be written, or Codex holds its lock. The home then holds what it held.
pub(super) fn exchange(
    lock: &PoolLock,
    home: &CodexHome,
    file: &AuthFile,
    at: &Path,
    new: New<'_>,
    only: Option<&DocHash>,
) -> Result<Option<Out>> {
    exchange_if(lock, home, file, at, new, only, &|| Ok(()))
}

/// As [`exchange`], if at the last moment, when all is written, `look` has nothing against it.
///
/// # Errors
/// As [`exchange`], and what `look` says.
pub(super) fn exchange_if(
    _lock: &PoolLock,
    home: &CodexHome,
    file: &AuthFile,
    at: &Path,
    new: New<'_>,
    only: Option<&DocHash>,
    look: &dyn Fn() -> Result<()>,
) -> Result<Option<Out>> {
    let failed = |e: &io::Error| {
        let what = if matches!(new, New::Nothing) { "remove" } else { "write" };
        Error { kind: ErrorKind::NotReplaceable, ..Error::io(what, at, e) }
    };
    let temp = files::temp_name(at);
    match new {
        New::Document(doc) => {
            drop(files::write_beside(at, doc.bytes(), Durability::Durable).map_err(|e| failed(&e))?)
        }
        New::Link(to) => {
            files::remove_file(&temp).and_then(|()| symlink(to, &temp)).map_err(|e| failed(&e))?
        }
        New::Nothing => files::remove_file(&temp).map_err(|e| failed(&e))?,
    }
    let discard = || {
        let _ = files::remove_file(&temp);
    };
    let locks = CodexLocks::take(home, file).inspect_err(|_| discard())?;
    if let Some(only) = only
        && !open(at).is_ok_and(|file| has_content(file.as_ref(), only))
    {
        discard();
        return Ok(None);
    }
    look().inspect_err(|_| discard())?;
    let out =
        swap(&temp, at, matches!(new, New::Nothing)).map_err(|e| failed(&e)).inspect_err(|_| discard())?;
    drop(locks);
    Ok(Some(Out { file: out, temp }))
}

/// Does the exchange. Returns the file that came out. `None`: none, or a link.
fn swap(temp: &Path, at: &Path, remove: bool) -> io::Result<Option<File>> {
    let is_dir = fs::symlink_metadata(at).is_ok_and(|meta| meta.is_dir());
    if is_dir {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if remove {
        return match fs::rename(at, temp) {
            Ok(()) => Ok(open(temp).ok().flatten()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        };
    }
    let before = match fs::symlink_metadata(at) {
        Ok(_) => open(at).ok().flatten(),
        // One that comes at this moment is exchanged.
        Err(_) if files::rename_new(temp, at).is_ok() => return Ok(None),
        Err(_) => None,
    };
    match files::exchange(temp, at) {
        Ok(()) => Ok(open(temp).ok().flatten()),
        // The file system cannot exchange. What was there is still open.
        Err(_) => fs::rename(temp, at).map(|()| before),
    }
}

/// Opens what is at a path. `Ok(None)`: nothing, or a link.
fn open(path: &Path) -> io::Result<Option<File>> {
    match files::open_with(fs::OpenOptions::new().read(true), libc::O_NOFOLLOW, path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ELOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

fn has_content(file: Option<&File>, hash: &DocHash) -> bool {
    file.and_then(|file| files::read_open(file, MAX_BYTES).ok())
        .is_some_and(|bytes| DocHash::of(&bytes) == *hash)
}

impl Out {
    /// Takes what came out into the pool, unless it is what was `seen` there, and removes it.
    ///
    /// # Errors
    /// It could not be made durable. It stays beside the file, where [`take_in_leftovers`] finds it.
    pub(super) fn adopt(
        self,
        lock: &PoolLock,
        pool: &mut Pool,
        seen: Option<&DocHash>,
        now: i64,
    ) -> Result<()> {
        adopt_late_write(lock, pool, self.file, seen, now)?;
        // A home that may not be written any more keeps a copy of what the pool has.
        let _ = files::remove_file(&self.temp);
        Ok(())
    }
}

/// Takes in what lies beside a home's file, and removes it: Codex's temporary file, if no Codex is writing it, and that
/// of an exchange of ours. Either can hold the newest tokens.
///
/// # Errors
/// Something could not be made durable.
pub(super) fn take_in_leftovers(
    lock: &PoolLock,
    pool: &mut Pool,
    home: &CodexHome,
    file: &AuthFile,
    now: i64,
) -> Result<()> {
    let Some(dir) = file.real.parent() else { return Ok(()) };
    let ours = files::temp_name(&file.real);
    let of_codex = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(CODEX_TEMP))
    };
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let found: Vec<PathBuf> = names.filter(|path| *path == ours || of_codex(path)).collect();
    if found.is_empty() {
        return Ok(());
    }
    // Codex writes its own under its locks.
    let Some(locks) = CodexLocks::try_take(home, file) else { return Ok(()) };
    for path in found {
        let Ok(Some(left)) = open(&path) else { continue };
        if path != ours && !locks.exclude_codex() && !is_abandoned(&path) {
            continue;
        }
        let Ok(bytes) = files::read_open(&left, MAX_BYTES) else { continue };
        match AuthDoc::parse(bytes.clone()) {
            Ok(doc) => drop(pool.adopt(lock, &doc.corrected(), None, Origin::Found, now)?),
            Err(DocError::Unmanaged(_)) => continue,
            Err(_) if path != ours && !is_abandoned(&path) => continue,
            Err(_) if bytes.is_empty() => {}
            Err(_) => drop(LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now)?),
        }
        let _ = files::remove_file(&path);
    }
    Ok(())
}
