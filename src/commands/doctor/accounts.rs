//! The accounts: which need a login, whose usage could not be fetched, and which one the next launch picks.

use codex_pool_core::account::{Account, AuthState};
use codex_pool_core::pick::Reason;
use codex_pool_core::renewal::EARLY;
use codex_pool_core::time::human_duration;

use super::Check;
use super::facts::{Facts, PoolFacts};
use crate::ui::findings::Grade;
use crate::view::{self, AccountView, State};

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "accounts";
    let Some(folder) = facts.existing_folder() else { return Vec::new() };
    if folder.pool.is_err() {
        return Vec::new();
    }
    if folder.accounts().is_empty() {
        // The next command adopts a login that is in the main home.
        let adoptable = folder.live().is_some();
        let check = if adoptable { Check::warn } else { Check::fail };
        return vec![check(ID, "the pool has no accounts yet".to_owned()).advice("`codex-pool add`")];
    }
    let mut checks: Vec<Check> =
        folder.accounts().iter().filter_map(|account| login(folder, account, facts.env.now)).collect();
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no account needs a login"));
    }
    checks.extend(access(folder, facts.env.now));
    checks.extend(usage(folder, facts.env.now));
    checks.extend(clock(folder, facts.env.now));
    checks.extend(plans(folder));
    checks.extend(pick(folder, facts.env.now));
    checks.extend(super::share::checks(folder, facts.env.now));
    checks
}

/// Returns whether the clock is wrong.
fn clock(folder: &PoolFacts, now: i64) -> Option<Check> {
    let ahead = folder.pool.as_ref().ok()?.usage().clock_ahead(now)?;
    let message = format!(
        "the clock of this machine is ahead of the service's by {} or more, so every token looks old; none is \
         renewed before the service rejects it",
        human_duration(ahead)
    );
    Some(Check::fail("clock", message).advice("set the clock, for example with `timedatectl set-ntp true`"))
}

/// Returns the plans whose size is not known, so that their accounts count as one Plus account each.
fn plans(folder: &PoolFacts) -> Vec<Check> {
    let Ok(main_home) = &folder.main_home else { return Vec::new() };
    let settings = &main_home.ctx.settings;
    let unknown = |account: &Account| {
        let plan = account.plan.as_deref().filter(|plan| !settings.knows_plan(plan))?;
        let message =
            format!("the size of the plan `{plan}` ({}) is not known; it counts as Plus", account.label);
        Some(Check::warn("plan", message).advice(format!("`weights = {{ {plan} = … }}` in config.toml")))
    };
    folder.accounts().iter().filter_map(unknown).collect()
}

/// Returns what is wrong with the credentials of an account.
fn login(folder: &PoolFacts, account: &Account, now: i64) -> Option<Check> {
    const ID: &str = "login";
    let pool = folder.pool.as_ref().ok()?;
    if let Some(error) = account.trouble(now) {
        let check = Check::error(ID, error, String::new());
        let expired = account.auth.state == AuthState::Expired;
        return Some(if expired { Check { grade: Grade::Warn, ..check } } else { check });
    }
    let again = format!("log in again with `codex-pool reauth {}`", account.shell_ref());
    match pool.credentials().load(&account.id) {
        Ok(Some(_)) => None,
        Ok(None) => Some(
            Check::fail(ID, format!("{}: the pool has no credentials for it", account.label)).advice(again),
        ),
        Err(error) => Some(Check::fail(ID, format!("{}: {}", account.label, error.message)).advice(again)),
    }
}

/// Returns the logins without a refresh token: when each ends.
fn access(folder: &PoolFacts, now: i64) -> Vec<Check> {
    const ID: &str = "access";
    let of = |account: &Account| {
        let left = account.access_left(now)?;
        let message =
            format!("{}: its login has no refresh token and ends in {}", account.label, human_duration(left));
        // Members renew theirs in its last day.
        Some(if left < EARLY && !account.renewed_by_members() {
            Check::warn(ID, message).advice(account.remedy(now + left).unwrap_or_default())
        } else {
            Check::ok(ID, message)
        })
    };
    folder.accounts().iter().filter_map(of).collect()
}

/// Returns the accounts whose last request, for usage or for tokens, failed.
fn usage(folder: &PoolFacts, now: i64) -> Vec<Check> {
    const ID: &str = "usage";
    let failed =
        |account: &Account| {
            if account.auth.state != AuthState::Ok {
                return None;
            }
            let (at, error) = folder.pool.as_ref().ok()?.usage().accounts.get(&account.id)?.error()?;
            let ago = human_duration((now - at).max(0));
            Some(Check::warn(ID, format!("{}: {error} ({ago} ago)", account.label)).advice(format!(
                "`codex-pool refresh {}`, or `codex-pool doctor --online`",
                account.shell_ref()
            )))
        };
    let mut checks: Vec<Check> = folder.accounts().iter().filter_map(failed).collect();
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no request for usage failed the last time"));
    }
    checks
}

/// Returns what the next launch does.
fn pick(folder: &PoolFacts, now: i64) -> Option<Check> {
    const ID: &str = "pick";
    let (pool, main_home) = (folder.pool.as_ref().ok()?, folder.main_home.as_ref().ok()?);
    let views = view::of_pool(&main_home.ctx, pool, &folder.processes.ledger, folder.live(), now);
    let explain = |view: &AccountView| format!("{}: {}", view.account.label, view.reason);
    if let Some(pinned) = views.iter().find(|view| view.pinned) {
        let elsewhere = pinned.ranked.reason == Reason::Elsewhere;
        return Some(if elsewhere && views.iter().any(|view| view.next) {
            Check::ok(ID, format!("the pin does not count in this folder; {}", explain(pinned)))
        } else if pinned.next && pinned.state != State::Exhausted {
            Check::ok(ID, format!("{} is pinned, so launches use it", pinned.account.label))
        } else {
            Check::warn(
                ID,
                format!("the pinned account cannot be used or is at its limit; {}", explain(pinned)),
            )
            .advice("`codex-pool use --auto` unpins it")
        });
    }
    Some(match views.iter().find(|view| view.next) {
        Some(first) if first.state == State::Exhausted => {
            Check::warn(ID, format!("every account is at its limit; {}", explain(first)))
                .advice("`codex-pool why` shows when each resets; `codex-pool add` adds one more")
        }
        Some(first) => Check::ok(ID, format!("the next launch uses {}", explain(first))),
        None => Check::fail(ID, "no account can be picked").advice("`codex-pool why` says why"),
    })
}
