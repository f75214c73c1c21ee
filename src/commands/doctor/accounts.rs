//! The accounts: which need a login, which could not be asked for their usage, and whom the next launch
//! picks.

use codex_pool_core::account::{Account, AuthState};
use codex_pool_core::time::human_duration;

use super::Check;
use super::scene::{Place, Scene, split};
use crate::view::{self, AccountView};

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    const ID: &str = "accounts";
    let Some(place) = scene.place().filter(|place| place.exists()) else { return Vec::new() };
    if place.pool.is_err() {
        return Vec::new();
    }
    if place.accounts().is_empty() {
        // A login that is in CODEX_HOME comes into the pool by itself.
        let adoptable = place.live().is_some();
        let check = if adoptable { Check::warn } else { Check::fail };
        return vec![check(ID, "the pool has no accounts yet".to_owned()).fix("`codex-pool add`")];
    }
    let mut checks: Vec<Check> =
        place.accounts().iter().filter_map(|account| login(place, account)).collect();
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no account needs a login"));
    }
    checks.extend(usage(place, scene.env.now));
    checks.extend(pick(place, scene.env.now));
    checks
}

/// What is wrong with an account's credentials.
fn login(place: &Place, account: &Account) -> Option<Check> {
    const ID: &str = "login";
    let pool = place.pool.as_ref().ok()?;
    if let Some(error) = account.trouble() {
        let (what, fix) = split(&error);
        let check = match account.auth.state {
            AuthState::Expired => Check::warn(ID, what),
            _ => Check::fail(ID, what),
        };
        return Some(check.fix(fix.unwrap_or_default()));
    }
    let again = format!("log in again with `codex-pool reauth {}`", account.word());
    match pool.credentials().load(&account.id) {
        Ok(Some(_)) => None,
        Ok(None) => {
            Some(Check::fail(ID, format!("{}: the pool has no credentials for it", account.label)).fix(again))
        }
        Err(error) => Some(Check::fail(ID, format!("{}: {}", account.label, error.message)).fix(again)),
    }
}

/// Requests for usage, or renewals, that failed the last time.
fn usage(place: &Place, now: i64) -> Vec<Check> {
    const ID: &str = "usage";
    let failed = |account: &Account| {
        if account.auth.state != AuthState::Ok {
            return None;
        }
        let (at, error) = place.pool.as_ref().ok()?.usage().accounts.get(&account.id)?.error()?;
        let ago = human_duration((now - at).max(0));
        Some(
            Check::warn(ID, format!("{}: {error} ({ago} ago)", account.label))
                .fix(format!("`codex-pool refresh {}`, or `codex-pool doctor --online`", account.word())),
        )
    };
    let mut checks: Vec<Check> = place.accounts().iter().filter_map(failed).collect();
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no request for usage failed the last time"));
    }
    checks
}

/// What the next launch does.
fn pick(place: &Place, now: i64) -> Option<Check> {
    const ID: &str = "pick";
    let (pool, home) = (place.pool.as_ref().ok()?, place.codex_home.as_ref().ok()?);
    let views = view::of_pool(&home.ctx, pool, &place.processes.ledger, place.live(), now);
    let explain = |view: &AccountView| format!("{}: {}", view.account.label, view.reason);
    if let Some(pinned) = views.iter().find(|view| view.pinned) {
        return Some(if pinned.next && pinned.state != "exhausted" {
            Check::ok(ID, format!("{} is pinned, so launches use it", pinned.account.label))
        } else {
            Check::warn(
                ID,
                format!("the pinned account cannot be used or is at its limit; {}", explain(pinned)),
            )
            .fix("`codex-pool use --auto` unpins it")
        });
    }
    Some(match views.iter().find(|view| view.next) {
        Some(first) if first.state == "exhausted" => {
            Check::warn(ID, format!("every account is at its limit; {}", explain(first)))
                .fix("`codex-pool why` shows when each resets; `codex-pool add` adds one more")
        }
        Some(first) => Check::ok(ID, format!("the next launch uses {}", explain(first))),
        None => Check::fail(ID, "no account can be picked").fix("`codex-pool why` says why"),
    })
}
