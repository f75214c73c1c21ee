//! Recording answers: usage and failures in `usage.json`, what they mean for an account in the registry.

use codex_pool_core::Result;
use codex_pool_core::account::{AccountId, AuthReason, AuthState};
use codex_pool_core::env;
use codex_pool_core::pool::Pool;
use codex_pool_core::usage::{Attempt, Failure};

use super::fetch::Fetched;
use super::plan::{Plan, Task};
use super::{Meter, Outcome, Refresher};
use crate::net::NetError;

/// The pause before the next request for an account that was removed from its workspace or deactivated, seconds.
const REMOVED_PAUSE: i64 = 3_600;

impl Refresher<'_> {
    /// Records answers. The pool is locked only here, never during a request.
    pub(super) fn record(&self, batch: Vec<Fetched>, plan: &mut Plan, meter: &mut Meter<'_>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (lock, mut pool) = self.open()?;
        for fetched in batch {
            let outcome = match &fetched.result {
                Ok(_) => Outcome::Updated,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            let id = fetched.id.clone();
            apply(&mut pool, fetched, env::clock());
            plan.outcomes.insert(id, outcome);
            meter.step();
        }
        pool.commit(&lock)
    }

    /// Ends the claim of a task whose usage is not fetched, since the renewal before it had this outcome.
    pub(super) fn end_claim_of(&self, task: &Task, outcome: Option<&Outcome>) -> Result<()> {
        match outcome {
            _ if !task.usage => Ok(()),
            Some(Outcome::Failed(_)) => {
                let (lock, mut pool) = self.open()?;
                if let Some(entry) = pool.usage_mut().accounts.get_mut(&task.id) {
                    entry.attempt = entry.renewal.clone();
                }
                pool.commit(&lock)
            }
            _ => self.end_claim(&task.id),
        }
    }

    /// Ends the claim of an account whose usage cannot be fetched.
    pub(super) fn end_claim(&self, id: &AccountId) -> Result<()> {
        let (lock, mut pool) = self.open()?;
        end_claim(&mut pool, id);
        pool.commit(&lock)
    }
}

/// Ends the claim of an account whose usage is not fetched here.
pub(super) fn end_claim(pool: &mut Pool, id: &AccountId) {
    if let Some(entry) = pool.usage_mut().accounts.get_mut(id) {
        entry.attempt = Some(Attempt::succeeded(env::clock()).into());
    }
}

fn apply(pool: &mut Pool, fetched: Fetched, now: i64) {
    let Fetched { id, expires_at, result } = fetched;
    // The account may have been removed during the request.
    let Some(account) = pool.registry().get(&id) else { return };
    let state = account.auth.state;
    match result {
        Ok(usage) => {
            let plan = usage.plan.clone().filter(|plan| account.plan.as_ref() != Some(plan));
            if let (Some(plan), Some(account)) = (plan, pool.registry_mut().get_mut(&id)) {
                account.plan = Some(plan);
            }
            if state == AuthState::Expired || state.is_refusal() {
                pool.set_auth(&id, AuthState::Ok, None, now);
            }
            let cache = pool.usage_mut();
            cache.no_wait_until = None;
            match expires_at {
                // The service accepts a token that has ended by the local clock.
                Some(at) if at <= now && cache.clock_ahead(now).is_none() => cache.note_clock(now - at, now),
                Some(at) if at > now => cache.clock_ahead = None,
                _ => {}
            }
            let entry = cache.accounts.entry(id.clone()).or_default();
            entry.attempt = Some(Attempt::succeeded(now).into());
            pool.set_usage(&id, usage);
        }
        Err(error) => {
            let ended = expires_at.is_some_and(|at| at <= now);
            if let Some(verdict) = error.verdict() {
                pool.set_auth(&id, verdict, None, now);
            } else if ended && state == AuthState::Ok {
                pool.set_auth(&id, AuthState::Expired, Some(AuthReason::Rejected), now);
            }
            let (failure, pause) = classify(&error);
            let entry = pool.usage_mut().accounts.entry(id).or_default();
            let attempt = Attempt::failed(entry.attempt.as_deref(), failure, error.to_string(), pause, now);
            entry.attempt = Some(attempt.into());
        }
    }
}

/// Returns what a failure means for the next request, and the pause that the service asks for (seconds).
pub(super) fn classify(error: &NetError) -> (Failure, Option<i64>) {
    match error {
        error if error.is_offline() => (Failure::Offline, None),
        NetError::Service(e) if e.status == 429 => (Failure::Throttled, e.retry_after),
        NetError::Service(e) if error.verdict().is_some_and(|verdict| verdict != AuthState::Refused) => {
            (Failure::Other, e.retry_after.or(Some(REMOVED_PAUSE)))
        }
        NetError::Service(e) => (Failure::Other, e.retry_after),
        _ => (Failure::Other, None),
    }
}
