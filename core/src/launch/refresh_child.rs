//! Starting `codex-pool refresh` from a launch: in the background if usage data is old, and with a wait only if all of
//! it is too old or a token is about to expire. Uses no network itself.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::spawn;
use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::auth_doc::AuthDoc;
use crate::config::Settings;
use crate::env::{Env, names};
use crate::paths::PoolPaths;
use crate::store::Registry;
use crate::usage::{NO_WAIT, UsageCache};

/// An access token with less time left is renewed before Codex starts on it, seconds.
pub(super) const TOKEN_WAITS_BELOW: i64 = 600;
/// How long a launch waits for a renewal.
const TOKEN_WAIT: Duration = Duration::from_secs(10);

/// What the age of the usage data asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A refresh in the background.
    Background,
    /// A refresh before the pick, since all data is too old.
    Wait,
}

/// Returns what is due for the accounts that may be picked.
pub(super) fn due(registry: &Registry, usage: &UsageCache, settings: &Settings, now: i64) -> Due {
    let pickable = |account: &&Account| {
        account.enabled
            && account.kind == AccountKind::Chatgpt
            && !matches!(
                account.auth.state,
                AuthState::ReauthRequired | AuthState::WorkspaceRemoved | AuthState::Deactivated
            )
    };
    let mut polls = registry.accounts.iter().filter(pickable).map(|account| usage.poll(&account.id));
    let waited =
        usage.no_wait_until.is_some_and(|until| (1..=NO_WAIT).contains(&(until.saturating_sub(now))));
    let syncs = registry.shared.is_some() && usage.sync_is_due(now);
    let asks = usage.may_ask(registry.shared, now) && polls.clone().any(|poll| poll.due(settings, now));
    if !settings.background_refresh || !syncs && !asks {
        Due::Nothing
    } else if asks && !waited && polls.all(|poll| poll.older_than(settings.max_stale, now)) {
        Due::Wait
    } else {
        Due::Background
    }
}

/// Returns whether Codex would soon renew this token itself, in every session at once. If a document was renewed a
/// moment ago and still looks old, a clock is wrong.
pub(super) fn token_needs_renewal(doc: &AuthDoc, now: i64) -> bool {
    let just_renewed =
        doc.last_refresh().is_some_and(|at| (0..TOKEN_WAITS_BELOW).contains(&(now.saturating_sub(at))));
    doc.kind() == AccountKind::Chatgpt
        && doc.refresh_token().is_some()
        && doc.expires_at().is_some_and(|exp| exp.saturating_sub(now) < TOKEN_WAITS_BELOW)
        && !just_renewed
}

/// Starts `codex-pool refresh --background` and does not wait.
pub(super) fn in_background(env: &Env, paths: &PoolPaths) {
    start(env, paths, None, None);
}

/// Starts `codex-pool refresh --background` and waits at most `limit` for its end.
pub(super) fn and_wait(env: &Env, paths: &PoolPaths, limit: Duration) {
    start(env, paths, None, Some(limit));
}

/// Renews the tokens of one account. `waits`: for that.
pub(super) fn renew_tokens(env: &Env, paths: &PoolPaths, account: &Account, waits: bool) {
    start(env, paths, Some(account.id.as_str()), waits.then_some(TOKEN_WAIT));
}

/// Asks the service for the usage of an account, or of all, and waits at most `limit` for the answer.
pub(super) fn ask_service(env: &Env, paths: &PoolPaths, account: Option<&AccountId>, limit: Duration) {
    let mut args = vec![OsStr::new("refresh")];
    args.extend(account.map(|id| OsStr::new(id.as_str())));
    run_admin(env, paths, &args, Some(limit));
}

fn start(env: &Env, paths: &PoolPaths, account: Option<&str>, limit: Option<Duration>) {
    let mut args = vec![OsStr::new("refresh"), OsStr::new("--background")];
    args.extend(account.map(OsStr::new));
    run_admin(env, paths, &args, limit);
}

/// Starts `codex-pool` with these arguments; `limit`: how long its end is waited for.
pub(super) fn run_admin(env: &Env, paths: &PoolPaths, args: &[&OsStr], limit: Option<Duration>) {
    let admin = paths.admin_link();
    if !admin.exists() {
        return;
    }
    // It belongs to no session.
    let foreign = [
        names::CODEX_POOL_LAUNCH,
        names::CODEX_POOL_ACCOUNT,
        names::CODEX_POOL_DEPTH,
        names::CODEX_POOL_CARRIED,
    ];
    let vars: Vec<(CString, CString)> = env
        .vars()
        .filter(|(name, _)| !foreign.iter().any(|f| name == f))
        .filter_map(|(n, v)| Some((CString::new(n.as_bytes()).ok()?, CString::new(v.as_bytes()).ok()?)))
        .collect();
    spawn::run_detached(&admin, args, &vars, limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountId;
    use crate::usage::{Source, Usage, UsageEntry};

    const NOW: i64 = 1_000_000;

    /// Two accounts, and how many seconds ago the usage of each was fetched.
    fn pool(fetched_ago: [Option<i64>; 2]) -> (Registry, UsageCache) {
        let (mut registry, mut usage) = (Registry::default(), UsageCache::default());
        for (label, ago) in ["a", "b"].into_iter().zip(fetched_ago) {
            let id = AccountId::of_chatgpt(label, "w");
            registry.accounts.push(Account::new(id.clone(), label, AccountKind::Chatgpt, 0));
            let fetched = ago.map(|ago| Usage::new(Source::Api, NOW - ago, Vec::new()));
            usage.accounts.insert(id, UsageEntry { usage: fetched, ..UsageEntry::default() });
        }
        (registry, usage)
    }

    #[test]
    fn a_launch_waits_only_if_all_is_stale_and_no_launch_waited_in_vain() {
        let asks =
            |(registry, usage): &(Registry, UsageCache)| due(registry, usage, &Settings::default(), NOW);
        let mut all = pool([None, Some(1_801)]);
        assert_eq!(asks(&all), Due::Wait);
        assert_eq!(asks(&(Registry::default(), UsageCache::default())), Due::Nothing);
        for (until, asked) in
            [(NOW + NO_WAIT, Due::Background), (NOW, Due::Wait), (NOW + 10 * NO_WAIT, Due::Wait)]
        {
            all.1.no_wait_until = Some(until);
            assert_eq!(asks(&all), asked, "{}", until - NOW);
        }
        assert_eq!(asks(&pool([None, Some(1_799)])), Due::Background, "one is of use");
        let mut all = pool([None, Some(300)]);
        all.0.accounts[0].auth.state = AuthState::ReauthRequired;
        assert_eq!(asks(&all), Due::Nothing);
    }
}
