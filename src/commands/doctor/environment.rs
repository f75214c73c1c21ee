//! The pool's settings, and environment variables that bypass the pool.

use codex_pool_core::env::names::{CODEX_POOL, CODEX_POOL_ACCOUNT};
use codex_pool_core::references;

use super::Check;
use super::facts::Facts;

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = settings(facts);
    checks.extend(variables(facts));
    checks
}

fn settings(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "settings";
    let Ok(folder) = facts.folder() else { return Vec::new() };
    let file = folder.paths.config();
    if facts.settings_problems.is_empty() {
        let what = if file.exists() {
            format!("{}", file.display())
        } else {
            "the defaults; there is no config.toml".to_owned()
        };
        return vec![Check::ok(ID, what)];
    }
    let problem = |p: &String| Check::warn(ID, p.as_str()).advice(format!("edit {}", file.display()));
    facts.settings_problems.iter().map(problem).collect()
}

fn variables(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "environment";
    let mut checks = Vec::new();
    if let Some(name) = facts.env.identity(true) {
        let what = if facts.env.identity(false).is_some() { "Codex" } else { "`codex exec`" };
        checks.push(
            Check::warn(ID, format!("{name} is set: {what} uses it, and no account of the pool"))
                .advice(format!("`unset {name}`")),
        );
    }
    if facts.env.text(CODEX_POOL) == Some("off") {
        checks.push(
            Check::warn(ID, "CODEX_POOL=off is set: launches from here bypass the pool")
                .advice("`unset CODEX_POOL`"),
        );
    }
    if let Some(name) = facts.env.text(CODEX_POOL_ACCOUNT)
        && let Ok(folder) = facts.folder()
    {
        checks.push(match references::resolve(folder.accounts(), name) {
            Ok(account) => Check::warn(
                ID,
                format!("CODEX_POOL_ACCOUNT is set: every launch from here uses {}", account.display()),
            )
            .advice("`unset CODEX_POOL_ACCOUNT` to let the pool pick"),
            Err(mut error) => {
                error.message = format!("CODEX_POOL_ACCOUNT: {}; launches from here fail", error.message);
                Check::error(ID, error, "`unset CODEX_POOL_ACCOUNT`")
            }
        });
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no environment variable overrides the pool"));
    }
    checks
}
