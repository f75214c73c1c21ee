//! Rate-limit windows, and what follows from them at a given time. Plain data and pure functions.

use serde::{Deserialize, Deserializer, Serialize};

/// The length of the 5-hour window, seconds.
pub const FIVE_HOURS: i64 = 18_000;
/// The length of the weekly window, seconds.
pub const WEEK: i64 = 604_800;

/// A rate-limit window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its length in seconds, which identifies it. Its position in an answer does not.
    pub window_seconds: i64,
    /// How much is used, percent from 0 to 100.
    pub used_percent: f64,
    /// When it resets, Unix seconds by the local clock: `fetched_at + reset_after_seconds`. `None`: it has not started.
    #[serde(default)]
    pub resets_at: Option<i64>,
}

impl Window {
    /// Returns its name (see [`window_name`]).
    pub fn name(&self) -> String {
        window_name(self.window_seconds)
    }

    /// Returns its length in words (see [`window_words`]).
    pub fn words(&self) -> String {
        window_words(self.window_seconds)
    }

    /// Returns whether it has started and not reset.
    pub fn running(&self, now: i64) -> bool {
        self.resets_at.is_some_and(|at| at > now) && self.used_percent > 0.0
    }

    /// Returns how much is left, percent from 0 to 100. A window whose reset has passed counts as unused.
    pub fn left_percent(&self, now: i64) -> f64 {
        if self.resets_at.is_some_and(|at| at <= now) {
            100.0
        } else if self.used_percent.is_finite() {
            (100.0 - self.used_percent).clamp(0.0, 100.0)
        } else {
            0.0
        }
    }
}

/// Returns the name of windows of this length: `5h`, `1week`, `1day`, `30day`, and by the length for others (`90m`,
/// `12h`, `3day`).
pub fn window_name(seconds: i64) -> String {
    match seconds {
        WEEK => "1week".to_owned(),
        s if s > 0 && s % 86_400 == 0 => format!("{}day", s / 86_400),
        s if s > 0 && s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s > 0 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Returns the length of a window as people say it: `5h`, `week`, `30 days`.
pub fn window_words(seconds: i64) -> String {
    match seconds {
        WEEK => "week".to_owned(),
        s if s > 86_400 && s % 86_400 == 0 => format!("{} days", s / 86_400),
        s => window_name(s),
    }
}

/// Returns the longest of these windows.
pub fn longest(windows: &[Window]) -> Option<&Window> {
    windows.iter().max_by_key(|w| w.window_seconds)
}

/// Returns the window of this length, seconds.
pub fn of_length(windows: &[Window], seconds: i64) -> Option<&Window> {
    windows.iter().find(|w| w.window_seconds == seconds)
}

/// The source of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The usage endpoint.
    Api,
    /// Codex's session logs.
    SessionLog,
}

/// Paid credits that go on after the windows are used up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Credits {
    /// Whether there are any.
    #[serde(default)]
    pub has_credits: bool,
    /// Whether there is no limit.
    #[serde(default)]
    pub unlimited: bool,
    /// How many there are, as the service writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<String>,
}

/// A limit of a single model. It counts for launches with that model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtraLimit {
    /// The service's name of it.
    pub name: String,
    /// Its windows.
    pub windows: Vec<Window>,
    /// The service says that the limit is reached.
    #[serde(default, skip_serializing_if = "is_false")]
    pub limit_reached: bool,
}

/// The spending limit of an account that is paid by use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// Whether it is reached.
    pub reached: bool,
    /// When it begins anew, Unix seconds by the local clock; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<i64>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_none_left(count: &u32) -> bool {
    *count == 0
}

/// The usage of an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// When it was fetched, Unix seconds.
    pub fetched_at: i64,
    /// Its source.
    pub source: Source,
    /// Whether the service says that the limit is reached.
    #[serde(default)]
    pub limit_reached: bool,
    /// The account's windows, shortest first.
    #[serde(default, deserialize_with = "exactly")]
    pub windows: Vec<Window>,
    /// Paid credits, if the answer had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<Credits>,
    /// The plan: `plan_type` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The limits of single models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraLimit>,
    /// The spending limit, if the answer had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spending: Option<Spending>,
    /// Resets that the user has in the bank.
    #[serde(default, skip_serializing_if = "is_none_left")]
    pub banked_resets: u32,
    /// The answer had a window that was not understood, so nothing of it is room.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unclear: bool,
}

