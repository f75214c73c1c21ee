//! The pick: a pure function of accounts, usage, now and settings to the whole ranking, each
//! account with its reason. Touches nothing.

use std::cmp::Ordering;

use crate::account::{Account, AccountKind, AuthState};
use crate::config::{Policy, Settings};
use crate::time::human_duration;
use crate::usage::{FIVE_HOURS, Usage, WEEK, longest, of_length};

/// How many 5-hour windows a week holds: about 6, as seen on Plus accounts.
const WINDOWS_PER_WEEK: f64 = 6.0;
/// Percent of a 5h window set aside for each running session.
const PER_SESSION: f64 = 10.0;

/// One account as the pick sees it.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// What the registry says of it.
    pub account: &'a Account,
    /// Its newest usage, if any.
    pub usage: Option<&'a Usage>,
    /// Whether the pool (or its home) holds its credentials.
    pub has_credentials: bool,
    /// Whether Codex's own restrictions allow it here.
    pub allowed: bool,
    /// Its running sessions.
    pub sessions: usize,
    /// Whether it holds the main home.
    pub live: bool,
}

impl Candidate<'_> {
    /// Its plan: the usage answer's, else the token's.
    fn plan(&self) -> Option<&str> {
        self.usage.and_then(|usage| usage.plan.as_deref()).or(self.account.plan.as_deref())
    }
}

/// How good an account is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Room for a session, or unlimited.
    Room,
    /// Something left, but less than a session is likely to need.
    LessRoom,
    /// The windows are used up; paid credits go on.
    Credits,
    /// Usage never fetched, or too old to say anything.
    Unknown,
    /// An API key, where settings allow it.
    ApiKey,
    /// At its limit.
    Exhausted,
    /// Cannot be picked at all.
    Excluded,
}

impl Tier {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Room => "room",
            Tier::LessRoom => "less_room",
            Tier::Credits => "credits",
            Tier::Unknown => "unknown",
            Tier::ApiKey => "api_key",
            Tier::Exhausted => "exhausted",
            Tier::Excluded => "excluded",
        }
    }
}

/// Why an account stands where it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Live, and no other is so much more urgent that switching pays.
    StaysLive,
    /// Its 5h window is not running: using it starts the clock.
    StartsWindow,
    /// Its quota is lost soonest if nobody uses it.
    Urgent,
    /// Unlimited.
    Unlimited,
    /// Less left than a session is likely to need.
    LessRoom,
    /// Only credits are left.
    Credits,
    /// Usage was never fetched.
    NeverFetched,
    /// Usage is too old to say anything.
    Stale,
    /// The last resort.
    ApiKey,
    /// At its limit until then (Unix seconds, `None`: nobody said).
    Exhausted(Option<i64>),
    /// Switched off by the user.
    Disabled,
    /// A login is needed.
    ReauthRequired,
    /// Removed from its workspace.
    WorkspaceRemoved,
    /// The pool has no credentials for it.
    NoCredentials,
    /// Codex's own restrictions forbid it here.
    Forbidden,
    /// API keys are not picked (`api_key_fallback = false`).
    ApiKeyNotPicked,
}

/// An account with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Index into the candidates.
    pub index: usize,
    /// Its tier.
    pub tier: Tier,
    /// Room in percent of one Plus account's 5h window; infinite if unlimited, `None` if unknown.
    pub room: Option<f64>,
    /// Share of the longest window that is left, per second until it resets (0..; 0 if unlimited or unknown).
    pub urgency: f64,
    /// Percent left in the longest window and in the 5h one (for the policy `balanced`).
    left: (f64, f64),
    starts_window: bool,
    reset: i64,
    /// Why.
    pub reason: Reason,
}

impl Ranked {
    /// Whether a launch may use it.
    pub fn eligible(&self) -> bool {
        self.tier != Tier::Excluded
    }

    /// Whether a launch may use it when it is pinned or named: that overrules what only speaks against
    /// picking.
    pub fn usable(&self) -> bool {
        self.eligible() || matches!(self.reason, Reason::Disabled | Reason::ApiKeyNotPicked)
    }

