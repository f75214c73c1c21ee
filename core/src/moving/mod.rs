//! The move of a background server, with the interfaces that are open on it, from an account at its limit to the next
//! one. [`run`] is the move, in a process of its own that the attendant starts; `guard` is a second process, which starts
//! the server again if the first one is killed; `finish` completes or undoes what a crash has left. Makes no request.

mod check;
mod finish;
mod guard;
mod needs;
mod server;
#[cfg(test)]
mod tests;
mod threads;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use finish::finish;
pub use guard::keep;
pub use needs::{Need, need, note_need, repaired_in_vain, stands_still, was_answered};
pub use threads::{Loaded, Threads};

use crate::account::AccountId;
use crate::carry::hand_over::{self, Turns};
use crate::carry::mark::{self, MarkLock, MoveMark};
use crate::carry::moves::{self, MoveRecord};
use crate::carry::{self, ACCOUNT_CHECK};
use crate::codex::background_server::{BackgroundServer, start_lock};
use crate::codex::rollout::LastTurn;
use crate::codex::threads::ThreadMeta;
use crate::codex::{find, lock_file, probe};
use crate::config::Settings;
use crate::env::{Env, clock, clock_ms};
use crate::error::{Error, Result};
use crate::files::{self, PoolLock};
use crate::homes::in_use::{Processes, account_of_server};
use crate::homes::{self, CodexHome, HomeContent, elsewhere};
use crate::ledger::{self, LaunchEntry};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process;
use crate::store::path_key;
use crate::thread_record::{Queued, ThreadRecord};
use crate::usage::session_log::newest_limits;
use check::{Check, Plan, Refusal};
use guard::Guard;
use needs::{Message, is_to_be_told};
use server::Origin;
use threads::Logs;

/// How long quiet is waited for.
const QUIET_WAIT: Duration = Duration::from_secs(3);
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long Codex's own lock of starts and stops is waited for.
const START_LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long a window may take to take its thread back.
const TAKEN_BACK: Duration = Duration::from_secs(10);
/// Why a thread is not told to go on after the move.
const NOT_TAKEN_BACK: &str = "its window was closed, or did not come back";
/// How long after a message that could not be left another one is tried.
const NOT_TOLD: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server has moved, or there was nothing to do.
    Done,
    /// It may move later.
    Later,
    /// The same, after the server was stopped and started in vain.
    MuchLater,
    /// It may not move.
    No,
}

/// The exit statuses of a process that moves a server.
pub const DONE: i32 = 0;
/// See [`Outcome::No`].
pub const NO: i32 = 10;
/// See [`Outcome::MuchLater`]; every other status says that it may move later.
pub const MUCH_LATER: i32 = 11;

/// A home whose server moves, and what does not change meanwhile.
struct Home<'a> {
    paths: &'a PoolPaths,
    settings: Settings,
    home: CodexHome,
    main_home: CodexHome,
    /// The right to move it.
    right: MarkLock,
}

