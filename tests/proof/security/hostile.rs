//! Documents and answers made to hurt: nested a hundred thousand deep, with keys twice, with NUL, with text that
//! moves the cursor or turns the line around.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::Codex;
use testkit::backend::{Fault, LoginSpec, Route, UserSpec};

use crate::lab::Lab;

/// Sets a title, clears the screen, turns the line around, and hides a joiner.
const NASTY: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}evil\u{2066}\u{9b}31m\r\u{200f}x\u{0}y";

/// Returns what a terminal would act on.
fn acts_on_a_terminal(text: &str) -> Option<char> {
    let bad = |c: &char| {
        c.is_control() && *c != '\n' && *c != '\t'
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().find(bad)
}

#[test]
fn output_never_moves_the_cursor_or_turns_the_line() {
    let world = Lab::new(&["alice", "bob"], "min_poll_interval = \"0s\"\n");
    let backend = world.backend();
    let spec = UserSpec {
        email: format!("{NASTY}@example.com"),
        plan: NASTY.to_owned(),
        ..UserSpec::new("mallory")
    };
    backend.add_user("mallory", spec);
    let document = backend.auth_json("mallory");
    let commands: [&[&str]; 13] = [
        &["list"],
        &["list", "--refresh", "--verbose"],
        &["why"],
        &["refresh"],
        &["doctor"],
        &["doctor", "--online"],
        &["use", "mallory"],
        &["use", "mallory", "--force"],
        &["use", NASTY.split('\0').next().expect("text")],
        &["disable", "mallory"],
        &["reauth", "mallory", "--device-auth", "--", "--experimental_issuer", "http://127.0.0.1:1"],
        &["run", "mallory", "--", "exec", "--skip-git-repo-check", "hi"],
        &["__complete-refs"],
    ];
    // Once with a good label, once with one that its owner wrote into the registry.
    for label in [Some("mallory"), Some(NASTY)] {
        world.reset(&LoginSpec::default());
        let mut words = vec!["import", "-"];
        words.extend(label.filter(|label| *label != NASTY).iter().flat_map(|label| ["--label", *label]));
        let mut outputs = vec![world.pool(&words).stdin(document.as_str()).run().ok()];
        let registry = world.pool_home().join("accounts.json");
        if label == Some(NASTY) {
            let text = fs::read_to_string(&registry).expect("a registry");
            let mut tree: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            for account in tree["accounts"].as_array_mut().expect("accounts") {
                account["label"] = json!(format!("{NASTY}{}", account["label"]));
                account["email"] = json!(NASTY);
                account["plan"] = json!(NASTY);
            }
            world.write_private(&registry, &tree.to_string());
        }
        let said = json!({"error": {"code": NASTY, "message": NASTY}, "detail": NASTY, "plan_type": NASTY});
        let faults = [None, Some(Fault::Status(403, said.clone()))];
        for fault in faults {
            backend.clear_faults();
            for route in [Route::Token, Route::Usage] {
                fault.iter().for_each(|fault| backend.inject(route, fault.clone()));
            }
            outputs.extend(commands.iter().map(|words| world.pool(words).run()));
            outputs.push(world.exec().env("CODEX_POOL_VERBOSE", "1").run());
            outputs.push(world.exec_as("mallory").run());
            outputs.push(world.exec().env("CODEX_POOL_ACCOUNT", "\u{1b}[2J\u{202e}").run());
        }
        for output in outputs {
            assert!(output.signal().is_none() && !output.stderr.contains("panicked"), "{output}");
            for text in [&output.stdout, &output.stderr] {
                let found = acts_on_a_terminal(text);
                assert!(found.is_none(), "{found:?} in {text:?} of {}", output.program);
            }
        }
    }
    backend.clear_faults();
}

#[test]
fn documents_made_to_hurt_crash_and_delay_nothing() {
    let world = Lab::with(Codex::Probe, &["alice", "bob"], "");
    let pool = world.pool_home();
    let deep = 100_000;
    let good = world.backend().auth_json("alice");
    let texts = [
        "[".repeat(deep),
        "{\"a\":".repeat(deep),
        format!("{{\"tokens\": {}", "[".repeat(deep)),
        format!("{{\"version\": 2, \"accounts\": {}{}}}", "[".repeat(deep), "]".repeat(deep)),
        format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("{} = 1", vec!["a"; deep].join(".")),
        format!("[{}]", vec!["a"; deep].join(".")),
        good.replacen('{', "{\"tokens\": {}, \"tokens\": {},", 1),
        good.replace("\"refresh_token\": \"", "\"refresh_token\": \"\\u0000"),
        format!("{{\"version\": 1, \"accounts\": {{\"{}\": null}}}}", "x".repeat(1 << 19)),
        "\0".repeat(5000),
        "\u{feff}{}".to_owned(),
        "{\"version\": 1e999}".to_owned(),
        "{\"version\": 18446744073709551616, \"accounts\": 5}".to_owned(),
        "null".to_owned(),
        "\"\"".to_owned(),
    ];
    let names = ["accounts.json", "state.json", "usage.json", "config.toml", "launches/odd"];
    let mut places: Vec<_> = names.iter().map(|name| pool.join(name)).collect();
    places.extend([
        world.stored_path("alice"),
        world.codex_home().join("auth.json"),
        world.codex_home().join("config.toml"),
    ]);
    let users_config = fs::read_to_string(world.codex_home().join("config.toml")).expect("a config");
    for text in &texts {
        for place in &places {
            world.reset(&LoginSpec::default());
            world.write_private(place, text);
            for words in [["exec", "hi"].as_slice(), &["list"]] {
                let cmd = if words[0] == "exec" { world.codex(words) } else { world.pool(words) };
                let began = Instant::now();
                let output = cmd.timeout(Duration::from_secs(60)).run();
                let start: String = text.chars().take(40).collect();
                let context = format!("{start:?} at {}", place.display());
                assert!(
                    output.signal().is_none() && !output.stderr.contains("panicked"),
                    "{context}: {output}"
                );
                assert!(words[0] != "exec" || output.code() == Some(0), "{context}: {output}");
                assert!(began.elapsed() < Duration::from_secs(20), "{context}: {output}");
            }
            if place.ends_with("accounts.json") {
                let now = fs::read_to_string(place).expect("the registry");
                assert_eq!(&now, text, "a registry that cannot be read was replaced");
            }
            world.write_private(&pool.join("config.toml"), "");
            world.write_private(&world.codex_home().join("config.toml"), &users_config);
        }
    }
}

/// Answers of the service that are huge, or nested deep.
#[test]
fn answers_made_to_hurt_do_not_crash_a_refresh() {
    let world = Lab::new(&["alice"], "min_poll_interval = \"0s\"\n");
    let deep = 100_000;
    let bodies: [Vec<u8>; 4] = [
        "[".repeat(deep).into_bytes(),
        "{\"rate_limit\":".repeat(deep).into_bytes(),
        vec![b' '; 64 << 20],
        format!(
            "{{\"access_token\": \"{}\", \"plan_type\": \"{}\"}}",
            "x".repeat(8 << 20),
            "x".repeat(8 << 20)
        )
        .into_bytes(),
    ];
    for body in bodies {
        for status in [200, 401, 429] {
            world.reset(&LoginSpec::expires_in(20_000));
            for route in [Route::Token, Route::Usage] {
                world.backend().inject(route, Fault::Raw(status, Vec::new(), body.clone()));
            }
            let output = world.pool(&["refresh"]).run();
            world.backend().clear_faults();
            assert!(output.code().is_some() && !output.stderr.contains("panicked"), "{output}");
            assert!(output.stdout.len() + output.stderr.len() < 20_000, "too much is repeated");
            assert_eq!(world.breaches(), Vec::<String>::new());
        }
    }
}
