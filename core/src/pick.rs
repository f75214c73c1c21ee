//! The pick: a pure function from accounts, usage, time and settings to the ranking of all accounts, each with its
//! reason.

mod explain;

use std::cmp::Ordering;

use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::config::{Policy, Settings};
use crate::usage::{FIVE_HOURS, Usage, WEEK, Window, latest, longest, of_length};

/// How many 5-hour windows a week contains: about 6, as seen on Plus accounts.
const WINDOWS_PER_WEEK: f64 = 6.0;
/// The percent of a 5h window that each running session counts for.
const PER_SESSION: f64 = 10.0;

/// An account as the pick sees it.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// What the registry says of it.
    pub account: &'a Account,
    /// Its newest usage.
    pub usage: Option<&'a Usage>,
    /// Whether the last request for it was answered with a failure, so that the usage may say nothing any more.
    pub failed: bool,
    /// The model that is going to be used, if that is known. It may have a limit of its own.
    pub model: Option<&'a str>,
    /// Whether the pool has its credentials.
    pub has_credentials: bool,
    /// Whether Codex's restrictions allow it here.
    pub allowed: bool,
    /// Why its folders, or those of other accounts, forbid it here (see [`crate::folders::FolderRules`]).
    pub elsewhere: Option<&'a str>,
    /// The number of its running sessions, on all machines that share the pool.
    pub sessions: usize,
    /// Whether it is in the main home.
    pub live: bool,
}

impl<'a> Candidate<'a> {
    /// Returns an account that nothing speaks against, without sessions and not live.
    pub fn of(account: &'a Account, usage: Option<&'a Usage>) -> Candidate<'a> {
        Candidate {
            account,
            usage,
            failed: false,
            model: None,
            has_credentials: true,
            allowed: true,
            elsewhere: None,
            sessions: 0,
            live: false,
        }
    }
}

/// Returns how many Plus accounts an account is worth: as the user says, else by its plan, which is that of the usage
/// answer, else that of the token.
pub fn weight(account: &Account, usage: Option<&Usage>, settings: &Settings) -> f64 {
    let plan = usage.and_then(|usage| usage.plan.as_deref()).or(account.plan.as_deref());
    account.weight.unwrap_or_else(|| settings.weight(plan))
}

/// The class of an account, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Room for a session, or unlimited.
    Room,
    /// Less room than a session is likely to need.
    LessRoom,
    /// The windows are used up, and paid credits are left.
    Credits,
    /// Its usage was never fetched, or is too old to mean anything.
    Unknown,
    /// An API key, if the settings allow it.
    ApiKey,
    /// At its limit.
    Exhausted,
    /// It cannot be picked.
    Excluded,
}

impl Tier {
    /// Returns the name in JSON.
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

/// Why an account has its place in the ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// It is live, and no other is so much more urgent that a switch pays.
    StaysLive,
    /// Its 5h window is not running, and use starts it.
    StartsWindow,
    /// Its quota is lost soonest if it is not used.
    Urgent,
    /// It has no limit.
    Unlimited,
    /// Less is left than a session is likely to need.
    LessRoom,
    /// Only credits are left.
    Credits,
    /// There are no windows. Each use is paid for.
    PaidByUse,
    /// The last request for its usage failed.
    Failed,
    /// The service's answer names no limit, or one that is not understood.
    Unclear,
    /// The limit of the model is reached until then (Unix seconds, `None`: not known).
    ModelExhausted(Option<i64>),
    /// Its usage was never fetched.
    NeverFetched,
    /// Its usage is too old to mean anything.
    Stale,
    /// It is an API key, the last resort.
    ApiKey,
    /// It is at its limit until then (Unix seconds; `None`: not known).
    Exhausted(Option<i64>),
    /// The user has disabled it.
    Disabled,
    /// It needs a login.
    ReauthRequired,
    /// Its login had no refresh token, and has ended.
    AccessEnded,
    /// It was removed from its workspace.
    WorkspaceRemoved,
    /// Deactivated by the service.
    Deactivated,
    /// Refused by the service.
    Refused,
    /// The pool has no credentials of it.
    NoCredentials,
    /// Codex's restrictions forbid it here.
    Forbidden,
    /// Its folders, or those of other accounts, forbid it here.
    Elsewhere,
    /// What is left is kept for the user.
    Reserved,
    /// API keys are not picked (`api_key_fallback = false`).
    ApiKeyNotPicked,
}