impl<'a> Home<'a> {
    fn new(paths: &'a PoolPaths, dir: &Path, wait: Duration) -> Result<Option<Home<'a>>> {
        let home = CodexHome::at(paths, dir.to_owned());
        let Some(right) = MarkLock::take(paths, &home, wait)? else { return Ok(None) };
        let settings = Settings::load(&paths.config()).0;
        let main_home = home.main_home(paths);
        Ok(Some(Home { paths, settings, home, main_home, right }))
    }

    fn lock(&self) -> Result<PoolLock> {
        let path = self.paths.pool_lock();
        let lock =
            PoolLock::acquire_again(self.paths, LOCK_WAIT).map_err(|e| Error::io("lock", &path, &e))?;
        lock.ok_or_else(|| Error::new("the pool is locked by another process"))
    }

    fn open(&self) -> Result<(PoolLock, Pool, Processes)> {
        let lock = self.lock()?;
        let now = clock();
        let pool = homes::open_pool(&lock, self.paths, now)?;
        // Without the lock, entries of launches that have ended stay: the next launch learns from them.
        let processes = Processes::read(None, self.paths, now);
        Ok((lock, pool, processes))
    }
}

/// The server that moves.
struct Old {
    server: BackgroundServer,
    origin: Origin,
    codex: PathBuf,
    threads: Threads,
    /// When its threads were first looked at.
    began: Instant,
}

/// What a move begins with.
type Begun = (Plan, Option<(MoveMark, Guard)>);

/// Moves the server of a home to the next account. `dir`: the home.
///
/// # Errors
/// What failed, after the server runs again.
pub fn run(paths: &PoolPaths, dir: &Path) -> Result<Outcome> {
    let Some(home) = Home::new(paths, dir, Duration::ZERO)? else { return Ok(Outcome::Later) };
    if MoveMark::of_home(paths, &home.home).is_some() {
        finish::with(&home, None)?;
        return Ok(Outcome::Later);
    }
    // 1. Nothing is in flight, and all is quiet.
    let Some(mut old) = home.quiet_server()? else { return Ok(Outcome::Later) };
    // 2. Who goes on. From here on a mark says that this home is moving, and the guard watches.
    let (plan, begun) = match home.begin(&old)? {
        Ok(begun) => begun,
        Err(refusal) => return Ok(if refusal.later { Outcome::Later } else { Outcome::No }),
    };
    let Some((mut mark, guard)) = begun else {
        let standing = home.standing(&old.threads, None);
        let Old { server, origin, codex, threads, began } = &mut old;
        let took = began.elapsed();
        home.go_on(origin, codex, server, threads, false)?;
        home.remember_end(&plan.from, &plan.to, standing, threads, took);
        return Ok(Outcome::Done);
    };
    // 3. The server ends. What it has loaded meanwhile is its, too.
    let Old { server, origin, codex, threads, .. } = &mut old;
    let stopped = server::stop(origin, codex, server, || threads.look_for_more());
    // 4. and 5. Another account takes the home, and every thread of the server is made fit for it.
    let swapped = if stopped {
        home.change_hands(&mut old, &plan, &mut mark)
    } else {
        Err(Error::new("the background server does not stop"))
    };
    if let Err(error) = &swapped
        && plan.from != plan.to
        && HomeContent::read(paths, &home.home).account() == Some(&plan.to)
    {
        // It cannot go back. The guard, which hears nothing, completes it.
        return Err(Error::new(error.to_string()));
    }
    let after = if swapped.is_ok() { process::ticks_now() } else { None };
    let started = server::start(&old.origin, &old.codex, home.home.dir(), after);
    let done = started.is_some();
    if swapped.is_ok() && done {
        mark.started = true;
        // If it cannot be written, launches keep away for the seconds until the mark goes. The threads are told.
        let _ = mark.write(&home.right, paths, &home.home);
    } else if done {
        let _ = home.still_waiting(&old.threads);
        mark::remove(&home.right, paths, &home.home)?;
    }
    if done {
        guard.done();
    }
    let (standing, took) = (home.standing(&old.threads, None), old.began.elapsed());
    let failed = swapped.as_ref().err().map(ToString::to_string);
    let failed = failed.or_else(|| (!done).then(|| "the background server does not start".to_owned()));
    if failed.is_some() {
        home.remember(&plan.from, &plan.to, standing.clone(), failed, took);
    }
    // 6. Each thread that stands still is told to go on.
    match (swapped, started) {
        (Ok(()), Some(server)) => {
            home.go_on(&old.origin, &old.codex, &server, &mut old.threads, false)?;
            home.remember_end(&plan.from, &plan.to, standing, &mut old.threads, took);
            mark::remove(&home.right, paths, &home.home)?;
            Ok(Outcome::Done)
        }
        (Err(_), Some(_)) => Ok(Outcome::MuchLater),
        // The guard tries on.
        (_, None) => Err(Error::new("the background server does not start")),
    }
}

impl Home<'_> {
    /// Returns the server, once no thread of it is in flight and none has been for a moment. `None`: not now.
    fn quiet_server(&self) -> Result<Option<Old>> {
        let began = Instant::now();
        let Some(server) = BackgroundServer::of_home(self.home.dir()) else { return Ok(None) };
        let Some(origin) = Origin::of(server.pid) else { return Ok(None) };
        let Some(codex) = origin.codex(&self.settings) else { return Ok(None) };
        let mut threads = Threads::of(server.clone(), self.main_home.dir());
        let mut logs = Logs::default();
        loop {
            threads.look();
            if threads.in_flight() || began.elapsed() > QUIET_WAIT {
                return Ok(None);
            }
            if logs.are_quiet(threads.changed_at(), clock_ms(), Instant::now()) {
                return Ok(Some(Old { server, origin, codex, threads, began }));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Decides who goes on, writes the mark, and starts the guard: without them, if the server stays.
    fn begin(&self, old: &Old) -> Result<std::result::Result<Begun, Refusal>> {
        let checks = self.checks_account(old);
        let (lock, mut pool, processes) = self.open()?;
        let now = clock();
        let record = pool.state().home(&self.home.auth_json());
        let Some(from) = record.and_then(|record| account_of_server(record, &old.server)) else {
            return Ok(Err(Refusal::no("the account of the background server is not known")));
        };
        let standing: Vec<(&Loaded, &LastTurn, Need)> = old
            .threads
            .loaded()
            .filter_map(|thread| {
                let turn = thread.turn().filter(|turn| stands_still(self.paths, thread, turn, &from))?;
                Some((thread, turn, need(thread, turn, self.main_home.dir())?))
            })
            .collect();
        if standing.is_empty() {
            return Ok(Err(Refusal::no("no thread stands still")));
        }
        let repair = standing.iter().all(|(_, _, need)| *need == Need::History);
        let since = standing.iter().map(|(_, turn, _)| turn.at / 1_000_000_000).min().unwrap_or(now);
        homes::reconcile(&lock, &mut pool, &self.home, now)?;
        let env = old.origin.env();
        let check = Check {
            folders: old.threads.loaded().map(|thread| thread.meta.cwd.clone()).collect(),
            since,
            repair,
            ..self.check(old, &env, now)
        };
        let reached = standing.iter().map(|(_, turn, _)| turn.at / 1_000_000_000).max().unwrap_or(now);
        // What the service has said since then counts more.
        let known = pool.usage().usage(&from);
        if !repair && known.is_none_or(|usage| usage.fetched_at <= reached) {
            let said = standing.iter().find_map(|(thread, ..)| {
                newest_limits(&files::open(&thread.meta.path).ok()?, (since - 60) * 1_000_000_000)
            });
            carry::mark_exhausted(&mut pool, &from, said, None, now);
        }
        let plan = match checks {
            true if !repair => Err(Refusal::no(format!(
                "this Codex lets only the account that began a session go on with it ({ACCOUNT_CHECK})"
            ))),
            _ => check.plan(&pool, &processes, from.clone()),
        };
        pool.commit(&lock)?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => {
                let record = MoveRecord {
                    at: now,
                    home: path_key(&self.home.auth_json()),
                    from,
                    to: None,
                    threads: standing.iter().map(|(thread, ..)| thread.meta.id.clone()).collect(),
                    why: Some(refusal.why.clone()),
                    resets_at: refusal.resets_at,
                    waits: refusal.waits,
                    took_ms: 0,
                };
                moves::add(&lock, self.paths, record)?;
                return Ok(Err(refusal));
            }
        };
        if plan.stays {
            return Ok(Ok((plan, None)));
        }
        let server = (old.server.pid, old.server.start_ticks);
        let mut mark = MoveMark::new(&self.home, plan.from.clone(), plan.to.clone(), server, clock_ms());
        mark.threads = logs_of(&old.threads);
        mark.write(&self.right, self.paths, &self.home)?;
        match Guard::start(self.paths, &self.home, &old.origin) {
            Ok(guard) => Ok(Ok((plan, Some((mark, guard))))),
            Err(e) => {
                mark::remove(&self.right, self.paths, &self.home)?;
                Err(Error::new(format!("cannot start the guard of a move: {e}")))
            }
        }
    }

    /// Returns a check of who uses the home. A plan needs the folders and the reason, too. `env`: of the server.
    fn check<'a>(&'a self, old: &'a Old, env: &'a Env, now: i64) -> Check<'a> {
        Check {
            paths: self.paths,
            settings: &self.settings,
            home: &self.home,
            main_home: &self.main_home,
            server: &old.server,
            env,
            folders: Vec::new(),
            since: now,
            repair: false,
            now,
        }
    }

