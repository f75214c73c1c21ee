//! The duty that sees to notices: it looks when something may have changed, and starts a short-lived `codex-pool notify`,
//! which tells each notice once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::stamp::Stamp;
use super::{Duty, View};
use crate::env::{Env, names};
use crate::error::Result;
use crate::launch::ATTENDANT_VARIABLES;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::{journal, notices};

/// How often it looks at the clock: a reset may have passed.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How far back it reads the log, seconds.
const LOG: i64 = 86_400;

/// Starts the messenger.
pub(super) struct Notices {
    admin: PathBuf,
    base: Vec<(&'static str, OsString)>,
    messenger: Option<Child>,
    seen: Vec<Option<Stamp>>,
    next_look: Instant,
}

impl Notices {
    /// `env`: the attendant's environment.
    pub(super) fn new(env: &Env, paths: &PoolPaths) -> Notices {
        let base = ATTENDANT_VARIABLES.iter().filter_map(|name| Some((*name, env.get(name)?.to_owned())));
        let base = base.collect();
        Notices {
            admin: paths.admin_link(),
            base,
            messenger: None,
            seen: Vec::new(),
            next_look: Instant::now(),
        }
    }

    fn start(&mut self, paths: &PoolPaths) {
        let mut command = Command::new(&self.admin);
        command.arg("notify").env_clear().envs(self.base.iter().map(|(name, value)| (name, value)));
        command.env(names::CODEX_POOL_HOME, paths.root()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A program that is missing or just being replaced is there at the next look.
        self.messenger = command.spawn().ok();
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
        let log = journal::read(paths, view.now - LOG);
        let told = &pool.state().told;
        if !notices::due(told, &pool.registry().accounts, pool.usage(), &log, view.now).0.is_empty() {
            self.start(paths);
        }
        Ok(())
    }
}