/// An account with its place in the ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Its index among the candidates.
    pub index: usize,
    /// Its tier.
    pub tier: Tier,
    /// Its room in percent of one Plus account's 5h window: infinite if it has no limit, `None` if unknown.
    pub room: Option<f64>,
    /// The share of its longest window that is left, per second until the reset. 0 if it has no limit, or if unknown.
    pub urgency: f64,
    /// The percent left in the longest window and in the 5h window, for [`Policy::Balanced`].
    left: (f64, f64),
    starts_window: bool,
    reset: i64,
    /// The tier without the failure of the last request.
    before_failure: Tier,
    /// The window that leaves the least room.
    narrowest: Option<Window>,
    /// How many Plus accounts its plan is worth.
    weight: f64,
    /// The number of its running sessions.
    sessions: usize,
    /// Resets in the bank.
    banked_resets: u32,
    /// How much of each window is kept for the user, percent.
    reserve: f64,
    /// Whether no more is left than the user keeps, or that is not known. No work is carried on there.
    pub reserved: bool,
    /// Why folders forbid it.
    elsewhere: Option<Box<str>>,
    /// The reason of its place.
    pub reason: Reason,
}

impl Ranked {
    /// Returns whether a launch may use it.
    pub fn eligible(&self) -> bool {
        self.tier != Tier::Excluded
    }

    /// Returns whether a launch may use it if it is pinned or named, which overrides what only excludes it from the
    /// pick.
    pub fn usable(&self) -> bool {
        self.eligible() || matches!(self.reason, Reason::Disabled | Reason::ApiKeyNotPicked | Reason::Refused)
    }
}

/// Returns all accounts, the one to use first. Those that cannot be picked come last. `now`: Unix seconds.
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

/// Returns the place in the ranking of the account that a launch uses: the pinned one if it can be used, else the first
/// that can be picked. `None`: no account can.
pub fn next(ranking: &[Ranked], candidates: &[Candidate<'_>], pin: Option<&AccountId>) -> Option<usize> {
    let is_pinned = |r: &Ranked| pin == Some(&candidates[r.index].account.id) && r.usable();
    ranking.iter().position(is_pinned).or_else(|| ranking.iter().position(Ranked::eligible))
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
        // Old data is better than none. The live account keeps its place, since nothing speaks for another.
        (Tier::Unknown, _) => a
            .before_failure
            .cmp(&b.before_failure)
            .then_with(|| b_live.cmp(&a_live))
            .then_with(|| high_first(a.urgency, b.urgency)),
        // None can work: the live one stays, else the one whose reset comes first.
        (Tier::Exhausted, _) => b_live.cmp(&a_live).then_with(|| a.reset.cmp(&b.reset)),
        _ => Ordering::Equal,
    }
}

