//! Which accounts need which requests. A plan claims its requests in `usage.json`, so that two processes never fetch
//! the usage of one account at once.

use std::collections::BTreeMap;

use codex_pool_core::Result;
use codex_pool_core::account::{Account, AccountId, AccountKind, AuthReason, AuthState};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::env;
use codex_pool_core::homes;
use codex_pool_core::process::ProcessId;
use codex_pool_core::renewal;
use codex_pool_core::shared::Role;
use codex_pool_core::usage::{Attempt, NO_WAIT, UsageEntry};

use super::{Mode, Outcome, Refresher, Scope};

/// The age from which the end of a token may be an error of the local clock, seconds.
const ENDED_LONG_AGO: i64 = 86_400;

/// The requests for one account.
pub(super) struct Task {
    pub(super) id: AccountId,
    /// Its newest document.
    pub(super) doc: AuthDoc,
    /// Why its tokens are renewed first. `None`: they are not.
    pub(super) renew: Option<RenewReason>,
    /// Whether its usage is fetched.
    pub(super) usage: bool,
}

/// Why tokens are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RenewReason {
    /// Their time is nearly over.
    Early,
    /// They lack the id token.
    Incomplete,
    /// The account counts as logged out, and only a renewal can prove otherwise.
    Proof,
}

/// The tasks of a refresh, and the outcomes so far.
pub(super) struct Plan {
    order: Vec<AccountId>,
    /// What this machine is in a shared pool.
    #[cfg_attr(not(feature = "share"), expect(dead_code, reason = "only the database is asked by it"))]
    pub(super) shared: Option<Role>,
    pub(super) tasks: Vec<Task>,
    /// Accounts whose usage another process is fetching.
    pub(super) awaited: Vec<AccountId>,
    pub(super) outcomes: BTreeMap<AccountId, Outcome>,
}

impl Plan {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn into_outcomes(mut self) -> Vec<(AccountId, Outcome)> {
        let outcome = |id: AccountId| Some((id.clone(), self.outcomes.remove(&id)?));
        self.order.into_iter().filter_map(outcome).collect()
    }
}

/// What a decision depends on beside the account.
#[derive(Clone, Copy)]
struct Around {
    /// The local clock is known to be ahead.
    clock_ahead: bool,
    /// This machine asks the service for usage.
    may_ask: bool,
    mode: Mode,
    /// Unix seconds.
    now: i64,
}

/// What to do with one account.
enum Decision {
    Skip(Outcome),
    Await,
    Work { renew: Option<RenewReason>, usage: bool },
}

