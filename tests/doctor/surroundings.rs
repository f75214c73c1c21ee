//! Settings, and variables that go past the pool.

use std::fs;

use super::clinic::{diagnose, doctor, healthy};

#[test]
fn a_wrong_setting_is_named_with_its_file() {
    let sandbox = healthy();
    let config = sandbox.pool_home().join("config.toml");
    fs::write(&config, "polici = \"room\"\nsession_room = \"much\"\n").expect("settings");
    let diagnosis = doctor(&sandbox, &[]);
    diagnosis.has("settings", "warn", "unknown setting `polici`");
    let fix = diagnosis.has("settings", "warn", "`session_room` must be");
    assert!(fix.contains(config.to_str().expect("UTF-8")));
    fs::write(&config, "= broken").expect("settings");
    doctor(&sandbox, &[]).has("settings", "warn", "not valid TOML");
}

#[test]
fn variables_that_go_past_the_pool_are_named() {
    let sandbox = healthy();
    doctor(&sandbox, &[]).well("environment");
    for (name, value) in [("CODEX_API_KEY", "k"), ("CODEX_ACCESS_TOKEN", "t"), ("CODEX_POOL", "off")] {
        let diagnosis = diagnose(sandbox.pool(&["doctor", "--json"]).env(name, value));
        assert_eq!(diagnosis.has("environment", "warn", name), format!("`unset {name}`"));
    }
    let harmless = diagnose(sandbox.pool(&["doctor", "--json"]).env("OPENAI_API_KEY", "k"));
    harmless.well("environment");
}

#[test]
fn an_account_in_the_environment_is_resolved() {
    let sandbox = healthy();
    let with = |name: &str| diagnose(sandbox.pool(&["doctor", "--json"]).env("CODEX_POOL_ACCOUNT", name));
    with("bob").has("environment", "warn", "every launch from here uses bob");
    with("nobody").has("environment", "fail", "no account matches `nobody`");
}
