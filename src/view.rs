//! What people and scripts see of the accounts: one model for `list`, `why`, `refresh`, `watch` and JSON. Data made
//! from the pool; prints nothing.

pub(crate) mod moves;
mod rules;
pub(crate) mod sharing;
mod when;

use std::path::Path;

use codex_pool_core::account::{Account, AccountId, AccountKind, AuthState};
use codex_pool_core::env::{self, Env};
use codex_pool_core::folders::short;
use codex_pool_core::homes::in_use::{HomeInUse, HomeUser, UserKind};
use codex_pool_core::homes::{self, CodexHome, HomeKind};
use codex_pool_core::launch::{candidates, databases};
use codex_pool_core::ledger::Ledger;
use codex_pool_core::pick::{self, Ranked, Reason, Tier, pick};
use codex_pool_core::pool::Pool;
use codex_pool_core::renewal;
use codex_pool_core::time::{DAY, human_duration};
use codex_pool_core::usage::{Usage, Window};
use serde_json::{Value, json};

use crate::context::{Context, OpenPool};

pub(crate) use when::Clock;

/// With so much left of a window, or less, an account is low, percent.
const LOW: f64 = 10.0;
/// An access that ends within this time needs the user, seconds.
const ENDS_SOON: i64 = 3 * DAY;

/// An account with everything that is known of it now.
#[derive(Debug, Clone)]
pub(crate) struct AccountView {
    pub(crate) account: Account,
    pub(crate) usage: Option<Usage>,
    /// Why the last request for its usage, or the last renewal of its tokens, failed.
    pub(crate) error: Option<String>,
    /// Whether a renewal of its tokens never got its answer.
    pub(crate) interrupted: bool,
    pub(crate) live: bool,
    pub(crate) pinned: bool,
    pub(crate) sessions: usize,
    /// Its place in the ranking. `None`: it cannot be picked.
    pub(crate) rank: Option<usize>,
    /// Whether the next launch uses it: it is pinned, or the first of the ranking.
    pub(crate) next: bool,
    pub(crate) ranked: Ranked,
    pub(crate) state: State,
    /// Whether it is ready and has less left than a session is likely to need.
    pub(crate) low: bool,
    pub(crate) reason: String,
    /// What the user has set of it: folders, reserve, weight. `None`: nothing.
    pub(crate) rules: Option<String>,
}

/// The state of an account, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It can be used.
    Ready,
    /// It was disabled by the user.
    Disabled,
    /// Its usage is not known.
    Unknown,
    /// It is at its limit.
    Exhausted,
    /// The service does not accept its access token.
    Expired,
    /// It needs a new login.
    ReauthRequired,
    /// It was removed from its workspace.
    WorkspaceRemoved,
    /// The service has deactivated it.
    Deactivated,
    /// The service refuses it.
    Refused,
}

impl State {
    /// Returns the word for JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Disabled => "disabled",
            State::Unknown => "unknown",
            State::Exhausted => "exhausted",
            State::Expired => "expired",
            State::ReauthRequired => "reauth_required",
            State::WorkspaceRemoved => "workspace_removed",
            State::Deactivated => "deactivated",
            State::Refused => "refused",
        }
    }

    /// Returns the words for people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            State::ReauthRequired => "login needed",
            State::WorkspaceRemoved => "workspace removed",
            state => state.as_str(),
        }
    }

    /// The first state that applies.
    fn of(account: &Account, ranked: &Ranked) -> State {
        if !account.enabled {
            return State::Disabled;
        }
        match account.auth.state {
            AuthState::ReauthRequired => return State::ReauthRequired,
            AuthState::WorkspaceRemoved => return State::WorkspaceRemoved,
            AuthState::Deactivated => return State::Deactivated,
            AuthState::Refused => return State::Refused,
            AuthState::Expired if ranked.reason != Reason::AccessEnded => return State::Expired,
            AuthState::Ok | AuthState::Expired => {}
        }
        match (ranked.tier, ranked.reason) {
            (_, Reason::NoCredentials | Reason::AccessEnded) => State::ReauthRequired,
            (Tier::Exhausted, _) => State::Exhausted,
            (Tier::Unknown, _) => State::Unknown,
            _ => State::Ready,
        }
    }
}

