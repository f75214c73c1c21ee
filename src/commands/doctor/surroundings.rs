//! The surroundings of a launch: the pool's settings, and environment variables that go past the pool.

use codex_pool_core::env::names::{CODEX_POOL, CODEX_POOL_ACCOUNT};
use codex_pool_core::references;

use super::Check;
use super::scene::{Scene, split};

/// A login in one of these wins over `auth.json`, whatever the pool put there.
const BYPASS: [&str; 2] = ["CODEX_API_KEY", "CODEX_ACCESS_TOKEN"];

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    let mut checks = settings(scene);
    checks.extend(variables(scene));
    checks
}

fn settings(scene: &Scene<'_>) -> Vec<Check> {
    const ID: &str = "settings";
    let Some(place) = scene.place() else { return Vec::new() };
    let file = place.paths.config();
    if scene.settings_problems.is_empty() {
        let what = if file.exists() {
            format!("{}", file.display())
        } else {
            "the defaults; there is no config.toml".to_owned()
        };
        return vec![Check::ok(ID, what)];
    }
    let problem = |p: &String| Check::warn(ID, p.as_str()).fix(format!("edit {}", file.display()));
    scene.settings_problems.iter().map(problem).collect()
}

fn variables(scene: &Scene<'_>) -> Vec<Check> {
    const ID: &str = "environment";
    let mut checks = Vec::new();
    for name in BYPASS.into_iter().filter(|name| scene.env.get(name).is_some()) {
        checks.push(
            Check::warn(ID, format!("{name} is set: Codex uses it, and no account of the pool"))
                .fix(format!("`unset {name}`")),
        );
    }
    if scene.env.text(CODEX_POOL) == Some("off") {
        checks.push(
            Check::warn(ID, "CODEX_POOL=off: launches from here go past the pool").fix("`unset CODEX_POOL`"),
        );
    }
    if let Some(name) = scene.env.text(CODEX_POOL_ACCOUNT)
        && let Some(place) = scene.place()
    {
        checks.push(match references::resolve(place.accounts(), name) {
            Ok(account) => Check::warn(
                ID,
                format!("CODEX_POOL_ACCOUNT is set: every launch from here uses {}", account.display()),
            )
            .fix("`unset CODEX_POOL_ACCOUNT` to let the pool pick"),
            Err(error) => {
                let (what, fix) = split(&error);
                let fix = fix.unwrap_or_else(|| "`unset CODEX_POOL_ACCOUNT`".to_owned());
                Check::fail(ID, format!("CODEX_POOL_ACCOUNT: {what}; launches from here fail")).fix(fix)
            }
        });
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no variable goes past the pool"));
    }
    checks
}
