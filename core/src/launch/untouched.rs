//! A launch that failed half-way: Codex runs without the pool, where that is allowed.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{Program, folder_rule, nested, pool_of};
use crate::codex::{argv, find};
use crate::config::Settings;
use crate::env::{Env, names};

/// Returns the real Codex as it runs without the pool, for a launch that failed half-way.
///
/// # Errors
/// The reason: there is no Codex, an account was asked for by name, or a folder rule forbids the login that is there.
pub fn untouched(env: &Env, argv0: &OsStr, args: &[OsString], own: Option<&Path>) -> Result<Program, String> {
    if let Some(name) = env.text(names::CODEX_POOL_ACCOUNT) {
        return Err(format!("account `{name}` was asked for"));
    }
    let paths = pool_of(env).ok();
    let call = argv::parse(args);
    if env.text(names::CODEX_POOL) != Some("off") && call.needs_account() {
        let against =
            |paths| folder_rule::against_untouched(env, paths, Some(&call), "the pool cannot be used");
        if let Some(error) = paths.as_ref().and_then(against) {
            return Err(error.to_string());
        }
    }
    let settings = paths.map(|paths| Settings::load(&paths.config()).0);
    let tried = nested::tried(env.get(names::CODEX_POOL_DEPTH));
    let codex =
        find::find_beyond(env, &settings.unwrap_or_default(), own, &tried).map_err(|e| e.to_string())?;
    let thread = env.text(names::CODEX_THREAD_ID);
    let depth = nested::depth(env.text(names::CODEX_POOL_DEPTH), thread);
    let next = nested::depth_value(depth + 1, thread, &tried, &codex);
    let mut program = Program::new(codex, argv0, args, env);
    program.set_env(names::CODEX_POOL_DEPTH, Some(&next));
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, AccountId, AccountKind};
    use crate::store::path_key;

    #[test]
    fn folder_rule_holds_for_a_launch_that_failed_half_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (pool, codex_home, acme) = (root.join(".codex-pool"), root.join(".codex"), root.join("acme"));
        for folder in [&pool, &codex_home, &acme] {
            std::fs::create_dir(folder).unwrap();
        }
        let id = AccountId::of_chatgpt("u", "w");
        let work =
            Account { folders: vec![path_key(&acme)], ..Account::new(id, "work", AccountKind::Chatgpt, 0) };
        let registry = serde_json::json!({"version": 2, "accounts": [work]});
        std::fs::write(pool.join("accounts.json"), registry.to_string()).unwrap();
        let home = root.to_str().unwrap();
        let start = |cwd: &Path, more: &[(&str, &str)]| {
            let env = Env::of(&[&[("HOME", home), ("CODEX_POOL_CODEX", "/bin/sh")], more].concat(), cwd, 0);
            untouched(&env, OsStr::new("codex"), &[], None).map(drop)
        };
        let refused = start(&acme, &[]).unwrap_err();
        assert!(refused.contains("~/acme") && refused.contains("CODEX_POOL=off"), "{refused}");
        assert_eq!(start(&acme, &[("CODEX_POOL", "off")]), Ok(()));
        assert_eq!(start(&root, &[]), Ok(()));
        std::fs::write(pool.join("accounts.json"), "{\"accounts\": [{\"folders\":").unwrap();
        assert!(start(&root, &[]).is_err(), "what cannot be read may say anything");
    }
}