/// A home in use.
#[derive(Debug)]
pub(crate) struct HomeView {
    in_use: HomeInUse,
    /// The account and the place, in words.
    title: String,
    /// The processes, in words.
    users: Vec<String>,
}

impl HomeView {
    /// Returns a line for people: which account, where, and the processes that use it.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}", self.title, self.users.join(", "))
    }

    /// Returns whether this home has the account and is not `other`.
    pub(crate) fn also_has(&self, id: &AccountId, other: &CodexHome) -> bool {
        self.in_use.home != *other && self.in_use.account.as_ref() == Some(id)
    }
}

/// Returns the homes in use.
pub(crate) fn homes(ctx: &Context, open: &OpenPool) -> Vec<HomeView> {
    let databases = databases(&ctx.env, &ctx.codex, &ctx.main_home);
    let view = |in_use: HomeInUse| {
        let as_another = |user: &&HomeUser| user.account.is_some() && user.account != in_use.account;
        let user = |user: &HomeUser| match Some(user).filter(as_another).and_then(|u| u.account.as_ref()) {
            Some(id) => format!("{} as {}", user.describe(), open.label(id)),
            None => user.describe(),
        };
        let users = in_use.users.iter().map(user).collect();
        HomeView { title: title(ctx, open, &in_use), users, in_use }
    };
    open.processes.homes_in_use(&open.pool, &ctx.main_home, &databases).into_iter().map(view).collect()
}

/// Returns `alice in ~/.codex`, or `bob in a home of its own`.
fn title(ctx: &Context, open: &OpenPool, in_use: &HomeInUse) -> String {
    let short = |dir: &Path| short(dir, ctx.env.home());
    let over = homes::main_home_of(&ctx.paths, in_use.home.dir());
    let place = match &over {
        Some(_) if matches!(in_use.home.kind(), HomeKind::Login | HomeKind::WithoutAccount) => {
            "a home without an account".to_owned()
        }
        Some(main_home) if main_home != ctx.main_home.dir() => {
            format!("a home of its own over {}", short(main_home))
        }
        Some(_) => "a home of its own".to_owned(),
        None => short(in_use.home.dir()),
    };
    match &in_use.account {
        Some(id) => format!("{} in {place}", open.label(id)),
        None => format!("in {place}"),
    }
}

/// Returns the accounts, in the order of the ranking.
pub(crate) fn accounts(ctx: &Context, open: &OpenPool) -> Vec<AccountView> {
    of_pool(ctx, &open.pool, &open.processes.ledger, open.live(), env::clock())
}

/// Returns why nobody but one machine of a shared pool renews an account's tokens.
fn not_renewed(pool: &Pool, account: &Account, now: i64) -> Option<String> {
    let machine = pool.usage().sent_by(&account.id, now)?;
    Some(format!(
        "`{machine}` has sent its refresh token and not told the answer; start it and run `codex-pool refresh` there, or \
         `codex-pool share take-over {}` here",
        account.shell_ref()
    ))
}

/// Returns the accounts of a pool that is not locked. `live`: the account in the main home. `now`: Unix seconds.
pub(crate) fn of_pool(
    ctx: &Context,
    pool: &Pool,
    ledger: &Ledger,
    live: Option<&AccountId>,
    now: i64,
) -> Vec<AccountView> {
    let rules = ctx.rules(pool);
    let candidates = candidates(pool, ledger, live, &ctx.codex, &rules, |id| pool.credentials().has(id), now);
    let pin = pool.state().pin.as_ref();
    let ranking = pick(&candidates, now, &ctx.settings);
    let next = pick::next(&ranking, &candidates, pin);
    let clock = Clock::of_system();
    let view = |(place, ranked): (usize, Ranked)| {
        let candidate = &candidates[ranked.index];
        // Both are in the registry's order.
        let account = pool.registry().accounts[ranked.index].clone();
        let entry = pool.usage().accounts.get(&account.id);
        AccountView {
            usage: entry.and_then(|e| e.usage.clone()),
            error: not_renewed(pool, &account, now).or_else(|| Some(entry?.error()?.1.to_owned())),
            interrupted: renewal::is_interrupted(pool, &account.id, now),
            live: candidate.live,
            pinned: pin == Some(&account.id),
            sessions: ledger.sessions(&account.id),
            rank: ranked.eligible().then_some(place + 1),
            next: next == Some(place),
            state: State::of(&account, &ranked),
            low: State::of(&account, &ranked) == State::Ready
                && is_low(entry.and_then(|e| e.usage.as_ref()), &ranked, now),
            reason: ranked.explain_with(&|at| clock.time_and_distance(at, now), now),
            rules: rules::in_words(&account, ctx.env.home()),
            ranked,
            account,
        }
    };
    ranking.into_iter().enumerate().map(view).collect()
}

