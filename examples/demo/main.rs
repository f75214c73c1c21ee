//! The product in 20 seconds, without an account or a network: `cargo run --example demo`. Three made-up accounts at a
//! stand-in service on this machine, the real shim and the real `codex-pool`, and the real Codex if one is installed
//! (else a stand-in that sends one request). All in a temporary folder.

#![expect(clippy::print_stdout, reason = "a demo talks")]

mod picking;

use codex_pool_core::codex::find;
use codex_pool_core::config::Settings;
use codex_pool_core::env::Env;
use testkit::backend::{Limit, Task, Usage};
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
    let mut stage = Terminal { carries_on: false };
    picking::tell(&world, &mut stage);
    tokens(&world, &mut stage);
    carry_on(&world);
}

/// The last part: a limit in the middle of an `exec`.
fn carry_on(world: &World) {
    let service = world.backend();
    let mut stage = Terminal { carries_on: true };
    stage.title("A limit ends no work: bob reaches his in the middle of an `exec`, which goes on as the next account.");
    for name in ["alice", "bob", "carol"] {
        service.set_usage(name, Usage::percent(if name == "bob" { 5.0 } else { 50.0 }, 40.0));
    }
    world.pool(&["refresh"]).run().ok();
    service.clear_report();
    service.limit_after("bob", 1, Limit::Refuse);
    if matches!(world.codex_kind(), Codex::Program(_)) {
        service.give_task(Task::running(3, "echo step {step} of 3, as {user}"));
    }
    stage.run(world, "codex", &["exec", "fix the tests"]);
    let mut users: Vec<_> =
        service.report().turns.into_iter().filter(|t| t.status == 200).filter_map(|t| t.user).collect();
    users.dedup();
    println!("\nOne command; the service has seen {}.", users.join(", then "));
    // A real Codex goes on once it is known how it starts.
    assert!(users.len() == 2 || matches!(world.codex_kind(), Codex::Program(_)), "{users:?}");
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
struct Terminal {
    /// Whether an `exec` goes on at a limit. The story begins without.
    carries_on: bool,
}

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
        let command = if program == "codex" { world.codex(&args) } else { world.pool(&args) };
        let carries_on = if self.carries_on { "1" } else { "0" };
        let command = command.env("CODEX_POOL_CARRY_ON", carries_on).env("STANDIN_LOG", "1");
        // A stand-in's session is two requests here.
        let command = command.env("STANDIN_TURNS", if self.carries_on { "2" } else { "1" });
        show(&command.env("CODEX_POOL_VERBOSE", "1").run());
    }
}

fn show(output: &Output) {
    // Of what the real Codex says of itself, the answer and the limit matter here.
    let matters =
        |line: &&str| line.contains("codex-pool:") || line.contains("limit") || line.contains("ERROR");
    for line in output.stderr.lines().filter(matters) {
        println!("  {line}");
    }
    for line in output.stdout.lines() {
        println!("  {line}");
    }
}
