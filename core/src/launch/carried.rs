//! An `exec` that goes on at its account's limit. This process waits for it as a child (`carry::exec`). At the limit it
//! takes the home in, marks the account as exhausted, makes the thread fit for the next account, and executes itself
//! anew as `exec … resume <id> continue`: there is one way to launch, and fresh memory.

mod at_limit;
mod waiting;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::placement::Placement;
use super::{Launch, Line, Locked, Program, become_program, candidates, spawn};
use crate::account::AccountId;
use crate::carry::exec::{Child, End, Signals, stdout_is_open};
use crate::carry::{self, ACCOUNT_CHECK, FirstReset, JsonStream, Next, Round};
use crate::codex::argv::{self, Command};
use crate::codex::probe;
use crate::codex::threads::{self, ThreadMeta};
use crate::config::{Settings, parse_duration_text};
use crate::env::{Env, names};
use crate::files::PoolLock;
use crate::homes::{self, CodexHome};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{self, ProcessId};
use crate::time::human_duration;

/// How long the end of a run waits for the pool's lock. Many runs may reach one limit at once, and each holds it while it
/// makes its session fit.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long it waits for what the service says of an account.
const USAGE_WAIT: Duration = Duration::from_secs(10);

/// An `exec` that is about to run, and goes on when its account has reached its limit.
#[derive(Debug)]
pub struct CarriedExec {
    paths: PoolPaths,
    main_home: CodexHome,
    home: CodexHome,
    account: AccountId,
    me: ProcessId,
    env: Env,
    settings: Settings,
    /// How long it waits for a reset.
    wait: Duration,
    /// What it was called with, without what is ours.
    args: Vec<OsString>,
    /// The program to execute anew, and the beginning of its command line.
    again: (PathBuf, OsString, Vec<OsString>),
    json: bool,
    /// The runs before.
    round: Option<Round>,
}

/// What comes after a run that has ended at its account's limit.
enum Afterwards {
    /// This account goes on.
    GoesOn(AccountId),
    /// None can before this reset.
    Waits(FirstReset),
}

/// A run that reached the limit.
struct Reached {
    thread: ThreadMeta,
    began_ms: i64,
    round: Round,
}

impl Launch<'_> {
    /// Returns the launch as one that is carried on, if it can be. `None`: Codex runs as ever. A later run is part of a
    /// conversation that has begun, so nothing that was installed or set meanwhile changes its form.
    pub(super) fn carried(
        &self,
        locked: &Locked<'_>,
        placement: &Placement,
        program: &Program,
    ) -> Option<CarriedExec> {
        let (env, settings) = (self.env(), self.settings);
        let account = placement.account.clone()?;
        let wait = match env.text(names::CODEX_POOL_CARRY_WAIT) {
            Some(text) => parse_duration_text(text).unwrap_or_default(),
            None => settings.carry_wait,
        };
        let begins = || {
            self.may_be_carried_on(locked, placement, program)
                && !self.is_known_to_check_accounts(locked)
                && (!wait.is_zero() || self.another_can_go_on(locked, &account))
        };
        if self.round.is_none() && !begins() {
            return None;
        }
        let own = self.request.own.map(Path::to_owned).or_else(|| std::env::current_exe().ok())?;
        let again = self.request.again;
        Some(CarriedExec {
            paths: locked.pool.paths.clone(),
            main_home: locked.main_home.clone(),
            home: placement.home.clone(),
            account,
            me: locked.processes.me.clone()?,
            env: env.clone(),
            settings: settings.clone(),
            wait,
            args: self.request.args.to_vec(),
            again: (own, again.argv0.to_owned(), again.args.to_vec()),
            json: self.call.json,
            round: self.round.clone(),
        })
    }

    /// Returns whether what the user typed and has set lets another account go on.
    fn may_be_carried_on(&self, locked: &Locked<'_>, placement: &Placement, program: &Program) -> bool {
        let (env, call) = (self.env(), self.call);
        let is_exec = matches!(call.command, Command::Exec | Command::ExecResume | Command::ExecFork);
        let on = if env.is_set(names::CODEX_POOL_CARRY_ON) {
            env.flag(names::CODEX_POOL_CARRY_ON)
        } else {
            self.settings.carry_on
        };
        let chosen = self.named().is_some() || locked.pool.state().pin.is_some() && !self.request.best;
        // Such a session does not use the login in the home.
        let identity = ["CODEX_API_KEY", "CODEX_ACCESS_TOKEN"].iter().any(|name| env.get(name).is_some());
        let stream = |arg: &OsString| carry::names_a_stream(arg, |path| is_stream(env, path));
        let checks = |arg: &OsString| arg.to_string_lossy().contains(ACCOUNT_CHECK);
        is_exec
            && on
            && self.is_codex
            && !call.cannot_resume
            && !placement.attaches
            && !chosen
            && !identity
            && program.is_native()
            && !self.request.args.iter().any(|arg| stream(arg) || checks(arg))
    }

    /// Returns whether it is known that Codex lets only the account that began a thread go on with it.
    fn is_known_to_check_accounts(&self, locked: &Locked<'_>) -> bool {
        let identity = self.codex().and_then(probe::identity);
        let known = identity.and_then(|key| locked.pool.state().codex.get(&key));
        known.and_then(|known| known.checks_account(locked.main_home.dir())) == Some(true)
    }

    fn another_can_go_on(&self, locked: &Locked<'_>, account: &AccountId) -> bool {
        let has = |id: &AccountId| locked.pool.credentials().has(id);
        let (ledger, now) = (&locked.processes.ledger, self.env().now);
        let candidates =
            candidates(&locked.pool, ledger, locked.live(), locked.codex_settings, &locked.rules, has, now);
        let done = std::slice::from_ref(account);
        matches!(carry::next(&candidates, done, now, self.settings), Next::Account(_))
    }
}

