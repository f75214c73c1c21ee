//! Usage of an account as the stand-in service keeps it: the answer of the usage endpoint, the
//! rate-limit headers of a turn, and the limit itself.

use serde_json::{Value, json};

/// A rate-limit window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Percent used, 0 to 100.
    pub used_percent: f64,
    /// Length in seconds.
    pub window_seconds: i64,
    /// When it resets, Unix seconds.
    pub resets_at: i64,
}

impl Window {
    /// Returns a five-hour window that resets in an hour.
    pub fn five_hours(used_percent: f64) -> Window {
        Window { used_percent, window_seconds: 5 * 3600, resets_at: crate::now() + 3600 }
    }

    /// Returns a week's window that resets in a day.
    pub fn week(used_percent: f64) -> Window {
        Window { used_percent, window_seconds: 7 * 86_400, resets_at: crate::now() + 86_400 }
    }

    /// Returns the same, resetting in that many seconds from now.
    #[must_use]
    pub fn resets_in(mut self, seconds: i64) -> Window {
        self.resets_at = crate::now() + seconds;
        self
    }

    /// Returns the same, of that length in seconds.
    #[must_use]
    pub fn lasting(mut self, seconds: i64) -> Window {
        self.window_seconds = seconds;
        self
    }

    fn json(&self, now: i64) -> Value {
        json!({
            "used_percent": number(self.used_percent), "limit_window_seconds": self.window_seconds,
            "reset_after_seconds": (self.resets_at - now).max(0), "reset_at": self.resets_at,
        })
    }

    fn full(&self, now: i64) -> bool {
        self.used_percent >= 100.0 && self.resets_at > now
    }
}

/// Usage of one account.
#[derive(Clone, Debug)]
pub struct Usage {
    /// `primary_window`; `None` is null.
    pub primary: Option<Window>,
    /// `secondary_window`; `None` is null.
    pub secondary: Option<Window>,
    /// Say `limit_reached` (and refuse turns) although no window is full.
    pub limit_reached: bool,
    /// `additional_rate_limits`.
    pub additional: Value,
    /// `credits`.
    pub credits: Value,
    /// Percent of the primary window that one turn costs (of the secondary a sixth of it).
    pub turn_cost: f64,
    /// Answer exactly this instead, whatever the rest says.
    pub raw: Option<Value>,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage::percent(0.0, 0.0)
    }
}

impl Usage {
    /// Returns a five-hour window as primary and a week as secondary, used that much.
    pub fn percent(five_hours: f64, week: f64) -> Usage {
        Usage::windows(Some(Window::five_hours(five_hours)), Some(Window::week(week)))
    }

    /// Returns these windows and nothing else.
    pub fn windows(primary: Option<Window>, secondary: Option<Window>) -> Usage {
        Usage {
            primary,
            secondary,
            limit_reached: false,
            additional: Value::Null,
            credits: json!({"has_credits": false, "unlimited": false, "balance": "0"}),
            turn_cost: 0.0,
            raw: None,
        }
    }

    /// Exactly this answer.
    pub fn raw(answer: Value) -> Usage {
        Usage { raw: Some(answer), ..Usage::default() }
    }

    /// Returns the same, where each turn uses that many percent of the primary window.
    #[must_use]
    pub fn costing(mut self, percent_per_turn: f64) -> Usage {
        self.turn_cost = percent_per_turn;
        self
    }

    /// Returns the same with credits: turns are served beyond full windows.
    #[must_use]
    pub fn with_credits(mut self) -> Usage {
        self.credits = json!({"has_credits": true, "unlimited": false, "balance": "25"});
        self
    }

    /// Returns whether a turn is refused now.
    pub fn exhausted(&self, now: i64) -> bool {
        (self.limit_reached || self.all().any(|w| w.full(now))) && self.credits["has_credits"] != true
    }

