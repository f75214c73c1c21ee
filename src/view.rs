//! What people and scripts see of the accounts: one model for `list`, `why`, `refresh`, `watch` and
//! JSON. Pure data made from the pool; prints nothing.

use std::path::Path;

use codex_pool_core::account::{Account, AccountId, AccountKind, AuthState};
use codex_pool_core::env;
use codex_pool_core::homes::in_use::{HomeInUse, HomeUser, UserKind};
use codex_pool_core::homes::{self, CodexHome, HomeKind};
use codex_pool_core::launch::{candidates, databases};
use codex_pool_core::ledger::Ledger;
use codex_pool_core::pick::{Ranked, Reason, Tier, pick};
use codex_pool_core::pool::Pool;
use codex_pool_core::renewal;
use codex_pool_core::usage::{Usage, Window};
use serde_json::{Value, json};

use crate::context::{Context, OpenPool};

/// One account with everything that is known of it now.
#[derive(Debug, Clone)]
pub(crate) struct AccountView {
    pub(crate) account: Account,
    pub(crate) usage: Option<Usage>,
    /// Why its usage could not be fetched or its tokens not be renewed, the last time.
    pub(crate) error: Option<String>,
    /// A renewal of its tokens never got its answer.
    pub(crate) interrupted: bool,
    pub(crate) live: bool,
    pub(crate) pinned: bool,
    pub(crate) sessions: usize,
    /// Its place in the pick. `None`: it cannot be picked.
    pub(crate) rank: Option<usize>,
    /// Whether the next launch uses it: the pin, else the first of the pick.
    pub(crate) next: bool,
    pub(crate) ranked: Ranked,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

/// A home that somebody is in.
#[derive(Debug)]
pub(crate) struct SeatView {
    taken: HomeInUse,
    /// Where it is, in words.
    place: String,
    /// Who is in it, in words.
    users: Vec<String>,
}

impl SeatView {
    /// One line for people: which account, where, and who uses it.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}", self.place, self.users.join(", "))
    }

    /// Whether this is another home than that one, and holds that account.
    pub(crate) fn also_has(&self, id: &AccountId, other: &CodexHome) -> bool {
        self.taken.home != *other && self.taken.account.as_ref() == Some(id)
    }
}

/// The homes that somebody is in.
pub(crate) fn homes(ctx: &Context, open: &OpenPool) -> Vec<SeatView> {
    let databases = databases(&ctx.env, &ctx.codex, &ctx.main_home);
    let view = |taken: HomeInUse| {
        let as_another = |user: &&HomeUser| user.account.is_some() && user.account != taken.account;
        let user = |user: &HomeUser| match Some(user).filter(as_another).and_then(|u| u.account.as_ref()) {
            Some(id) => format!("{} as {}", user.describe(), open.label(id)),
            None => user.describe(),
        };
        let users = taken.users.iter().map(user).collect();
        SeatView { place: place(ctx, open, &taken), users, taken }
    };
    open.processes.homes_in_use(&open.pool, &ctx.main_home, &databases).into_iter().map(view).collect()
}

/// `alice in ~/.codex`, `bob in a home of its own`.
fn place(ctx: &Context, open: &OpenPool, taken: &HomeInUse) -> String {
    let short = |dir: &Path| match ctx.env.home().and_then(|home| dir.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => dir.display().to_string(),
    };
    let over = homes::main_home_of(&ctx.paths, taken.home.dir());
    let place = match &over {
        Some(_) if matches!(taken.home.kind(), HomeKind::Login | HomeKind::WithoutAccount) => {
            "a home without an account".to_owned()
        }
        Some(main_home) if main_home != ctx.main_home.dir() => {
            format!("a home of its own over {}", short(main_home))
        }
        Some(_) => "a home of its own".to_owned(),
        None => short(taken.home.dir()),
    };
    match &taken.account {
        Some(id) => format!("{} in {place}", open.label(id)),
        None => format!("in {place}"),
    }
}

/// The accounts in rank order.
pub(crate) fn accounts(ctx: &Context, open: &OpenPool) -> Vec<AccountView> {
    of_pool(ctx, &open.pool, &open.processes.ledger, open.live(), env::clock())
}

