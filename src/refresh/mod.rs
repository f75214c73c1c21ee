//! Refreshing usage, and renewing tokens before they end. Used by `refresh`, `list --refresh`, `watch` and the child
//! that launches start. The pool's lock is never held during a request.

#[cfg(feature = "share")]
mod all;
mod fetch;
mod plan;
mod record;
mod renew;
#[cfg(feature = "share")]
mod shared;
#[cfg(not(feature = "share"))]
#[path = "unshared.rs"]
mod shared;

use std::time::{Duration, Instant};

use codex_pool_core::account::AccountId;
use codex_pool_core::files::PoolLock;
use codex_pool_core::pool::Pool;
use codex_pool_core::process::ProcessId;
use codex_pool_core::time::DAY;
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Result, env, homes, thread_record};

use crate::context::Context;
use crate::net::endpoint::Endpoint;
use crate::net::{Net, NetError};
use crate::notices;
use plan::Plan;
use shared::Sharing;

pub(crate) use renew::no_more_renewals;
#[cfg(feature = "share")]
pub(crate) use shared::{take_in, take_login};

/// How long to wait for answers to requests of other processes.
const OTHERS_WAIT: Duration = Duration::from_secs(16);

/// The accounts of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All accounts.
    All,
    /// One account.
    One(AccountId),
}

/// The reason for a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A person wants to see the usage: fetch all that may be fetched now.
    Asked,
    /// A launch, or the live view: fetch what is due.
    Due,
    /// A launch that needs a good token: fetch no usage.
    TokenOnly,
}

/// The result for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its usage, or its tokens, are new.
    Updated,
    /// Nothing was fetched: the data is recent, or the service wants a pause until this time (Unix seconds).
    Recent(Option<i64>),
    /// It has no usage: it is an API key.
    NotApplicable,
    /// Only a new login helps.
    NeedsLogin,
    /// It failed. The text is for a person.
    Failed(String),
}

/// What became of a refresh.
pub(crate) struct Refreshed {
    /// The outcome for each account, in the registry's order.
    pub(crate) outcomes: Vec<(AccountId, Outcome)>,
    /// The labels of accounts that were removed on another machine, and now here.
    pub(crate) removed: Vec<String>,
}

/// How far a refresh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Accounts that are done.
    pub(crate) done: usize,
    /// Accounts in all.
    pub(crate) total: usize,
}

/// Refreshes accounts of the pool.
pub(crate) struct Refresher<'a> {
    ctx: &'a Context,
    net: Net,
    usage_endpoint: Result<Endpoint, NetError>,
    #[cfg_attr(not(feature = "share"), expect(dead_code, reason = "there is no database"))]
    sharing: Sharing,
}

impl<'a> Refresher<'a> {
    /// Reads proxies and certificates.
    ///
    /// # Errors
    /// They cannot be used.
    pub(crate) fn new(ctx: &'a Context) -> Result<Self> {
        let usage_endpoint = Endpoint::usage(ctx.codex.chatgpt_base_url.as_deref());
        Ok(Refresher { ctx, net: Net::new(&ctx.env)?, usage_endpoint, sharing: Sharing::of(&ctx.paths) })
    }

    /// Refreshes the accounts.
    ///
    /// # Errors
    /// The pool cannot be used. What fails for one account is its outcome.
    pub(crate) fn run(
        &self,
        scope: &Scope,
        mode: Mode,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Refreshed> {
        let removed = self.sync(mode)?;
        let mut plan = self.plan(scope, mode)?;
        let mut meter = Meter { done: plan.outcomes.len(), total: plan.len(), report: progress };
        meter.show();
        let tasks = self.renew_first(&mut plan, &mut meter)?;
        let (tasks, asker) = self.claim_polls(tasks, mode, &mut plan, &mut meter)?;
        self.fetch(tasks, &asker, &mut plan, &mut meter)?;
        self.await_others(&mut plan, &mut meter);
        if mode != Mode::TokenOnly {
            // What it does not remove, it removes tomorrow.
            let _ = self.forget_threads();
        }
        notices::start(self.ctx);
        Ok(Refreshed { outcomes: plan.into_outcomes(), removed })
    }

    /// Opens the pool under its lock.
    fn open(&self) -> Result<(PoolLock, Pool)> {
        let lock = self.ctx.lock()?;
        let pool = homes::open_pool(&lock, &self.ctx.paths, env::clock())?;
        Ok((lock, pool))
    }

    /// Removes what the pool keeps of threads that are gone, once a day.
    fn forget_threads(&self) -> Result<()> {
        let (paths, now) = (&self.ctx.paths, env::clock());
        let seen = Pool::peek(paths)?.state().threads_seen;
        if seen.is_some_and(|at| (0..DAY).contains(&now.saturating_sub(at))) {
            return Ok(());
        }
        let gone = thread_record::gone(paths);
        let (lock, mut pool) = self.open()?;
        thread_record::forget(&lock, &gone);
        pool.state_mut().threads_seen = Some(now);
        pool.commit(&lock)
    }

    /// Waits for the answers to requests of other processes, so that a person sees them.
    fn await_others(&self, plan: &mut Plan, meter: &mut Meter<'_>) {
        let start = Instant::now();
        let me = ProcessId::of_self().ok();
        while !plan.awaited.is_empty() && start.elapsed() < OTHERS_WAIT {
            std::thread::sleep(Duration::from_millis(50));
            let (cache, now) = (UsageCache::load(None, &self.ctx.paths), env::clock());
            let awaited = std::mem::take(&mut plan.awaited);
            for id in awaited {
                let attempt = cache.accounts.get(&id).and_then(|e| e.attempt.clone());
                let outcome = match attempt {
                    Some(a) if a.in_flight(now) && me.as_ref().is_none_or(|me| !a.abandoned(me)) => {
                        plan.awaited.push(id);
                        continue;
                    }
                    Some(a) => a.error.map_or(Outcome::Updated, Outcome::Failed),
                    None => Outcome::Recent(None),
                };
                plan.outcomes.insert(id, outcome);
                meter.step();
            }
        }
        for id in std::mem::take(&mut plan.awaited) {
            let text = "another refresh is still waiting for its answer";
            plan.outcomes.insert(id, Outcome::Failed(text.to_owned()));
            meter.step();
        }
    }
}

/// Counts the accounts that are done, and reports each step.
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
