//! Putting an account's document into a seat: whole, by rename, and never a second file for an
//! account that has one elsewhere (invariant 3). The caller has reconciled the seat and knows that it
//! may change hands, or that it holds this account already.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::reconcile::{adopt_late_write, reconcile_whole};
use super::{Base, Holding, Link, Seat, SeatFile, reconcile};
use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocHash};
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::pool::Pool;
use crate::process;
use crate::seats::occupants::{self, Census};
use crate::store::{ServerMemory, path_key, path_of_key};

/// Puts the account into the seat.
///
/// # Errors
/// No credentials in the pool, or the seat cannot be written; it then holds what it held.
pub fn place(
    lock: &PoolLock,
    pool: &mut Pool,
    census: &Census,
    seat: &Seat,
    id: &AccountId,
    now: i64,
) -> Result<()> {
    let path = seat.auth_json();
    let link = elsewhere(lock, pool, census, seat, id, now)?;
    let doc = pool.credentials().load(id)?;
    let doc = doc.ok_or_else(|| Error::new(format!("the pool has no credentials for {id}")))?;
    let file = SeatFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("use", &path, &e))?;
    let old = file.open().ok().flatten();
    let seen = pool.state().seat(&path).map(|memory| memory.hash.clone());
    remember_server(pool, seat, id);
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
fn remember_server(pool: &mut Pool, seat: &Seat, id: &AccountId) {
    let path = seat.auth_json();
    let Some(memory) = pool.state().seat(&path).cloned() else { return };
    if memory.account == *id {
        return;
    }
    let note = occupants::server(seat.dir()).map(|server| ServerMemory {
        account: server_account(&memory, &server),
        pid: server.pid,
        start_ticks: server.start_ticks,
    });
    if let Some(memory) = pool.state_mut().seats.get_mut(&path_key(&path)) {
        memory.server = note;
    }
}

