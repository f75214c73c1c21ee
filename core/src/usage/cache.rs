//! `usage.json`: what was last known of each account, how the last attempt went, and when the next
//! one is due. A cache: when it is corrupt it is set aside and rebuilt.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::window::Usage;
use crate::account::AccountId;
use crate::config::Settings;
use crate::process::{Liveness, ProcessId};

/// A request that was begun this long ago has failed, whoever began it, seconds.
const REQUEST_ENDS: i64 = 20;
/// After a launch waited in vain, none waits for this long, seconds.
pub const NO_WAIT: i64 = 300;
/// First and longest pause after failures, seconds. They double in between.
const PAUSE: (i64, i64) = (30, 900);
/// The same when the service asks for fewer requests.
const THROTTLED_PAUSE: (i64, i64) = (60, 3_600);

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageCache {
    /// Format version (1).
    #[serde(default)]
    pub version: u32,
    /// By account.
    #[serde(default)]
    pub accounts: BTreeMap<AccountId, UsageEntry>,
    /// Until when no launch waits for a refresh, Unix seconds: set when requests are begun, gone when
    /// one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_wait_until: Option<i64>,
}

/// One account's usage and last attempts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// The newest data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How the last request for it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Box<Attempt>>,
    /// How the last renewal of its tokens went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Box<Attempt>>,
}

/// What kind of failure a request had, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No connection: the service never saw the request.
    Offline,
    /// The service asks for fewer requests.
    Throttled,
    /// Anything else.
    Other,
}

/// A request for an account, or a renewal of its tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was begun, Unix seconds.
    pub at: i64,
    /// Who waits for its answer (`<boot>-<pidns>-<pid>-<ticks>`), until it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// What went wrong, for a person; `None` if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What kind of failure that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// No request in the background before this time, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// Failures in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Whether `at` lies less than `span` seconds back. A time in the future is no evidence of anything, the
/// clock was turned back; but for a moment, since clocks are set right now and then.
fn recent(at: i64, span: i64, now: i64) -> bool {
    (-60..span).contains(&now.saturating_sub(at))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl Attempt {
    /// One that process `by` begins now. What is known of earlier failures stays until it ends.
    pub fn begun(before: Option<&Attempt>, by: &str, now: i64) -> Attempt {
        Attempt { at: now, pending: Some(by.to_owned()), ..before.cloned().unwrap_or_default() }
    }

    /// One that succeeded.
    pub fn succeeded(at: i64) -> Attempt {
        Attempt { at, ..Attempt::default() }
    }

    /// One that failed, after the one `before` it. Pauses double with every failure; `wish` is how
    /// long the service asks to be left alone, seconds.
    pub fn failed(
        before: Option<&Attempt>,
        failure: Failure,
        error: String,
        wish: Option<i64>,
        now: i64,
    ) -> Attempt {
        let failures = before.map_or(0, |b| b.failures).saturating_add(1);
        let (first, longest) = if failure == Failure::Throttled { THROTTLED_PAUSE } else { PAUSE };
        let pause = first.saturating_mul(1 << (failures - 1).min(16)).min(longest).max(wish.unwrap_or(0));
        Attempt {
            at: now,
            pending: None,
            error: Some(error),
            failure: Some(failure),
            not_before: Some(now.saturating_add(pause)),
            failures,
        }
    }

    /// Whether its answer may still come.
    pub fn in_flight(&self, now: i64) -> bool {
        self.timing().in_flight(now)
    }

    /// Whether whoever began it is gone without having entered an answer, as seen from `me`.
    pub fn abandoned(&self, me: &ProcessId) -> bool {
        let process = self.pending.as_deref().map(ProcessId::parse);
        process.is_some_and(|process| process.is_none_or(|p| p.liveness(me) == Liveness::Dead))
    }

    /// Until when even the user's own command does not repeat it, Unix seconds; `None`: it may.
    pub fn blocks_until(&self, min_poll_interval: Duration, now: i64) -> Option<i64> {
        let pause = self.not_before.filter(|_| self.failure == Some(Failure::Throttled));
        let reached = self.failure != Some(Failure::Offline);
        let poll = self.at.saturating_add(seconds(min_poll_interval));
        let poll = (reached && recent(self.at, seconds(min_poll_interval), now)).then_some(poll);
        // A longer pause than the service may ask for is a clock that was turned back.
        let pause = pause.filter(|until| (1..=THROTTLED_PAUSE.1).contains(&(until.saturating_sub(now))));
        poll.max(pause)
    }

    fn timing(&self) -> Timing {
        Timing { at: self.at, pending: self.pending.is_some(), not_before: self.not_before }
    }
}

/// When an attempt was made, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    /// When it was begun, Unix seconds.
    at: i64,
    /// Somebody waits for its answer.
    pending: bool,
    /// No request in the background before this time, Unix seconds.
    not_before: Option<i64>,
}

impl Timing {
    fn in_flight(&self, now: i64) -> bool {
        self.pending && recent(self.at, REQUEST_ENDS, now)
    }

    /// Until when nothing in the background repeats it, Unix seconds; `None`: it may.
    fn holds_off_until(&self, min_poll_interval: Duration, now: i64) -> Option<i64> {
        let pause =
            self.not_before.filter(|until| (1..=THROTTLED_PAUSE.1).contains(&(until.saturating_sub(now))));
        let poll = self.at.saturating_add(seconds(min_poll_interval));
        let poll = recent(self.at, seconds(min_poll_interval), now).then_some(poll);
        poll.max(pause)
    }
}

