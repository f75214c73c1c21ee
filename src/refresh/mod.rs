//! Bringing the pool up to date with the service: usage of the accounts, and tokens before they end.
//! Used by `refresh`, `list --refresh`, `watch` and the shim's background child. Disk and network
//! take turns: the pool's lock is never held while a request is under way.

mod fetch;
mod record;
mod renew;
mod survey;

use std::path::Path;
use std::time::{Duration, Instant};

use codex_pool_core::account::AccountId;
use codex_pool_core::codex::argv;
use codex_pool_core::codex::layers::{CodexSettings, SYSTEM_DIR, Surroundings};
use codex_pool_core::config::Settings;
use codex_pool_core::env::{self, Env};
use codex_pool_core::files::PoolLock;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::seats::Base;
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Error, Result};

use crate::net::place::{self, Place};
use crate::net::{Net, NetError};

/// How long we wait for the pool's lock; launches hold it for a millisecond.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long we wait for answers that another process is waiting for.
const OTHERS_WAIT: Duration = Duration::from_secs(16);

/// Which accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of them.
    All,
    /// One.
    One(AccountId),
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A person: everything that may be asked for now.
    Asked,
    /// The shim, or the live view: only what is due.
    Due,
    /// A launch that needs a good token: no usage.
    TokenOnly,
}

/// How it went for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its usage is new.
    Updated,
    /// Nothing was asked: the data is recent, or the service wants a pause until then (Unix seconds).
    Recent(Option<i64>),
    /// It has no usage: an API key.
    NotApplicable,
    /// Only a login helps.
    NeedsLogin,
    /// It failed; the text is for a person.
    Failed(String),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Accounts that are done.
    pub(crate) done: usize,
    /// Accounts in all.
    pub(crate) total: usize,
}

/// Everything that a refresh needs, read once.
pub(crate) struct Refresher {
    env: Env,
    paths: PoolPaths,
    settings: Settings,
    /// The user's CODEX_HOME; `None` if there is none, and then its seat is not looked at.
    base: Option<Base>,
    net: Net,
    usage_place: Result<Place, NetError>,
}

impl Refresher {
    /// Reads settings, Codex's base URL, proxies and certificates.
    ///
    /// # Errors
    /// No pool's folder, or proxies or certificates that cannot be used.
    pub(crate) fn new(env: &Env) -> Result<Refresher> {
        let root =
            env.pool_home().ok_or_else(|| Error::new("HOME is not set").hint("set CODEX_POOL_HOME"))?;
        let paths = PoolPaths::new(root);
        let (settings, _) = Settings::load(&paths.config());
        let base = Base::of_env(env, &paths).ok();
        let url = base.as_ref().and_then(|base| chatgpt_base_url(env, base.dir()));
        let net = Net::new(env)?;
        let usage_place = place::usage(url.as_deref());
        Ok(Refresher { env: env.clone(), paths, settings, base, net, usage_place })
    }

    /// Refreshes, and says for each account how it went, in the registry's order.
    ///
    /// # Errors
    /// If the pool cannot be used at all. What fails for one account is its outcome.
    pub(crate) fn run(
        &self,
        scope: &Scope,
        mode: Mode,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<(AccountId, Outcome)>> {
        let mut plan = self.survey(scope, mode)?;
        let mut meter = Meter { done: plan.outcomes.len(), total: plan.len(), report: progress };
        meter.show();
        let tasks = self.renew_early(&mut plan, &mut meter)?;
        self.fetch(tasks, &mut plan, &mut meter)?;
        self.await_others(&mut plan, &mut meter);
        Ok(plan.into_outcomes())
    }

    /// The pool, locked.
    fn open(&self) -> Result<(PoolLock, Pool, UsageCache)> {
        let path = self.paths.pool_lock();
        let lock = PoolLock::acquire(&self.paths, LOCK_WAIT).map_err(|e| Error::io("lock", &path, &e))?;
        let lock = lock.ok_or_else(|| {
            Error::new("the pool is locked by another process").hint("see `codex-pool doctor`")
        })?;
        let pool = Pool::open(&lock, &self.paths, env::clock())?;
        let cache = UsageCache::load(Some(&lock), &self.paths);
        Ok((lock, pool, cache))
    }

    /// Waits for answers that another process has asked for, so that a person sees them.
    fn await_others(&self, plan: &mut survey::Plan, meter: &mut Meter<'_>) {
        let start = Instant::now();
        while !plan.awaited.is_empty() && start.elapsed() < OTHERS_WAIT {
            std::thread::sleep(Duration::from_millis(50));
            let (cache, now) = (UsageCache::load(None, &self.paths), env::clock());
            let awaited = std::mem::take(&mut plan.awaited);
            for id in awaited {
                let attempt = cache.accounts.get(&id).and_then(|e| e.attempt.clone());
                match attempt {
                    Some(a) if a.in_flight(now) => plan.awaited.push(id),
                    Some(a) => {
                        plan.outcomes.insert(id, a.error.map_or(Outcome::Updated, Outcome::Failed));
                        meter.step();
                    }
                    None => {
                        plan.outcomes.insert(id, Outcome::Recent(None));
                        meter.step();
                    }
                }
            }
        }
        for id in std::mem::take(&mut plan.awaited) {
            plan.outcomes
                .insert(id, Outcome::Failed("another refresh is still waiting for its answer".to_owned()));
            meter.step();
        }
    }
}

/// Counts what is done, for whoever watches.
struct Meter<'a> {
    done: usize,
    total: usize,
    report: &'a mut dyn FnMut(Progress),
}

impl Meter<'_> {
    fn show(&mut self) {
        (self.report)(Progress { done: self.done, total: self.total });
    }

    fn step(&mut self) {
        self.done = (self.done + 1).min(self.total);
        self.show();
    }
}

/// `chatgpt_base_url` as Codex would see it here.
fn chatgpt_base_url(env: &Env, codex_home: &Path) -> Option<String> {
    let around = Surroundings {
        codex_home,
        system_dir: Path::new(SYSTEM_DIR),
        user_home: env.home(),
        cwd: env.cwd.as_deref(),
    };
    CodexSettings::read(around, &argv::parse(&[])).chatgpt_base_url
}
