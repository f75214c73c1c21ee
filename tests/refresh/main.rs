//! Usage and tokens, end to end: the real `codex-pool` against the stand-in service.

mod background;
mod errors;
mod logs;
mod places;
mod real;
mod renew;
mod tls;
mod usage;
mod watch;

use serde_json::Value;
use testkit::Sandbox;
use testkit::backend::{LoginSpec, UserSpec};

/// A pool with these users of the sandbox's service, and no pause between requests.
fn pool_of(names: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    settings(&sandbox, "min_poll_interval = \"0s\"\n");
    for name in names {
        add(&sandbox, name, UserSpec::new(name), &LoginSpec::default());
    }
    sandbox
}

/// Adds one account to the pool.
fn add(sandbox: &Sandbox, name: &str, user: UserSpec, login: &LoginSpec) {
    sandbox.backend().add_user(name, user);
    import(sandbox, name, &sandbox.backend().auth_json_with(name, login));
}

fn import(sandbox: &Sandbox, label: &str, auth_json: &str) {
    sandbox.pool(&["import", "-", "--label", label]).stdin(auth_json).run().ok();
}

/// Writes the pool's `config.toml`.
fn settings(sandbox: &Sandbox, text: &str) {
    sandbox.write_private(&sandbox.pool_home().join("config.toml"), text);
}

/// The account of that label in a JSON answer.
fn account<'a>(answer: &'a Value, label: &str) -> &'a Value {
    let accounts = answer["accounts"].as_array().expect("accounts");
    accounts.iter().find(|a| a["label"] == label).unwrap_or_else(|| panic!("no {label} in {answer}"))
}

/// `list --json`.
fn list(sandbox: &Sandbox) -> Value {
    sandbox.pool(&["list", "--json"]).run().ok().json()
}

/// `refresh --json` for all accounts.
fn refresh(sandbox: &Sandbox) -> Value {
    sandbox.pool(&["refresh", "--json"]).run().json()
}

/// What the pool holds for that label.
fn stored(sandbox: &Sandbox, label: &str) -> String {
    let id = account(&list(sandbox), label)["id"].as_str().expect("an id").to_owned();
    std::fs::read_to_string(sandbox.pool_home().join("auth").join(format!("{id}.json"))).expect("a document")
}

/// The refresh token in a document.
fn refresh_token(auth_json: &str) -> String {
    let doc: Value = serde_json::from_str(auth_json).expect("a whole document");
    doc["tokens"]["refresh_token"].as_str().expect("a refresh token").to_owned()
}
