//! What is known of the past, and what follows from it: readings of each account, and forecasts. Data for `history`,
//! `list`, `why`, `watch` and `status`; prints nothing.

use std::collections::BTreeSet;

use codex_pool_core::account::Account;
use codex_pool_core::config::Settings;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pick;
use codex_pool_core::pool::Pool;
use codex_pool_core::time::DAY;
use codex_pool_core::usage::forecast::{self, Forecast, Member};
use codex_pool_core::usage::history::{History, Reading};
use codex_pool_core::usage::{Usage, WEEK, Window, window_name};
use serde_json::{Value, json};

use crate::view::{Clock, round};

/// One account's past.
#[derive(Debug, Clone)]
pub(crate) struct AccountPast {
    pub(crate) account: Account,
    /// The oldest first.
    pub(crate) readings: Vec<Reading>,
    /// What is known now.
    pub(crate) usage: Option<Usage>,
}

/// A percent that is left, at a time (Unix seconds).
pub(crate) type Point = (i64, f64);

impl AccountPast {
    /// Returns the lengths of the windows that it had, the shortest first, seconds.
    pub(crate) fn windows(&self) -> Vec<i64> {
        let past = self.readings.iter().flat_map(|reading| &reading.windows);
        let now = self.usage.iter().flat_map(|usage| &usage.windows);
        let lengths: BTreeSet<i64> = past.chain(now).map(|window| window.window_seconds).collect();
        lengths.into_iter().collect()
    }

    /// Returns the readings since a time, Unix seconds.
    pub(crate) fn since(&self, from: i64) -> impl Iterator<Item = &Reading> {
        self.readings.iter().filter(move |reading| reading.at >= from)
    }

    /// Returns what a window had left over time, up to `now`. A reset is a jump of its own, at its time.
    pub(crate) fn left(&self, seconds: i64, now: i64) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        let mut reset: Option<i64> = None;
        let jump = |points: &mut Vec<Point>, reset: Option<i64>, before: i64| {
            if let (Some(at), Some((last, left))) = (reset, points.last().copied())
                && (last..before).contains(&at)
                && left < 100.0
            {
                points.extend([(at, left), (at, 100.0)]);
            }
        };
        let at_window = |reading: &Reading| Some((reading.at, reading.window(seconds)?.clone()));
        // What is known now may be newer than what was worth keeping.
        let newest = self.usage.as_ref().map(|usage| Reading::of(&self.account.id, usage));
        let last = self.readings.last().map_or(i64::MIN, |reading| reading.at);
        let newest = newest.filter(|reading| reading.at > last && reading.at <= now);
        for (at, window) in self.readings.iter().chain(&newest).filter_map(at_window) {
            jump(&mut points, reset, at);
            points.push((at, (100.0 - window.used_percent).clamp(0.0, 100.0)));
            reset = window.resets_at;
        }
        jump(&mut points, reset, now);
        if let Some((last, left)) = points.last().copied()
            && last < now
        {
            points.push((now, left));
        }
        points
    }

    /// Returns what a window had left from one time to another. It begins with what was left at the first.
    pub(crate) fn left_between(&self, seconds: i64, (from, to): (i64, i64)) -> Vec<Point> {
        let mut points = self.left(seconds, to);
        let before = points.iter().rfind(|(at, _)| *at < from).map(|(_, left)| (from, *left));
        points.retain(|(at, _)| (from..=to).contains(at));
        before.into_iter().chain(points).collect()
    }

    /// Returns the forecast of the window that ends first.
    pub(crate) fn forecast(&self, now: i64) -> Option<(&Window, Forecast)> {
        forecast::of_account(&self.readings, self.usage.as_ref()?, now)
    }
}

/// The accounts' past, in the order of the registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    pub(crate) accounts: Vec<AccountPast>,
    /// When all accounts are at their limit at this pace, Unix seconds.
    pub(crate) pool_ends_at: Option<i64>,
}

impl Past {
    /// Reads the last `days`, and as much as a forecast needs at least, without the lock. `now`: Unix seconds.
    pub(crate) fn read(paths: &PoolPaths, pool: &Pool, settings: &Settings, days: i64, now: i64) -> Past {
        let from = now.saturating_sub(days.saturating_mul(DAY).max(2 * WEEK));
        let readings = History::new(paths).read(from, now.saturating_add(DAY));
        Past::of(readings, pool, settings, now)
    }

    /// Reads as much as a forecast needs.
    pub(crate) fn recent(paths: &PoolPaths, pool: &Pool, settings: &Settings, now: i64) -> Past {
        Past::read(paths, pool, settings, 0, now)
    }

    fn of(readings: Vec<Reading>, pool: &Pool, settings: &Settings, now: i64) -> Past {
        let mut past: Vec<AccountPast> = pool
            .registry()
            .accounts
            .iter()
            .map(|account| AccountPast {
                account: account.clone(),
                readings: Vec::new(),
                usage: pool.usage().usage(&account.id).cloned(),
            })
            .collect();
        for reading in readings {
            if let Some(account) = past.iter_mut().find(|past| past.account.id == reading.account) {
                account.readings.push(reading);
            }
        }
        let counts = |past: &&AccountPast| past.account.enabled && past.account.auth.explain().is_none();
        let members = past.iter().filter(counts).filter_map(|past| {
            let usage = past.usage.as_ref()?;
            let weight = pick::weight(&past.account, Some(usage), settings);
            Some(Member { readings: &past.readings, weight, usage })
        });
        let members: Vec<Member<'_>> = members.collect();
        let pool_ends_at = forecast::of_pool(&members, now);
        Past { accounts: past, pool_ends_at }
    }