/// Returns whether less is left than a session is likely to need.
fn is_low(usage: Option<&Usage>, ranked: &Ranked, now: i64) -> bool {
    let nearly_used_up = |usage: &Usage| {
        !usage.unlimited() && usage.windows.iter().any(|window| window.left_percent(now) <= LOW)
    };
    ranked.tier == Tier::LessRoom || usage.is_some_and(nearly_used_up)
}

/// Returns the account that the next launch uses; `None` if no account of the pool answers it.
pub(crate) fn next(views: &[AccountView], identity: Identity) -> Option<&AccountId> {
    views.iter().find(|view| view.next && !identity.everywhere).map(|view| &view.account.id)
}

/// Returns what a table does not say by itself: that a login ends soon, that no account may be picked, or that nothing
/// is known of one. `now`: Unix seconds.
pub(crate) fn unsaid(views: &[AccountView], now: i64) -> Vec<String> {
    let mut lines = Vec::new();
    for account in views.iter().map(|view| &view.account).filter(|account| account.enabled) {
        let left = account.access_left(now).filter(|left| *left < ENDS_SOON && !account.renewed_by_members());
        if let Some((left, then)) = left.and_then(|left| Some((left, account.remedy(now + left)?))) {
            lines.push(format!(
                "{}: its login ends in {} and cannot be renewed; {then}.",
                account.label,
                human_duration(left)
            ));
        }
    }
    // A pin holds all the same.
    let none_is_picked = views.iter().all(|view| !view.account.enabled && !view.next);
    if let Some(first) = views.first().filter(|_| none_is_picked) {
        let word = first.account.shell_ref();
        lines.push(format!(
            "Every account is disabled, so none is picked; `codex-pool enable {word}` lets it be."
        ));
    }
    let never = |view: &&AccountView| {
        let account = &view.account;
        let could_be =
            account.enabled && account.kind == AccountKind::Chatgpt && account.auth.state == AuthState::Ok;
        could_be && view.usage.is_none() && view.error.is_none()
    };
    let never: Vec<&AccountView> = views.iter().filter(never).collect();
    match never.as_slice() {
        [] => {}
        [one] => {
            let (label, word) = (&one.account.label, one.account.shell_ref());
            lines.push(format!("{label}: its usage was never fetched; `codex-pool refresh {word}` does it."));
        }
        several => lines.push(format!(
            "The usage of {} accounts was never fetched; `codex-pool refresh` does it.",
            several.len()
        )),
    }
    lines
}

/// The environment variable that says who Codex is, instead of the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    variable: Option<&'static str>,
    /// Whether it counts for interfaces, too.
    everywhere: bool,
}

impl Identity {
    pub(crate) fn of(env: &Env) -> Identity {
        Identity { variable: env.identity(true), everywhere: env.identity(false).is_some() }
    }

    /// Returns a line for people.
    pub(crate) fn line(self) -> Option<String> {
        let (variable, what) = (self.variable?, if self.everywhere { "Codex" } else { "`codex exec`" });
        Some(format!(
            "{variable} is set: {what} takes its login from there, and no account of the pool answers."
        ))
    }
}