    /// Returns whether the installed Codex lets only the account that began a thread go on with it.
    fn checks_account(&self, old: &Old) -> bool {
        let installed = find::find(&old.origin.env(), &self.settings, None).ok();
        let key = installed.as_deref().and_then(probe::identity);
        let state = Pool::peek(self.paths).ok();
        let known = key.and_then(|key| state?.state().codex.get(&key)?.checks_account(self.main_home.dir()));
        known.or_else(|| probe::checks_account(&old.codex, self.main_home.dir())) == Some(true)
    }

    /// Puts the next account into the home, whose server has ended, and makes every thread fit for it.
    fn change_hands(&self, old: &mut Old, plan: &Plan, mark: &mut MoveMark) -> Result<()> {
        let path = start_lock(self.home.dir());
        let starts = lock_file::take(&path, START_LOCK_WAIT).map_err(|e| Error::io("lock", &path, &e))?;
        let _starts = starts.ok_or_else(|| Error::new("another process starts the background server"))?;
        let (lock, mut pool, processes) = self.open()?;
        if BackgroundServer::of_home(self.home.dir()).is_some() {
            return Err(Error::new("another window has started a background server"));
        }
        let env = old.origin.env();
        let now = clock();
        let check = self.check(old, &env, now);
        let interfaces = check::interfaces(&processes, &self.home);
        check.nobody_else(&pool, &processes, &interfaces).map_err(|refusal| Error::new(refusal.why))?;
        // Threads can reach the limit while the server ends. That was the old account's.
        old.threads.read();
        for thread in old.threads.loaded() {
            if let Some(turn) = thread.own_turn()
                && need(thread, turn, self.main_home.dir()) == Some(Need::Account)
            {
                note_need(&lock, self.paths, &thread.meta, turn, &plan.from).map_err(Error::new)?;
            }
        }
        mark.threads = logs_of(&old.threads);
        mark.write(&self.right, self.paths, &self.home)?;
        for thread in old.threads.loaded() {
            // One that cannot be changed afterwards stays where it is.
            ThreadRecord::read(self.paths, &thread.meta.id)?;
            hand_over::fit(self.paths, self.main_home.dir(), &thread.meta, &plan.to, Turns::CutOff)
                .map_err(Error::new)?;
        }
        if let HomeContent::Unmanaged(kind) = homes::reconcile_whole(&lock, &mut pool, &self.home, now)? {
            return Err(Error::new(format!("its home holds {kind}")));
        }
        if plan.from != plan.to {
            elsewhere::settle_for(&lock, &pool, &self.home, &plan.to, &env)?;
            homes::put(&lock, &mut pool, &processes, &self.home, &plan.to, now)?;
        }
        let metas: Vec<ThreadMeta> = old.threads.loaded().map(|thread| thread.meta.clone()).collect();
        self.note_new_account(&lock, &mut pool, &processes, &metas, &plan.to)
    }

