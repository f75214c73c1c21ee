//! Ending a move that was cut off: it is completed if the home has the next account already, and undone if not. Either way
//! a server runs again where an interface waits for one, and the threads can be used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::server::{self, Origin};
use super::{Home, START_LOCK_WAIT, check};
use crate::carry::hand_over::{self, Turns};
use crate::carry::mark::{self, MoveMark};
use crate::carry::moves;
use crate::codex::background_server::{BackgroundServer, start_lock};
use crate::codex::lock_file;
use crate::codex::threads::{self, ThreadMeta};
use crate::env::{clock, clock_ms};
use crate::error::{Error, Result};
use crate::homes::in_use::Processes;
use crate::homes::{self, HomeContent};
use crate::moving::Threads;
use crate::paths::PoolPaths;
use crate::process;
use crate::store::{path_key, path_of_key};

/// Ends the move of a home's server that a crash has cut off. Returns whether there was one that no other process is at.
///
/// # Errors
/// What failed.
pub fn finish(paths: &PoolPaths, dir: &Path) -> Result<bool> {
    match Home::new(paths, dir, Duration::ZERO)? {
        Some(home) => with(&home, None).map(|()| true),
        None => Ok(false),
    }
}

/// `origin`: what the server was started with, if that is known. Else an open interface has it.
pub(super) fn with(home: &Home<'_>, origin: Option<Origin>) -> Result<()> {
    let Some(mut mark) = MoveMark::of_home(home.paths, &home.home) else { return Ok(()) };
    let logs = mark.threads.iter().map(|log| path_of_key(log));
    let of_log = |log: PathBuf| threads::of_log(&log).or_else(|| threads::of_log(&log));
    let mut metas: Vec<ThreadMeta> = logs.filter_map(of_log).collect();
    let (swapped, interface, after) = settle(home, &mark, &mut metas)?;
    let origin = origin.or_else(|| Origin::of(interface?));
    let codex = origin.as_ref().and_then(|origin| origin.codex(&home.settings));
    let mut running = BackgroundServer::of_home(home.home.dir());
    if running.is_none() && interface.is_some() {
        let start = |(origin, codex)| server::start(origin, codex, home.home.dir(), after);
        running = origin.as_ref().zip(codex.as_deref()).and_then(start);
        if running.is_none() {
            // The mark stays, so that it is tried again.
            return Err(Error::new("the background server does not start"));
        }
    }
    let mut threads = Threads::none(&home.home, home.main_home.dir());
    threads.include(metas);
    let (true, Some(server), Some(origin), Some(codex)) = (swapped, running, origin, codex) else {
        home.still_waiting(&threads)?;
        return mark::remove(&home.right, home.paths, &home.home);
    };
    mark.started = true;
    // As in a move that is not cut off.
    let _ = mark.write(&home.right, home.paths, &home.home);
    let standing = home.standing(&threads, Some(mark.at_ms / 1_000));
    home.go_on(&origin, &codex, &server, &mut threads, true)?;
    if !is_remembered(home, &mark) {
        let took = u64::try_from(clock_ms().saturating_sub(mark.at_ms)).unwrap_or(0);
        home.remember_end(&mark.from, &mark.to, standing, &mut threads, Duration::from_millis(took));
    }
    mark::remove(&home.right, home.paths, &home.home)
}

/// Returns whether the process that made the move has remembered it.
fn is_remembered(home: &Home<'_>, mark: &MoveMark) -> bool {
    let (path, since) = (path_key(&home.home.auth_json()), mark.at_ms / 1_000);
    moves::last(home.paths).iter().any(|made| {
        made.home == path && made.from == mark.from && made.to.as_ref() == Some(&mark.to) && made.at >= since
    })
}

