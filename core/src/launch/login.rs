//! `codex login` and `codex logout`: the two commands that run as a child, since something must be
//! done after them. Codex revokes the login that it finds when another one begins, so before a login
//! the live document, safe in the pool, is moved aside; afterwards the new login is adopted, or the old
//! one put back. A mark says that this is going on; one left by a crash is undone by the next launch.

use std::io::Write as _;
use std::time::Duration;

use super::exec::Program;
use super::spawn::{self, End};
use super::{Launch, Line, Locked, Trouble, nested};
use crate::account::{AccountId, AuthState, AuthStatus};
use crate::auth_doc::DocHash;
use crate::env;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Durability, PoolLock};
use crate::homes::in_use::{self, Processes};
use crate::homes::{self, CodexHome, HomeContent, HomeKind};
use crate::ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{Liveness, ProcessId};
use crate::references;
use crate::renewal;
use crate::store::{Mark, MarkKind, path_key, path_of_key};

/// How long the end of a login waits for the pool's lock: no Codex is waiting for us any more.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A login or logout that is about to run.
#[derive(Debug)]
pub struct AuthCommand {
    paths: PoolPaths,
    main_home: CodexHome,
    kind: MarkKind,
    /// Whether Codex writes into a login home, since the main home is in use.
    private: bool,
    me: ProcessId,
}

impl Launch<'_> {
    /// Prepares a login or logout; `None` if Codex should run it as it is, since the login in the home is
    /// none of ours.
    pub(super) fn begin(
        &self,
        held: &mut Locked<'_>,
        out: &mut Program,
    ) -> Result<Option<AuthCommand>, Trouble> {
        let Some(me) = held.processes.me.clone() else {
            return Err(Trouble::Pool("the system does not tell which processes run".to_owned()));
        };
        if matches!(held.shared, HomeContent::Unmanaged(_) | HomeContent::Unreadable(_)) {
            return Ok(None);
        }
        let now = self.env().now;
        let kind = if self.call.is_login() { MarkKind::Login } else { MarkKind::Logout };
        let private = kind == MarkKind::Login && self.free_main_home(held)?.is_some();
        let codex_home = match kind {
            _ if private => {
                homes::login_home::create_linked(held.lock, &held.pool.paths, held.main_home, &me, now)?
            }
            MarkKind::Logout => self.home_to_leave(held)?,
            _ => held.main_home.clone(),
        };
        self.set_codex_home(held, &codex_home, out);
        let key = path_key(&codex_home.auth_json());
        let account = held.pool.state().homes.get(&key).map(|memory| memory.account.clone());
        self.record(held, &codex_home, account.as_ref())?;
        let state = held.pool.state_mut();
        // What happens to the file from here on is our doing.
        let memory = state.homes.remove(&key);
        state.marks.push(Mark { kind, account, home: Some(key), process: me.to_string(), at: now });
        held.pool.commit_with(held.lock, Durability::Durable)?;
        if kind == MarkKind::Login && !private {
            move_aside(held, &codex_home, memory.as_ref().map(|memory| &memory.hash), now)?;
        }
        let seated = super::placement::Placement { home: codex_home.clone(), account: None, attaches: false };
        let extra = self.extra_args(held, &seated);
        out.insert_args(self.call, self.request.args, &extra);
        Ok(Some(AuthCommand {
            paths: held.pool.paths.clone(),
            main_home: held.main_home.clone(),
            kind,
            private,
            me,
        }))
    }

    /// Where a logout takes place: the account that was named, the session we are inside, whoever is live.
    fn home_to_leave(&self, held: &mut Locked<'_>) -> Result<CodexHome, Trouble> {
        let shared = held.main_home.clone();
        let Some(name) = self.named() else {
            return Ok(nested::session(self.env(), held).map_or(shared, |(codex_home, _)| codex_home));
        };
        let registry = held.pool.readable().map_err(Trouble::Named)?;
        let account = references::resolve(&registry.accounts, name).map_err(Trouble::Named)?;
        let id = account.id.clone();
        if held.live() == Some(&id) {
            return Ok(shared);
        }
        let home = held.main_home.own(&held.pool.paths, &id);
        let now = self.env().now;
        homes::own_home::update_special(held.lock, &held.pool.paths, held.main_home, &home, now)?;
        match homes::reconcile_whole(held.lock, &mut held.pool, &home, now)? {
            HomeContent::Account { id: there, .. } if there == id => {}
            HomeContent::Account { .. } | HomeContent::Empty => {
                homes::put(held.lock, &mut held.pool, &held.processes, &home, &id, now)?;
            }
            _ => {
                let text = format!("its own home, {}, holds another login", home.dir().display());
                return Err(Trouble::Named(Error::of(ErrorKind::NoUsableAccount, text)));
            }
        }
        Ok(home)
    }
}