/// What decides when an account's usage is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Poll {
    /// When the newest data was fetched, Unix seconds.
    fetched_at: Option<i64>,
    /// The last request for it.
    attempt: Option<Timing>,
}

impl Poll {
    /// Whether the data is older than that, or there is none.
    pub fn older_than(&self, age: Duration, now: i64) -> bool {
        // Fetched in the future: the clock was turned back, and its windows' resets are wrong, too.
        self.fetched_at.is_none_or(|at| !recent(at, seconds(age).saturating_add(1), now))
    }

    /// When a request in the background is due, Unix seconds: when the data is old, and no request was
    /// made lately.
    pub fn due_at(&self, settings: &Settings, now: i64) -> i64 {
        if let Some(attempt) = self.attempt.filter(|a| a.in_flight(now)) {
            return attempt.at.saturating_add(REQUEST_ENDS);
        }
        let old = match self.fetched_at.filter(|_| !self.older_than(settings.usage_max_age, now)) {
            Some(at) => at.saturating_add(seconds(settings.usage_max_age)).saturating_add(1),
            None => now,
        };
        let rested = self.attempt.and_then(|a| a.holds_off_until(settings.min_poll_interval, now));
        old.max(rested.unwrap_or(now))
    }

    /// Whether that is now.
    pub fn due(&self, settings: &Settings, now: i64) -> bool {
        self.due_at(settings, now) <= now
    }
}

impl UsageEntry {
    /// What decides when its usage is asked for.
    pub fn poll(&self) -> Poll {
        Poll {
            fetched_at: self.usage.as_ref().map(|usage| usage.fetched_at),
            attempt: self.attempt.as_ref().map(|attempt| attempt.timing()),
        }
    }

    /// Whether a renewal in the background may be tried (again).
    pub fn may_renew(&self, settings: &Settings, now: i64) -> bool {
        self.renewal
            .as_ref()
            .is_none_or(|a| a.timing().holds_off_until(settings.min_poll_interval, now).is_none())
    }

    /// The newest error, if the last attempt failed: its time (Unix seconds) and text.
    pub fn error(&self) -> Option<(i64, &str)> {
        let attempts = [&self.attempt, &self.renewal].into_iter().flatten();
        attempts.filter_map(|a| Some((a.at, a.error.as_deref()?))).max_by_key(|(at, _)| *at)
    }
}

impl UsageCache {
    /// What is known of an account.
    pub fn usage(&self, id: &AccountId) -> Option<&Usage> {
        self.accounts.get(id)?.usage.as_ref()
    }

    /// What decides when an account's usage is asked for.
    pub fn poll(&self, id: &AccountId) -> Poll {
        self.accounts.get(id).map(UsageEntry::poll).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn after(failure: Failure, times: u32, wish: Option<i64>) -> Attempt {
        let mut attempt = None;
        for _ in 0..times {
            attempt = Some(Attempt::failed(attempt.as_ref(), failure, "x".to_owned(), wish, NOW));
        }
        attempt.unwrap()
    }

    fn due(attempt: Attempt, now: i64) -> bool {
        let entry = UsageEntry { attempt: Some(attempt.into()), ..UsageEntry::default() };
        entry.poll().due(&Settings::default(), now)
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_a_wish_is_granted() {
        let pause = |failure, times, wish| after(failure, times, wish).not_before.unwrap() - NOW;
        assert_eq!([1, 2, 3, 40].map(|n| pause(Failure::Other, n, None)), [30, 60, 120, 900]);
        assert_eq!([1, 2, 40].map(|n| pause(Failure::Throttled, n, None)), [60, 120, 3_600]);
        assert_eq!(pause(Failure::Throttled, 1, Some(500)), 500);
    }

    #[test]
    fn nothing_is_due_while_it_is_fresh_in_flight_or_paused() {
        let settings = Settings::default();
        assert!(Poll::default().due(&settings, NOW));
        assert!(!due(Attempt::begun(None, "x", NOW), NOW + 1));
        assert!(due(Attempt::begun(None, "x", NOW), NOW + 60), "who began it was killed");
        assert!(!due(after(Failure::Offline, 3, None), NOW + 119));
        assert!(due(after(Failure::Offline, 3, None), NOW + 120));
        assert!(due(after(Failure::Other, 9, None), NOW - 10_000), "the clock was turned back");
    }

    #[test]
    fn the_users_own_command_waits_only_for_the_service() {
        let min = Duration::from_secs(60);
        let blocks = |attempt: Attempt, now| attempt.blocks_until(min, now);
        assert_eq!(blocks(Attempt::succeeded(NOW), NOW + 59), Some(NOW + 60));
        assert_eq!(blocks(Attempt::succeeded(NOW), NOW + 60), None);
        assert_eq!(blocks(after(Failure::Offline, 9, None), NOW), None, "it never got there");
        assert_eq!(blocks(after(Failure::Other, 9, None), NOW + 60), None);
        assert_eq!(blocks(after(Failure::Throttled, 1, Some(500)), NOW + 60), Some(NOW + 500));
    }
}