/// Returns whether a path can be read only once. `None`: there is nothing.
fn is_stream(env: &Env, path: &OsStr) -> Option<bool> {
    use std::os::unix::fs::FileTypeExt;
    let kind = std::fs::metadata(env.absolute(Path::new(path))?).ok()?.file_type();
    Some(kind.is_fifo() || kind.is_socket())
}

impl CarriedExec {
    /// Runs Codex as a child, and then, at its account's limit, executes this program anew for the next account. Returns
    /// the status of the last run; if a signal killed Codex, this process dies by it, too.
    pub fn run(self, program: &Program, say: impl Fn(&[Line])) -> u8 {
        let cannot = |error: std::io::Error| {
            say(&[Line::Wrong(format!("cannot execute {}: {error}", program.path().display()))]);
            if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
        };
        // Without signals or a child, it is a launch as any other.
        let Ok(mut signals) = Signals::take() else { return cannot(become_program(program)) };
        let filtered = self.json && stdout_is_open();
        let mut stream = JsonStream::new(self.round.as_ref().map(|round| round.items));
        let began_ms = now_ms();
        let started = Child::start(&mut signals, filtered, || {
            let error = become_program(program);
            cannot(std::io::Error::from(error.kind()));
            error
        });
        let Ok(mut child) = started else {
            signals.give_back();
            return cannot(become_program(program));
        };
        leave_nothing_to_start_again();
        let mut log = None;
        let end = child.wait(&mut stream, |pid| {
            log = if filtered { None } else { thread_of(pid) };
            filtered || log.is_some()
        });
        let end = end.unwrap_or(End::Exited(1));
        let thread = match stream.thread() {
            Some(id) => threads::by_id(self.main_home.dir(), id),
            // What its first line says is whole by now.
            None => log.as_deref().and_then(threads::of_log),
        };
        let mut lines = Vec::new();
        let mut reached = None;
        let after = match thread {
            Some(thread) => {
                let mut round = self.round.clone().unwrap_or_default();
                round.items = stream.items();
                let run = reached.insert(Reached { thread, began_ms, round });
                self.conclude(end, run, &mut lines)
            }
            None => {
                let _ = self.take_in();
                None
            }
        };
        if after.is_none() {
            let _ = child.finish(&mut stream);
        }
        let was_cut = child.was_cut();
        drop(child);
        say(&lines);
        let asked = signals.give_back();
        if let Some(signal) = asked.filter(|_| after.is_some() || was_cut) {
            return spawn::end_as(End::Killed(signal));
        }
        let (Some(reached), Some(after)) = (reached, after) else { return spawn::end_as(end) };
        let why = match self.go_on(after, reached, &say) {
            Ok(again) => format!("cannot go on: {}", become_program(&again)),
            Err(why) => why,
        };
        say(&[Line::Wrong(why)]);
        // It ends at its limit after all, as Codex has said.
        let mut stdout = std::io::stdout();
        let _ = stdout.write_all(&stream.take_held()).and_then(|()| stdout.flush());
        spawn::end_as_status(end)
    }

