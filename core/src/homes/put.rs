//! Putting an account's document into a home: whole, by rename, and never a second file for an
//! account that has one elsewhere (invariant 3). The caller has reconciled the home and knows that it
//! may change hands, or that it holds this account already.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::reconcile::{adopt_late_write, reconcile_whole};
use super::{AuthFile, CodexHome, HomeContent, Link, reconcile};
use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocHash};
use crate::codex::background_server::BackgroundServer;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::homes::in_use::{self, Processes};
use crate::pool::Pool;
use crate::process;
use crate::store::{ServerRecord, path_key, path_of_key};

/// Puts the account into the home.
///
/// # Errors
/// No credentials in the pool, or the home cannot be written; it then holds what it held.
pub fn put(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    codex_home: &CodexHome,
    id: &AccountId,
    now: i64,
) -> Result<()> {
    let path = codex_home.auth_json();
    let link = elsewhere(lock, pool, processes, codex_home, id, now)?;
    let doc = pool.credentials().load(id)?;
    let doc = doc.ok_or_else(|| Error::new(format!("the pool has no credentials for {id}")))?;
    let file = AuthFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("use", &path, &e))?;
    let old = file.open().ok().flatten();
    let seen = pool.state().home(&path).map(|memory| memory.hash.clone());
    remember_server(pool, codex_home, id);
    // Through the user's link, even with a link of ours: what must hold is that there is one file.
    let at = if file.link == Link::Users { &file.real } else { &path };
    if let Some(dir) = at.parent() {
        files::create_private_dir(dir).map_err(|e| Error::io("create", dir, &e))?;
    }
    let written = match link {
        Some(target) => replace_by_link(at, &target),
        None => files::write_whole(at, doc.bytes(), Durability::Fast),
    };
    written.map_err(|e| Error::io("write", at, &e))?;
    pool.state_mut().remember(&path, &doc, doc.hash(), now);
    pool.state_mut().changed_hands(&path, process::ticks_now());
    adopt_late_write(lock, pool, old, seen.as_ref(), now)
}

/// A server that lives on while the account under it changes goes on with the old one: note which.
fn remember_server(pool: &mut Pool, codex_home: &CodexHome, id: &AccountId) {
    let path = codex_home.auth_json();
    let Some(memory) = pool.state().home(&path).cloned() else { return };
    if memory.account == *id {
        return;
    }
    let note = BackgroundServer::of_home(codex_home.dir()).map(|server| ServerRecord {
        account: server_account(&memory, &server),
        pid: server.pid,
        start_ticks: server.start_ticks,
    });
    if let Some(memory) = pool.state_mut().homes.get_mut(&path_key(&path)) {
        memory.server = note;
    }
}

/// The account that a background server read when it started; `None` if nobody knows.
pub fn server_account(memory: &crate::store::HomeRecord, server: &BackgroundServer) -> Option<AccountId> {
    if let Some(note) = &memory.server
        && note.pid == server.pid
        && note.start_ticks == server.start_ticks
    {
        return note.account.clone();
    }
    // It started after this account was put there, so it read this account. Seconds tell, but for those next
    // to each other, which then are of the same boot.
    let ahead = process::started_at(server.pid)? - memory.since;
    let after = match memory.since_ticks {
        Some(ticks) if ahead.abs() <= 2 => server.start_ticks > ticks,
        _ => ahead > 1,
    };
    after.then(|| memory.account.clone())
}

/// Looks at every other file that holds this account. What is there goes into the pool; a file that
/// nobody needs is removed; where one must stay, the answer is its path, and this home becomes a link to it.
fn elsewhere(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    codex_home: &CodexHome,
    id: &AccountId,
    now: i64,
) -> Result<Option<PathBuf>> {
    let here = codex_home.auth_json();
    let mut target = None;
    for other in remembered_and_own(pool, id) {
        let path = other.auth_json();
        if path == here {
            continue;
        }
        let held = reconcile_whole(lock, pool, &other, now)?;
        if held == HomeContent::BeingWritten {
            return Err(Error::new(format!("{} is being written", path.display())));
        }
        if held.account() != Some(id) {
            continue;
        }
        let file = AuthFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("read", &path, &e))?;
        if file.link == Link::Ours {
            // A link to the file that is the account's home.
            target = Some(file.real);
        } else if super::main_home_of(&pool.paths, other.dir()).is_some() {
            if in_use(pool, processes, &other) || linked_to(pool, &path) {
                if held != (HomeContent::Account { id: id.clone(), stale: false })
                    && let Some(doc) = pool.credentials().load(id)?
                {
                    // What is read through the link must be the newest.
                    rewrite(lock, pool, &other, &doc, now)?;
                }
                target = Some(path);
            } else {
                vacate(lock, pool, &other, now)?;
                // Nobody is there. What cannot be moved now stays for the next time.
                let _ = super::own_home::move_shared_to_main(lock, &other.main_home(&pool.paths), &other);
            }
        } else {
            target = Some(share(lock, pool, &other, id, now)?);
        }
    }
    Ok(target.filter(|target| !is_same_place(target, &here)))
}

