//! The reasons of the ranking: in words with their numbers, for people, and as codes, for scripts.

use super::{PER_SESSION, Ranked, Reason};
use crate::time::human_duration;
use crate::usage::{FIVE_HOURS, WEEK};

impl Reason {
    /// Returns the code in JSON. A code stays what it is; the words may change.
    pub fn code(self) -> &'static str {
        match self {
            Reason::StaysLive => "stays_live",
            Reason::StartsWindow => "starts_window",
            Reason::Urgent => "urgent",
            Reason::Unlimited => "unlimited",
            Reason::LessRoom => "less_room",
            Reason::Credits => "credits",
            Reason::PaidByUse => "paid_by_use",
            Reason::Failed => "request_failed",
            Reason::Unclear => "unclear",
            Reason::ModelExhausted(_) => "model_exhausted",
            Reason::NeverFetched => "never_fetched",
            Reason::Stale => "stale",
            Reason::ApiKey => "api_key",
            Reason::Exhausted(_) => "exhausted",
            Reason::Disabled => "disabled",
            Reason::ReauthRequired => "reauth_required",
            Reason::AccessEnded => "access_ended",
            Reason::WorkspaceRemoved => "workspace_removed",
            Reason::Deactivated => "deactivated",
            Reason::Refused => "refused",
            Reason::NoCredentials => "no_credentials",
            Reason::Forbidden => "forbidden",
            Reason::Elsewhere => "elsewhere",
            Reason::Reserved => "reserved",
            Reason::ApiKeyNotPicked => "api_key_not_picked",
        }
    }
}

impl Ranked {
    /// Returns the reason as text with its numbers. `now`: Unix seconds.
    pub fn explain(&self, now: i64) -> String {
        self.explain_with(&|at| format!("in {}", human_duration(at.saturating_sub(now))), now)
    }

    /// Returns the reason as text with its numbers. `when` says a time (Unix seconds) in words, such as `in 5m` or
    /// `at 20:28`.
    pub fn explain_with(&self, when: &dyn Fn(i64) -> String, now: i64) -> String {
        let back = |at: Option<i64>| at.map_or_else(String::new, |at| format!(", back {}", when(at)));
        match self.reason {
            Reason::StaysLive => {
                format!("{}; it is live, and no other is urgent enough to switch to", self.budget(when, now))
            }
            Reason::StartsWindow => format!("{}; using it starts its 5 h window", self.budget(when, now)),
            Reason::Urgent => self.budget(when, now),
            Reason::Unlimited => "no limit".to_owned(),
            Reason::LessRoom => {
                format!("{}; that may not last for a session", self.budget(when, now))
            }
            Reason::Credits => "only credits left".to_owned(),
            Reason::NeverFetched => "usage never fetched".to_owned(),
            Reason::Stale => "usage too old to tell".to_owned(),
            Reason::ApiKey => "API key, the last resort".to_owned(),
            Reason::PaidByUse => "no windows; each use is paid for".to_owned(),
            Reason::Failed => "the last request for its usage failed".to_owned(),
            Reason::Unclear => "what the service says of its limit is not understood".to_owned(),
            Reason::Exhausted(at) => format!("at its limit{}{}", back(at), self.banked()),
            Reason::ModelExhausted(at) => {
                format!("at its limit for this model{}{}", back(at), self.banked())
            }
            Reason::Disabled => "disabled".to_owned(),
            Reason::ReauthRequired => "needs a login".to_owned(),
            Reason::AccessEnded => "its access has ended".to_owned(),
            Reason::WorkspaceRemoved => "removed from its workspace".to_owned(),
            Reason::Deactivated => "deactivated by the service".to_owned(),
            Reason::Refused => "refused by the service".to_owned(),
            Reason::NoCredentials => "no credentials in the pool".to_owned(),
            Reason::Forbidden => "forbidden here by Codex's configuration".to_owned(),
            Reason::Elsewhere => self.elsewhere.as_deref().unwrap_or("used in other folders").to_owned(),
            Reason::Reserved => format!("what is left is its reserve of {} %", self.reserve),
            Reason::ApiKeyNotPicked => "API keys are not picked (api_key_fallback = false)".to_owned(),
        }
    }

    /// Returns what is left for a session: `70 % of 5 h − 20 for 2 sessions = 50 %`.
    fn budget(&self, when: &dyn Fn(i64) -> String, now: i64) -> String {
        let Some(window) = &self.narrowest else { return "no limit known".to_owned() };
        let left = window.left_percent(now);
        let reserve = match self.reserve {
            reserve if reserve > 0.0 => format!(" − {reserve} kept for you"),
            _ => String::new(),
        };
        let sessions = match self.sessions {
            0 => String::new(),
            n => {
                let name = if n == 1 { "session" } else { "sessions" };
                format!(" − {:.0} for {n} {name}", PER_SESSION * n as f64)
            }
        };
        if window.window_seconds != FIVE_HOURS {
            let name = match window.words() {
                week if window.window_seconds == WEEK => format!("the {week}"),
                days if days.ends_with("days") => format!("its {days}"),
                other => other,
            };
            let back = window.resets_at.filter(|at| *at > now);
            let back = back.map_or_else(String::new, |at| format!(", back {}", when(at)));
            return format!("{name} is the limit: {left:.0} % left{reserve}{sessions}{back}")
                .replace("days is", "days are");
        }
        // A bigger plan has more in the same percent.
        let plan = match self.weight {
            1.0 => String::new(),
            weight => format!(" × {weight} for its plan"),
        };
        let adds_up = [&reserve, &sessions, &plan].iter().any(|part| !part.is_empty());
        let sum = match self.room {
            Some(room) if adds_up => format!(" = {:.0} %", room.max(0.0)),
            _ => String::new(),
        };
        let of = if sum.is_empty() { "of 5 h left" } else { "of 5 h" };
        // The reserve comes before the plan's weight.
        format!("{left:.0} % {of}{reserve}{plan}{sessions}{sum}")
    }

    /// What is in the bank, as the end of a sentence.
    fn banked(&self) -> String {
        match self.banked_resets {
            0 => String::new(),
            1 => "; 1 banked reset can be used".to_owned(),
            n => format!("; {n} banked resets can be used"),
        }
    }
}