    /// Returns this program, to be executed anew for the account that goes on.
    ///
    /// # Errors
    /// None can after all, for this reason.
    fn go_on(&self, after: Afterwards, mut run: Reached, say: &impl Fn(&[Line])) -> Result<Program, String> {
        let to = match after {
            Afterwards::GoesOn(to) => {
                let pause = run.round.pause(now_ms());
                if pause > 0 {
                    let time = human_duration(pause / 1_000 + 1);
                    say(&[Line::Wrong(format!(
                        "two accounts have reached their limits within a minute; going on in {time}"
                    ))]);
                    std::thread::sleep(Duration::from_millis(pause.unsigned_abs()));
                }
                to
            }
            Afterwards::Waits(first) => {
                let to = self.wait_for(first, &mut run)?;
                say(&[Line::Wrong(format!("{} goes on", to.1))]);
                to.0
            }
        };
        let call = argv::parse(&self.args);
        let (path, argv0, front) = &self.again;
        let args = front.iter().cloned().chain(call.resuming(&self.args, &run.thread.id)).collect();
        let round = run.round.moved(&self.me, Some(to), now_ms());
        Ok(Program::anew(path.clone(), argv0, args, &self.env, (names::CODEX_POOL_CARRIED, &round)))
    }

    /// Opens the pool and takes in what the home holds.
    ///
    /// # Errors
    /// As [`CarriedExec::open`].
    fn take_in(&self) -> Result<(PoolLock, Pool), String> {
        let (lock, mut pool) = self.open()?;
        if homes::reconcile(&lock, &mut pool, &self.home, now()).is_ok() {
            let _ = pool.commit(&lock);
        }
        Ok((lock, pool))
    }

    /// Opens the pool, which may have been removed meanwhile.
    ///
    /// # Errors
    /// It is gone, or another process holds its lock all the time, or it cannot be read.
    fn open(&self) -> Result<(PoolLock, Pool), String> {
        let lock = PoolLock::acquire_again(&self.paths, LOCK_WAIT)
            .map_err(|e| format!("the pool cannot be locked: {e}"))?
            .ok_or_else(|| format!("the pool was locked for {} s by another process", LOCK_WAIT.as_secs()))?;
        let pool = homes::open_pool(&lock, &self.paths, now()).map_err(|e| e.to_string())?;
        Ok((lock, pool))
    }
}

/// Returns the log of the thread that a process works on, by the files that it has open for writing: Codex reads those of
/// other threads, too, for seconds where it forks a long one or lists them all.
fn thread_of(pid: u32) -> Option<PathBuf> {
    let is_log = |file: &Path| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("rollout-") && name.ends_with(".jsonl")
    };
    let logs = process::written_files(pid, is_log)?;
    logs.into_iter().find(|log| threads::of_log(log).is_some_and(|thread| !thread.subagent))
}

fn label(pool: &Pool, id: &AccountId) -> String {
    pool.registry().get(id).map_or_else(|| id.to_string(), |account| account.label.clone())
}

fn now() -> i64 {
    crate::env::clock()
}

fn now_ms() -> i64 {
    crate::env::clock_ms()
}

/// Codex has run. If something of ours fails now, it must not be started again.
fn leave_nothing_to_start_again() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        let _ = writeln!(std::io::stderr(), "codex-pool: internal error{place}; this session cannot go on");
        #[expect(clippy::exit, reason = "a panic hook cannot return a status")]
        std::process::exit(1);
    }));
}
