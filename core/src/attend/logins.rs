//! The duty that keeps the pool's copies of the logins in use up to date: an `auth.json` that a running Codex changed is
//! in the pool within a second, and a home is taken in when its session ends. Changes no home, but in a
//! shared pool: one with a login that was just made there gets it back without the refresh token.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::stamp::Stamp;
use super::{Duty, View};
use crate::error::{Error, Result};
use crate::files::PoolLock;
use crate::homes::in_use::Processes;
use crate::homes::{self, CodexHome, HomeContent, HomeKind};
use crate::launch::learn_from_logs;
use crate::ledger::LaunchKind;
use crate::paths::PoolPaths;
use crate::renewal;
use crate::store::{path_key, path_of_key};

/// How long one tick tries to lock the pool.
const LOCK_TRIES: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(5);
/// After a failure, the pool is left alone for so long; so is a home that could not be written.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Takes logins into the pool.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// The `auth.json` of each home in use as it was when it was taken in. `None`: not there, or to be looked at again.
    seen: BTreeMap<PathBuf, Option<Stamp>>,
    /// Homes whose last launch ended, until they are taken in.
    ended: Vec<CodexHome>,
    not_before: Option<Instant>,
    /// The `auth.json` of each home that should have got another document and could not be written, and when that is
    /// tried again.
    unwritten: BTreeMap<PathBuf, Instant>,
    /// How long is waited after a failure.
    after_failure: Duration,
}

impl Logins {
    /// `after_failure`: how long is waited after one, which is [`AFTER_FAILURE`] but for tests.
    pub(super) fn new(after_failure: Duration) -> Logins {
        Logins { after_failure, ..Logins::default() }
    }
}

impl Duty for Logins {
    fn tick(&mut self, view: &View<'_>) -> Result<()> {
        let of_ended = view.ended.iter().filter(|entry| entry.kind == LaunchKind::Session);
        let of_ended = of_ended.map(|entry| path_of_key(&entry.home));
        self.ended.extend(of_ended.filter_map(|path| CodexHome::of_auth_json(view.paths, &path)));
        self.ended.dedup();
        let watched: Vec<&CodexHome> = view.homes.iter().filter(|home| !is_of_a_login(view, home)).collect();
        let is_watched = |path: &PathBuf| watched.iter().any(|home| home.auth_json() == *path);
        self.seen.retain(|path, _| is_watched(path));
        self.unwritten.retain(|path, _| is_watched(path));
        let mut changed: Vec<(CodexHome, Option<Stamp>)> = Vec::new();
        for home in watched {
            let (path, stamp) = (home.auth_json(), Stamp::of(&home.auth_json()));
            let again = self.unwritten.get(&path).is_some_and(|at| Instant::now() >= *at);
            if again || self.seen.get(&path) != Some(&stamp) {
                changed.push((home.clone(), stamp));
            }
        }
        let waiting = self.not_before.is_some_and(|at| Instant::now() < at);
        if waiting || changed.is_empty() && self.ended.is_empty() {
            return Ok(());
        }
        let result = self.take_in(view, &changed);
        self.not_before = result.as_ref().err().map(|_| Instant::now() + self.after_failure);
        result
    }

    fn is_busy(&self) -> bool {
        !self.ended.is_empty() && self.not_before.is_none()
    }
}

impl Logins {
    fn take_in(&mut self, view: &View<'_>, changed: &[(CodexHome, Option<Stamp>)]) -> Result<()> {
        let paths = view.paths;
        // If the pool stays locked, the next tick tries again.
        let Some(lock) = lock_soon(paths)? else { return Ok(()) };
        let mut pool = homes::open_pool(&lock, paths, view.now)?;
        let mut being_written = Vec::new();
        for home in changed.iter().map(|(home, _)| home).chain(&self.ended) {
            let shared = pool.shared().is_some();
            let take = if shared { renewal::exchange_one } else { homes::reconcile };
            let content = take(&lock, &mut pool, home, view.now)?;
            if content == HomeContent::BeingWritten {
                being_written.push(home.clone());
            }
            if shared && matches!(content, HomeContent::Account { stale: true, .. }) {
                self.unwritten.insert(home.auth_json(), Instant::now() + self.after_failure);
            } else {
                self.unwritten.remove(&home.auth_json());
            }
        }
        if !self.ended.is_empty() {
            // Read without tidying: the next launch learns from the same entries.
            let ledger = Processes::read(None, paths, view.now).ledger;
            let mut main_homes: Vec<CodexHome> =
                self.ended.iter().map(|home| home.main_home(paths)).collect();
            main_homes.dedup();
            for main_home in &main_homes {
                learn_from_logs(&mut pool, &lock, &ledger, main_home.dir(), view.now);
            }
        }
        pool.commit(&lock)?;
        drop(lock);
        for (home, stamp) in changed.iter().filter(|(home, _)| !being_written.contains(home)) {
            let stamp = stamp.filter(|stamp| !stamp.is_young());
            let known = stamp.is_some() || Stamp::of(&home.auth_json()).is_none();
            if known {
                self.seen.insert(home.auth_json(), stamp);
            }
        }
        self.ended.retain(|home| being_written.contains(home));
        Ok(())
    }
}

/// Returns whether a login or logout works on a home. It does itself what is to be done there.
fn is_of_a_login(view: &View<'_>, home: &CodexHome) -> bool {
    let key = path_key(&home.auth_json());
    let works_there =
        |entry: &crate::ledger::LaunchEntry| entry.kind != LaunchKind::Session && entry.home == key;
    *home.kind() == HomeKind::Login
        || view.launches.iter().any(|launch| launch.entry.as_ref().is_some_and(works_there))
}

/// Locks the pool; `None` if it is locked for longer than a moment. Without the thread that a longer wait would need,
/// and without making the pool's folder.
pub(super) fn lock_soon(paths: &PoolPaths) -> Result<Option<PoolLock>> {
    let until = Instant::now() + LOCK_TRIES;
    loop {
        let lock = PoolLock::try_existing(paths);
        match lock.map_err(|e| Error::io("lock", &paths.pool_lock(), &e))? {
            None if Instant::now() < until => std::thread::sleep(PAUSE),
            lock => return Ok(lock),
        }
    }
}
