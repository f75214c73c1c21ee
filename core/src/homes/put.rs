//! Putting an account's document into a home, and taking it out: whole, by rename, and never as a second file of an
//! account that has one elsewhere (invariant 3). The caller has reconciled the home, and knows that it may change
//! hands or holds this account already.

use std::path::{Path, PathBuf};

use super::exchange::{New, Out, exchange, exchange_if};
use super::in_use::{Processes, account_of_server};
use super::reconcile::reconcile_whole;
use super::{AuthFile, CodexHome, HomeContent, HomeKind, Link, Obstacle, known, own_home, reconcile};
use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocHash};
use crate::codex::background_server::BackgroundServer;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, PoolLock};
use crate::journal::{Entry, Event};
use crate::pool::Pool;
use crate::process;
use crate::store::{Adoption, Origin, ServerRecord, path_key, path_of_key};

/// Puts the account into the home.
///
/// # Errors
/// The pool has no credentials, or the home cannot be written. The home then holds what it held.
pub fn put(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    home: &CodexHome,
    id: &AccountId,
    now: i64,
) -> Result<()> {
    put_if(lock, pool, processes, home, id, now, &|| Ok(()))
}

/// Puts the account into a home which no process uses. Until the new document is on the disk, a Codex can start: it reads
/// its login 20 ms after it does, so that the processes are looked at once more right before the exchange.
///
/// # Errors
/// As [`put`], and [`ErrorKind::LockedByCodex`] if a Codex has started there.
pub fn put_in_free(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    home: &CodexHome,
    id: &AccountId,
    now: i64,
) -> Result<()> {
    let paths = pool.paths.clone();
    let main_home = home.main_home(&paths);
    let look = || {
        if processes.is_starting_in(&paths, &main_home, home) {
            let text = format!("a Codex is just starting in {}", home.dir().display());
            return Err(Error::of(ErrorKind::LockedByCodex, text).hint("try again"));
        }
        Ok(())
    };
    put_if(lock, pool, processes, home, id, now, &look)
}

fn put_if(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    home: &CodexHome,
    id: &AccountId,
    now: i64,
    look: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let path = home.auth_json();
    let target = file_elsewhere(lock, pool, processes, home, id, now)?;
    let doc = stored(pool, id)?;
    let file = find(pool, &path, "use")?;
    let seen = pool.state().home(&path).map(|record| record.hash.clone());
    let before = pool.state().home(&path).map(|record| record.account.clone());
    // Through the user's link, even when a link of ours is put there: one file per account is what counts.
    let at = file.replaced();
    if let Some(dir) = at.parent() {
        files::create_private_dir(dir).map_err(|e| Error::io("create", dir, &e))?;
    }
    let new = target.as_deref().map_or(New::Document(&doc), New::Link);
    let out = exchange_if(lock, home, &file, at, new, None, look)?;
    note_server(pool, home, id);
    if *home.kind() == HomeKind::Main {
        pool.manage(home.dir());
    }
    pool.state_mut().remember(&path, &doc, doc.hash(), now);
    pool.state_mut().changed_hands(&path, process::ticks_now());
    if before.as_ref() != Some(id) {
        let entry = Entry::new(now, Event::Switch, Some(id)).from(before.as_ref());
        pool.note(Entry { own_home: home.is_own(), ..entry });
    }
    adopt(lock, pool, out, seen.as_ref(), now)
}

fn adopt(lock: &PoolLock, pool: &mut Pool, out: Option<Out>, seen: Option<&DocHash>, now: i64) -> Result<()> {
    out.map_or(Ok(()), |out| out.adopt(lock, pool, seen, now))
}

/// Returns the account's document as a home gets it.
fn stored(pool: &Pool, id: &AccountId) -> Result<AuthDoc> {
    let doc = pool.credentials().load(id)?;
    let doc = doc.ok_or_else(|| Error::new(format!("the pool has no credentials for {id}")))?;
    Ok(pool.for_home(doc))
}

/// `what`: what cannot be done if that fails.
fn find(pool: &Pool, auth_json: &Path, what: &str) -> Result<AuthFile> {
    AuthFile::find(&pool.paths, auth_json.to_owned()).map_err(|e| Error::io(what, auth_json, &e))
}