/// The account that a background server read when it started; `None` if nobody knows.
pub fn server_account(memory: &crate::store::SeatMemory, server: &occupants::Server) -> Option<AccountId> {
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
/// nobody needs is removed; where one must stay, the answer is its path, and this seat becomes a link to it.
fn elsewhere(
    lock: &PoolLock,
    pool: &mut Pool,
    census: &Census,
    seat: &Seat,
    id: &AccountId,
    now: i64,
) -> Result<Option<PathBuf>> {
    let here = seat.auth_json();
    let mut target = None;
    for other in remembered_and_homes(pool, id) {
        let path = other.auth_json();
        if path == here {
            continue;
        }
        let held = reconcile_whole(lock, pool, &other, now)?;
        if held == (Holding::Broken { settled: false }) {
            return Err(Error::new(format!("{} is being written", path.display())));
        }
        if held.account() != Some(id) {
            continue;
        }
        let file = SeatFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("read", &path, &e))?;
        if file.link == Link::Ours {
            // A link to the file that is the account's seat.
            target = Some(file.real);
        } else if super::home::base_of(&pool.paths, other.dir()).is_some() {
            if in_use(pool, census, &other) || linked_to(pool, &path) {
                if held != (Holding::Account { id: id.clone(), stale: false })
                    && let Some(doc) = pool.credentials().load(id)?
                {
                    // What is read through the link must be the newest.
                    renew(lock, pool, &other, &doc, now)?;
                }
                target = Some(path);
            } else {
                vacate(lock, pool, &other, now)?;
                // Nobody is there. What cannot be moved now stays for the next time.
                let _ = super::home::settle(lock, &Base::under(&pool.paths, &other), &other);
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

/// The seats where this account was seen last.
fn remembered(pool: &Pool, id: &AccountId) -> Vec<Seat> {
    let seats = pool.state().seats.iter().filter(|(_, memory)| memory.account == *id);
    seats.filter_map(|(key, _)| Seat::of_auth_json(&pool.paths, &path_of_key(key))).collect()
}

/// The same, and its homes, whatever they hold: what was remembered can be lost, or not have been written down by a
/// launch that was killed, and a home's name says whose it is.
fn remembered_and_homes(pool: &Pool, id: &AccountId) -> Vec<Seat> {
    let mut seats = remembered(pool, id);
    let homes = super::home::dirs_of(&pool.paths, id).into_iter().map(|dir| dir.join("auth.json"));
    let filled = homes.filter(|path| path.symlink_metadata().is_ok());
    seats.extend(filled.filter_map(|path| Seat::of_auth_json(&pool.paths, &path)));
    seats.sort_unstable_by_key(Seat::auth_json);
    seats.dedup();
    seats
}

/// Whether a seat of this account has a document that is not whole, which somebody may be writing.
pub fn being_written(pool: &Pool, id: &AccountId) -> bool {
    let unsettled = |seat: &Seat| super::look(&pool.paths, seat) == Holding::Broken { settled: false };
    remembered_and_homes(pool, id).iter().any(unsettled)
}

/// Whether anybody is in an account's home. A background server counts there even when it is idle: nobody
/// stops it, and it goes on reading and writing that file.
fn in_use(pool: &Pool, census: &Census, home: &Seat) -> bool {
    let base = Base::under(&pool.paths, home);
    occupants::server(home.dir()).is_some() || !census.occupants(pool, &base, home, base.dir()).is_empty()
}

/// Everybody in a seat that holds this account. The caller has reconciled the seats.
pub fn users_of(pool: &Pool, census: &Census, id: &AccountId) -> Vec<occupants::Occupant> {
    users(pool, census, remembered(pool, id))
}

/// The same, and everybody in one of its homes, whoever they have logged in as there.
pub fn users_of_seats_and_homes(pool: &Pool, census: &Census, id: &AccountId) -> Vec<occupants::Occupant> {
    users(pool, census, remembered_and_homes(pool, id))
}

fn users(pool: &Pool, census: &Census, seats: Vec<Seat>) -> Vec<occupants::Occupant> {
    let users = seats.into_iter().flat_map(|seat| {
        let base = Base::under(&pool.paths, &seat);
        census.occupants(pool, &base, &seat, base.dir())
    });
    users.collect()
}

/// Whether another seat is a link to this file.
fn linked_to(pool: &Pool, file: &Path) -> bool {
    let links = pool.state().seats.keys().map(|key| path_of_key(key)).filter(|path| path != file);
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    links
        .into_iter()
        .any(|link| link.is_symlink() && std::fs::canonicalize(&link).is_ok_and(|real| real == file))
}

/// Another CODEX_HOME's shared seat holds the account. Its file moves into the pool, into the
/// account's home there, and the seat becomes a link to it: so both can change hands later.
fn share(lock: &PoolLock, pool: &mut Pool, other: &Seat, id: &AccountId, now: i64) -> Result<PathBuf> {
    let base = Base { dir: other.dir().to_owned(), explicit: true };
    let home = base.home(&pool.paths, id);
    super::home::create(lock, &pool.paths, &base, &home)?;
    let target = home.auth_json();
    let there = reconcile_whole(lock, pool, &home, now)?;
    if there != Holding::Empty && there.account() != Some(id) {
        return Err(Error::new(format!("{} holds another login", target.display())));
    }
    let doc = pool.credentials().load(id)?;
    let doc = doc.ok_or_else(|| Error::new(format!("the pool has no credentials for {id}")))?;
    files::write_whole(&target, doc.bytes(), Durability::Fast)
        .map_err(|e| Error::io("write", &target, &e))?;
    let path = other.auth_json();
    let file = SeatFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("read", &path, &e))?;
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

/// Takes the document out of a seat that nobody uses. The pool holds it already. Through the user's own
/// link, the file behind it goes. That it is our doing is written down first: it is no logout.
///
/// # Errors
/// If it cannot be removed.
pub fn vacate(lock: &PoolLock, pool: &mut Pool, seat: &Seat, now: i64) -> Result<()> {
    let path = seat.auth_json();
    let key = path_key(&path);
    let seen = pool.state_mut().seats.get_mut(&key).map(|memory| {
        memory.leaving = true;
        memory.hash.clone()
    });
    if seen.is_some() {
        pool.commit(lock)?;
    }
    take_away(lock, pool, seat, seen.as_ref(), now)?;
    pool.state_mut().seats.remove(&key);
    Ok(())
}

/// Removes a seat's document, or our link to one. `seen`: what was there when it was last read. Who wrote since then
/// is not lost.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn take_away(
    lock: &PoolLock,
    pool: &mut Pool,
    seat: &Seat,
    seen: Option<&DocHash>,
    now: i64,
) -> Result<()> {
    let path = seat.auth_json();
    let file = SeatFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("use", &path, &e))?;
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

/// Takes an account's document out of every seat.
///
/// # Errors
/// If a seat cannot be cleared.
pub fn clear_seats(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Result<()> {
    for seat in seats_of(lock, pool, id, now)? {
        vacate(lock, pool, &seat, now)?;
    }
    Ok(())
}

/// Takes an account out of every seat and out of the registry (`rm`). The caller knows that nobody uses it.
///
/// # Errors
/// If a seat cannot be cleared.
pub fn remove_account(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Result<()> {
    clear_seats(lock, pool, id, now)?;
    let state = pool.state_mut();
    state.pin = state.pin.take().filter(|pin| pin != id);
    state.marks.retain(|mark| mark.account.as_ref() != Some(id));
    pool.registry_mut().accounts.retain(|a| a.id != *id);
    Ok(())
}

/// Writes the pool's newer document into a seat that holds this account already, in use or not:
/// running sessions read it from there.
///
/// # Errors
/// If it cannot be written.
pub fn renew(lock: &PoolLock, pool: &mut Pool, seat: &Seat, doc: &AuthDoc, now: i64) -> Result<()> {
    let path = seat.auth_json();
    let file = SeatFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("use", &path, &e))?;
    let old = file.open().ok().flatten();
    let seen = pool.state().seat(&path).map(|memory| memory.hash.clone());
    files::write_whole(&file.real, doc.bytes(), Durability::Fast)
        .map_err(|e| Error::io("write", &path, &e))?;
    pool.state_mut().remember(&path, doc, doc.hash(), now);
    adopt_late_write(lock, pool, old, seen.as_ref(), now)
}

/// Every seat that holds this account now, after reconciling it.
///
/// # Errors
/// As [`reconcile`].
pub fn seats_of(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Result<Vec<Seat>> {
    let mut seats = Vec::new();
    for seat in remembered_and_homes(pool, id) {
        if matches!(reconcile(lock, pool, &seat, now)?, Holding::Account { id: held, .. } if held == *id) {
            seats.push(seat);
        }
    }
    Ok(seats)
}
