//! The product in 20 seconds, with no account and no network: `cargo run --example demo`. Three made-up
//! accounts at a stand-in service on this machine, the real shim and the real `codex-pool`, and the real
//! Codex if one is installed (else a stand-in that sends one request). All in a temporary folder.

#![expect(clippy::print_stdout, reason = "a demo talks")]

use std::path::PathBuf;

use codex_pool_core::codex::find;
use codex_pool_core::config::Settings;
use codex_pool_core::env::Env;
use testkit::backend::Usage;
use testkit::{Codex, Output, Sandbox};

fn main() {
    let installed = find::find(&Env::of_process(), &Settings::default(), None).ok();
    let world = world(installed.clone());
    let service = world.backend();
    println!("codex-pool demo: everything below happens in a temporary folder, against a stand-in service.");
    println!(
        "Codex here is {}.",
        installed.map_or_else(|| "a stand-in".to_owned(), |p| p.display().to_string())
    );

    title("Three accounts. alice has most left, and what she has is lost soonest.");
    for (name, five_hours, week) in [("alice", 10.0, 20.0), ("bob", 30.0, 60.0), ("carol", 5.0, 70.0)] {
        world.import(name);
        service.set_usage(name, Usage::percent(five_hours, week));
    }
    run(&world, "codex-pool", &["refresh"]);

    title("You type `codex` as always. The shim picks the account, swaps auth.json and becomes Codex.");
    run(&world, "codex", &["exec", "--skip-git-repo-check", "hi"]);

    title("alice reaches her limit. Codex can only say so ...");
    service.set_usage("alice", Usage::percent(100.0, 35.0));
    run(&world, "codex", &["exec", "--skip-git-repo-check", "hi"]);

    title("... but the pool learns of it, and the next launch goes on with somebody else.");
    run(&world, "codex-pool", &["refresh"]);
    run(&world, "codex", &["exec", "--skip-git-repo-check", "hi"]);
    run(&world, "codex-pool", &["why"]);

    title("Where other switchers lose logins: bob's access token runs out, and Codex itself renews it.");
    service.reject_access_tokens("bob");
    let before = service.newest_refresh_token("bob");
    run(&world, "codex", &["exec", "--skip-git-repo-check", "hi"]);
    assert_ne!(service.newest_refresh_token("bob"), before, "Codex renewed the token");
    println!("  (a refresh token can be used once: bob's old one is worth nothing from now on)");
    println!("Away from bob and back again, with the new one:");
    for name in ["carol", "bob"] {
        run(&world, "codex-pool", &["run", name, "--", "exec", "--skip-git-repo-check", "hi"]);
    }
    let report = service.report();
    println!(
        "\nThe service has seen {} reused or revoked tokens. No login was lost.",
        report.violations.len()
    );
    assert!(report.violations.is_empty(), "{:?}", report.violations);
}

fn world(installed: Option<PathBuf>) -> Sandbox {
    let codex = installed.map_or(Codex::StandIn, Codex::Program);
    let world = Sandbox::builder().codex(codex).build();
    // The story is told in seconds, so usage may be asked for at once.
    let settings = "background_refresh = false\nmin_poll_interval = \"0s\"\n";
    world.write_private(&world.pool_home().join("config.toml"), settings);
    world
}

fn title(text: &str) {
    println!("\n\x1b[1m{text}\x1b[0m");
}

/// Runs a command and shows what a person would see of it.
fn run(world: &Sandbox, program: &str, args: &[&str]) {
    let shown: Vec<&str> = args.iter().copied().filter(|a| *a != "--skip-git-repo-check").collect();
    println!("$ {program} {}", shown.join(" "));
    let command = if program == "codex" { world.codex(args) } else { world.pool(args) };
    show(&command.env("CODEX_POOL_VERBOSE", "1").run());
}

fn show(output: &Output) {
    // Of the real Codex's account of itself, the answer and the limit are what matters here.
    let matters =
        |line: &&str| line.contains("codex-pool:") || line.contains("limit") || line.contains("ERROR");
    for line in output.stderr.lines().filter(matters) {
        println!("  {line}");
    }
    for line in output.stdout.lines() {
        println!("  {line}");
    }
}