    /// Notes in the launches and the threads who goes on.
    fn note_new_account(
        &self,
        lock: &PoolLock,
        pool: &mut Pool,
        processes: &Processes,
        threads: &[ThreadMeta],
        to: &AccountId,
    ) -> Result<()> {
        for launch in check::interfaces(processes, &self.home) {
            if let Some(entry) = launch.entry.clone() {
                let entry = LaunchEntry { account: Some(to.clone()), ..entry };
                ledger::change(self.paths, &launch.process, &entry)?;
            }
        }
        for thread in threads {
            hand_over::note(lock, self.paths, thread, to, clock()).map_err(Error::new)?;
        }
        pool.commit(lock)
    }

    /// Notes that threads still wait although the server was started anew, so that they are tried again.
    fn still_waiting(&self, threads: &Threads) -> Result<()> {
        let lock = self.lock()?;
        for thread in threads.loaded().map(|thread| &thread.meta) {
            if let Some(mut record) = ThreadRecord::read(self.paths, &thread.id)?
                && let Some(limit) = &mut record.limit
            {
                limit.at_ms = clock_ms();
                record.write(&lock, self.paths, &thread.id)?;
            }
        }
        Ok(())
    }

    /// Returns the threads that are to be told to go on, and those that were told since then (Unix seconds).
    fn standing(&self, threads: &Threads, since: Option<i64>) -> Vec<String> {
        let was_told = |id: &str| {
            let queued = ThreadRecord::find(self.paths, id).and_then(|record| record.queued);
            since.zip(queued).is_some_and(|(since, queued)| queued.at >= since)
        };
        let standing = threads.loaded().filter(|thread| {
            let waits = |turn: &LastTurn| is_to_be_told(self.paths, &thread.meta, turn);
            thread.turn().is_some_and(waits) || was_told(&thread.meta.id)
        });
        standing.map(|thread| thread.meta.id.clone()).collect()
    }