    /// The reason as a sentence with its numbers.
    pub fn explain(&self, now: i64) -> String {
        let room = match self.room {
            Some(room) if room.is_finite() => format!("room {:.0} %", room.max(0.0)),
            _ => "unlimited".to_owned(),
        };
        match self.reason {
            Reason::StaysLive => format!("live, {room}, and no other is urgent enough to switch"),
            Reason::StartsWindow => format!("{room}; its 5h window is not running yet"),
            Reason::Urgent => format!("{room}; {:.0} % of its longest window left", self.left.0),
            Reason::Unlimited => "no limit".to_owned(),
            Reason::LessRoom => format!("only {room}"),
            Reason::Credits => "only credits left".to_owned(),
            Reason::NeverFetched => "usage never fetched".to_owned(),
            Reason::Stale => "usage too old to tell".to_owned(),
            Reason::ApiKey => "API key, the last resort".to_owned(),
            Reason::Exhausted(Some(at)) => {
                format!("at its limit, resets in {}", human_duration(at.saturating_sub(now)))
            }
            Reason::Exhausted(None) => "at its limit".to_owned(),
            Reason::Disabled => "disabled".to_owned(),
            Reason::ReauthRequired => "needs a login".to_owned(),
            Reason::WorkspaceRemoved => "removed from its workspace".to_owned(),
            Reason::NoCredentials => "no credentials in the pool".to_owned(),
            Reason::Forbidden => "forbidden here by Codex's configuration".to_owned(),
            Reason::ApiKeyNotPicked => "API keys are not picked (api_key_fallback = false)".to_owned(),
        }
    }
}