/// Takes the live document, which the pool holds, out of the way. `seen`: what it was when it was taken in.
fn move_aside(held: &mut Locked<'_>, codex_home: &CodexHome, seen: Option<&DocHash>, now: i64) -> Result<()> {
    if matches!(held.shared, HomeContent::BeingWritten | HomeContent::Broken) {
        return homes::clear_broken(held.lock, &mut held.pool, codex_home, now);
    }
    homes::remove_document(held.lock, &mut held.pool, codex_home, seen, now)
}

impl AuthCommand {
    /// Runs Codex as a child, and brings the pool up to date after it. The status is Codex's own; a
    /// signal that killed it kills us, too.
    pub fn run(self, program: &Program, say: impl Fn(&[Line])) -> u8 {
        let held = ledger::lock_entry(&self.paths, &self.me);
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
        let mut pool = homes::open_pool(&lock, &self.paths, now)?;
        ledger::remove(&self.paths, &self.me);
        let processes = Processes::read(Some(&lock), &self.paths, now);
        let me = self.me.to_string();
        let mark = pool.state().marks.iter().find(|m| m.process == me && m.kind == self.kind).cloned();
        let Some(mark) = mark else { return Ok(()) };
        let succeeded = end == End::Exited(0);
        let held = conclude(&lock, &mut pool, &processes, &mark, succeeded, now)?;
        if self.kind == MarkKind::Login
            && succeeded
            && let Some(id) = &held
        {
            renewal::restart(&mut pool, id);
        }
        // Not by its place: a new login also ends what is known of refreshes that were begun, marks before it.
        pool.state_mut().marks.retain(|other| *other != mark);
        pool.commit(&lock)?;
        if self.private && succeeded && held.is_none() {
            let place = pool.paths.lost_found();
            lines.push(Line::Wrong(format!(
                "the new login is none that codex-pool can manage; what Codex left of it is in {}",
                place.display()
            )));
        }
        if self.kind == MarkKind::Login
            && let Some(id) = held
            && succeeded
            && let Some(account) = pool.registry().get(&id)
        {
            let place = if self.private {
                format!("; the sessions in {} go on as they are", self.main_home.dir().display())
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

/// What a finished, or interrupted, login or logout means for the pool. Says whose login the home holds.
fn conclude(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    mark: &Mark,
    succeeded: bool,
    now: i64,
) -> Result<Option<AccountId>> {
    let codex_home =
        mark.home.as_deref().and_then(|key| CodexHome::of_auth_json(&pool.paths, &path_of_key(key)));
    let Some(codex_home) = codex_home else { return Ok(None) };
    if *codex_home.kind() == HomeKind::Login {
        let id = homes::login_home::adopt(lock, pool, &codex_home, now)?;
        // One that cannot be removed now is removed by a later command.
        let _ = homes::login_home::remove(&codex_home);
        return Ok(id);
    }
    match (homes::reconcile(lock, pool, &codex_home, now)?, &mark.account) {
        (HomeContent::Account { id, .. }, _) => {
            if mark.kind == MarkKind::Login {
                // The account may sit in a home, too: there must be one file.
                homes::put(lock, pool, processes, &codex_home, &id, now)?;
            }
            Ok(Some(id))
        }
        (HomeContent::Empty | HomeContent::BeingWritten | HomeContent::Broken, Some(before))
            if mark.kind == MarkKind::Login =>
        {
            homes::clear_broken(lock, pool, &codex_home, now)?;
            homes::put(lock, pool, processes, &codex_home, before, now)?;
            Ok(None)
        }
        (HomeContent::Empty, Some(before)) => {
            log_out(lock, pool, before, succeeded, now)?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The live file is gone after a logout. If that succeeded, the login is revoked, and the credentials
/// are of no more use; if not, nobody knows, and a refresh will tell.
fn log_out(lock: &PoolLock, pool: &mut Pool, id: &AccountId, succeeded: bool, now: i64) -> Result<()> {
    if succeeded {
        homes::clear_homes(lock, pool, id, now)?;
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
/// If a home cannot be read or written; the mark then stays.
pub fn undo_interrupted(lock: &PoolLock, pool: &mut Pool, processes: &Processes, now: i64) -> Result<()> {
    let Some(me) = &processes.me else { return Ok(()) };
    let interrupted = |mark: &Mark| {
        let process = ProcessId::parse(&mark.process);
        mark.kind != MarkKind::Renewal
            && process.is_none_or(|process| match process.liveness(me) {
                Liveness::Alive => false,
                Liveness::Unknown => now - mark.at > ledger::UNSEEN_COUNTS,
                // Only the shim was killed, perhaps: then Codex is still at it, or about to.
                Liveness::Dead => {
                    !processes.ledger.launches.iter().any(|launch| launch.process == process)
                        && in_use::orphans(&process).is_empty()
                }
            })
    };
    while let Some(mark) = pool.state().marks.iter().find(|mark| interrupted(mark)).cloned() {
        conclude(lock, pool, processes, &mark, false, now)?;
        pool.state_mut().marks.retain(|other| *other != mark);
    }
    Ok(())
}
