//! `codex login` and `codex logout`: the two commands that run as a child, since something must be
//! done after them. Codex revokes the login that it finds when another one begins, so before a login
//! the live document, safe in the pool, is moved aside; afterwards the new login is adopted, or the old
//! one put back. A mark says that this is going on; one left by a crash is undone by the next launch.

use std::io::Write as _;
use std::time::Duration;

use super::exec::Program;
use super::spawn::{self, End};
use super::{Held, Launch, Line, Trouble, ledger, nested};
use crate::account::{AccountId, AuthState, AuthStatus};
use crate::auth_doc::{AuthDoc, DocHash};
use crate::env;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{Life, ProcessId};
use crate::references;
use crate::renewal;
use crate::seats::occupants::{self, Census};
use crate::seats::{self, Base, Holding, Seat};
use crate::store::{LostFound, Mark, MarkKind, Why, path_key, path_of_key};

/// How long the end of a login waits for the pool's lock: no Codex is waiting for us any more.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A login or logout that is about to run.
#[derive(Debug)]
pub struct Interlude {
    paths: PoolPaths,
    base: Base,
    kind: MarkKind,
    /// Where Codex will write: the shared seat, or a fresh home when that is in use.
    seat: Seat,
    private: bool,
    me: ProcessId,
}

impl Launch<'_> {
    /// Prepares a login or logout; `None` if Codex should run it as it is, since the login in the seat is
    /// none of ours.
    pub(super) fn begin(&self, held: &mut Held<'_>, out: &mut Program) -> Result<Option<Interlude>, Trouble> {
        let Some(me) = held.census.me.clone() else {
            return Err(Trouble::Pool("the system does not tell which processes run".to_owned()));
        };
        if matches!(held.shared, Holding::Unmanaged(_) | Holding::Unreadable(_)) {
            return Ok(None);
        }
        let now = self.env().now;
        let kind = if self.call.is_login() { MarkKind::Login } else { MarkKind::Logout };
        let private = kind == MarkKind::Login && self.free_shared_seat(held)?.is_some();
        let seat = match kind {
            _ if private => private_home(held.base, &held.pool.paths, &me),
            MarkKind::Logout => self.seat_to_leave(held)?,
            _ => held.base.shared(),
        };
        if private {
            seats::home::update_special(held.lock, &held.pool.paths, held.base, &seat, now)?;
        }
        self.point_to(held, &seat, out);
        let key = path_key(&seat.auth_json());
        let account = held.pool.state().seats.get(&key).map(|memory| memory.account.clone());
        self.enter(held, &seat, account.as_ref())?;
        let state = held.pool.state_mut();
        // What happens to the file from here on is our doing.
        let memory = state.seats.remove(&key);
        state.marks.push(Mark { kind, account, seat: Some(key), process: me.to_string(), at: now });
        held.pool.commit_with(held.lock, Durability::Durable)?;
        if kind == MarkKind::Login && !private {
            move_aside(held, &seat, memory.as_ref().map(|memory| &memory.hash), now)?;
        }
        let seated = super::seating::Seated { seat: seat.clone(), account: None, attaches: false };
        let extra = self.extra_args(held, &seated);
        out.insert_args(self.call, self.request.args, &extra);
        Ok(Some(Interlude {
            paths: held.pool.paths.clone(),
            base: held.base.clone(),
            kind,
            seat,
            private,
            me,
        }))
    }

    /// Where a logout takes place: the account that was named, the session we are inside, whoever is live.
    fn seat_to_leave(&self, held: &mut Held<'_>) -> Result<Seat, Trouble> {
        let shared = held.base.shared();
        let Some(name) = self.named() else {
            return Ok(nested::session(self.env(), held).map_or(shared, |(seat, _)| seat));
        };
        let registry = held.pool.readable().map_err(Trouble::Named)?;
        let account = references::resolve(&registry.accounts, name).map_err(Trouble::Named)?;
        let id = account.id.clone();
        if held.live() == Some(&id) {
            return Ok(shared);
        }
        let home = held.base.home(&held.pool.paths, &id);
        let now = self.env().now;
        seats::home::update_special(held.lock, &held.pool.paths, held.base, &home, now)?;
        match seats::reconcile_whole(held.lock, &mut held.pool, &home, now)? {
            Holding::Account { id: there, .. } if there == id => {}
            Holding::Account { .. } | Holding::Empty => {
                seats::place(held.lock, &mut held.pool, &held.census, &home, &id, now)?;
            }
            _ => {
                let text = format!("its own home, {}, holds another login", home.dir().display());
                return Err(Trouble::Named(Error::of(ErrorKind::NoUsableAccount, text)));
            }
        }
        Ok(home)
    }
}