/// Lets the live account keep its place while it has room, no other one's 5h window is still to be started, and no other
/// is more urgent by the margin. A switch costs the user a warm session, but a window that is started late is full again
/// late (docs/picking.md has the numbers).
fn keep_live(ranking: &mut [Ranked], candidates: &[Candidate<'_>], settings: &Settings) {
    let Some(at) = ranking.iter().position(|r| candidates[r.index].live && r.tier == Tier::Room) else {
        return;
    };
    let limit = ranking[at].urgency * settings.switch_margin;
    let starts = ranking[at].starts_window;
    let mut others = ranking.iter().enumerate().filter(|(i, r)| *i != at && r.tier == Tier::Room);
    let beats = |r: &Ranked| r.starts_window && !starts || r.starts_window == starts && r.urgency > limit;
    if settings.policy == Policy::Room && !others.any(|(_, r)| beats(r)) {
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
        // A window that the account does not have does not count against it.
        left: (100.0, 100.0),
        starts_window: false,
        reset: i64::MAX,
        before_failure: Tier::Unknown,
        narrowest: None,
        weight: weight(c.account, c.usage, settings),
        sessions: c.sessions,
        banked_resets: c.usage.map_or(0, |usage| usage.banked_resets),
        reserve: c.account.reserve,
        reserved: c.account.reserve > 0.0,
        elsewhere: c.elsewhere.map(Box::from),
        reason: Reason::Disabled,
    };
    let known = c.usage.filter(|usage| usage.known(now));
    if let Some(usage) = known {
        measure(&mut ranked, usage, c, now);
    }
    (ranked.tier, ranked.reason) = if let Some(reason) = excluded(c, now, settings) {
        (Tier::Excluded, reason)
    } else if c.account.kind == AccountKind::ApiKey {
        (Tier::ApiKey, Reason::ApiKey)
    } else if let Some(usage) = known {
        let (tier, reason) = tier(&mut ranked, usage, c.model, now, settings);
        ranked.before_failure = tier;
        match c.failed && tier < Tier::Unknown {
            true => (Tier::Unknown, Reason::Failed),
            false => (tier, reason),
        }
    } else if c.usage.is_some() {
        (Tier::Unknown, Reason::Stale)
    } else {
        (Tier::Unknown, Reason::NeverFetched)
    };
    ranked
}

fn excluded(c: &Candidate<'_>, now: i64, settings: &Settings) -> Option<Reason> {
    // What a name or a pin overrides comes last, since it must not hide the rest.
    match c.account.auth.state {
        AuthState::ReauthRequired => Some(Reason::ReauthRequired),
        AuthState::WorkspaceRemoved => Some(Reason::WorkspaceRemoved),
        AuthState::Deactivated => Some(Reason::Deactivated),
        _ if c.account.access_ended(now) => Some(Reason::AccessEnded),
        _ if !c.has_credentials => Some(Reason::NoCredentials),
        _ if !c.allowed => Some(Reason::Forbidden),
        _ if c.elsewhere.is_some() => Some(Reason::Elsewhere),
        AuthState::Refused => Some(Reason::Refused),
        _ if !c.account.enabled => Some(Reason::Disabled),
        _ if c.account.kind == AccountKind::ApiKey && !settings.api_key_fallback => {
            Some(Reason::ApiKeyNotPicked)
        }
        _ => None,
    }
}

/// Sets room and urgency.
fn measure(ranked: &mut Ranked, usage: &Usage, c: &Candidate<'_>, now: i64) {
    let model = c.model.and_then(|model| usage.limit_of(model));
    let in_windows =
        |left: f64, w: &Window| left * (WINDOWS_PER_WEEK * w.window_seconds as f64 / WEEK as f64).max(1.0);
    // The reserve is a part of the account's windows. A model's own limit is no use to the user without them.
    let beyond = |w: &Window| w.left_percent(now) - c.account.reserve;
    let of_account = usage.windows.iter().map(|w| (in_windows(beyond(w), w), w));
    let of_model = model.into_iter().flat_map(|limit| &limit.windows);
    let of_model = of_model.map(|w| (in_windows(w.left_percent(now), w), w));
    let narrowest = of_account.chain(of_model).min_by(|a, b| a.0.total_cmp(&b.0));
    let least = narrowest.map_or(f64::INFINITY, |(room, _)| room);
    ranked.narrowest = narrowest.map(|(_, window)| window.clone());
    ranked.reserved = c.account.reserve > 0.0 && usage.windows.iter().any(|w| beyond(w) <= 0.0);
    ranked.room = if usage.unlimited() {
        Some(f64::INFINITY)
    } else if least.is_infinite() || usage.unclear {
        // What is absent or not understood is no room.
        None
    } else {
        Some(least * ranked.weight - PER_SESSION * c.sessions as f64)
    };
    if let Some(longest) = longest(&usage.windows) {
        let left = longest.left_percent(now);
        let until_reset = match longest.resets_at {
            Some(at) if at > now => at.saturating_sub(now),
            _ => longest.window_seconds.max(1),
        };
        // What is kept is not lost.
        ranked.urgency = beyond(longest).max(0.0) / 100.0 / until_reset as f64;
        ranked.left.0 = left;
    }
    if let Some(short) = of_length(&usage.windows, FIVE_HOURS) {
        ranked.left.1 = short.left_percent(now);
        ranked.starts_window = !short.running(now);
    }
}

fn tier(
    ranked: &mut Ranked,
    usage: &Usage,
    model: Option<&str>,
    now: i64,
    settings: &Settings,
) -> (Tier, Reason) {
    let of_model = model.and_then(|model| usage.limit_of(model)).and_then(|limit| limit.exhausted_until(now));
    if let Some(until) = of_model {
        let until = latest(Some(until), usage.exhausted_until(now)).flatten();
        ranked.reset = until.unwrap_or(i64::MAX);
        return (Tier::Exhausted, Reason::ModelExhausted(until));
    }
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
    if usage.paid_by_use() {
        return (Tier::Credits, Reason::PaidByUse);
    }
    let Some(room) = ranked.room else { return (Tier::Unknown, Reason::Unclear) };
    if ranked.reserved {
        return (Tier::LessRoom, Reason::Reserved);
    }
    if room < settings.session_room {
        return (Tier::LessRoom, Reason::LessRoom);
    }
    let reason = if ranked.starts_window { Reason::StartsWindow } else { Reason::Urgent };
    (Tier::Room, reason)
}

#[cfg(test)]
mod tests;
