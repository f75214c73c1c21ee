//! An `exec` that goes on at its account's limit. This process waits for it as a child (`carry::exec`). At the limit it
//! takes the home in, marks the account as exhausted, makes the thread fit for the next account, and executes itself
//! anew as `exec … resume <id> continue`: there is one way to launch, and fresh memory.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::placement::Placement;
use super::{Launch, Line, Locked, Program, become_program, candidates, folder_rule, refresh_child, spawn};
use crate::account::AccountId;
use crate::carry::exec::{Child, End, Signals, asked_to_end, stdout_is_open};
use crate::carry::hand_over::{self, Turns};
use crate::carry::moves::{self, MoveRecord, Waiting};
use crate::carry::{self, ACCOUNT_CHECK, FirstReset, JsonStream, Next, Round};
use crate::codex::argv::{self, Command};
use crate::codex::configuration::{CodexSettings, SYSTEM_DIR, Surroundings};
use crate::codex::probe;
use crate::codex::rollout::{EndedByLimit, last_turn};
use crate::codex::threads::{self, ThreadMeta};
use crate::config::{Settings, parse_duration_text};
use crate::env::{Env, names};
use crate::files::{self, PoolLock};
use crate::homes::in_use::Processes;
use crate::homes::{self, CodexHome, HomeContent};
use crate::ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{self, ProcessId};
use crate::store::path_key;
use crate::time::human_duration;
use crate::usage::session_log::newest_limits;

/// How long the end of a run waits for the pool's lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long it waits for what the service says of an account.
const USAGE_WAIT: Duration = Duration::from_secs(10);
/// A reset is believed a moment later, seconds.
const AFTER_RESET: i64 = 1;
/// How often it is looked whether another account can go on meanwhile, seconds.
const LOOK_AGAIN: i64 = 30;

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
    /// The identity of the installed Codex, if it is not known whether it checks accounts.
    unchecked: Option<String>,
}

