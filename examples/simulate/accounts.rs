//! Accounts with a 5h window and a week, as the service counts them.

use codex_pool_core::account::{Account, AccountId, AccountKind};
use codex_pool_core::usage::{FIVE_HOURS, Source, Usage, Window};
use fastrand::Rng;

use crate::demand::{DAY, WEEK};

/// How many 5h windows a week holds.
const WINDOWS_PER_WEEK: f64 = 6.0;

/// What is used of a window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// In 5h windows of a Plus account.
    used: f64,
    /// When it is full again. `None`: it does not run.
    resets_at: Option<i64>,
}

impl Used {
    fn at(self, now: i64) -> Used {
        if self.resets_at.is_some_and(|at| at <= now) { Used::default() } else { self }
    }
}

/// An account at the service.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) account: Account,
    /// What it holds in a 5h window, in those of a Plus account.
    pub(crate) weight: f64,
    five_hours: Used,
    week: Used,
}

impl Served {
    /// Returns what is left in the 5h window and in the week, in 5h windows of a Plus account.
    pub(crate) fn left(&self, now: i64) -> (f64, f64) {
        let five_hours = self.weight - self.five_hours.at(now).used;
        (five_hours.max(0.0), (WINDOWS_PER_WEEK * self.weight - self.week.at(now).used).max(0.0))
    }

    /// Uses as much of this as is left. Returns how much that is.
    pub(crate) fn take(&mut self, amount: f64, now: i64) -> f64 {
        let (five_hours, week) = self.left(now);
        let taken = amount.min(five_hours).min(week);
        if taken > 0.0 {
            for (window, length) in [(&mut self.five_hours, FIVE_HOURS), (&mut self.week, WEEK)] {
                *window = window.at(now);
                window.used += taken;
                window.resets_at.get_or_insert(now + length);
            }
        }
        taken
    }

    /// Returns what the service answers.
    pub(crate) fn usage(&self, now: i64) -> Usage {
        let window = |length: i64, used: Used, holds: f64| {
            let used = used.at(now);
            Window {
                window_seconds: length,
                used_percent: if used.used > holds - 1e-9 { 100.0 } else { 100.0 * used.used / holds },
                resets_at: Some(used.resets_at.unwrap_or(now + length)),
            }
        };
        let windows = vec![
            window(FIVE_HOURS, self.five_hours, self.weight),
            window(WEEK, self.week, WINDOWS_PER_WEEK * self.weight),
        ];
        Usage {
            limit_reached: windows.iter().any(|w| w.used_percent >= 100.0),
            ..Usage::new(Source::Api, now, windows)
        }
    }
}

/// The accounts of a pool.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    pub(crate) all: Vec<Served>,
}

impl Accounts {
    /// Returns accounts of these weights, whose weeks are at any point and up to 60 % used.
    pub(crate) fn new(weights: &[f64], random: &mut Rng) -> Accounts {
        let served = |(at, weight): (usize, &f64)| {
            let label = format!("account{at}");
            let id = AccountId::of_chatgpt(&label, "simulated");
            let mut account = Account::new(id, label, AccountKind::Chatgpt, 0);
            account.weight = Some(*weight);
            let week = Used {
                used: WINDOWS_PER_WEEK * weight * 0.6 * random.f64(),
                resets_at: Some(random.i64(DAY / 24..WEEK)),
            };
            Served { account, weight: *weight, five_hours: Used::default(), week }
        };
        Accounts { all: weights.iter().enumerate().map(served).collect() }
    }

    /// Returns what all of them hold in a week, in 5h windows of a Plus account.
    pub(crate) fn weekly_quota(&self) -> f64 {
        self.all.iter().map(|account| WINDOWS_PER_WEEK * account.weight).sum()
    }
}