/// Notes the account of a background server that runs while the account of its home changes: it goes on with the old
/// one.
fn note_server(pool: &mut Pool, home: &CodexHome, id: &AccountId) {
    let path = home.auth_json();
    let Some(record) = pool.state().home(&path).cloned() else { return };
    if record.account == *id {
        return;
    }
    let note = BackgroundServer::of_home(home.dir()).map(|server| ServerRecord {
        account: account_of_server(&record, &server),
        pid: server.pid,
        start_ticks: server.start_ticks,
    });
    if let Some(record) = pool.state_mut().homes.get_mut(&path_key(&path)) {
        record.server = note;
    }
}

/// Looks at every other file of this account. Its document goes into the pool, and a file that is not needed is
/// removed. Returns the path of a file that must stay: this home becomes a link to it.
fn file_elsewhere(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    home: &CodexHome,
    id: &AccountId,
    now: i64,
) -> Result<Option<PathBuf>> {
    let here = home.auth_json();
    let mut target = None;
    for other in known::of_account(pool, id) {
        let path = other.auth_json();
        if path == here {
            continue;
        }
        let content = reconcile_whole(lock, pool, &other, now)?;
        if content == HomeContent::BeingWritten {
            return Err(Error::new(format!("{} is being written", path.display())));
        }
        if content.account() != Some(id) {
            continue;
        }
        let file = find(pool, &path, "read")?;
        let main_home = other.main_home(&pool.paths);
        if file.link == Link::Ours {
            target = Some(file.real);
        } else if main_home.dir() == other.dir() {
            if Obstacle::of(&file).is_some() {
                // Its file stays as it is, and this home gets one that can be renewed.
                continue;
            }
            target = Some(move_into_pool(lock, pool, &other, id, now)?);
        } else if processes.need_file_of(pool, &other) || is_linked_to(pool, &path) {
            if content != (HomeContent::Account { id: id.clone(), stale: false })
                && let Some(doc) = pool.credentials().load(id)?
            {
                // What is read through the link must be the newest document.
                rewrite(lock, pool, &other, &doc, now)?;
            }
            target = Some(path);
        } else {
            vacate(lock, pool, &other, now)?;
            // What cannot be moved now stays for the next time.
            let _ = own_home::move_shared_to_main(lock, &main_home, &other);
        }
    }
    Ok(target.filter(|target| !is_same_place(target, &here)))
}

/// Returns whether two paths name one entry of one folder, however they are spelled. A link must not lead to itself.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.parent().and_then(|dir| std::fs::canonicalize(dir).ok());
    a == b || a.file_name() == b.file_name() && real(a).is_some() && real(a) == real(b)
}

/// Returns whether another home is a link to this file.
fn is_linked_to(pool: &Pool, file: &Path) -> bool {
    let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mut others = pool.state().homes.keys().map(|key| path_of_key(key)).filter(|path| path != file);
    others.any(|path| path.is_symlink() && std::fs::canonicalize(&path).is_ok_and(|to| to == real))
}

/// Moves the file of a main home into the own home of its account, and leaves a link: so both homes can change hands
/// later. Returns the new place.
fn move_into_pool(
    lock: &PoolLock,
    pool: &mut Pool,
    main_home: &CodexHome,
    id: &AccountId,
    now: i64,
) -> Result<PathBuf> {
    let mut n = 1;
    let own = loop {
        let own = main_home.own_nth(&pool.paths, id, n);
        own_home::create(lock, &pool.paths, main_home, &own)?;
        let there = reconcile_whole(lock, pool, &own, now)?;
        if there == HomeContent::Empty || there.account() == Some(id) {
            break own;
        }
        if n == own_home::MOST {
            return Err(Error::new(format!("{} holds another login", own.auth_json().display())));
        }
        n += 1;
    };
    let target = own.auth_json();
    let doc = stored(pool, id)?;
    let file = find(pool, &target, "write")?;
    let out = exchange(lock, &own, &file, &target, New::Document(&doc), None)?;
    let seen = pool.state().home(&target).map(|record| record.hash.clone());
    pool.state_mut().remember(&target, &doc, doc.hash(), now);
    adopt(lock, pool, out, seen.as_ref(), now)?;
    let path = main_home.auth_json();
    let file = find(pool, &path, "read")?;
    let out = exchange(lock, main_home, &file, &file.real, New::Link(&target), None)?;
    pool.state_mut().remember(&path, &doc, doc.hash(), now);
    adopt(lock, pool, out, Some(&doc.hash()), now)?;
    Ok(target)
}

