//! The duty that sees to notices: it looks when something may have changed, and starts a short-lived `codex-pool notify`,
//! which tells each notice once.

use std::process::Child;
use std::time::{Duration, Instant};

use super::admin::Admin;
use super::stamp::Stamp;
use super::{Duty, View};
use crate::env::Env;
use crate::error::Result;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::{journal, notices};

/// How often it looks at the clock: a reset may have passed.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Starts the messenger.
pub(super) struct Notices {
    admin: Admin,
    messenger: Option<Child>,
    seen: Vec<Option<Stamp>>,
    next_look: Instant,
}

impl Notices {
    /// `env`: the attendant's environment.
    pub(super) fn new(env: &Env, paths: &PoolPaths) -> Notices {
        let admin = Admin::new(env, paths);
        Notices { admin, messenger: None, seen: Vec::new(), next_look: Instant::now() }
    }

    fn start(&mut self, paths: &PoolPaths) {
        self.messenger = self.admin.command(paths).arg("notify").spawn().ok();
    }
}

impl Duty for Notices {
    fn tick(&mut self, view: &View<'_>) -> Result<()> {
        if let Some(messenger) = &mut self.messenger {
            if matches!(messenger.try_wait(), Ok(None)) {
                return Ok(());
            }
            self.messenger = None;
        }
        if view.settings.notify.is_empty() {
            return Ok(());
        }
        let paths = view.paths;
        let files = [paths.registry(), paths.usage(), paths.log()];
        let stamps: Vec<Option<Stamp>> = files.iter().map(|file| Stamp::of(file)).collect();
        if stamps == self.seen && Instant::now() < self.next_look {
            return Ok(());
        }
        let young = stamps.iter().flatten().any(Stamp::is_young);
        self.seen = if young { Vec::new() } else { stamps };
        self.next_look = Instant::now() + LOOK_EVERY;
        let pool = Pool::peek(paths)?;
        let log = journal::read(paths, view.now - notices::LOG);
        let told = &pool.state().told;
        if !notices::due(told, &pool.registry().accounts, pool.usage(), &log, view.now).0.is_empty() {
            self.start(paths);
        }
        Ok(())
    }
}