/// Reads windows into no more memory than they need, since a launch reads those of every account.
fn exactly<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Window>, D::Error> {
    let mut windows = Vec::deserialize(deserializer)?;
    windows.shrink_to_fit();
    Ok(windows)
}

impl Usage {
    /// Returns usage of which only the windows are known. `fetched_at`: Unix seconds.
    pub fn new(source: Source, fetched_at: i64, windows: Vec<Window>) -> Usage {
        Usage {
            fetched_at,
            source,
            limit_reached: false,
            windows,
            credits: None,
            plan: None,
            extra: Vec::new(),
            spending: None,
            banked_resets: 0,
            unclear: false,
        }
    }

    /// Returns whether paid credits are left when the windows are used up.
    pub fn has_credits(&self) -> bool {
        self.credits.as_ref().is_some_and(|credits| credits.has_credits)
            && self.spending.is_none_or(|spending| !spending.reached)
    }

    /// Whether an answer without windows says that each use is paid for.
    pub fn paid_by_use(&self) -> bool {
        self.windows.is_empty() && (self.has_credits() || self.spending.is_some_and(|s| !s.reached))
    }

    /// The limit of a single model. Names are compared without regard to case and punctuation.
    pub fn limit_of(&self, model: &str) -> Option<&ExtraLimit> {
        let plain = |name: &str| -> String {
            name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
        };
        let model = plain(model);
        self.extra.iter().find(|limit| !model.is_empty() && plain(&limit.name) == model)
    }

    /// Returns whether there is no limit.
    pub fn unlimited(&self) -> bool {
        self.credits.as_ref().is_some_and(|credits| credits.unlimited)
    }

    /// Returns whether the usage still means something: it is at most a day old, and its longest window has not reset.
    pub fn known(&self, now: i64) -> bool {
        now.abs_diff(self.fetched_at) <= 86_400
            && longest(&self.windows).is_none_or(|w| w.resets_at.is_none_or(|at| at > now))
    }

    /// Returns when an exhausted account can work again (`Some(None)`: not known); `None` if it is not exhausted. A
    /// window at 100 % counts until its reset. So does a limit that the service reports, until the reset of the fullest
    /// window, which is the likely cause.
    pub fn exhausted_until(&self, now: i64) -> Option<Option<i64>> {
        let spent = self.spending.filter(|s| s.reached && s.resets_at.is_none_or(|at| at > now));
        latest(exhausted_until(&self.windows, self.limit_reached, now), spent.map(|s| s.resets_at))
    }
}

impl ExtraLimit {
    /// As [`Usage::exhausted_until`], for the model of this limit.
    pub fn exhausted_until(&self, now: i64) -> Option<Option<i64>> {
        exhausted_until(&self.windows, self.limit_reached, now)
    }
}

fn exhausted_until(windows: &[Window], limit_reached: bool, now: i64) -> Option<Option<i64>> {
    let full = || windows.iter().filter(|w| w.used_percent >= 100.0);
    let fullest = || windows.iter().max_by(|a, b| a.used_percent.total_cmp(&b.used_percent));
    let causes: Vec<&Window> = match full().next() {
        Some(_) => full().collect(),
        None if !limit_reached => return None,
        None if windows.is_empty() => return Some(None),
        None => fullest().into_iter().collect(),
    };
    let lasting = causes.into_iter().filter(|w| w.resets_at.is_none_or(|at| at > now));
    // One without a known reset may be the last.
    lasting.map(|w| w.resets_at).reduce(|a, b| Some(a?.max(b?)))
}

/// The later of two ends. One that is not known may be the last.
pub fn latest(a: Option<Option<i64>>, b: Option<Option<i64>>) -> Option<Option<i64>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.zip(b).map(|(a, b)| a.max(b))),
        (end, None) | (None, end) => end,
    }
}
