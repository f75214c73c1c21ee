//! `codex login` and `codex logout`, which run as children since something must be done after them. A login revokes the
//! one that it finds. So before a login the live document, which the pool has, is moved aside; afterwards the new login
//! is adopted, or the old one put back. A mark says that this is under way. The next launch undoes it after a crash.
//! In a shared pool, the document is moved aside before a logout, too, which would revoke the access token that every
//! machine uses. The logout is this machine's alone.

use std::io::Write as _;
use std::time::Duration;

use super::exec::Program;
use super::placement::Placement;
use super::spawn::{self, End};
use super::{Launch, Line, Locked, Trouble, nested};
use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocHash};
use crate::env;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Durability, PoolLock};
use crate::homes::in_use::{self, Processes};
use crate::homes::{self, AuthFile, CodexHome, HomeContent, HomeKind, elsewhere, login_home, own_home};
use crate::ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{Liveness, ProcessId};
use crate::references;
use crate::renewal;
use crate::shared::{Role, refuse_on_runner};
use crate::store::{Mark, MarkKind, path_key, path_of_key};

/// How long the end of a login waits for the pool's lock. No Codex waits for it.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A login or logout that is about to run.
#[derive(Debug)]
pub struct AuthCommand {
    paths: PoolPaths,
    main_home: CodexHome,
    kind: MarkKind,
    /// Whether it is a login into a login home, since the main home is in use.
    private: bool,
    me: ProcessId,
}

impl Launch<'_> {
    /// Prepares a login or logout. `None`: Codex runs it as it is, since the pool does not manage the login in the
    /// home.
    pub(super) fn begin(
        &self,
        locked: &mut Locked<'_>,
        program: &mut Program,
    ) -> Result<Option<AuthCommand>, Trouble> {
        let Some(me) = locked.processes.me.clone() else {
            return Err(Trouble::Pool("the system does not tell which processes run".to_owned()));
        };
        if matches!(
            locked.content,
            HomeContent::Unmanaged(_) | HomeContent::Foreign | HomeContent::Unreadable(_)
        ) {
            return Ok(None);
        }
        if !self.call.is_logout() {
            // It would revoke the access token that is there.
            refuse_on_runner(locked.pool.shared(), "codex login").map_err(Trouble::Fails)?;
        }
        let now = self.env().now;
        let main_home = locked.main_home;
        let private = |locked: &Locked<'_>| {
            elsewhere::settle(&locked.lock, &locked.pool.paths, self.env())?;
            login_home::create_linked(&locked.lock, &locked.pool.paths, main_home, &me, now)
        };
        let (kind, mut home) = if self.call.is_logout() {
            (MarkKind::Logout, self.home_to_log_out(locked)?)
        } else if self.free_main_home(locked)?.is_some() {
            (MarkKind::Login, private(locked)?)
        } else {
            (MarkKind::Login, main_home.clone())
        };
        self.record(locked, &home, account_in(locked, &home).as_ref())?;
        if let Err(error) = self.clear_for(locked, kind, &home, &me) {
            if error.kind != ErrorKind::LockedByCodex {
                return Err(error.into());
            }
            // A Codex is writing there: the home is in use after all.
            home = private(locked)?;
            self.record(locked, &home, None)?;
            self.clear_for(locked, kind, &home, &me)?;
        }
        self.set_codex_home(locked, &home, program);
        let private = *home.kind() == HomeKind::Login;
        let placement = Placement { home, account: None, attaches: false };
        let extra = self.extra_args(locked, &placement);
        program.insert_args(self.call, self.request.args, &extra);
        let paths = locked.pool.paths.clone();
        Ok(Some(AuthCommand { paths, main_home: main_home.clone(), kind, private, me }))
    }

    /// Leaves a mark for a login or logout in this home. The main home is cleared for a login. If that fails, there is
    /// no mark.
    fn clear_for(
        &self,
        locked: &mut Locked<'_>,
        kind: MarkKind,
        home: &CodexHome,
        me: &ProcessId,
    ) -> Result<()> {
        let now = self.env().now;
        let key = path_key(&home.auth_json());
        let state = locked.pool.state_mut();
        // From here on, a change of the file is our doing.
        let record = state.homes.remove(&key);
        let account = record.as_ref().map(|record| record.account.clone());
        let mark = Mark { kind, account, home: Some(key.clone()), process: me.to_string(), at: now };
        state.marks.push(mark.clone());
        locked.pool.commit_with(&locked.lock, Durability::Durable)?;
        let seen = record.as_ref().map(|record| &record.hash);
        let moved = match kind {
            MarkKind::Login if *home.kind() != HomeKind::Login => move_aside(locked, seen, now),
            MarkKind::Logout if locked.pool.shared().is_some() => {
                homes::remove_document(&locked.lock, &mut locked.pool, home, seen, now)
            }
            _ => return Ok(()),
        };
        if moved.is_err() {
            let state = locked.pool.state_mut();
            state.marks.retain(|other| *other != mark);
            state.homes.extend(record.map(|record| (key, record)));
            locked.pool.commit_with(&locked.lock, Durability::Durable)?;
        }
        moved
    }

    /// Returns the home that a logout concerns: that of the account that was named, of the session that we are inside,
    /// or the main home.
    fn home_to_log_out(&self, locked: &mut Locked<'_>) -> Result<CodexHome, Trouble> {
        let main_home = locked.main_home;
        let Some(name) = self.named() else {
            return Ok(
                nested::session(self.env(), locked).map_or_else(|| main_home.clone(), |(home, _)| home)
            );
        };
        let registry = locked.pool.registry();
        let account = references::resolve(&registry.accounts, name).map_err(Trouble::Fails)?;
        let id = account.id.clone();
        if locked.live() == Some(&id) {
            return Ok(main_home.clone());
        }
        let (now, lock, pool) = (self.env().now, &locked.lock, &mut locked.pool);
        let own = main_home.own(&pool.paths, &id);
        elsewhere::settle(lock, &pool.paths, self.env())?;
        own_home::update_lenient(lock, &pool.paths, main_home, &own, now)?;
        match homes::reconcile_whole(lock, pool, &own, now)? {
            HomeContent::Account { id: there, .. } if there == id => {}
            HomeContent::Account { .. } | HomeContent::Empty => {
                homes::put(lock, pool, &locked.processes, &own, &id, now)?;
            }
            _ => {
                let text = format!("its own home, {}, holds another login", own.dir().display());
                let error = Error::of(ErrorKind::NoUsableAccount, text);
                return Err(Trouble::Fails(error.hint("`codex-pool doctor`")));
            }
        }
        Ok(own)
    }
}