/// Takes the document out of a home that is not in use. The pool holds it already. Behind the user's own link, the
/// file goes. The state says first that this is our doing, so that it does not count as a logout.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn vacate(lock: &PoolLock, pool: &mut Pool, home: &CodexHome, now: i64) -> Result<()> {
    let key = path_key(&home.auth_json());
    let seen = pool.state_mut().homes.get_mut(&key).map(|record| {
        record.leaving = true;
        record.hash.clone()
    });
    if seen.is_some() {
        pool.commit(lock)?;
    }
    remove_document(lock, pool, home, seen.as_ref(), now)?;
    pool.state_mut().homes.remove(&key);
    Ok(())
}

/// Removes the document of a home, or our link to one. `seen`: the document when it was last read. A later one is
/// adopted.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn remove_document(
    lock: &PoolLock,
    pool: &mut Pool,
    home: &CodexHome,
    seen: Option<&DocHash>,
    now: i64,
) -> Result<()> {
    let path = home.auth_json();
    let file = find(pool, &path, "use")?;
    // Of a link of ours, the file stays.
    let at = if file.link == Link::Ours { &path } else { &file.real };
    let out = exchange(lock, home, &file, at, New::Nothing, None)?;
    adopt(lock, pool, out, seen, now)
}

/// Takes an account's document out of every home.
///
/// # Errors
/// If a home cannot be cleared.
pub(crate) fn clear_homes(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Result<()> {
    for home in homes_with(lock, pool, id, now)? {
        vacate(lock, pool, &home, now)?;
    }
    Ok(())
}

/// Writes the pool's newer document into a home that holds this account, in use or not: running sessions read it there.
///
/// # Errors
/// If it cannot be written.
pub fn rewrite(lock: &PoolLock, pool: &mut Pool, home: &CodexHome, doc: &AuthDoc, now: i64) -> Result<()> {
    let path = home.auth_json();
    let file = find(pool, &path, "use")?;
    let doc = &pool.for_home(doc.clone());
    let seen = pool.state().home(&path).map(|record| record.hash.clone());
    let Some(out) = exchange(lock, home, &file, &file.real, New::Document(doc), seen.as_ref())? else {
        // A session has rotated the tokens at this moment, or the user has logged in.
        return reconcile(lock, pool, home, now).map(drop);
    };
    pool.state_mut().remember(&path, doc, doc.hash(), now);
    out.adopt(lock, pool, seen.as_ref(), now)
}

/// Returns the homes that hold this account, after reconciling them.
///
/// # Errors
/// As [`reconcile`].
pub fn homes_with(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Result<Vec<CodexHome>> {
    let mut homes = Vec::new();
    for home in known::of_account(pool, id) {
        if reconcile(lock, pool, &home, now)?.account() == Some(id) {
            homes.push(home);
        }
    }
    Ok(homes)
}

/// Returns whether a home of this account has a document that is not whole, which Codex may be writing.
pub(crate) fn being_written(pool: &Pool, id: &AccountId) -> bool {
    let being_written = |home: &CodexHome| HomeContent::read(&pool.paths, home) == HomeContent::BeingWritten;
    known::of_account(pool, id).iter().any(being_written)
}

/// Adopts a login that the user made just now, and writes it into every home of its account, whatever pool and homes
/// have. What they have is kept in `lost+found/`. Returns what it changed, and why homes could not be written.
///
/// # Errors
/// The login could not be made durable.
pub fn adopt_login(
    lock: &PoolLock,
    pool: &mut Pool,
    doc: &AuthDoc,
    label: Option<&str>,
    now: i64,
) -> Result<(Adoption, Vec<Error>)> {
    // Before the login is there, so that it need not compete with them.
    let homes = homes_with(lock, pool, doc.id(), now)?;
    let adoption = pool.adopt(lock, doc, label, Origin::Login, now)?;
    let written = homes.iter().map(|home| rewrite(lock, pool, home, doc, now));
    let problems = written.filter_map(Result::err).collect();
    Ok((adoption, problems))
}
