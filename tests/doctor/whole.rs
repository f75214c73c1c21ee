//! The doctor as a whole.

use testkit::backend::LoginSpec;
use testkit::files::{set_mode, write_script};
use testkit::{Codex, Sandbox, World};

use super::clinic::{diagnose, doctor, fill, healthy, snapshot};

#[test]
fn doctor_finds_nothing_in_a_sound_pool() {
    let world = World::from(Sandbox::builder().home_name("h ö me").build());
    fill(&world);
    // The stand-in has a version of its own, and with it an old version's traps.
    write_script(&world.root().join("bin/codex"), "echo codex-cli 0.169.0");
    let diagnosis = doctor(&world, &[]);
    assert!(diagnosis.complaints().is_empty(), "{diagnosis:#?}");
    let text = world.pool(&["doctor"]).run().ok();
    assert!(text.stdout.starts_with("No problems\n"), "{text}");
    assert!(text.stdout.ends_with(" checks fine (-v shows them)\n"), "{text}");
    assert!(world.pool(&["doctor", "-v"]).run().ok().stdout.contains("\nok    traps"), "they are fine, too");
    assert_eq!(text.stderr, "");
}

#[test]
fn doctor_without_fix_changes_nothing() {
    let world = healthy();
    set_mode(&world.pool_home(), 0o755);
    world.write_live("half a docu");
    let before = snapshot(world.home());
    doctor(&world, &[]);
    doctor(&world, &["--online"]);
    assert_eq!(snapshot(world.home()), before);
}

#[test]
fn doctor_shows_no_secret() {
    let world = healthy();
    world.write_live(&world.backend().auth_json_with("alice", &LoginSpec::expires_in(-1)));
    std::fs::write(world.stored_path("bob"), world.backend().auth_json("alice")).expect("break bob");
    for args in [&["doctor"][..], &["doctor", "--json", "--online"], &["doctor", "--fix"]] {
        let output = world.pool(args).run();
        for secret in world.backend().secrets() {
            assert!(!output.stdout.contains(&secret) && !output.stderr.contains(&secret), "{output}");
        }
    }
}

#[test]
fn doctor_without_pool_and_codex_names_both() {
    let world = World::from(Sandbox::builder().without_pool().codex(Codex::Missing).build());
    let diagnosis = doctor(&world, &[]);
    assert!(diagnosis.has("pool", "fail", "there is no pool").contains("codex-pool init"));
    assert!(diagnosis.has("codex", "fail", "not installed").contains("npm install -g @openai/codex"));
    let homeless = diagnose(world.pool(&["doctor", "--json"]).env_remove("HOME"));
    assert!(homeless.has("pool", "fail", "HOME is not set").contains("CODEX_POOL_HOME"));
    homeless.has("codex", "fail", "not installed");
}

#[test]
fn registry_that_cannot_be_used_hides_nothing_else() {
    let world = healthy();
    std::fs::write(world.pool_home().join("accounts.json"), "{").expect("break it");
    set_mode(&world.pool_home(), 0o755);
    let diagnosis = diagnose(world.pool(&["doctor", "--json"]).env("CODEX_API_KEY", "k"));
    diagnosis.has("registry", "fail", "corrupt");
    diagnosis.has("permissions", "fail", "other users");
    diagnosis.has("environment", "warn", "CODEX_API_KEY");
    diagnosis.well("shim");
    diagnosis.well("codex");
    diagnosis.well("lock");
}

#[test]
fn doctor_fixes_what_it_can_and_names_the_rest() {
    let world = healthy();
    set_mode(&world.pool_home(), 0o755);
    std::fs::write(world.pool_home().join("usage.json"), "{").expect("break the cache");
    std::fs::create_dir(world.pool_home().join("usage.json.corrupt")).expect("stand in the way");
    let diagnosis = doctor(&world, &["--fix"]);
    assert!(diagnosis.fixed().iter().any(|done| done.contains("private")), "{diagnosis:#?}");
    diagnosis.well("permissions");
    diagnosis.has("leftovers", "warn", "usage.json");
}