/// Returns `{"schema":1,"next":…,"identity_from":…,"accounts":[…],"homes":[…]}`. `detail` adds what `why` shows.
pub(crate) fn json(
    views: &[AccountView],
    homes: &[HomeView],
    identity: Identity,
    now: i64,
    detail: bool,
) -> Value {
    let account = |view: &AccountView| {
        let a = &view.account;
        let mut entry = json!({
            "id": a.id, "label": a.label,
            "kind": match a.kind { AccountKind::Chatgpt => "chatgpt", AccountKind::ApiKey => "api_key" },
            "email": a.email, "user_id": a.user_id, "account_id": a.account_id, "plan": a.plan,
            "state": view.state.as_str(), "low": view.low, "enabled": a.enabled, "live": view.live, "pinned": view.pinned,
            "rank": view.rank, "reason": view.reason, "reason_code": view.ranked.reason.code(),
            "usage": view.usage.as_ref().map(|u| usage_json(u, now)),
            "error": problem(view, now), "sessions": view.sessions,
            "folders": a.folders, "reserve": rules::number(a.reserve), "weight": a.weight.map(rules::number),
            "access_only": a.access_only.is_some(), "access_ends_at": a.access_only.and_then(|a| a.ends_at),
        });
        if detail {
            entry["room"] = match view.ranked.room {
                Some(room) if room.is_infinite() => json!("unlimited"),
                room => json!(room.map(round)),
            };
            entry["urgency"] = json!(view.ranked.urgency);
            entry["tier"] = json!(view.ranked.tier.as_str());
        }
        entry
    };
    json!({
        "schema": 1, "next": next(views, identity), "identity_from": identity.variable,
        "accounts": views.iter().map(account).collect::<Vec<_>>(),
        "homes": homes.iter().map(|view| home_json(&view.in_use)).collect::<Vec<_>>(),
    })
}

/// Returns the same of one account alone. `views`: of all accounts, since what is next is said of the whole pool.
pub(crate) fn json_of_one(
    views: &[AccountView],
    id: &AccountId,
    homes: &[HomeView],
    identity: Identity,
    now: i64,
) -> Value {
    let one = views.iter().find(|view| view.account.id == *id).map(std::slice::from_ref);
    let mut answer = json(one.unwrap_or_default(), homes, identity, now, false);
    answer["next"] = json!(next(views, identity));
    answer
}

fn home_json(in_use: &HomeInUse) -> Value {
    let user = |user: &HomeUser| {
        let (kind, command) = match &user.kind {
            UserKind::Launch(command) => ("session", Some(command)),
            UserKind::BackgroundServer => ("server", None),
            UserKind::Login => ("login", None),
            UserKind::Foreign => ("other", None),
        };
        json!({
            "kind": kind, "command": command, "pid": user.pid, "terminal": user.terminal(),
            "account": user.account,
        })
    };
    json!({
        "path": in_use.home.dir().to_string_lossy(), "home": in_use.home.is_own(), "account": in_use.account,
        "users": in_use.users.iter().map(user).collect::<Vec<_>>(),
    })
}

/// Returns what is wrong with an account, in words: why it needs a login, or what failed the last time.
pub(crate) fn problem(view: &AccountView, now: i64) -> Option<String> {
    match (view.account.explain(now), view.account.remedy(now)) {
        // The service's own words say more.
        (Some(what), Some(remedy)) if view.account.auth.state == AuthState::Refused => {
            Some(format!("{}; {remedy}", view.error.as_deref().unwrap_or(what)))
        }
        (Some(what), Some(remedy)) => Some(format!("{what}; {remedy}")),
        _ if view.interrupted => Some(format!(
            "a token renewal was interrupted; `codex-pool refresh {}` finds out whether a login is needed",
            view.account.shell_ref()
        )),
        _ => view.error.clone(),
    }
}

fn usage_json(usage: &Usage, now: i64) -> Value {
    json!({
        "fetched_at": usage.fetched_at, "source": usage.source, "limit_reached": usage.limit_reached,
        "windows": usage.windows.iter().map(|w| window_json(w, now)).collect::<Vec<_>>(),
        "banked_resets": usage.banked_resets,
    })
}

/// Returns a window as it is now.
pub(crate) fn window_json(window: &Window, now: i64) -> Value {
    let left = window.left_percent(now);
    json!({
        "name": window.name(), "window_seconds": window.window_seconds,
        "used_percent": round(100.0 - left), "remaining_percent": round(left),
        "resets_at": window.resets_at.filter(|at| *at > now),
    })
}

/// One decimal is more than the service says.
pub(crate) fn round(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}
