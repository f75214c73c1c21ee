//! Entering answers: usage and failures into `usage.json`, what they mean for an account into the
//! registry.

use codex_pool_core::Result;
use codex_pool_core::account::{AccountId, AuthState};
use codex_pool_core::env;
use codex_pool_core::pool::Pool;
use codex_pool_core::renewal::note;
use codex_pool_core::usage::{Attempt, Failure};

use super::fetch::Fetched;
use super::survey::{Plan, Task};
use super::{Meter, Outcome, Refresher};
use crate::net::NetError;

/// An account that was removed from its workspace is asked for again after this long, seconds.
const REMOVED_PAUSE: i64 = 3_600;

impl Refresher<'_> {
    /// Enters answers. The lock is held only here, never while one is awaited.
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

    /// Ends a claim without a request: the renewal before it failed.
    pub(super) fn release(&self, task: &Task, outcome: Option<&Outcome>) -> Result<()> {
        if !task.usage {
            return Ok(());
        }
        let (lock, mut pool) = self.open()?;
        if let Some(entry) = pool.usage_mut().accounts.get_mut(&task.id) {
            let renewal = entry.renewal.clone();
            entry.attempt = match outcome {
                Some(Outcome::Failed(_)) => renewal,
                _ => Some(Attempt::succeeded(env::clock()).into()),
            };
        }
        pool.commit(&lock)
    }

    /// Ends the claim of an account that needs a login.
    pub(super) fn settle_login(&self, id: &AccountId) -> Result<()> {
        let (lock, mut pool) = self.open()?;
        if let Some(entry) = pool.usage_mut().accounts.get_mut(id) {
            entry.attempt = Some(Attempt::succeeded(env::clock()).into());
        }
        pool.commit(&lock)
    }
}

fn apply(pool: &mut Pool, fetched: Fetched, now: i64) {
    let Fetched { id, expires_at, result } = fetched;
    // Removed from the pool while we were asking.
    let Some(account) = pool.registry().get(&id) else { return };
    let state = account.auth.state;
    match result {
        Ok(usage) => {
            let plan = usage.plan.clone().filter(|plan| account.plan.as_ref() != Some(plan));
            if let (Some(plan), Some(account)) = (plan, pool.registry_mut().get_mut(&id)) {
                account.plan = Some(plan);
            }
            if matches!(state, AuthState::Expired | AuthState::WorkspaceRemoved) {
                note(pool, &id, AuthState::Ok, None, now);
            }
            let cache = pool.usage_mut();
            cache.no_wait_until = None;
            let entry = cache.accounts.entry(id).or_default();
            entry.usage = Some(usage);
            entry.attempt = Some(Attempt::succeeded(now).into());
        }
        Err(error) => {
            let (failure, wish) = kind(&error);
            if is_removed(&error) {
                note(pool, &id, AuthState::WorkspaceRemoved, None, now);
            } else if is_rejected(&error) || expires_at.is_some_and(|at| at <= now) && state == AuthState::Ok
            {
                note(pool, &id, AuthState::Expired, Some("rejected"), now);
            }
            let entry = pool.usage_mut().accounts.entry(id).or_default();
            entry.attempt =
                Some(Attempt::failed(entry.attempt.as_deref(), failure, error.to_string(), wish, now).into());
        }
    }
}

/// What a failure means for the next request, and how long the service asks to be left alone (seconds).
pub(super) fn kind(error: &NetError) -> (Failure, Option<i64>) {
    match error {
        NetError::Unreachable(_) | NetError::ConnectTimeout(_) => (Failure::Offline, None),
        NetError::Service(e) if e.status == 429 => (Failure::Throttled, e.retry_after),
        NetError::Service(e) if is_removed(error) => (Failure::Other, e.retry_after.or(Some(REMOVED_PAUSE))),
        NetError::Service(e) => (Failure::Other, e.retry_after),
        _ => (Failure::Other, None),
    }
}

fn is_removed(error: &NetError) -> bool {
    matches!(error, NetError::Service(e) if matches!(e.status, 402 | 403) && e.says("deactivated_workspace"))
}

fn is_rejected(error: &NetError) -> bool {
    matches!(error, NetError::Service(e) if e.status == 401)
}