/// Whether two paths name one entry of one folder, however they are spelled: a link must not lead to itself.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.parent().and_then(|dir| std::fs::canonicalize(dir).ok());
    a == b || a.file_name() == b.file_name() && real(a).is_some() && real(a) == real(b)
}

/// The homes where this account was seen last.
fn remembered(pool: &Pool, id: &AccountId) -> Vec<CodexHome> {
    let codex_homes = pool.state().homes.iter().filter(|(_, memory)| memory.account == *id);
    codex_homes.filter_map(|(key, _)| CodexHome::of_auth_json(&pool.paths, &path_of_key(key))).collect()
}

/// The same, and its homes, whatever they hold: what was remembered can be lost, or not have been written down by a
/// launch that was killed, and a home's name says whose it is.
fn remembered_and_own(pool: &Pool, id: &AccountId) -> Vec<CodexHome> {
    let mut codex_homes = remembered(pool, id);
    let homes = super::own_home::dirs_of(&pool.paths, id).into_iter().map(|dir| dir.join("auth.json"));
    let filled = homes.filter(|path| path.symlink_metadata().is_ok());
    codex_homes.extend(filled.filter_map(|path| CodexHome::of_auth_json(&pool.paths, &path)));
    codex_homes.sort_unstable_by_key(CodexHome::auth_json);
    codex_homes.dedup();
    codex_homes
}

/// Whether a home of this account has a document that is not whole, which somebody may be writing.
pub fn being_written(pool: &Pool, id: &AccountId) -> bool {
    let unsettled =
        |codex_home: &CodexHome| HomeContent::read(&pool.paths, codex_home) == HomeContent::BeingWritten;
    remembered_and_own(pool, id).iter().any(unsettled)
}

/// Whether anybody is in an account's home. A background server counts there even when it is idle: nobody
/// stops it, and it goes on reading and writing that file.
fn in_use(pool: &Pool, processes: &Processes, home: &CodexHome) -> bool {
    let main_home = home.main_home(&pool.paths);
    BackgroundServer::of_home(home.dir()).is_some()
        || !processes.users_of_home(pool, &main_home, home, main_home.dir()).is_empty()
}

/// Everybody in a home that holds this account. The caller has reconciled the homes.
pub fn users_of_account(pool: &Pool, processes: &Processes, id: &AccountId) -> Vec<in_use::HomeUser> {
    users(pool, processes, remembered(pool, id))
}

/// The same, and everybody in one of its homes, whoever they have logged in as there.
pub fn users_of_account_and_own_homes(
    pool: &Pool,
    processes: &Processes,
    id: &AccountId,
) -> Vec<in_use::HomeUser> {
    users(pool, processes, remembered_and_own(pool, id))
}

fn users(pool: &Pool, processes: &Processes, codex_homes: Vec<CodexHome>) -> Vec<in_use::HomeUser> {
    let users = codex_homes.into_iter().flat_map(|codex_home| {
        let main_home = codex_home.main_home(&pool.paths);
        processes.users_of_home(pool, &main_home, &codex_home, main_home.dir())
    });
    users.collect()
}

/// Whether another home is a link to this file.
fn linked_to(pool: &Pool, file: &Path) -> bool {
    let links = pool.state().homes.keys().map(|key| path_of_key(key)).filter(|path| path != file);
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    links
        .into_iter()
        .any(|link| link.is_symlink() && std::fs::canonicalize(&link).is_ok_and(|real| real == file))
}