/// Ranks all accounts, the one to use first. Those that cannot be picked come last.
pub fn pick(candidates: &[Candidate<'_>], now: i64, settings: &Settings) -> Vec<Ranked> {
    let mut ranking: Vec<Ranked> =
        candidates.iter().enumerate().map(|(index, c)| assess(index, c, now, settings)).collect();
    let order = |a: &Ranked, b: &Ranked| {
        let (ca, cb) = (&candidates[a.index], &candidates[b.index]);
        a.tier
            .cmp(&b.tier)
            .then_with(|| inside_tier(a, b, settings.policy, ca.live, cb.live))
            .then_with(|| cb.live.cmp(&ca.live))
            .then_with(|| ca.account.label.cmp(&cb.account.label))
            .then_with(|| ca.account.id.cmp(&cb.account.id))
    };
    ranking.sort_unstable_by(order);
    keep_live(&mut ranking, candidates, settings);
    ranking
}

fn inside_tier(a: &Ranked, b: &Ranked, policy: Policy, a_live: bool, b_live: bool) -> Ordering {
    let high_first = |x: f64, y: f64| y.total_cmp(&x);
    match (a.tier, policy) {
        (Tier::Room | Tier::LessRoom, Policy::Balanced) => {
            high_first(a.left.0, b.left.0).then_with(|| high_first(a.left.1, b.left.1))
        }
        (Tier::Room, Policy::Room) => {
            b.starts_window.cmp(&a.starts_window).then_with(|| high_first(a.urgency, b.urgency))
        }
        (Tier::LessRoom, Policy::Room) => high_first(a.room.unwrap_or(0.0), b.room.unwrap_or(0.0)),
        // Nobody can work: stay where we are, else where work goes on first.
        (Tier::Exhausted, _) => b_live.cmp(&a_live).then_with(|| a.reset.cmp(&b.reset)),
        _ => Ordering::Equal,
    }
}

/// The live account keeps its place while it has room and no other is more urgent by the margin:
/// every switch costs the user a warm session.
fn keep_live(ranking: &mut [Ranked], candidates: &[Candidate<'_>], settings: &Settings) {
    let Some(at) = ranking.iter().position(|r| candidates[r.index].live && r.tier == Tier::Room) else {
        return;
    };
    let limit = ranking[at].urgency * settings.switch_margin;
    let others = ranking.iter().enumerate().filter(|(i, r)| *i != at && r.tier == Tier::Room);
    if settings.policy == Policy::Room && others.into_iter().all(|(_, r)| r.urgency <= limit) {
        ranking[..=at].rotate_right(1);
        if ranking.len() > 1 && ranking[0].reason != Reason::Unlimited {
            ranking[0].reason = Reason::StaysLive;
        }
    }
}

fn assess(index: usize, c: &Candidate<'_>, now: i64, settings: &Settings) -> Ranked {
    let mut ranked = Ranked {
        index,
        tier: Tier::Excluded,
        room: None,
        urgency: 0.0,
        // A window that an account does not have does not count against it.
        left: (100.0, 100.0),
        starts_window: false,
        reset: i64::MAX,
        reason: Reason::Disabled,
    };
    let known = c.usage.filter(|usage| usage.known(now));
    if let Some(usage) = known {
        measure(&mut ranked, usage, c, now, settings);
    }
    (ranked.tier, ranked.reason) = if let Some(reason) = excluded(c, settings) {
        (Tier::Excluded, reason)
    } else if c.account.kind == AccountKind::ApiKey {
        (Tier::ApiKey, Reason::ApiKey)
    } else if let Some(usage) = known {
        tier(&mut ranked, usage, now, settings)
    } else if c.usage.is_some() {
        (Tier::Unknown, Reason::Stale)
    } else {
        (Tier::Unknown, Reason::NeverFetched)
    };
    ranked
}

fn excluded(c: &Candidate<'_>, settings: &Settings) -> Option<Reason> {
    // What a name or a pin overrules comes last: it must not hide what they cannot.
    match c.account.auth.state {
        AuthState::ReauthRequired => Some(Reason::ReauthRequired),
        AuthState::WorkspaceRemoved => Some(Reason::WorkspaceRemoved),
        _ if !c.has_credentials => Some(Reason::NoCredentials),
        _ if !c.allowed => Some(Reason::Forbidden),
        _ if !c.account.enabled => Some(Reason::Disabled),
        _ if c.account.kind == AccountKind::ApiKey && !settings.api_key_fallback => {
            Some(Reason::ApiKeyNotPicked)
        }
        _ => None,
    }
}

/// Room and urgency, as far as usage tells.
fn measure(ranked: &mut Ranked, usage: &Usage, c: &Candidate<'_>, now: i64, settings: &Settings) {
    let least = usage
        .windows
        .iter()
        .map(|w| w.left_percent(now) * (WINDOWS_PER_WEEK * w.window_seconds as f64 / WEEK as f64).max(1.0))
        .fold(f64::INFINITY, f64::min);
    ranked.room = Some(if usage.unlimited() {
        f64::INFINITY
    } else {
        least * settings.weight(c.plan()) - PER_SESSION * c.sessions as f64
    });
    if let Some(longest) = longest(&usage.windows) {
        let left = longest.left_percent(now);
        let until_reset = match longest.resets_at {
            Some(at) if at > now => at.saturating_sub(now),
            _ => longest.window_seconds.max(1),
        };
        ranked.urgency = left / 100.0 / until_reset as f64;
        ranked.left.0 = left;
    }
    if let Some(short) = of_length(&usage.windows, FIVE_HOURS) {
        ranked.left.1 = short.left_percent(now);
        ranked.starts_window = !short.running(now);
    }
}

fn tier(ranked: &mut Ranked, usage: &Usage, now: i64, settings: &Settings) -> (Tier, Reason) {
    let room = ranked.room.unwrap_or(0.0);
    if usage.unlimited() {
        return (Tier::Room, Reason::Unlimited);
    }
    if let Some(until) = usage.exhausted_until(now) {
        if usage.has_credits() {
            return (Tier::Credits, Reason::Credits);
        }
        ranked.reset = until.unwrap_or(i64::MAX);
        return (Tier::Exhausted, Reason::Exhausted(until));
    }
    if room < settings.session_room {
        return (Tier::LessRoom, Reason::LessRoom);
    }
    let reason = match (room.is_infinite(), ranked.starts_window) {
        (true, _) => Reason::Unlimited,
        (_, true) => Reason::StartsWindow,
        _ => Reason::Urgent,
    };
    (Tier::Room, reason)
}

#[cfg(test)]
mod tests;