/// Returns the account that a home held when it was last seen.
fn account_in(locked: &Locked<'_>, home: &CodexHome) -> Option<AccountId> {
    locked.pool.state().home(&home.auth_json()).map(|record| record.account.clone())
}

/// Removes the live document, which the pool has. `seen`: the document when it was taken into the pool.
fn move_aside(locked: &mut Locked<'_>, seen: Option<&DocHash>, now: i64) -> Result<()> {
    let (lock, pool) = (&locked.lock, &mut locked.pool);
    if locked.content.is_partial() {
        return homes::clear_broken(lock, pool, locked.main_home, now);
    }
    homes::remove_document(lock, pool, locked.main_home, seen, now)
}

impl AuthCommand {
    /// Runs Codex as a child and then brings the pool up to date. Returns Codex's own exit status; if a signal killed
    /// Codex, this process dies by it, too.
    pub fn run(self, program: &Program, say: impl Fn(&[Line])) -> u8 {
        let entry = ledger::lock_entry(&self.paths, &self.me);
        let end = match spawn::run_child(program) {
            Ok(end) => end,
            Err(error) => {
                say(&[Line::Wrong(format!("cannot run {}: {error}", program.path().display()))]);
                End::Exited(126)
            }
        };
        drop(entry);
        // Codex has run. If something of ours fails now, it must not be started again: a second login would revoke the
        // first. The mark stays, and the next launch tries again.
        std::panic::set_hook(Box::new(move |panic| {
            let place =
                panic.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
            // Not through `say`, which may be what failed.
            let line = format!("codex-pool: internal error{place}; the next launch tries again\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            exit(spawn::end_as(end));
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
        let lock =
            PoolLock::acquire_again(&self.paths, LOCK_WAIT).map_err(|e| Error::io("lock", &path, &e))?;
        let lock = lock.ok_or_else(|| Error::new("the pool is locked by another process"))?;
        // The launch may be minutes ago.
        let now = env::clock();
        let mut pool = homes::open_pool(&lock, &self.paths, now)?;
        ledger::remove(&self.paths, &self.me);
        let processes = Processes::read(Some(&lock), &self.paths, now);
        let me = self.me.to_string();
        let mark = pool.state().marks.iter().find(|m| m.process == me && m.kind == self.kind).cloned();
        let Some(mark) = mark else { return Ok(()) };
        let succeeded = end == End::Exited(0);
        let document = conclude(&lock, &mut pool, &processes, &mark, succeeded, now)?;
        if self.kind == MarkKind::Logout
            && succeeded
            && document.is_none()
            && let Some(role) = pool.shared()
            && let Some(account) = mark.account.as_ref().and_then(|id| pool.registry().get(id))
            && !account.enabled
        {
            let name = account.shell_ref();
            let everywhere = match role {
                Role::Member => format!(", `codex-pool share logout {name}` ends it on every machine"),
                Role::Runner => String::new(),
            };
            lines.push(Line::Switched(format!(
                "`{}` is disabled on this machine, and the shared pool has its login still: `codex-pool enable {name}` \
                 uses it here again{everywhere}",
                account.label
            )));
        }
        let new_login = document.as_ref().filter(|_| self.kind == MarkKind::Login && succeeded);
        if let Some(doc) = new_login {
            renewal::forget_before_login(&mut pool, doc.id());
        }
        // By value, since that may have removed marks before it.
        pool.state_mut().marks.retain(|other| *other != mark);
        pool.commit(&lock)?;
        if self.private && succeeded && document.is_none() {
            lines.push(Line::Wrong(format!(
                "the new login is none that codex-pool can manage; what Codex left of it is in {}",
                pool.paths.lost_found().display()
            )));
        }
        if let Some(doc) = new_login
            && let Some(account) = pool.registry().get(doc.id())
        {
            if !pool.credentials().holds(doc)? {
                return Err(Error::new(format!(
                    "the pool has another login of `{}` than the one that was made just now",
                    account.label
                )));
            }
            let sessions = if self.private {
                format!("; the sessions in {} go on as they are", self.main_home.dir().display())
            } else {
                String::new()
            };
            lines.push(Line::Switched(format!("logged in as `{}`{sessions}", account.label)));
        }
        Ok(())
    }
}

/// Ends the process from inside a panic, where there is nowhere to return to.
#[expect(clippy::exit, reason = "a panic hook cannot return a status")]
fn exit(status: u8) -> ! {
    std::process::exit(i32::from(status))
}

/// Brings the pool up to date after a login or logout has ended or was interrupted. Returns the document in its home.
fn conclude(
    lock: &PoolLock,
    pool: &mut Pool,
    processes: &Processes,
    mark: &Mark,
    succeeded: bool,
    now: i64,
) -> Result<Option<AuthDoc>> {
    let home = mark.home.as_deref().map(path_of_key);
    let home = home.and_then(|auth_json| CodexHome::of_auth_json(&pool.paths, &auth_json));
    let Some(home) = home else { return Ok(None) };
    if *home.kind() == HomeKind::Login {
        let doc = login_home::adopt(lock, pool, &home, succeeded, now)?;
        // If it cannot be removed now, a later command does it.
        let _ = login_home::remove(&home);
        return Ok(doc);
    }
    if mark.kind == MarkKind::Login
        && succeeded
        && let Some(doc) = document_in(pool, &home)
    {
        // What cannot be written now is at the next launch there.
        homes::adopt_login(lock, pool, &doc, None, now)?;
    }
    match (homes::reconcile(lock, pool, &home, now)?, &mark.account) {
        (HomeContent::Account { id, .. }, _) => {
            let doc = pool.credentials().load(&id)?;
            if mark.kind == MarkKind::Login {
                // The account may have its file in another home: there must be one file.
                homes::put(lock, pool, processes, &home, &id, now)?;
            }
            Ok(doc)
        }
        // In a shared pool, the document went before the logout, so that its absence proves nothing.
        (HomeContent::Empty | HomeContent::BeingWritten | HomeContent::Broken, Some(before))
            if mark.kind == MarkKind::Login || !succeeded && pool.shared().is_some() =>
        {
            homes::clear_broken(lock, pool, &home, now)?;
            homes::put(lock, pool, processes, &home, before, now)?;
            Ok(None)
        }
        (HomeContent::Empty, Some(before)) => {
            log_out(lock, pool, before, succeeded, now)?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Returns the document in a home, if it is one that the pool can manage.
fn document_in(pool: &Pool, home: &CodexHome) -> Option<AuthDoc> {
    let bytes = AuthFile::find(&pool.paths, home.auth_json()).ok()?.read().ok()??;
    AuthDoc::parse(bytes).ok().map(AuthDoc::corrected)
}

/// Notes a logout: the file is gone. If Codex said that it succeeded, the login is revoked, and its credentials are of
/// no more use. If not, a refresh will tell.
fn log_out(lock: &PoolLock, pool: &mut Pool, id: &AccountId, succeeded: bool, now: i64) -> Result<()> {
    if pool.shared().is_some() {
        // Nothing was revoked. The login is that of other machines, too, and this one stops using it.
        homes::clear_homes(lock, pool, id, now)?;
        if let Some(account) = pool.registry_mut().get_mut(id) {
            account.enabled = false;
        }
        return Ok(());
    }
    if succeeded {
        homes::clear_homes(lock, pool, id, now)?;
        pool.credentials().remove(lock, id)?;
    }
    homes::note_logout(pool, id, now);
    Ok(())
}

/// Undoes the logins and logouts that were interrupted.
///
/// # Errors
/// If a home cannot be read or written. The mark stays then.
pub fn undo_interrupted(lock: &PoolLock, pool: &mut Pool, processes: &Processes, now: i64) -> Result<()> {
    let Some(me) = &processes.me else { return Ok(()) };
    let interrupted = |mark: &Mark| {
        let process = ProcessId::parse(&mark.process);
        mark.kind != MarkKind::Renewal
            && process.is_none_or(|process| match process.liveness(me) {
                Liveness::Alive => false,
                Liveness::Unknown => now.abs_diff(mark.at) > ledger::UNSEEN_COUNTS.unsigned_abs(),
                // If only the shim was killed, Codex may still run, or be about to start.
                Liveness::Dead => {
                    !processes.ledger.launches.iter().any(|launch| launch.process == process)
                        && in_use::auth_commands_of(&process).is_empty()
                }
            })
    };
    while let Some(mark) = pool.state().marks.iter().find(|mark| interrupted(mark)).cloned() {
        conclude(lock, pool, processes, &mark, false, now)?;
        pool.state_mut().marks.retain(|other| *other != mark);
    }
    Ok(())
}
