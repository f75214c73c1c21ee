//! `usage.json`: the newest usage of each account, how the last requests ended, and when the next ones are due. It is a
//! cache: a corrupt one is set aside and rebuilt.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sharing::Sharing;
use super::window::Usage;
use crate::account::AccountId;
use crate::config::Settings;
use crate::process::{Liveness, ProcessId};

/// A request that was begun this long ago has failed, seconds.
const REQUEST_ENDS: i64 = 20;
/// A clock that is ahead by less than this is right enough, seconds.
const CLOCK_TOLERANCE: i64 = 3_600;
/// For this long after a launch that waited in vain, no launch waits, seconds.
pub const NO_WAIT: i64 = 300;
/// The first and the longest pause after failures, seconds. Each is twice the one before.
const PAUSE: (i64, i64) = (30, 900);
/// The same if the service asks for fewer requests.
const THROTTLED_PAUSE: (i64, i64) = (60, 3_600);

/// The contents of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageCache {
    /// The version of the format (1).
    #[serde(default)]
    pub version: u32,
    /// The accounts.
    #[serde(default)]
    pub accounts: BTreeMap<AccountId, UsageEntry>,
    /// Until when no launch waits for a refresh, Unix seconds. It is set when requests begin, and removed when one
    /// succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_wait_until: Option<i64>,
    /// How far the local clock is ahead of the service's, if that was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<ClockAhead>,
    /// What is known of the other machines of a shared pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
}

/// A local clock that is ahead. With it, every token looks old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAhead {
    /// By how much at least, seconds.
    pub by: i64,
    /// When that was noticed, Unix seconds by this clock.
    pub at: i64,
}

/// The usage of one account, and the last requests for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// The newest usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The last request for its usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Box<Attempt>>,
    /// The last renewal of its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Box<Attempt>>,
}

/// The kind of a failure, as far as the next request depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// There was no connection, so the service did not see the request.
    Offline,
    /// The service asks for fewer requests.
    Throttled,
    /// It failed in another way.
    Other,
}

/// A request for the usage of an account, or a renewal of its tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was begun, Unix seconds.
    pub at: i64,
    /// The process that waits for its answer (`<boot>-<pidns>-<pid>-<ticks>`), until it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// What went wrong, for the user; `None` if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The kind of that failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The earliest time of the next request in the background, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// The number of failures in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Returns whether a time is less than `span` seconds ago. After a clock was set back, a time in the future means
/// nothing, except that clocks are corrected by some seconds now and then.
fn recent(at: i64, span: i64, now: i64) -> bool {
    (-60..span).contains(&now.saturating_sub(at))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl Attempt {
    /// Returns one that process `by` begins now. It has the failures of the one before until it ends.
    pub fn begun(before: Option<&Attempt>, by: &str, now: i64) -> Attempt {
        Attempt { at: now, pending: Some(by.to_owned()), ..before.cloned().unwrap_or_default() }
    }

    /// Returns one that succeeded.
    pub fn succeeded(at: i64) -> Attempt {
        Attempt { at, ..Attempt::default() }
    }

    /// Returns one that failed, after the one `before` it. `wish`: how long the service asks for a pause, seconds.
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

    /// Returns whether its answer may still come.
    pub fn in_flight(&self, now: i64) -> bool {
        self.timing().in_flight(now)
    }

    /// Returns whether the process that began it has ended without an answer, as seen from `me`.
    pub fn abandoned(&self, me: &ProcessId) -> bool {
        let process = self.pending.as_deref().map(ProcessId::parse);
        process.is_some_and(|process| process.is_none_or(|p| p.liveness(me) == Liveness::Dead))
    }

    /// Returns until when even the user's own command does not repeat it, Unix seconds; `None`: it may.
    pub fn blocks_until(&self, min_poll_interval: Duration, now: i64) -> Option<i64> {
        let pause = self.not_before.filter(|_| self.failure == Some(Failure::Throttled));
        let reached = self.failure != Some(Failure::Offline);
        let poll = self.at.saturating_add(seconds(min_poll_interval));
        let poll = (reached && recent(self.at, seconds(min_poll_interval), now)).then_some(poll);
        // A pause that is longer than any is the work of a clock that was set back.
        let pause = pause.filter(|until| (1..=THROTTLED_PAUSE.1).contains(&(until.saturating_sub(now))));
        poll.max(pause)
    }

    fn timing(&self) -> Timing {
        Timing { at: self.at, pending: self.pending.is_some(), not_before: self.not_before }
    }
}

/// The times of an attempt, as far as the next one depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    /// When it was begun, Unix seconds.
    at: i64,
    /// Whether a process waits for its answer.
    pending: bool,
    /// The earliest time of the next request in the background, Unix seconds.
    not_before: Option<i64>,
}

