//! One interface, one limit.

use std::time::{Duration, Instant};

use testkit::backend::Usage;
use testkit::{SOON, wait_for};

use crate::world::{Moves as _, each, seconds_to_go_on};

#[test]
fn interface_at_its_limit_goes_on_with_the_next_account() {
    each(&["alice", "bob"], |world| {
        world.limit("alice", 2);
        let mut ui = world.open(&[]);
        ui.send_line("do the task");
        let server = wait_for("a server", SOON, || world.server(&world.codex_home()));
        world.backend().wait_for("alice's limit", SOON, |r| r.turns.iter().any(|turn| turn.status == 429));
        // It is not sent, and stays. Codex can lose keys in the moment when its server goes, before it shows them.
        ui.send("half a sentence");
        let until = Instant::now() + Duration::from_secs(3);
        while !ui.screen().contains("half a sentence") && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !ui.screen().contains("half a sentence") {
            ui.send("half a sentence");
        }
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        let screen = ui.wait_for("the end, and what was typed", SOON, |screen| {
            screen.contains("done by bob") && screen.contains("half a sentence")
        });
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{screen}");
        let seconds = seconds_to_go_on(&world.backend().report(), "alice", "bob");
        // 2 s, and what a machine that builds and tests at once may add.
        assert!(seconds < 6.0, "{seconds} s: {}", world.moves());
        assert!(world.server(&world.codex_home()).is_some_and(|now| now != server), "another server runs");
        ui.send("\x15");
        ui.quit_codex();
        world.assert_nothing_lost(&["alice", "bob"]);
    });
}

#[test]
fn last_session_is_found_where_it_went_on() {
    each(&["alice", "bob"], |world| {
        world.limit("alice", 2);
        let mut ui = world.open(&[]);
        ui.send_line("do the task");
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        ui.wait_for_text("done by bob", SOON);
        ui.quit_codex();
        let sessions = world.rollouts();
        // Alice, who began it, has been reset. The server holds it still.
        world.backend().set_usage("alice", Usage::percent(10.0, 10.0));
        world.cache_usage(&[("alice", 10.0, 10.0), ("bob", 50.0, 50.0)], 0);
        let mut ui = world.open(&["resume", "--last"]);
        world.hello(&mut ui, "bob");
        assert_eq!(world.rollouts(), sessions);
        ui.quit_codex();
        world.assert_nothing_lost(&["alice", "bob"]);
    });
}