/// A fresh home for one login, over the base, so that Codex sees the user's settings there.
fn private_home(base: &Base, paths: &PoolPaths, process: &ProcessId) -> Seat {
    base.special(paths, &format!("login-{}-{}", process.pid, process.start_ticks))
}

/// Takes the live document, which the pool holds, out of the way. `seen`: what it was when it was taken in.
fn move_aside(held: &mut Held<'_>, seat: &Seat, seen: Option<&DocHash>, now: i64) -> Result<()> {
    if matches!(held.shared, Holding::Broken { .. }) {
        return seats::clear_broken(held.lock, &mut held.pool, seat, now);
    }
    seats::take_away(held.lock, &mut held.pool, seat, seen, now)
}

impl Interlude {
    /// Runs Codex as a child, and brings the pool up to date after it. The status is Codex's own; a
    /// signal that killed it kills us, too.
    pub fn run(self, program: &Program, say: impl Fn(&[Line])) -> u8 {
        let held = ledger::hold(&self.paths, &self.me);
        let end = match spawn::run_child(program) {
            Ok(end) => end,
            Err(error) => {
                say(&[Line::Wrong(format!("cannot run {}: {error}", program.path().display()))]);
                End::Exited(126)
            }
        };
        drop(held);
        // It has run. Should anything of ours fail now, it must not be started again: a second login would revoke
        // what the first one made. The mark stays, and the next launch tries again.
        std::panic::set_hook(Box::new(move |panic| {
            let place =
                panic.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
            // Not through `say`, which may be what failed.
            let line = format!("codex-pool: internal error{place}; the next launch tries again\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            leave(spawn::end_as(end));
        }));
        let mut lines = Vec::new();
        if let Err(error) = self.finish(end, &mut lines) {
            lines.push(Line::Wrong(format!("{error}; the next launch tries again")));
        }
        say(&lines);
        spawn::end_as(end)
    }

    fn finish(&self, end: End, lines: &mut Vec<Line>) -> Result<()> {
        let path = self.paths.pool_lock();
        let lock = PoolLock::acquire(&self.paths, LOCK_WAIT).map_err(|e| Error::io("lock", &path, &e))?;
        let lock = lock.ok_or_else(|| Error::new("the pool is locked by another process"))?;
        // A login takes its time.
        let now = env::clock();
        let mut pool = Pool::open(&lock, &self.paths, now)?;
        ledger::leave(&self.paths, &self.me);
        let census = Census::take(Some(&lock), &self.paths, now);
        let me = self.me.to_string();
        let mark = pool.state().marks.iter().find(|m| m.process == me && m.kind == self.kind).cloned();
        let Some(mark) = mark else { return Ok(()) };
        let succeeded = end == End::Exited(0);
        let held = settle(&lock, &mut pool, &census, &mark, succeeded, now)?;
        if self.kind == MarkKind::Login
            && succeeded
            && let Some(id) = &held
        {
            renewal::restart(&mut pool, id);
        }
        // Not by its place: a new login also ends what is known of refreshes that were begun, marks before it.
        pool.state_mut().marks.retain(|other| *other != mark);
        pool.commit(&lock)?;
        if self.private {
            let _ = std::fs::remove_dir_all(self.seat.dir());
            if succeeded && held.is_none() {
                let place = pool.paths.lost_found();
                lines.push(Line::Wrong(format!(
                    "the new login is none that codex-pool can manage; what Codex left of it is in {}",
                    place.display()
                )));
            }
        }
        if self.kind == MarkKind::Login
            && let Some(id) = held
            && succeeded
            && let Some(account) = pool.registry().get(&id)
        {
            let place = if self.private {
                format!("; the sessions in {} go on as they are", self.base.dir().display())
            } else {
                String::new()
            };
            lines.push(Line::Switched(format!("logged in as `{}`{place}", account.label)));
        }
        Ok(())
    }
}

/// Ends the process from inside a panic, where there is nowhere to return to.
#[expect(clippy::exit, reason = "a panic hook cannot return a status")]
fn leave(status: u8) -> ! {
    std::process::exit(i32::from(status))
}

/// What a finished, or interrupted, login or logout means for the pool. Says whose login the seat holds.
fn settle(
    lock: &PoolLock,
    pool: &mut Pool,
    census: &Census,
    mark: &Mark,
    succeeded: bool,
    now: i64,
) -> Result<Option<AccountId>> {
    let seat = mark.seat.as_deref().and_then(|key| Seat::of_auth_json(&pool.paths, &path_of_key(key)));
    let Some(seat) = seat else { return Ok(None) };
    if seats::home::is_special(&pool.paths, seat.dir()) {
        return adopt_private(lock, pool, &seat, now);
    }
    match (seats::reconcile(lock, pool, &seat, now)?, &mark.account) {
        (Holding::Account { id, .. }, _) => {
            if mark.kind == MarkKind::Login {
                // The account may sit in a home, too: there must be one file.
                seats::place(lock, pool, census, &seat, &id, now)?;
            }
            Ok(Some(id))
        }
        (Holding::Empty | Holding::Broken { .. }, Some(before)) if mark.kind == MarkKind::Login => {
            seats::clear_broken(lock, pool, &seat, now)?;
            seats::place(lock, pool, census, &seat, before, now)?;
            Ok(None)
        }
        (Holding::Empty, Some(before)) => {
            log_out(lock, pool, before, succeeded, now)?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Takes over a login that was made in a fresh home, and hands it to the seats of its account.
fn adopt_private(lock: &PoolLock, pool: &mut Pool, home: &Seat, now: i64) -> Result<Option<AccountId>> {
    let path = home.auth_json();
    let bytes =
        files::read_small(&path, crate::auth_doc::MAX_BYTES).map_err(|e| Error::io("read", &path, &e))?;
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let Ok(doc) = AuthDoc::parse(bytes.clone()).map(AuthDoc::corrected) else {
        LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now)?;
        return Ok(None);
    };
    pool.adopt(lock, &doc, None, false, now)?;
    let id = doc.id().clone();
    for seat in seats::seats_of(lock, pool, &id, now)? {
        if let Some(newest) = pool.credentials().load(&id)? {
            seats::renew(lock, pool, &seat, &newest, now)?;
        }
    }
    Ok(Some(id))
}

/// The live file is gone after a logout. If that succeeded, the login is revoked, and the credentials
/// are of no more use; if not, nobody knows, and a refresh will tell.
fn log_out(lock: &PoolLock, pool: &mut Pool, id: &AccountId, succeeded: bool, now: i64) -> Result<()> {
    if succeeded {
        seats::clear_seats(lock, pool, id, now)?;
        pool.credentials().remove(lock, id)?;
    }
    if let Some(account) = pool.registry_mut().get_mut(id) {
        account.auth = AuthStatus {
            state: AuthState::ReauthRequired,
            reason: Some("logged_out".to_owned()),
            since: Some(now),
        };
    }
    Ok(())
}

/// Undoes what a login or logout that was killed has left.
///
/// # Errors
/// If a seat cannot be read or written; the mark then stays.
pub fn undo_interrupted(lock: &PoolLock, pool: &mut Pool, census: &Census, now: i64) -> Result<()> {
    let Some(me) = &census.me else { return Ok(()) };
    let interrupted = |mark: &Mark| {
        let process = ProcessId::parse(&mark.process);
        mark.kind != MarkKind::Refresh
            && process.is_none_or(|process| match process.life(me) {
                Life::Alive => false,
                Life::Unknown => now - mark.at > ledger::UNSEEN_COUNTS,
                // Only the shim was killed, perhaps: then Codex is still at it, or about to.
                Life::Dead => {
                    !census.ledger.launches.iter().any(|launch| launch.process == process)
                        && occupants::orphans(&process).is_empty()
                }
            })
    };
    while let Some(mark) = pool.state().marks.iter().find(|mark| interrupted(mark)).cloned() {
        settle(lock, pool, census, &mark, false, now)?;
        if let Some(seat) =
            mark.seat.as_deref().and_then(|key| Seat::of_auth_json(&pool.paths, &path_of_key(key)))
            && seats::home::is_special(&pool.paths, seat.dir())
        {
            let _ = std::fs::remove_dir_all(seat.dir());
        }
        pool.state_mut().marks.retain(|other| *other != mark);
    }
    Ok(())
}