impl Timing {
    fn in_flight(&self, now: i64) -> bool {
        self.pending && recent(self.at, REQUEST_ENDS, now)
    }

    /// Returns until when nothing in the background repeats it, Unix seconds; `None`: it may.
    fn holds_off_until(&self, min_poll_interval: Duration, now: i64) -> Option<i64> {
        let pause =
            self.not_before.filter(|until| (1..=THROTTLED_PAUSE.1).contains(&(until.saturating_sub(now))));
        let poll = self.at.saturating_add(seconds(min_poll_interval));
        let poll = recent(self.at, seconds(min_poll_interval), now).then_some(poll);
        poll.max(pause)
    }
}

/// What decides when the usage of an account is requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Poll {
    /// When the newest usage was fetched, Unix seconds.
    fetched_at: Option<i64>,
    /// The last request for it.
    attempt: Option<Timing>,
}

impl Poll {
    /// Returns whether the usage is older than that, or there is none.
    pub fn older_than(&self, age: Duration, now: i64) -> bool {
        // After a clock was set back the time is in the future, and the resets are wrong as well.
        self.fetched_at.is_none_or(|at| !recent(at, seconds(age).saturating_add(1), now))
    }

    /// Returns when a request in the background is due, Unix seconds: when the usage is old, and no request was made
    /// lately.
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

    /// Returns whether a request in the background is due.
    pub fn due(&self, settings: &Settings, now: i64) -> bool {
        self.due_at(settings, now) <= now
    }
}

impl UsageEntry {
    /// Returns what decides when its usage is requested.
    pub fn poll(&self) -> Poll {
        Poll {
            fetched_at: self.usage.as_ref().map(|usage| usage.fetched_at),
            attempt: self.attempt.as_ref().map(|attempt| attempt.timing()),
        }
    }

    /// Returns whether a renewal in the background may be tried.
    pub fn may_renew(&self, settings: &Settings, now: i64) -> bool {
        self.renewal
            .as_ref()
            .is_none_or(|a| a.timing().holds_off_until(settings.min_poll_interval, now).is_none())
    }

    /// Returns whether the last request for its usage was answered with a failure. Without a connection there was no answer.
    pub fn last_answer_failed(&self) -> bool {
        let failed = |a: &Attempt| a.error.is_some() && a.failure != Some(Failure::Offline);
        self.attempt.as_ref().is_some_and(|attempt| failed(attempt))
    }

    /// Returns the newest error of the last attempts: its time (Unix seconds) and text.
    pub fn error(&self) -> Option<(i64, &str)> {
        let attempts = [&self.attempt, &self.renewal].into_iter().flatten();
        attempts.filter_map(|a| Some((a.at, a.error.as_deref()?))).max_by_key(|(at, _)| *at)
    }
}

impl UsageCache {
    /// Notes how far the local clock is ahead, seconds; what a slow answer may explain is nothing.
    pub fn note_clock(&mut self, ahead: i64, now: i64) {
        self.clock_ahead = (ahead > CLOCK_TOLERANCE).then_some(ClockAhead { by: ahead, at: now });
    }

    /// Returns by how much the local clock is ahead, seconds, if it was and has not been set back since.
    pub fn clock_ahead(&self, now: i64) -> Option<i64> {
        self.clock_ahead.filter(|clock| now >= clock.at - 60).map(|clock| clock.by)
    }

    /// Returns the usage of an account.
    pub fn usage(&self, id: &AccountId) -> Option<&Usage> {
        self.accounts.get(id)?.usage.as_ref()
    }

    /// What decides when the usage of an account is requested.
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
