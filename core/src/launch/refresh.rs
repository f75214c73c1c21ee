//! Keeping usage and tokens fresh without being in a launch's way: the admin command is started in the
//! background, and waited for only when nothing that is known is of use any more. No network here.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::spawn;
use crate::account::{Account, AccountKind, AuthState};
use crate::auth_doc::AuthDoc;
use crate::config::Settings;
use crate::env::{Env, names};
use crate::paths::PoolPaths;
use crate::usage::UsageCache;

/// A token with less than this left is renewed before Codex starts on it, seconds.
pub(super) const TOKEN_WAITS_BELOW: i64 = 600;
/// How long that is waited for.
const TOKEN_WAIT: Duration = Duration::from_secs(10);

/// What usage data asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A refresh in the background.
    Background,
    /// A refresh before anything is picked: nothing that is known is of use.
    Wait,
}

/// What is due, of accounts that may be picked.
pub(super) fn due(accounts: &[Account], usage: &UsageCache, settings: &Settings, now: i64) -> Due {
    let pickable = |account: &&Account| {
        account.enabled
            && account.kind == AccountKind::Chatgpt
            && !matches!(account.auth.state, AuthState::ReauthRequired | AuthState::WorkspaceRemoved)
    };
    let ids = || accounts.iter().filter(pickable).map(|account| &account.id);
    if !settings.background_refresh || !ids().any(|id| usage.due(id, settings, now)) {
        Due::Nothing
    } else if usage.worth_waiting(ids(), settings, now) {
        Due::Wait
    } else {
        Due::Background
    }
}

/// Whether Codex would have to renew this token itself, soon, in every session at once. A document that
/// was renewed a moment ago and still looks old is a matter of clocks.
pub(super) fn token_needs_renewal(doc: &AuthDoc, now: i64) -> bool {
    let just_renewed =
        doc.last_refresh().is_some_and(|at| (0..TOKEN_WAITS_BELOW).contains(&(now.saturating_sub(at))));
    doc.kind() == AccountKind::Chatgpt
        && doc.refresh_token().is_some()
        && doc.expires_at().is_some_and(|exp| exp.saturating_sub(now) < TOKEN_WAITS_BELOW)
        && !just_renewed
}

/// Starts `codex-pool refresh --background`.
pub(super) fn in_background(env: &Env, paths: &PoolPaths) {
    start(env, paths, None, None);
}

/// The same, waiting for its end.
pub(super) fn and_wait(env: &Env, paths: &PoolPaths, limit: Duration) {
    start(env, paths, None, Some(limit));
}

/// Renews one account's token, waiting for it.
pub(super) fn token(env: &Env, paths: &PoolPaths, account: &Account) {
    start(env, paths, Some(account.id.as_str()), Some(TOKEN_WAIT));
}

fn start(env: &Env, paths: &PoolPaths, account: Option<&str>, limit: Option<Duration>) {
    let admin = paths.admin_link();
    if !admin.exists() {
        return;
    }
    let mut args = vec![OsStr::new("refresh"), OsStr::new("--background")];
    args.extend(account.map(OsStr::new));
    // It belongs to no session.
    let foreign = [names::CODEX_POOL_LAUNCH, names::CODEX_POOL_ACCOUNT, names::CODEX_POOL_DEPTH];
    let vars: Vec<(CString, CString)> = env
        .vars()
        .filter(|(name, _)| !foreign.iter().any(|f| name == f))
        .filter_map(|(n, v)| Some((CString::new(n.as_bytes()).ok()?, CString::new(v.as_bytes()).ok()?)))
        .collect();
    spawn::run_detached(&admin, &args, &vars, limit);
}
