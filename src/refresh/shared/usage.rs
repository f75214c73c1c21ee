//! One machine asks the service for all: it holds an account's usage for more than a minute, and tells the others the answer.

use std::time::Duration;

use codex_pool_core::account::AccountId;
use codex_pool_core::shared::Role;
use codex_pool_core::usage::Usage;
use codex_pool_core::{Result, env};
use codex_pool_share::clock;
use codex_pool_share::usage::{ASKS_WITHIN, Poll, Polled};

use super::super::plan::{Plan, Task};
use super::super::record::end_claim;
use super::super::{Meter, Mode, Outcome, Refresher};
use super::sync;

/// The right of this machine to ask about accounts.
#[derive(Default)]
pub(in super::super) struct Asker(Vec<Claim>);

/// The right to ask about an account.
struct Claim {
    id: AccountId,
    poll: Poll,
    /// Until when, in time that passes while the machine sleeps.
    until: Duration,
}

impl Asker {
    /// Returns whether it is not too late to ask: soon another machine may.
    pub(in super::super) fn may_ask(&self, id: &AccountId) -> bool {
        self.0.iter().find(|claim| claim.id == *id).is_none_or(|claim| clock::now() < claim.until)
    }
}

impl Refresher<'_> {
    /// Returns the tasks for which this machine may ask the service. For the others, another one has just asked, and its
    /// answer is taken.
    pub(in super::super) fn claim_polls(
        &self,
        tasks: Vec<Task>,
        mode: Mode,
        plan: &mut Plan,
        meter: &mut Meter<'_>,
    ) -> Result<(Vec<Task>, Asker)> {
        let mut asker = Asker::default();
        if tasks.is_empty() || plan.shared != Some(Role::Member) {
            return Ok((tasks, asker));
        }
        let (mut mine, mut known, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let mut trouble = None;
        for task in tasks {
            let until = clock::now().saturating_add(ASKS_WITHIN);
            match self.sharing.as_member(|share| share.poll(task.id.as_str())) {
                Ok(Polled::Ask(poll)) => {
                    asker.0.push(Claim { id: task.id.clone(), poll, until });
                    mine.push(task);
                }
                Ok(Polled::Known(usage, held)) => known.push((task.id, usage.answer, held)),
                Err(why) => {
                    trouble.get_or_insert(why);
                    match mode {
                        // A person who asks gets an answer, though it cannot be known whether another machine asks, too.
                        Mode::Asked => mine.push(task),
                        _ => left.push(task.id),
                    }
                }
            }
        }
        if known.is_empty() && trouble.is_none() {
            return Ok((mine, asker));
        }
        let (lock, mut pool) = self.open()?;
        let now = env::clock();
        if trouble.is_some() {
            pool.usage_mut().sharing_mut().error = trouble;
        }
        for (id, answer, held) in known {
            let updated = sync::take_usage(&mut pool, &id, &answer, now);
            let again = now.saturating_add(i64::try_from(held.as_secs()).unwrap_or(i64::MAX));
            let outcome = if updated { Outcome::Updated } else { Outcome::Recent(Some(again)) };
            end_claim(&mut pool, &id);
            plan.outcomes.insert(id, outcome);
            meter.step();
        }
        for id in left {
            end_claim(&mut pool, &id);
            plan.outcomes.insert(id, Outcome::Recent(None));
            meter.step();
        }
        pool.commit(&lock)?;
        Ok((mine, asker))
    }

    /// Tells the other machines an answer.
    pub(in super::super) fn tell_usage(&self, asker: &Asker, id: &AccountId, usage: &Usage) {
        let Some(claim) = asker.0.iter().find(|claim| claim.id == *id) else { return };
        if let Ok(answer) = serde_json::to_string(usage) {
            // If it cannot be told, another machine asks in a minute.
            let _ = self.sharing.as_member(|share| share.tell(&claim.poll, &answer));
        }
    }
}