    /// Fills the primary window (without one: says that the limit is reached).
    pub(crate) fn exhaust(&mut self) {
        match &mut self.primary {
            Some(window) => window.used_percent = 100.0,
            None => self.limit_reached = true,
        }
    }

    /// Returns when the last of the full windows resets, Unix seconds.
    pub(crate) fn resets_at(&self, now: i64) -> i64 {
        self.all().filter(|w| w.full(now)).map(|w| w.resets_at).max().unwrap_or(now + 3600)
    }

    /// Returns the answer of the usage endpoint.
    pub(crate) fn json(&self, plan: &str, now: i64) -> Value {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let reached = self.exhausted(now);
        json!({
            "plan_type": plan,
            "rate_limit": {
                "allowed": !reached, "limit_reached": reached,
                "primary_window": self.primary.as_ref().map(|w| w.json(now)),
                "secondary_window": self.secondary.as_ref().map(|w| w.json(now)),
            },
            "additional_rate_limits": self.additional, "credits": self.credits,
        })
    }

    /// Returns the rate-limit headers of a turn.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let windows = [("primary", &self.primary), ("secondary", &self.secondary)];
        let windows = windows.iter().filter_map(|(name, window)| window.as_ref().map(|w| (name, w)));
        let windows = windows.flat_map(|(name, w)| {
            [
                (format!("x-codex-{name}-used-percent"), number(w.used_percent).to_string()),
                (format!("x-codex-{name}-window-minutes"), (w.window_seconds / 60).to_string()),
                (format!("x-codex-{name}-reset-at"), w.resets_at.to_string()),
            ]
        });
        let credits = ["has-credits", "unlimited", "balance"].into_iter().filter_map(|name| {
            let value = match &self.credits[name.replace('-', "_")] {
                Value::String(text) => text.clone(),
                Value::Null => return None,
                other => other.to_string(),
            };
            Some((format!("x-codex-credits-{name}"), value))
        });
        windows.chain(credits).collect()
    }

    /// Returns the same as an event, which goes ahead of an answer on a websocket.
    pub(crate) fn event(&self, plan: &str, now: i64) -> Value {
        let window = |w: &Window| {
            json!({
                "used_percent": number(w.used_percent), "window_minutes": w.window_seconds / 60,
                "reset_at": w.resets_at,
            })
        };
        let reached = self.exhausted(now);
        json!({
            "type": "codex.rate_limits", "plan_type": plan,
            "rate_limits": {
                "allowed": !reached, "limit_reached": reached,
                "primary": self.primary.as_ref().map(window), "secondary": self.secondary.as_ref().map(window),
            },
            "credits": self.credits,
        })
    }

    /// Counts one turn.
    pub(crate) fn charge(&mut self) {
        for (window, share) in [(&mut self.primary, 1.0), (&mut self.secondary, 1.0 / 6.0)] {
            if let Some(w) = window {
                w.used_percent = (w.used_percent + self.turn_cost * share).min(100.0);
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Window> {
        self.primary.iter().chain(&self.secondary)
    }
}

/// Whole percents are integers on the wire, as the service sends them.
fn number(percent: f64) -> Value {
    if percent.fract() == 0.0 { json!(percent as i64) } else { json!(percent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_window_is_a_limit_until_it_resets() {
        let usage = Usage::percent(100.0, 20.0);
        let now = crate::now();
        assert!(usage.exhausted(now));
        assert!(!usage.exhausted(now + 4000));
        assert_eq!(usage.json("plus", now)["rate_limit"]["limit_reached"], true);
    }

    #[test]
    fn turns_use_the_windows_up() {
        let mut usage = Usage::percent(80.0, 10.0).costing(12.0);
        usage.charge();
        assert_eq!(usage.primary.as_ref().map(|w| w.used_percent), Some(92.0));
        assert_eq!(usage.secondary.as_ref().map(|w| w.used_percent), Some(12.0));
        usage.charge();
        assert!(usage.exhausted(crate::now()));
    }
}
