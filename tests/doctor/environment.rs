//! Settings, and variables that bypass the pool.

use std::fs;

use super::clinic::{diagnose, doctor, healthy};

#[test]
fn wrong_setting_is_named_with_its_file() {
    let world = healthy();
    let config = world.pool_home().join("config.toml");
    fs::write(&config, "polici = \"room\"\nsession_room = \"much\"\n").expect("settings");
    let diagnosis = doctor(&world, &[]);
    diagnosis.has("settings", "warn", "unknown setting `polici`");
    let fix = diagnosis.has("settings", "warn", "`session_room` must be");
    assert!(fix.contains(config.to_str().expect("UTF-8")));
    fs::write(&config, "= broken").expect("settings");
    doctor(&world, &[]).has("settings", "warn", "not valid TOML");
}

#[test]
fn variables_that_bypass_the_pool_are_named() {
    let world = healthy();
    doctor(&world, &[]).well("environment");
    for (name, value) in [("CODEX_API_KEY", "k"), ("CODEX_ACCESS_TOKEN", "t"), ("CODEX_POOL", "off")] {
        let diagnosis = diagnose(world.pool(&["doctor", "--json"]).env(name, value));
        assert_eq!(diagnosis.has("environment", "warn", name), format!("`unset {name}`"));
    }
    let harmless = diagnose(world.pool(&["doctor", "--json"]).env("OPENAI_API_KEY", "k"));
    harmless.well("environment");
}

#[test]
fn account_in_the_environment_is_resolved() {
    let world = healthy();
    let with = |name: &str| diagnose(world.pool(&["doctor", "--json"]).env("CODEX_POOL_ACCOUNT", name));
    with("bob").has("environment", "warn", "every launch from here uses bob");
    with("stranger").has("environment", "fail", "no account matches `stranger`");
}
