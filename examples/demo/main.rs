//! The product in 20 seconds, without an account or a network: `cargo run --example demo`. Three made-up accounts at a
//! stand-in service on this machine, the real shim and the real `codex-pool`, and the real Codex if one is installed
//! (else a stand-in that sends one request). All in a temporary folder.

#![expect(clippy::print_stdout, reason = "a demo talks")]

mod picking;

use codex_pool_core::codex::find;
use codex_pool_core::config::Settings;
use codex_pool_core::env::Env;
use testkit::{Codex, Output, World};

use picking::Stage;

fn main() {
    let installed = find::find(&Env::of_process(), &Settings::default(), None).ok();
    println!("codex-pool demo: everything below happens in a temporary folder, against a stand-in service.");
    println!(
        "Codex here is {}.",
        installed.as_ref().map_or("a stand-in".into(), |p| p.display().to_string())
    );
    let world = picking::world(installed.map_or(Codex::StandIn, Codex::Program));
    // By it, the shim learns to start an npm-installed Codex without Node.
    world.link_admin();
    picking::tell(&world, &mut Terminal);
    tokens(&world, &mut Terminal);
}

/// The second half: tokens that Codex renews by itself.
fn tokens(world: &World, stage: &mut impl Stage) {
    let service = world.backend();
    stage.title("Where other switchers lose logins: bob's access token expires, and Codex itself renews it.");
    service.reject_access_tokens("bob");
    let before = service.newest_refresh_token("bob");
    stage.run(world, "codex", &["exec", "hi"]);
    assert_ne!(service.newest_refresh_token("bob"), before, "Codex renewed the token");

    stage.title("A refresh token works once. Away from bob and back again, with the new one:");
    for name in ["carol", "bob"] {
        stage.run(world, "codex-pool", &["run", name, "--", "exec", "hi"]);
    }
    let report = service.report();
    println!(
        "\nThe service has seen {} reused or revoked tokens. No login was lost.",
        report.violations.len()
    );
    assert!(report.violations.is_empty(), "{:?}", report.violations);
}

/// Prints to this program's terminal.
struct Terminal;

impl Stage for Terminal {
    fn title(&mut self, text: &str) {
        println!("\n\x1b[1m{text}\x1b[0m");
    }

    fn run(&mut self, world: &World, program: &str, args: &[&str]) {
        println!("$ {program} {}", args.join(" "));
        // The real Codex wants to be told that the folder is no repository.
        let args = args.iter().flat_map(|&arg| match arg {
            "exec" => vec!["exec", "--skip-git-repo-check"],
            arg => vec![arg],
        });
        let args: Vec<&str> = args.collect();
        show(&picking::command(world, program, &args).env("CODEX_POOL_VERBOSE", "1").run());
    }

    fn seen(&mut self, text: &str) {
        println!("\n{text}");
    }
}

fn show(output: &Output) {
    // Of what the real Codex says of itself, the answer and the limit matter here. It says some errors twice.
    let matters = |line: &&str| line.starts_with("codex-pool:") || line.starts_with("ERROR:");
    let mut lines: Vec<_> = output.stderr.lines().filter(matters).collect();
    lines.dedup();
    for line in lines {
        println!("  {line}");
    }
    for line in output.stdout.lines() {
        println!("  {line}");
    }
}
