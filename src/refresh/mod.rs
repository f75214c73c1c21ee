//! Bringing the pool up to date with the service: usage of the accounts, and tokens before they end.
//! Used by `refresh`, `list --refresh`, `watch` and the shim's background child. Disk and network
//! take turns: the pool's lock is never held while a request is under way.

mod fetch;
mod record;
mod renew;
mod survey;

use std::time::{Duration, Instant};

use codex_pool_core::Result;
use codex_pool_core::account::AccountId;
use codex_pool_core::env;
use codex_pool_core::files::PoolLock;
use codex_pool_core::homes;
use codex_pool_core::pool::Pool;
use codex_pool_core::process::ProcessId;
use codex_pool_core::usage::UsageCache;

use crate::context::Context;
use crate::net::place::{self, Place};
use crate::net::{Net, NetError};

pub(crate) use renew::no_more_renewals;

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

/// What a refresh needs beside the pool.
pub(crate) struct Refresher<'a> {
    ctx: &'a Context,
    net: Net,
    usage_place: Result<Place, NetError>,
}

impl<'a> Refresher<'a> {
    /// Reads proxies and certificates.
    ///
    /// # Errors
    /// If they cannot be used.
    pub(crate) fn new(ctx: &'a Context) -> Result<Self> {
        let usage_place = place::usage(ctx.codex.chatgpt_base_url.as_deref());
        Ok(Refresher { ctx, net: Net::new(&ctx.env)?, usage_place })
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
    fn open(&self) -> Result<(PoolLock, Pool)> {
        let lock = self.ctx.lock()?;
        let pool = homes::open_pool(&lock, &self.ctx.paths, env::clock())?;
        Ok((lock, pool))
    }

    /// Waits for answers that another process has asked for, so that a person sees them.
    fn await_others(&self, plan: &mut survey::Plan, meter: &mut Meter<'_>) {
        let start = Instant::now();
        let me = ProcessId::of_self().ok();
        while !plan.awaited.is_empty() && start.elapsed() < OTHERS_WAIT {
            std::thread::sleep(Duration::from_millis(50));
            let (cache, now) = (UsageCache::load(None, &self.ctx.paths), env::clock());
            let awaited = std::mem::take(&mut plan.awaited);
            for id in awaited {
                let attempt = cache.accounts.get(&id).and_then(|e| e.attempt.clone());
                match attempt {
                    Some(a) if a.in_flight(now) && !me.as_ref().is_some_and(|me| a.abandoned(me)) => {
                        plan.awaited.push(id);
                    }
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
