//! Rate-limit windows and what follows from them at a given time. Plain data; pure functions of `now`.

use serde::{Deserialize, Deserializer, Serialize};

/// Length of the 5-hour window, seconds.
pub const FIVE_HOURS: i64 = 18_000;
/// Length of the weekly window, seconds.
pub const WEEK: i64 = 604_800;

/// One rate-limit window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its length in seconds, by which it is recognised (never by its position in an answer).
    pub window_seconds: i64,
    /// Percent used, 0 to 100.
    pub used_percent: f64,
    /// When it resets, Unix seconds by our clock: `fetched_at + reset_after_seconds`. `None`: not started.
    #[serde(default)]
    pub resets_at: Option<i64>,
}

impl Window {
    /// `5h`, `1week`, `1day`, `30day`; others by their length (`90m`, `12h`, `3day`).
    pub fn name(&self) -> String {
        match self.window_seconds {
            WEEK => "1week".to_owned(),
            s if s > 0 && s % 86_400 == 0 => format!("{}day", s / 86_400),
            s if s > 0 && s % 3_600 == 0 => format!("{}h", s / 3_600),
            s if s > 0 && s % 60 == 0 => format!("{}m", s / 60),
            s => format!("{s}s"),
        }
    }

    /// Whether it is running: started, and its reset is still to come.
    pub fn running(&self, now: i64) -> bool {
        self.resets_at.is_some_and(|at| at > now) && self.used_percent > 0.0
    }

    /// Percent left at `now`, 0 to 100. A window whose reset has passed counts as unused.
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

/// The longest of these windows.
pub fn longest(windows: &[Window]) -> Option<&Window> {
    windows.iter().max_by_key(|w| w.window_seconds)
}

/// The window of this length.
pub fn of_length(windows: &[Window], seconds: i64) -> Option<&Window> {
    windows.iter().find(|w| w.window_seconds == seconds)
}

/// Where a usage record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The usage endpoint.
    Api,
    /// Codex's own session logs.
    SessionLog,
}

/// Paid credits that go on after the windows are used up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Credits {
    /// Whether there are any.
    #[serde(default)]
    pub has_credits: bool,
    /// Whether they never end.
    #[serde(default)]
    pub unlimited: bool,
    /// As the service writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<String>,
}

/// A limit of a single model: shown, never used for picking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtraLimit {
    /// The service's name for it.
    pub name: String,
    /// Its windows.
    pub windows: Vec<Window>,
}

/// One account's usage as fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// When it was fetched, Unix seconds.
    pub fetched_at: i64,
    /// Where it came from.
    pub source: Source,
    /// The service says that the limit is reached.
    #[serde(default)]
    pub limit_reached: bool,
    /// The account's windows, shortest first.
    #[serde(default, deserialize_with = "exactly")]
    pub windows: Vec<Window>,
    /// Credits, if the answer had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<Credits>,
    /// `plan_type` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Limits of single models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraLimit>,
}

/// Without the room for more that a growing list has: a launch reads those of every account.
fn exactly<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Window>, D::Error> {
    let mut windows = Vec::deserialize(deserializer)?;
    windows.shrink_to_fit();
    Ok(windows)
}

impl Usage {
    /// Whether paid credits go on after the windows are used up.
    pub fn has_credits(&self) -> bool {
        self.credits.as_ref().is_some_and(|credits| credits.has_credits)
    }

    /// Whether there is no limit.
    pub fn unlimited(&self) -> bool {
        self.credits.as_ref().is_some_and(|credits| credits.unlimited)
    }

    /// Whether the data still says something: at most a day old, and not past its longest reset.
    pub fn known(&self, now: i64) -> bool {
        now.saturating_sub(self.fetched_at) <= 86_400
            && longest(&self.windows).is_none_or(|w| w.resets_at.is_none_or(|at| at > now))
    }

    /// When an exhausted account can work again (`Some(None)`: nobody said); `None` if it is not exhausted at
    /// `now`. A window at 100 % counts until its reset; so does the service's word, until the reset of the
    /// fullest window, which is the likely cause.
    pub fn exhausted_until(&self, now: i64) -> Option<Option<i64>> {
        let full = || self.windows.iter().filter(|w| w.used_percent >= 100.0);
        let fullest = || self.windows.iter().max_by(|a, b| a.used_percent.total_cmp(&b.used_percent));
        let causes: Vec<&Window> = match full().next() {
            Some(_) => full().collect(),
            None if !self.limit_reached => return None,
            None if self.windows.is_empty() => return Some(None),
            None => fullest().into_iter().collect(),
        };
        let lasting = causes.into_iter().filter(|w| w.resets_at.is_none_or(|at| at > now));
        // One without a known reset may be the last.
        lasting.map(|w| w.resets_at).reduce(|a, b| Some(a?.max(b?)))
    }
}
