//! Starting `codex-pool refresh` from a launch: in the background if usage data is old, and with a wait only if all of
//! it is too old, or a token is about to expire or has. Uses no network itself.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::spawn;
use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::auth_doc::AuthDoc;
use crate::config::Settings;
use crate::env::{Env, names};
use crate::paths::PoolPaths;
use crate::shared::Role;
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
    /// A refresh before the pick, since the access of every account has ended, and members may have renewed it.
    WaitForAccess,
}

impl Due {
    /// Returns how long a launch waits for it. `named`: an account was asked for by name, so that nothing is picked.
    pub(super) fn wait(self, settings: &Settings, named: bool) -> Option<Duration> {
        match self {
            Due::Wait if !named => Some(settings.launch_refresh_timeout),
            Due::WaitForAccess => Some(TOKEN_WAIT),
            _ => None,
        }
    }
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
    let accounts = || registry.accounts.iter().filter(pickable);
    let mut polls = accounts().map(|account| usage.poll(&account.id));
    let waited =
        usage.no_wait_until.is_some_and(|until| (1..=NO_WAIT).contains(&(until.saturating_sub(now))));
    let syncs = registry.shared.is_some() && usage.sync_is_due(now);
    let asks = usage.may_ask(registry.shared, now) && polls.clone().any(|poll| poll.due(settings, now));
    let lacks_access = registry.shared == Some(Role::Runner)
        && accounts().next().is_some()
        && accounts().all(|account| account.access_ended(now));
    if !settings.background_refresh || !syncs && !asks {
        Due::Nothing
    } else if syncs && lacks_access && !waited && !usage.database_is_down(now) {
        Due::WaitForAccess
    } else if asks && !waited && polls.all(|poll| poll.older_than(settings.max_stale, now)) {
        Due::Wait
    } else {
        Due::Background
    }
}

/// Returns whether Codex would soon renew this token itself, in every session at once, or on a runner whether it will
/// soon be without access. If a document was renewed a moment ago and still looks old, a clock is wrong. `by_members`:
/// the members of a shared pool renew it.
pub(super) fn token_needs_renewal(doc: &AuthDoc, by_members: bool, now: i64) -> bool {
    let just_renewed =
        doc.last_refresh().is_some_and(|at| (0..TOKEN_WAITS_BELOW).contains(&(now.saturating_sub(at))));
    doc.kind() == AccountKind::Chatgpt
        && (doc.refresh_token().is_some() || by_members)
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
    use crate::account::{AccessOnly, AccountId};
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

    #[test]
    fn a_launch_on_a_runner_waits_if_all_access_has_ended_and_the_database_answers() {
        let (mut registry, mut usage) = pool([None, None]);
        registry.shared = Some(Role::Runner);
        let ended = |left: i64| Some(AccessOnly { ends_at: Some(NOW + left), by_members: true });
        for (left, asked) in [(0, Due::WaitForAccess), (1, Due::Background)] {
            registry.accounts[0].access_only = ended(-5);
            registry.accounts[1].access_only = ended(left);
            assert_eq!(due(&registry, &usage, &Settings::default(), NOW), asked, "{left}");
        }
        registry.accounts[1].enabled = false;
        let asks = |registry: &Registry, usage: &UsageCache| due(registry, usage, &Settings::default(), NOW);
        assert_eq!(asks(&registry, &usage), Due::WaitForAccess, "the other is not wanted");
        registry.shared = Some(Role::Member);
        assert_eq!(asks(&registry, &usage), Due::Wait, "for usage");
        registry.shared = Some(Role::Runner);
        usage.no_wait_until = Some(NOW + NO_WAIT);
        assert_eq!(asks(&registry, &usage), Due::Background, "a launch waited in vain");
        usage.no_wait_until = None;
        usage.sharing_mut().tried(Some("it is down".to_owned()), NOW - 100);
        assert_eq!(asks(&registry, &usage), Due::Background, "the database does not answer");
        usage.sharing_mut().tried(None, NOW - 5);
        assert_eq!(asks(&registry, &usage), Due::Nothing, "it was asked just now");
        registry.accounts.clear();
        usage.sharing_mut().tried(None, NOW - 100);
        assert_eq!(asks(&registry, &usage), Due::Background);
    }
}