/// The same of a pool that is only looked at. `live`: who holds the main home; `now`: Unix seconds.
pub(crate) fn of_pool(
    ctx: &Context,
    pool: &Pool,
    ledger: &Ledger,
    live: Option<&AccountId>,
    now: i64,
) -> Vec<AccountView> {
    let candidates = candidates(pool, ledger, live, &ctx.codex, |id| pool.credentials().has(id));
    let pin = pool.state().pin.as_ref();
    let ranking = pick(&candidates, now, &ctx.settings);
    let is_pinned = |r: &Ranked| pin == Some(&candidates[r.index].account.id) && r.usable();
    let next = ranking.iter().position(is_pinned).or_else(|| ranking.iter().position(Ranked::eligible));
    let view = |(place, ranked): (usize, Ranked)| {
        let candidate = &candidates[ranked.index];
        // Both are in the registry's order.
        let account = pool.registry().accounts[ranked.index].clone();
        let entry = pool.usage().accounts.get(&account.id);
        AccountView {
            usage: entry.and_then(|e| e.usage.clone()),
            error: entry.and_then(|e| Some(e.error()?.1.to_owned())),
            interrupted: renewal::interrupted(pool, &account.id, now),
            live: candidate.live,
            pinned: pin == Some(&account.id),
            sessions: candidate.sessions,
            rank: ranked.eligible().then_some(place + 1),
            next: next == Some(place),
            state: state(&account, &ranked),
            reason: ranked.explain(now),
            ranked,
            account,
        }
    };
    ranking.into_iter().enumerate().map(view).collect()
}

/// The word for an account's state; the first that applies.
fn state(account: &Account, ranked: &Ranked) -> &'static str {
    if !account.enabled {
        return "disabled";
    }
    match account.auth.state {
        AuthState::ReauthRequired => return "reauth_required",
        AuthState::WorkspaceRemoved => return "workspace_removed",
        AuthState::Expired => return "expired",
        AuthState::Ok => {}
    }
    match (ranked.tier, ranked.reason) {
        (_, Reason::NoCredentials) => "reauth_required",
        (Tier::Exhausted, _) => "exhausted",
        (Tier::Unknown, _) => "unknown",
        _ => "ready",
    }
}

/// `{"schema":1,"accounts":[…],"homes":[…]}`. `detail` adds what `why` knows.
pub(crate) fn json(views: &[AccountView], homes: &[SeatView], now: i64, detail: bool) -> Value {
    let account = |view: &AccountView| {
        let a = &view.account;
        let mut entry = json!({
            "id": a.id, "label": a.label,
            "kind": match a.kind { AccountKind::Chatgpt => "chatgpt", AccountKind::ApiKey => "api_key" },
            "email": a.email, "user_id": a.user_id, "account_id": a.account_id, "plan": a.plan,
            "state": view.state, "enabled": a.enabled, "live": view.live, "pinned": view.pinned,
            "rank": view.rank, "reason": view.reason,
            "usage": view.usage.as_ref().map(|u| usage_json(u, now)),
            "error": problem(view), "sessions": view.sessions,
        });
        if detail {
            entry["room"] = json!(view.ranked.room);
            entry["urgency"] = json!(view.ranked.urgency);
            entry["tier"] = json!(view.ranked.tier.as_str());
        }
        entry
    };
    json!({
        "schema": 1,
        "accounts": views.iter().map(account).collect::<Vec<_>>(),
        "homes": homes.iter().map(|codex_home| home_json(&codex_home.taken)).collect::<Vec<_>>(),
    })
}

fn home_json(taken: &HomeInUse) -> Value {
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
        "path": taken.home.dir().to_string_lossy(), "home": taken.home.is_own(), "account": taken.account,
        "users": taken.users.iter().map(user).collect::<Vec<_>>(),
    })
}

/// What is wrong with an account, in words: why a login is needed, or what failed the last time.
pub(crate) fn problem(view: &AccountView) -> Option<String> {
    match (view.account.auth.explain(), view.account.remedy()) {
        (Some(what), Some(remedy)) => Some(format!("{what}; {remedy}")),
        _ if view.interrupted => Some(format!(
            "a token renewal was interrupted; `codex-pool refresh {}` finds out whether a login is needed",
            view.account.word()
        )),
        _ => view.error.clone(),
    }
}

fn usage_json(usage: &Usage, now: i64) -> Value {
    let window = |w: &Window| {
        let left = w.left_percent(now);
        json!({
            "name": w.name(), "window_seconds": w.window_seconds,
            "used_percent": round(100.0 - left), "remaining_percent": round(left),
            "resets_at": w.resets_at.filter(|at| *at > now),
        })
    };
    json!({
        "fetched_at": usage.fetched_at, "source": usage.source, "limit_reached": usage.limit_reached,
        "windows": usage.windows.iter().map(window).collect::<Vec<_>>(),
    })
}

/// One decimal is more than the service tells.
fn round(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}