/// Brings home and threads into one of the two states, and keeps those threads that can be told. Returns whether it is the
/// new one, an interface that is open, and when the account came, in clock ticks.
fn settle(
    home: &Home<'_>,
    mark: &MoveMark,
    metas: &mut Vec<ThreadMeta>,
) -> Result<(bool, Option<u32>, Option<u64>)> {
    let _starts = match lock_file::take(&start_lock(home.home.dir()), START_LOCK_WAIT) {
        // A server that is just being stopped, by the call of the process that was killed, still seems to run.
        Ok(None) => return Err(Error::new("another process starts or stops the background server")),
        Ok(lock) => lock,
        // Some file systems have no locks.
        Err(_) => None,
    };
    let (lock, mut pool, processes) = home.open()?;
    if processes.incomplete() {
        // An interface that is not seen would be left without a server.
        return Err(Error::new("the launch ledger cannot be read"));
    }
    let content = homes::reconcile_whole(&lock, &mut pool, &home.home, clock())?;
    if let HomeContent::Unreadable(why) = &content {
        return Err(Error::new(format!("the login in its home cannot be read: {why}")));
    }
    let swapped = mark.from != mark.to && content.account() == Some(&mark.to);
    let server = BackgroundServer::of_home(home.home.dir());
    let runs = server.is_some();
    let old_runs = server.is_some_and(|server| (server.pid, server.start_ticks) == mark.server);
    if swapped && !runs {
        // Where the account was found and not put, it is not known when it came: now at the latest. The server that starts
        // in the same second would have no account for as long as it runs.
        pool.state_mut().changed_hands(&home.home.auth_json(), process::ticks_now());
    }
    if swapped && !mark.started && !old_runs {
        let fit = |meta: &ThreadMeta| {
            hand_over::fit(home.paths, home.main_home.dir(), meta, &mark.to, Turns::CutOff)
        };
        // Those that a server has by now were made fit before the account came. One that stays bound to the account before
        // is not told to go on: when its user tells it, the service refuses, and it is put right.
        metas.retain(|meta| fit(meta).or_else(|_| fit(meta)).is_ok() || runs);
        home.note_new_account(&lock, &mut pool, &processes, metas, &mark.to)?;
    }
    pool.commit(&lock)?;
    let first =
        |processes: &Processes| check::interfaces(processes, &home.home).first().map(|l| l.process.pid);
    // Without one no server is started, and nobody looks again: it is looked for twice.
    let interface = first(&processes).or_else(|| first(&Processes::read(None, home.paths, clock())));
    let record = pool.state().home(&home.home.auth_json());
    let after = record.filter(|_| swapped).and_then(|record| record.since_ticks);
    Ok((swapped && !old_runs, interface, after))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::auth_doc::tests::login;
    use crate::files::PoolLock;
    use crate::homes::CodexHome;
    use crate::homes::in_use::account_of_server;
    use crate::pool::Pool;

    /// A pool and its main home, in which a move from alice to bob was cut off right after the exchange.
    struct Lab {
        dir: tempfile::TempDir,
        paths: PoolPaths,
    }

    impl Lab {
        fn new() -> Lab {
            let dir = tempfile::tempdir().unwrap();
            let paths = PoolPaths::new(dir.path().join("pool"));
            let lab = Lab { dir, paths };
            fs::create_dir(lab.codex()).unwrap();
            let lock = PoolLock::acquire(&lab.paths, Duration::ZERO).unwrap().unwrap();
            let mut pool = homes::open_pool(&lock, &lab.paths, clock()).unwrap();
            lab.make_live("alice");
            let home = CodexHome::at(&lab.paths, lab.codex());
            homes::reconcile(&lock, &mut pool, &home, clock()).unwrap();
            pool.commit(&lock).unwrap();
            lab.make_live("bob");
            lab
        }

        fn codex(&self) -> PathBuf {
            self.dir.path().join("codex")
        }

        fn make_live(&self, user: &'static str) {
            fs::write(self.codex().join("auth.json"), login(user).doc().bytes()).unwrap();
        }

        fn home(&self) -> Home<'_> {
            Home::new(&self.paths, &self.codex(), Duration::ZERO).unwrap().expect("free")
        }
    }

    fn mark(home: &Home<'_>) -> MoveMark {
        let [alice, bob] = ["alice", "bob"].map(|user| login(user).doc().id().clone());
        MoveMark::new(&home.home, alice, bob, (1, 1), 0)
    }

    #[test]
    fn account_of_the_server_after_a_move_that_a_crash_cut_off_is_known() {
        let lab = Lab::new();
        let home = lab.home();
        let mark = mark(&home);
        let (swapped, _, after) = settle(&home, &mark, &mut Vec::new()).unwrap();
        assert!(swapped && after.is_some(), "{after:?}");
        while process::ticks_now() <= after {
            std::thread::yield_now();
        }
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let stat = process::stat(child.id()).unwrap();
        let server = BackgroundServer { home: lab.codex(), pid: child.id(), start_ticks: stat.start_ticks };
        let pool = Pool::peek(&lab.paths).unwrap();
        let account = account_of_server(pool.state().home(&home.home.auth_json()).unwrap(), &server);
        child.kill().and_then(|()| child.wait()).unwrap();
        assert_eq!(account, Some(mark.to));
    }
}
