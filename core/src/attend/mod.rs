//! The attendant: one small process per pool, boot and pid namespace, which lives while launches of the pool live, or a
//! background server of their homes holds a thread. Each tick it looks at the ledger and calls its duties. It holds
//! `pool.lock` for milliseconds and uses no network itself. Whatever happens to it, nothing is worse than without it.

mod admin;
mod binary;
mod lock;
mod logins;
mod moves;
mod notices;
mod requests;
mod stamp;
mod watch;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::config::Settings;
use crate::env::{self, Env};
use crate::error::{Error, Result};
use crate::homes::CodexHome;
use crate::ledger::{LaunchEntry, RecordedLaunch};
use crate::paths::PoolPaths;
use crate::process::ProcessId;
use binary::Binary;
use lock::AttendLock;
use stamp::Stamp;
use watch::Watch;

/// How often the attendant shows that it is not stopped and does not hang.
const SHOW_LIFE_EVERY: Duration = Duration::from_secs(15);

/// How often it looks, and how long it waits.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The time between two looks at the files in use.
    pub tick: Duration,
    /// How long it stays after the last launch.
    pub linger: Duration,
    /// How long it tries to take its lock at the start. A launch that tests the lock holds it for a moment.
    pub lock_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            tick: Duration::from_millis(500),
            linger: Duration::from_secs(5),
            lock_wait: Duration::from_secs(1),
        }
    }
}

/// Why the attendant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Another one runs.
    Another,
    /// Nothing runs that it could look after.
    NothingLeft,
    /// The settings turn it off.
    TurnedOff,
    /// The pool is gone, belongs to another user, or cannot be written.
    NoPool,
}

/// What a duty sees at a tick.
#[derive(Debug)]
pub struct View<'a> {
    /// The pool.
    pub paths: &'a PoolPaths,
    /// Its settings.
    pub settings: &'a Settings,
    /// The launches of this boot and pid namespace that run.
    pub launches: Vec<&'a RecordedLaunch>,
    /// The homes that they, or busy background servers, are in.
    pub homes: Vec<CodexHome>,
    /// The launches that ended since the last tick.
    pub ended: Vec<LaunchEntry>,
    /// Whether a launch began since the last tick.
    pub began: bool,
    /// Unix seconds.
    pub now: i64,
}

/// Something that the attendant does. A duty never waits, and holds `pool.lock` for milliseconds.
pub trait Duty {
    /// Does what is due now.
    ///
    /// # Errors
    /// What failed. The duty itself decides when it tries again; the attendant goes on.
    fn tick(&mut self, view: &View<'_>) -> Result<()>;

    /// Returns whether something is under way that needs the attendant although no launch runs.
    fn is_busy(&self) -> bool {
        false
    }
}

/// Returns the duties. `env`: the attendant's environment.
fn duties(env: &Env, paths: &PoolPaths) -> Vec<Box<dyn Duty>> {
    vec![
        Box::new(logins::Logins::new(logins::AFTER_FAILURE)),
        Box::new(moves::Moves::new(env, paths)),
        Box::new(requests::Requests::new(env, paths)),
        Box::new(notices::Notices::new(env, paths)),
    ]
}

/// Returns whether this process may look after a pool: it must be the pool's owner, and able to write it.
pub fn may_attend(paths: &PoolPaths) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owned = std::fs::metadata(paths.root()).is_ok_and(|m| m.is_dir() && m.uid() == geteuid().as_raw());
    owned && access(paths.root(), AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Looks after the pool's sessions until none is left.
///
/// # Errors
/// The system does not tell which processes run, or the lock cannot be opened.
pub fn run(env: &Env, paths: &PoolPaths, pace: &Pace) -> Result<End> {
    run_duties(env, paths, pace, duties(env, paths))
}

fn run_duties(env: &Env, paths: &PoolPaths, pace: &Pace, mut duties: Vec<Box<dyn Duty + '_>>) -> Result<End> {
    if !may_attend(paths) {
        return Ok(End::NoPool);
    }
    let me = ProcessId::of_self().map_err(|e| Error::io("read", Path::new("/proc"), &e))?;
    let path = paths.attend_lock(&me.boot, me.pid_namespace);
    let acquire = |wait| AttendLock::acquire(&path, wait).map_err(|e| Error::io("lock", &path, &e));
    let Some(mut lock) = acquire(pace.lock_wait)? else { return Ok(End::Another) };
    lock::clear_abandoned(paths, &path, env::clock());
    let mut binary = Binary::of(paths.admin_link());
    let mut watch = Watch::new(paths.clone(), me);
    let (mut settings, mut settings_stamp) = (Settings::default(), None);
    let mut idle_since: Option<Instant> = None;
    let mut shown = Instant::now();
    loop {
        if !lock.is_at_its_path() || !may_attend(paths) {
            return Ok(End::NoPool);
        }
        if shown.elapsed() >= SHOW_LIFE_EVERY {
            lock.show_life();
            shown = Instant::now();
        }
        let stamp = Stamp::of(&paths.config());
        // If they cannot be read now, the next tick tries again.
        if stamp != settings_stamp
            && let Ok((read, _)) = Settings::read(&paths.config())
        {
            (settings, settings_stamp) = (read, stamp.filter(|stamp| !stamp.is_young()));
        }
        if !settings.attend {
            return Ok(End::TurnedOff);
        }
        if binary.was_replaced() {
            // It returns only if the new program cannot be started.
            binary.start_anew(env);
        }
        let now = env::clock();
        let view = watch.look(&settings, now);
        for duty in &mut duties {
            // A duty that fails tries again by itself. There is no place to say it: launches say what concerns them.
            let _ = duty.tick(&view);
        }
        let in_use = !view.launches.is_empty() || !view.homes.is_empty();
        if in_use || duties.iter().any(|duty| duty.is_busy()) {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() >= pace.linger {
            drop(lock);
            // A launch that came just before the unlock found the lock held and has started none.
            if !watch.launches_now() {
                return Ok(End::NothingLeft);
            }
            match acquire(Duration::ZERO)? {
                Some(taken) => lock = taken,
                None => return Ok(End::Another),
            }
            idle_since = None;
        }
        std::thread::sleep(pace.tick);
    }
}