    /// Returns `{"schema":1,"from":…,"to":…,"pool":…,"accounts":[…]}`.
    pub(crate) fn json(&self, from: i64, to: i64) -> Value {
        let reading = |at: i64, window: &Window| json!({ "at": at, "used_percent": window.used_percent, "resets_at": window.resets_at });
        let account = |past: &AccountPast| {
            let windows = past.windows().into_iter().map(|seconds| {
                let readings = past.since(from).filter_map(|r| Some(reading(r.at, r.window(seconds)?)));
                json!({
                    "name": window_name(seconds), "window_seconds": seconds, "readings": readings.collect::<Vec<_>>(),
                    "pace_per_hour": forecast::pace(&past.readings, seconds, to).map(round),
                })
            });
            json!({
                "id": past.account.id, "label": past.account.label,
                "windows": windows.collect::<Vec<_>>(), "forecast": forecast_json(past, to),
            })
        };
        json!({
            "schema": 1, "from": from, "to": to, "pool": { "ends_at": self.pool_ends_at },
            "accounts": self.accounts.iter().map(account).collect::<Vec<_>>(),
        })
    }
}

impl Past {
    /// Adds `forecast` to each account of `list --json` or `why --json`, and `pool` to the answer.
    pub(crate) fn add_to(&self, answer: &mut Value, now: i64) {
        for entry in answer["accounts"].as_array_mut().into_iter().flatten() {
            let past = self.accounts.iter().find(|past| entry["id"] == past.account.id.as_str());
            entry["forecast"] = past.map_or(Value::Null, |past| forecast_json(past, now));
        }
        answer["pool"] = json!({ "ends_at": self.pool_ends_at });
    }

    /// Returns what is worth saying, a line each: accounts that reach a limit at their pace, and the end of the pool.
    pub(crate) fn lines(&self, clock: &Clock, now: i64) -> Vec<String> {
        let line = |past: &AccountPast| {
            let (window, forecast) =
                past.forecast(now).filter(|(_, forecast)| forecast.limit_at.is_some())?;
            let (label, limit, window) = (&past.account.label, forecast.words(now), window.words());
            Some(format!("{label}: {limit} of its {window}, at this pace"))
        };
        let enabled = self.accounts.iter().filter(|past| past.account.enabled);
        let mut lines: Vec<String> = enabled.filter_map(line).collect();
        if self.accounts.len() > 1 {
            lines.extend(self.pool_line(clock, now));
        }
        lines
    }

    /// Returns until when the pool lasts, in words.
    pub(crate) fn pool_line(&self, clock: &Clock, now: i64) -> Option<String> {
        let at = clock.time(self.pool_ends_at?, now);
        Some(format!("the pool: enough until about {at} at this pace"))
    }
}

/// Returns what an account comes to as JSON, or null.
pub(crate) fn forecast_json(past: &AccountPast, now: i64) -> Value {
    let Some((window, forecast)) = past.forecast(now) else { return Value::Null };
    json!({
        "window": window.name(), "pace_per_hour": round(forecast.pace), "limit_at": forecast.limit_at,
        "resets_first": forecast.limit_at.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_pool_core::account::AccountId;
    use codex_pool_core::usage::FIVE_HOURS;

    /// An account with these readings: a time, what was used of 5 hours, and when they are reset.
    fn example(readings: [(i64, f64, i64); 3]) -> AccountPast {
        let reading = |(at, used_percent, resets_at): (i64, f64, i64)| Reading {
            account: AccountId::of_api_key("a"),
            at,
            windows: vec![Window { window_seconds: FIVE_HOURS, used_percent, resets_at: Some(resets_at) }],
            limit_reached: false,
        };
        let account: Account = serde_json::from_value(json!({
            "id": AccountId::of_api_key("a"), "label": "a", "kind": "chatgpt", "enabled": true, "added_at": 0,
            "updated_at": 0,
        }))
        .unwrap();
        AccountPast { account, readings: readings.map(reading).into(), usage: None }
    }

    #[test]
    fn a_reset_is_a_jump_at_its_time() {
        let past = example([(100, 20.0, 500), (400, 50.0, 500), (600, 10.0, 900)]);
        let start = [(100, 80.0), (400, 50.0), (500, 50.0), (500, 100.0), (600, 90.0)];
        let expected: Vec<Point> = start.into_iter().chain([(700, 90.0)]).collect();
        assert_eq!(past.left(FIVE_HOURS, 700), expected);
        let later: Vec<Point> =
            start.into_iter().chain([(900, 90.0), (900, 100.0), (1_000, 100.0)]).collect();
        assert_eq!(past.left(FIVE_HOURS, 1_000), later);
        assert_eq!((past.left(WEEK, 700), past.windows()), (Vec::new(), vec![FIVE_HOURS]));
    }

    #[test]
    fn a_part_of_the_past_begins_with_what_was_left_at_its_beginning() {
        let past = example([(100, 20.0, 500), (400, 50.0, 500), (600, 10.0, 900)]);
        let between = |from, to| past.left_between(FIVE_HOURS, (from, to));
        assert_eq!(between(450, 700), [(450, 50.0), (500, 50.0), (500, 100.0), (600, 90.0), (700, 90.0)]);
        assert_eq!(between(450, 550), [(450, 50.0), (500, 50.0), (500, 100.0)]);
        assert_eq!(between(600, 600), [(600, 100.0), (600, 90.0)]);
        assert_eq!(between(50, 700)[0], (100, 80.0));
        assert_eq!(between(0, 50), []);
    }
}
