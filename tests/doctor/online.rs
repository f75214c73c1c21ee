//! `--online`: reachability, and that no token is sent for it.

use std::net::TcpListener;

use super::clinic::{diagnose, doctor, healthy};

#[test]
fn both_hosts_are_tried_without_a_token() {
    let sandbox = healthy();
    let diagnosis = doctor(&sandbox, &["--online"]);
    diagnosis.has("network", "ok", "(usage)");
    diagnosis.has("network", "ok", "(token refresh)");
    let report = sandbox.backend().report();
    assert!(report.usage.is_empty() && report.refreshes.is_empty());
    sandbox.backend().assert_clean();
}

#[test]
fn a_host_that_does_not_answer_is_named() {
    let sandbox = healthy();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    sandbox.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("http://{closed}/backend-api").into());
    });
    let fix = doctor(&sandbox, &["--online"]).has("network", "fail", "usage: no connection");
    assert!(fix.contains("HTTPS_PROXY"), "{fix}");
    doctor(&sandbox, &["--online"]).has("network", "ok", "(token refresh)");
    doctor(&sandbox, &[]).well("usage");
}

#[test]
fn hosts_that_get_no_token_are_named() {
    let sandbox = healthy();
    sandbox.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), "http://elsewhere.example/backend-api".into());
    });
    // Without the override, the issuer in the tokens counts, and the sandbox's is no known one.
    let command =
        sandbox.pool(&["doctor", "--json", "--online"]).env_remove("CODEX_REFRESH_TOKEN_URL_OVERRIDE");
    let diagnosis = diagnose(command);
    diagnosis.has("network", "fail", "neither https nor on this machine");
    let fix = diagnosis.has("network", "fail", "which is not auth.openai.com");
    assert!(fix.contains("allowed_issuers"), "{fix}");
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let sandbox = healthy();
    let command = sandbox.pool(&["doctor", "--json", "--online"]).env("CODEX_CA_CERTIFICATE", "/nowhere.pem");
    let fix = diagnose(command).has("network", "fail", "/nowhere.pem, which is not there");
    assert!(fix.contains("CODEX_CA_CERTIFICATE"), "{fix}");
}