impl Refresher<'_> {
    /// Brings the homes' documents into the pool, and plans the requests.
    pub(super) fn plan(&self, scope: &Scope, mode: Mode) -> Result<Plan> {
        let now = env::clock();
        let me = ProcessId::of_self().ok();
        let name = me.as_ref().map_or_else(|| "unknown".to_owned(), ProcessId::to_string);
        let (lock, mut pool) = self.open()?;
        homes::reconcile(&lock, &mut pool, &self.ctx.main_home, now)?;
        renewal::exchange_newest(&lock, &mut pool, now)?;
        let mut plan = Plan {
            order: Vec::new(),
            shared: pool.shared(),
            tasks: Vec::new(),
            awaited: Vec::new(),
            outcomes: BTreeMap::new(),
        };
        let mut claims = Vec::new();
        for account in &pool.registry().accounts {
            if matches!(scope, Scope::One(id) if *id != account.id) {
                continue;
            }
            let id = account.id.clone();
            plan.order.push(id.clone());
            let doc = match pool.credentials().load(&id) {
                Ok(Some(doc)) => doc,
                Ok(None) => {
                    plan.outcomes.insert(id, Outcome::NeedsLogin);
                    continue;
                }
                Err(e) => {
                    plan.outcomes.insert(id, Outcome::Failed(e.to_string()));
                    continue;
                }
            };
            let mut entry = pool.usage().accounts.get(&id).cloned().unwrap_or_default();
            if let (Some(attempt), Some(me)) = (&entry.attempt, &me)
                && mode == Mode::Asked
                && attempt.abandoned(me)
            {
                // The process of that attempt was killed. A person who asks again need not wait for it.
                entry.attempt = None;
            }
            let clock_ahead = pool.usage().clock_ahead(now).is_some();
            let may_ask = match mode {
                Mode::Asked => pool.shared() != Some(Role::Runner),
                _ => pool.usage().may_ask(pool.shared(), now),
            };
            let around = Around { clock_ahead, may_ask, mode, now };
            match self.decide(account, &doc, &entry, around) {
                Decision::Skip(outcome) => {
                    plan.outcomes.insert(id, outcome);
                }
                Decision::Await => plan.awaited.push(id),
                Decision::Work { renew, usage } => {
                    if usage {
                        let attempt = Some(Attempt::begun(entry.attempt.as_deref(), &name, now).into());
                        claims.push((id.clone(), UsageEntry { attempt, ..entry }));
                    }
                    plan.tasks.push(Task { id, doc, renew, usage });
                }
            }
        }
        if !claims.is_empty() {
            let usage = pool.usage_mut();
            usage.no_wait_until = Some(now + NO_WAIT);
            usage.accounts.extend(claims);
        }
        pool.commit(&lock)?;
        Ok(plan)
    }

    fn decide(&self, account: &Account, doc: &AuthDoc, entry: &UsageEntry, around: Around) -> Decision {
        let Around { clock_ahead, may_ask, mode, now } = around;
        if account.kind == AccountKind::ApiKey {
            return Decision::Skip(Outcome::NotApplicable);
        }
        let logged_out = account.auth.reason == Some(AuthReason::LoggedOut);
        let ended = account.access_ended(now) && !clock_ahead;
        if ended || account.auth.state == AuthState::ReauthRequired && !logged_out {
            return Decision::Skip(Outcome::NeedsLogin);
        }
        let ended = doc.expires_at().is_some_and(|at| at <= now);
        // An issuer that gives no id token is asked once.
        let asked = || mode != Mode::TokenOnly && entry.renewal.as_ref().is_some_and(|a| a.error.is_none());
        let incomplete = doc.needs_id_token() && !asked();
        let may_renew = match mode {
            Mode::Due => entry.may_renew(&self.ctx.settings, now),
            // Without a token that works, another try is worth it whenever a person asks.
            Mode::Asked => ended || incomplete || entry.may_renew(&self.ctx.settings, now),
            Mode::TokenOnly => true,
        };
        // With a clock that is ahead, every token looks old. Only the service can say which is.
        let due = renewal::is_due(doc, now) && !clock_ahead;
        let renew = match (logged_out, due) {
            (true, _) if may_renew => Some(RenewReason::Proof),
            (false, true) if may_renew => Some(RenewReason::Early),
            (false, false) if may_renew && incomplete => Some(RenewReason::Incomplete),
            _ => None,
        };
        let attempt = entry.attempt.as_ref();
        let in_flight = attempt.is_some_and(|a| a.in_flight(now));
        let blocked = attempt.and_then(|a| a.blocks_until(self.ctx.settings.min_poll_interval, now));
        let usage = match mode {
            Mode::TokenOnly => false,
            Mode::Due | Mode::Asked if !may_ask => false,
            Mode::Due => account.enabled && entry.poll().due(&self.ctx.settings, now),
            Mode::Asked => !in_flight && blocked.is_none(),
        };
        // A token that ended long ago, or so the local clock says. The usage request finds out, and renews it if it is
        // rejected.
        let long_ago = doc.expires_at().is_some_and(|at| at.saturating_add(ENDED_LONG_AGO) <= now);
        let renew = renew.filter(|reason| !(usage && long_ago && *reason == RenewReason::Early));
        match (renew, usage) {
            (None, false) if mode == Mode::Asked && in_flight => Decision::Await,
            (None, false) => Decision::Skip(Outcome::Recent(blocked)),
            (renew, usage) => Decision::Work { renew, usage },
        }
    }
}
