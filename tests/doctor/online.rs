//! `--online`: reachability, and that no token is sent for it.

use std::net::TcpListener;

use super::clinic::{diagnose, doctor, healthy};

#[test]
fn both_hosts_are_tried_without_a_token() {
    let world = healthy();
    let diagnosis = doctor(&world, &["--online"]);
    diagnosis.has("network", "ok", "(usage)");
    diagnosis.has("network", "ok", "(token renewal)");
    let report = world.backend().report();
    assert!(report.usage.is_empty() && report.refreshes.is_empty());
    world.backend().assert_clean();
}

#[test]
fn host_that_does_not_answer_is_named() {
    let world = healthy();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("http://{closed}/backend-api").into());
    });
    let fix = doctor(&world, &["--online"]).has("network", "fail", "usage: no connection");
    assert!(fix.contains("HTTPS_PROXY"), "{fix}");
    doctor(&world, &["--online"]).has("network", "ok", "(token renewal)");
    doctor(&world, &[]).well("usage");
}

#[test]
fn hosts_that_get_no_token_are_named() {
    let world = healthy();
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), "http://elsewhere.example/backend-api".into());
    });
    // Without the override, the issuer in the tokens counts, and the world's is no known one.
    let command =
        world.pool(&["doctor", "--json", "--online"]).env_remove("CODEX_REFRESH_TOKEN_URL_OVERRIDE");
    let diagnosis = diagnose(command);
    diagnosis.has("network", "fail", "neither https nor on this machine");
    let fix = diagnosis.has("network", "fail", "which is not auth.openai.com");
    assert!(fix.contains("allowed_issuers"), "{fix}");
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let world = healthy();
    let command = world.pool(&["doctor", "--json", "--online"]).env("CODEX_CA_CERTIFICATE", "/nowhere.pem");
    let fix = diagnose(command).has("network", "fail", "/nowhere.pem, which is not there");
    assert!(fix.contains("CODEX_CA_CERTIFICATE"), "{fix}");
}