/// What becomes of a run that has ended.
enum After {
    /// Nothing.
    Ends,
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
    /// Returns the launch as one that is carried on, if it can be. `None`: Codex runs as ever.
    pub(super) fn carried(
        &self,
        locked: &Locked<'_>,
        placement: &Placement,
        program: &Program,
    ) -> Option<CarriedExec> {
        let (env, call, settings) = (self.env(), self.call, self.settings);
        let is_exec = matches!(call.command, Command::Exec | Command::ExecResume | Command::ExecFork);
        let on = if env.is_set(names::CODEX_POOL_CARRY_ON) {
            env.flag(names::CODEX_POOL_CARRY_ON)
        } else {
            settings.carry_on
        };
        if !is_exec || call.cannot_resume || !on || placement.attaches || !self.is_codex {
            return None;
        }
        let chosen = self.named().is_some() || locked.pool.state().pin.is_some() && !self.request.best;
        // Such a session does not use the login in the home.
        let identity = ["CODEX_API_KEY", "CODEX_ACCESS_TOKEN"].iter().any(|name| env.get(name).is_some());
        if chosen && self.round.is_none() || identity || !program.is_native() {
            return None;
        }
        let account = placement.account.clone()?;
        let stream = |arg: &OsString| carry::names_a_stream(arg, |path| is_stream(env, path));
        let checks = |arg: &OsString| arg.to_string_lossy().contains(ACCOUNT_CHECK);
        if self.request.args.iter().any(|arg| stream(arg) || checks(arg)) {
            return None;
        }
        let identity = self.codex().and_then(probe::identity);
        let known = identity.as_ref().and_then(|key| locked.pool.state().codex.get(key)?.checks_account);
        if known == Some(true) {
            return None;
        }
        let wait = match env.text(names::CODEX_POOL_CARRY_WAIT) {
            Some(text) => parse_duration_text(text).unwrap_or_default(),
            None => settings.carry_wait,
        };
        if self.round.is_none() && wait.is_zero() && !self.another_can_go_on(locked, &account) {
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
            json: call.json,
            round: self.round.clone(),
            unchecked: known.is_none().then_some(identity).flatten(),
        })
    }

    fn another_can_go_on(&self, locked: &Locked<'_>, account: &AccountId) -> bool {
        let has = |id: &AccountId| locked.pool.credentials().has(id);
        let ledger = &locked.processes.ledger;
        let candidates =
            candidates(&locked.pool, ledger, locked.live(), locked.codex_settings, &locked.rules, has);
        let done = std::slice::from_ref(account);
        matches!(carry::next(&candidates, done, self.env().now, self.settings), Next::Account(_))
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
                After::Ends
            }
        };
        let goes_on = !matches!(after, After::Ends);
        let _ = child.finish(&mut stream, goes_on);
        drop(child);
        say(&lines);
        let asked = signals.give_back();
        let (Some(reached), true) = (reached, goes_on) else { return spawn::end_as(end) };
        if let Some(signal) = asked {
            return spawn::end_as(End::Killed(signal));
        }
        let status = spawn::end_as_status(end);
        match self.go_on(after, reached, &say) {
            Some(again) => {
                let error = become_program(&again);
                say(&[Line::Wrong(format!("cannot go on: {error}"))]);
                status
            }
            None => status,
        }
    }

    /// Brings the pool up to date after a run, and decides what becomes of it.
    fn conclude(&self, end: End, run: &mut Reached, lines: &mut Vec<Line>) -> After {
        let Some((lock, mut pool)) = self.take_in() else { return After::Ends };
        let status = match end {
            End::Exited(status) => Some(status),
            End::Killed(_) => None,
        };
        let log = files::open(&run.thread.path).ok();
        let turn = log.as_ref().and_then(|log| last_turn(log).ok().flatten());
        if turn.as_ref().is_some_and(|turn| turn.at / 1_000_000 >= run.began_ms) {
            let _ = hand_over::note(&lock, &self.paths, &run.thread, &self.account, now());
        }
        if asked_to_end().is_some() {
            return After::Ends;
        }
        let service = self.is_service(&run.thread);
        let (lock, mut pool) = match carry::run_at_limit(status, turn.as_ref(), run.began_ms, service) {
            EndedByLimit::No => return After::Ends,
            EndedByLimit::Yes => (lock, pool),
            EndedByLimit::Confirm => {
                let since = now();
                drop((lock, pool));
                refresh_child::ask_service(&self.env, &self.paths, Some(&self.account), USAGE_WAIT);
                let Some((lock, again)) = self.open() else { return After::Ends };
                pool = again;
                if !carry::at_limit(pool.usage().usage(&self.account), since, now()) {
                    return After::Ends;
                }
                (lock, pool)
            }
        };
        let said = log.as_ref().and_then(|log| newest_limits(log, run.began_ms * 1_000_000));
        self.mark_exhausted(&mut pool, said);
        let _ = pool.commit(&lock);
        run.round.reached(&self.account);
        let at_limit = format!("{} is at its limit", label(&pool, &self.account));
        if self.checks_account(&lock, &mut pool) {
            let why = format!(
                "this Codex lets only the account that began a session go on with it ({ACCOUNT_CHECK})"
            );
            lines.push(Line::Wrong(format!("{at_limit}; {why}")));
            self.remember(&lock, run, Err(why));
            return After::Ends;
        }
        match self.next(&lock, &mut pool, &run.round.accounts) {
            Next::Account(to) => {
                if let Err(why) = self.fit(&lock, run, &to) {
                    let why = format!("{} cannot go on with this session: {why}", label(&pool, &to));
                    lines.push(Line::Wrong(format!("{at_limit}, and {why}")));
                    self.remember(&lock, run, Err(why));
                    return After::Ends;
                }
                lines.push(Line::Wrong(format!("{at_limit}; {} goes on", label(&pool, &to))));
                self.remember(&lock, run, Ok(to.clone()));
                self.leave(&lock, &mut pool);
                After::GoesOn(to)
            }
            Next::None(first) => self.nobody(lock, pool, run, first, &at_limit, lines),
        }
    }

    /// No account can go on now: waits, or says when the first one can.
    fn nobody(
        &self,
        lock: PoolLock,
        mut pool: Pool,
        run: &Reached,
        mut first: Option<FirstReset>,
        at_limit: &str,
        lines: &mut Vec<Line>,
    ) -> After {
        let mut lock = lock;
        if !self.wait.is_zero() && self.settings.background_refresh {
            // When the reset is, the service knows best.
            drop((lock, pool));
            refresh_child::ask_service(&self.env, &self.paths, None, USAGE_WAIT);
            let Some((again, opened)) = self.open() else { return After::Ends };
            (lock, pool) = (again, opened);
            if pool.usage().usage(&self.account).is_none_or(|usage| usage.exhausted_until(now()).is_none()) {
                self.mark_exhausted(&mut pool, None);
            }
            if let Next::None(known) = self.next(&lock, &mut pool, &run.round.accounts) {
                first = known;
            }
        }
        let left = |first: &FirstReset| first.at.saturating_sub(now()).max(0);
        let wait = i64::try_from(self.wait.as_secs()).unwrap_or(i64::MAX);
        match first {
            Some(first) if !self.wait.is_zero() && left(&first) <= wait => {
                let time = human_duration(left(&first));
                lines.push(Line::Wrong(format!(
                    "{at_limit}; waiting for {}, who resets in {time}",
                    first.label
                )));
                let waiting = Waiting {
                    process: self.me.to_string(),
                    home: path_key(&self.home.auth_json()),
                    account: self.account.clone(),
                    thread: run.thread.id.clone(),
                    since: now(),
                    until: first.at,
                };
                let _ = moves::begin_wait(&lock, &self.paths, waiting);
                self.leave(&lock, &mut pool);
                After::Waits(first)
            }
            first => {
                let when = first.map_or_else(String::new, |first| {
                    format!("; {} resets first, in {}", first.label, human_duration(left(&first)))
                });
                let why = format!("no other account can go on{when}");
                lines.push(Line::Wrong(format!("{at_limit}, and {why}")));
                self.remember(&lock, run, Err("no other account could go on".to_owned()));
                let _ = pool.commit(&lock);
                After::Ends
            }
        }
    }

    /// Returns this program, to be executed anew for the account that goes on. `None`: none can after all.
    fn go_on(&self, after: After, mut run: Reached, say: &impl Fn(&[Line])) -> Option<Program> {
        let to = match after {
            After::Ends => return None,
            After::GoesOn(to) => {
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
            After::Waits(first) => {
                let to = self.wait_for(&first, &mut run)?;
                say(&[Line::Wrong(format!("{} goes on", to.1))]);
                to.0
            }
        };
        let call = argv::parse(&self.args);
        let (path, argv0, front) = &self.again;
        let args = front.iter().cloned().chain(call.resuming(&self.args, &run.thread.id)).collect();
        let round = run.round.moved(&self.me, Some(to), now_ms());
        Some(Program::anew(path.clone(), argv0, args, &self.env, (names::CODEX_POOL_CARRIED, &round)))
    }

    /// Waits until an account can go on. Holds no home meanwhile, and dies by any signal.
    fn wait_for(&self, first: &FirstReset, run: &mut Reached) -> Option<(AccountId, String)> {
        let until = first.at + AFTER_RESET;
        let countdown = std::io::stderr().is_terminal() && !self.env.flag(names::CODEX_POOL_QUIET);
        let mut look_at = now() + LOOK_AGAIN;
        loop {
            let left = until - now();
            if left <= 0 || now() >= look_at {
                look_at = now() + LOOK_AGAIN;
                // After a reset all may have their turn again.
                let done = if left <= 0 { Vec::new() } else { run.round.accounts.clone() };
                if let Some((lock, mut pool)) = self.open()
                    && let Next::Account(to) = self.next(&lock, &mut pool, &done)
                {
                    self.fit(&lock, run, &to).ok()?;
                    if countdown {
                        count_down("");
                    }
                    run.round.accounts = done;
                    let _ = moves::end_wait(&lock, &self.paths, &self.me);
                    self.remember(&lock, run, Ok(to.clone()));
                    return Some((to.clone(), label(&pool, &to)));
                }
            }
            if countdown {
                count_down(&format!("codex-pool: going on in {}", human_duration(left.max(1))));
            }
            std::thread::sleep(Duration::from_secs(if countdown || left <= 5 { 1 } else { 5 }));
        }
    }

    /// Opens the pool and takes in what the home holds.
    fn take_in(&self) -> Option<(PoolLock, Pool)> {
        let (lock, mut pool) = self.open()?;
        if homes::reconcile(&lock, &mut pool, &self.home, now()).is_ok() {
            let _ = pool.commit(&lock);
        }
        Some((lock, pool))
    }

    fn open(&self) -> Option<(PoolLock, Pool)> {
        let lock = PoolLock::acquire(&self.paths, LOCK_WAIT).ok()??;
        let pool = homes::open_pool(&lock, &self.paths, now()).ok()?;
        Some((lock, pool))
    }

    fn mark_exhausted(&self, pool: &mut Pool, said: Option<crate::usage::Usage>) {
        carry::mark_exhausted(pool, &self.account, said, now());
    }

    /// Notes for people what became of the session at the limit.
    fn remember(&self, lock: &PoolLock, run: &Reached, to: Result<AccountId, String>) {
        let record = MoveRecord::of_exec(&self.home, self.account.clone(), &run.thread.id, to, now());
        let _ = moves::add(lock, &self.paths, record);
    }

    /// Gives up the home, which is another's to have from here on.
    fn leave(&self, lock: &PoolLock, pool: &mut Pool) {
        let _ = pool.commit(lock);
        ledger::remove(&self.paths, &self.me);
    }

    /// Returns who goes on.
    fn next(&self, lock: &PoolLock, pool: &mut Pool, done: &[AccountId]) -> Next {
        let now = now();
        let processes = Processes::read(Some(lock), &self.paths, now);
        let around = Surroundings {
            codex_home: self.main_home.dir(),
            system_dir: Path::new(SYSTEM_DIR),
            user_home: self.env.home(),
            cwd: self.env.cwd.as_deref(),
        };
        let call = argv::parse(&self.args);
        let codex = CodexSettings::read(around, &call);
        let content = HomeContent::read(&self.paths, &self.main_home);
        let credentials = pool.credentials();
        let has = |id: &AccountId| credentials.has(id);
        let accounts = &pool.registry().accounts;
        let (rules, _) = folder_rule::rules_of(&self.env, accounts, Some(&call), self.main_home.dir());
        let candidates = candidates(pool, &processes.ledger, content.account(), &codex, &rules, has);
        carry::next(&candidates, done, now, &self.settings)
    }

    /// Makes the thread, and those of its sub-agents, fit for that account.
    fn fit(&self, lock: &PoolLock, run: &Reached, to: &AccountId) -> Result<(), String> {
        if *to == self.account {
            return Ok(());
        }
        let codex_home = self.main_home.dir();
        let parts = threads::parts_of(codex_home, &run.thread.id, run.began_ms);
        for thread in parts.iter().chain([&run.thread]) {
            hand_over::fit(&self.paths, codex_home, thread, to, Turns::MayRun)?;
            hand_over::note(lock, &self.paths, thread, to, now())?;
        }
        Ok(())
    }

    /// Returns whether Codex talks to OpenAI's own service, or to another that a ChatGPT login is for.
    fn is_service(&self, thread: &ThreadMeta) -> bool {
        carry::is_service(self.main_home.dir(), thread.model_provider.as_deref())
    }

    /// Returns whether the installed Codex lets only the account that began a thread go on with it, and remembers that.
    fn checks_account(&self, lock: &PoolLock, pool: &mut Pool) -> bool {
        let Some(codex) = crate::codex::find::find(&self.env, &self.settings, Some(&self.again.0)).ok()
        else {
            return false;
        };
        if self.unchecked.is_none() && probe::identity(&codex).is_some() {
            return false;
        }
        let checks = probe::checks_account(&codex, self.main_home.dir());
        if let (Some(key), Some(_)) = (&self.unchecked, checks) {
            let known = pool.state().codex.get(key).cloned();
            let Some(known) = known.or_else(|| probe::ask(&codex)) else { return checks == Some(true) };
            pool.state_mut().codex =
                [(key.clone(), probe::Capabilities { checks_account: checks, ..known })].into();
            let _ = pool.commit(lock);
        }
        checks == Some(true)
    }
}

/// Returns the log of the thread that a process works on, by the files that it has open.
fn thread_of(pid: u32) -> Option<PathBuf> {
    let mut logs = process::open_files(pid)?;
    logs.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("rollout-") && name.ends_with(".jsonl")
    });
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

/// Shows how much longer it takes, in the place of what was shown before.
fn count_down(text: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
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