    /// Remembers for people what became of the threads that stood still, after they were told to go on.
    fn remember_end(
        &self,
        from: &AccountId,
        to: &AccountId,
        standing: Vec<String>,
        threads: &mut Threads,
        took: Duration,
    ) {
        threads.read();
        let left = self.standing(threads, None);
        let (left, gone_on): (Vec<_>, Vec<_>) = standing.into_iter().partition(|id| left.contains(id));
        let none_left = left.is_empty();
        if !none_left {
            self.remember(from, to, left, Some(NOT_TAKEN_BACK.to_owned()), took);
        }
        if none_left || !gone_on.is_empty() {
            self.remember(from, to, gone_on, None, took);
        }
    }

    /// Remembers the move for people. `why`: it was not made.
    fn remember(
        &self,
        from: &AccountId,
        to: &AccountId,
        threads: Vec<String>,
        why: Option<String>,
        took: Duration,
    ) {
        let record = MoveRecord {
            at: clock(),
            home: path_key(&self.home.auth_json()),
            from: from.clone(),
            to: why.is_none().then(|| to.clone()),
            threads,
            why,
            resets_at: None,
            waits: false,
            took_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
        };
        if let Ok(lock) = self.lock() {
            let _ = moves::add(&lock, self.paths, record);
        }
    }

    /// Tells each thread that stands still to go on, once, when the new server has it again: then a window shows it.
    /// `again`: a message that was noted may not have been sent.
    fn go_on(
        &self,
        origin: &Origin,
        codex: &Path,
        server: &BackgroundServer,
        threads: &mut Threads,
        again: bool,
    ) -> Result<()> {
        let begin = Instant::now();
        let mut taken = Threads::of(server.clone(), self.main_home.dir());
        let mut told: Vec<String> = Vec::new();
        while begin.elapsed() < TAKEN_BACK {
            threads.read();
            taken.look();
            let mut left = 0;
            for thread in threads.loaded() {
                let id = &thread.meta.id;
                let message = match thread.turn() {
                    _ if told.contains(id) => Message::None,
                    _ if thread.is_unread() => Message::Later,
                    Some(turn) => needs::message(self.paths, &thread.meta, turn, again),
                    None => Message::None,
                };
                left += usize::from(message != Message::None);
                let Some(turn) = thread.turn().filter(|_| message == Message::Now) else { continue };
                if !taken.loaded().any(|loaded| loaded.meta.id == *id) {
                    continue;
                }
                let queued = Queued { turn: turn.name(), at: clock() };
                self.note_told(&thread.meta, Some(queued))?;
                if server::tell(origin, codex, id) {
                    told.push(id.clone());
                } else {
                    self.note_told(&thread.meta, None)?;
                    std::thread::sleep(NOT_TOLD);
                }
            }
            if left == 0 {
                return Ok(());
            }
            if !server.is_alive() {
                // The mark stays the first time: another server is started, once.
                return if again { Ok(()) } else { Err(Error::new("the background server has ended")) };
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn note_told(&self, thread: &ThreadMeta, queued: Option<Queued>) -> Result<()> {
        let lock = self.lock()?;
        if let Some(mut record) = ThreadRecord::read(self.paths, &thread.id)? {
            record.queued = queued;
            record.write(&lock, self.paths, &thread.id)?;
        }
        Ok(())
    }
}

/// Returns the logs of threads, as a mark names them.
fn logs_of(threads: &Threads) -> Vec<String> {
    threads.loaded().map(|thread| path_key(&thread.meta.path)).collect()
}