/// Another CODEX_HOME's main home holds the account. Its file moves into the pool, into the
/// account's home there, and the home becomes a link to it: so both can change hands later.
fn share(lock: &PoolLock, pool: &mut Pool, other: &CodexHome, id: &AccountId, now: i64) -> Result<PathBuf> {
    let main_home = CodexHome::main(other.dir().to_owned());
    let home = main_home.own(&pool.paths, id);
    super::own_home::create(lock, &pool.paths, &main_home, &home)?;
    let target = home.auth_json();
    let there = reconcile_whole(lock, pool, &home, now)?;
    if there != HomeContent::Empty && there.account() != Some(id) {
        return Err(Error::new(format!("{} holds another login", target.display())));
    }
    let doc = pool.credentials().load(id)?;
    let doc = doc.ok_or_else(|| Error::new(format!("the pool has no credentials for {id}")))?;
    files::write_whole(&target, doc.bytes(), Durability::Fast)
        .map_err(|e| Error::io("write", &target, &e))?;
    let path = other.auth_json();
    let file = AuthFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("read", &path, &e))?;
    let old = file.open().ok().flatten();
    replace_by_link(&file.real, &target).map_err(|e| Error::io("write", &path, &e))?;
    pool.state_mut().remember(&target, &doc, doc.hash(), now);
    pool.state_mut().remember(&path, &doc, doc.hash(), now);
    adopt_late_write(lock, pool, old, Some(&doc.hash()), now)?;
    Ok(target)
}

/// Puts a symbolic link at `path`, by rename.
fn replace_by_link(path: &Path, target: &Path) -> std::io::Result<()> {
    let dir = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    let temp = dir.join(".auth.json.codex-pool.link");
    files::remove_file(&temp)?;
    symlink(target, &temp)?;
    std::fs::rename(&temp, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&temp);
    })
}

/// Takes the document out of a home that nobody uses. The pool holds it already. Through the user's own
/// link, the file behind it goes. That it is our doing is written down first: it is no logout.
///
/// # Errors
/// If it cannot be removed.
pub fn vacate(lock: &PoolLock, pool: &mut Pool, codex_home: &CodexHome, now: i64) -> Result<()> {
    let path = codex_home.auth_json();
    let key = path_key(&path);
    let seen = pool.state_mut().homes.get_mut(&key).map(|memory| {
        memory.leaving = true;
        memory.hash.clone()
    });
    if seen.is_some() {
        pool.commit(lock)?;
    }
    remove_document(lock, pool, codex_home, seen.as_ref(), now)?;
    pool.state_mut().homes.remove(&key);
    Ok(())
}

/// Removes a home's document, or our link to one. `seen`: what was there when it was last read. Who wrote since then
/// is not lost.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn remove_document(
    lock: &PoolLock,
    pool: &mut Pool,
    codex_home: &CodexHome,
    seen: Option<&DocHash>,
    now: i64,
) -> Result<()> {
    let path = codex_home.auth_json();
    let file = AuthFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("use", &path, &e))?;
    // A link of ours goes itself; its file stays.
    let (at, old) = match file.link {
        Link::Ours => (&path, None),
        Link::Users | Link::None => (&file.real, file.open().ok().flatten()),
    };
    files::remove_file(at).map_err(|e| Error::io("remove", at, &e))?;
    match seen {
        Some(_) => adopt_late_write(lock, pool, old, seen, now),
        None => Ok(()),
    }
}

/// Takes an account's document out of every home.
///
/// # Errors
/// If a home cannot be cleared.
pub fn clear_homes(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Result<()> {
    for codex_home in homes_with(lock, pool, id, now)? {
        vacate(lock, pool, &codex_home, now)?;
    }
    Ok(())
}

/// Writes the pool's newer document into a home that holds this account already, in use or not:
/// running sessions read it from there.
///
/// # Errors
/// If it cannot be written.
pub fn rewrite(
    lock: &PoolLock,
    pool: &mut Pool,
    codex_home: &CodexHome,
    doc: &AuthDoc,
    now: i64,
) -> Result<()> {
    let path = codex_home.auth_json();
    let file = AuthFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("use", &path, &e))?;
    let old = file.open().ok().flatten();
    let seen = pool.state().home(&path).map(|memory| memory.hash.clone());
    files::write_whole(&file.real, doc.bytes(), Durability::Fast)
        .map_err(|e| Error::io("write", &path, &e))?;
    pool.state_mut().remember(&path, doc, doc.hash(), now);
    adopt_late_write(lock, pool, old, seen.as_ref(), now)
}

/// Every home that holds this account now, after reconciling it.
///
/// # Errors
/// As [`reconcile`].
pub fn homes_with(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Result<Vec<CodexHome>> {
    let mut codex_homes = Vec::new();
    for codex_home in remembered_and_own(pool, id) {
        if matches!(reconcile(lock, pool, &codex_home, now)?, HomeContent::Account { id: held, .. } if held == *id)
        {
            codex_homes.push(codex_home);
        }
    }
    Ok(codex_homes)
}
