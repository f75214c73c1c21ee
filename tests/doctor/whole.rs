//! The doctor as a whole.

use testkit::backend::LoginSpec;
use testkit::{Codex, Sandbox};

use super::clinic::{diagnose, doctor, document, fill, healthy, set_mode, snapshot};
use super::programs::script;

#[test]
fn when_nothing_is_wrong_everything_is_green() {
    let sandbox = Sandbox::builder().home_name("h ö me").build();
    fill(&sandbox);
    // The stand-in has a version of its own, and with it an old version's traps.
    script(&sandbox.root().join("bin/codex"), "echo codex-cli 0.169.0");
    let diagnosis = doctor(&sandbox, &[]);
    assert!(diagnosis.complaints().is_empty(), "{diagnosis:#?}");
    let text = sandbox.pool(&["doctor"]).run().ok();
    assert!(text.stdout.ends_with("Everything is as it should be.\n"), "{text}");
    assert_eq!(text.stderr, "");
}

#[test]
fn looking_changes_nothing() {
    let sandbox = healthy();
    set_mode(&sandbox.pool_home(), 0o755);
    sandbox.write_live("half a docu");
    let before = snapshot(sandbox.home());
    doctor(&sandbox, &[]);
    doctor(&sandbox, &["--online"]);
    assert_eq!(snapshot(sandbox.home()), before);
}

#[test]
fn nothing_secret_is_said() {
    let sandbox = healthy();
    sandbox.write_live(&sandbox.backend().auth_json_with("alice", &LoginSpec::expires_in(-1)));
    std::fs::write(document(&sandbox, "bob"), sandbox.backend().auth_json("alice")).expect("break bob");
    for args in [&["doctor"][..], &["doctor", "--json", "--online"], &["doctor", "--fix"]] {
        let output = sandbox.pool(args).run();
        for secret in sandbox.backend().secrets() {
            assert!(!output.stdout.contains(&secret) && !output.stderr.contains(&secret), "{output}");
        }
    }
}

#[test]
fn without_anything_it_still_says_everything() {
    let sandbox = Sandbox::builder().without_pool().codex(Codex::Missing).build();
    let diagnosis = doctor(&sandbox, &[]);
    assert!(diagnosis.has("pool", "fail", "there is no pool").contains("codex-pool init"));
    assert!(diagnosis.has("codex", "fail", "not installed").contains("npm install -g @openai/codex"));
    let homeless = diagnose(sandbox.pool(&["doctor", "--json"]).env_remove("HOME"));
    assert!(homeless.has("pool", "fail", "HOME is not set").contains("CODEX_POOL_HOME"));
    homeless.has("codex", "fail", "not installed");
}

#[test]
fn a_registry_that_cannot_be_used_hides_nothing_else() {
    let sandbox = healthy();
    std::fs::write(sandbox.pool_home().join("accounts.json"), "{").expect("break it");
    set_mode(&sandbox.pool_home(), 0o755);
    let diagnosis = diagnose(sandbox.pool(&["doctor", "--json"]).env("CODEX_API_KEY", "k"));
    diagnosis.has("registry", "fail", "corrupt");
    diagnosis.has("permissions", "fail", "other users");
    diagnosis.has("environment", "warn", "CODEX_API_KEY");
    diagnosis.well("shim");
    diagnosis.well("codex");
    diagnosis.well("lock");
}

#[test]
fn what_cannot_be_mended_is_said_and_the_rest_is_mended() {
    let sandbox = healthy();
    set_mode(&sandbox.pool_home(), 0o755);
    std::fs::write(sandbox.pool_home().join("usage.json"), "{").expect("break the cache");
    std::fs::create_dir(sandbox.pool_home().join("usage.json.corrupt")).expect("stand in the way");
    let diagnosis = doctor(&sandbox, &["--fix"]);
    assert!(diagnosis.mended().iter().any(|done| done.contains("private")), "{diagnosis:#?}");
    diagnosis.well("permissions");
    diagnosis.has("leftovers", "warn", "usage.json");
}
