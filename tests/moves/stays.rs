//! Interfaces that stay where they are, and why, and one that only needs its history put right.

use testkit::backend::Usage;
use testkit::{Cmd, SOON, World};

use crate::world::{Moves as _, each, free};

/// Requires that an interface at its limit stays, for a reason with these words.
#[track_caller]
fn stays(world: &World, cmd: Cmd, words: &str) {
    let mut ui = world.terminal(free(cmd));
    world.wait_for_server();
    world.limit("alice", 2);
    ui.send_line("do the task");
    let server = world.wait_for_server();
    world.wait_for_refusal(words);
    assert_eq!(world.server(&world.codex_home()), Some(server));
    assert_eq!((world.moved(), world.live_owner().as_deref()), (0, Some("alice")), "{}", world.moves());
    assert_eq!(world.backend().report().turns_of("bob").len(), 0);
}

#[test]
fn interface_whose_account_was_named_stays() {
    each(&["alice", "bob"], |world| {
        stays(world, world.codex(&[]).env("CODEX_POOL_ACCOUNT", "alice"), "asked for by name, or is pinned");
    });
}

#[test]
fn interface_of_a_pinned_account_stays() {
    each(&["alice", "bob"], |world| {
        world.pool(&["use", "alice"]).run().ok();
        stays(world, world.codex(&[]), "asked for by name, or is pinned");
    });
}

#[test]
fn interface_that_is_not_to_be_carried_on_stays() {
    for off in ["0", ""] {
        each(&["alice", "bob"], |world| {
            stays(world, world.codex(&[]).env("CODEX_POOL_CARRY_ON", off), "carrying on is off");
        });
    }
}

#[test]
fn interface_stays_where_codex_checks_who_began_a_session() {
    each(&["alice", "bob"], |world| {
        if world.version() != testkit::PINNED {
            return;
        }
        world.edit_config(|config| {
            let features = toml::Table::from_iter([("cli_resume_account_check".to_owned(), true.into())]);
            config.insert("features".to_owned(), features.into());
        });
        stays(world, world.codex(&[]), "cli_resume_account_check");
    });
}

#[test]
fn interface_stays_where_its_folder_forbids_the_next_account() {
    each(&["alice", "bob"], |world| {
        let folder = world.root().join("bobs");
        std::fs::create_dir(&folder).expect("make a folder");
        let folder = folder.to_str().expect("a path");
        world.pool(&["set", "bob", "--folder", folder]).run().ok();
        stays(world, world.codex(&[]), "no other account can go on");
    });
}

#[test]
fn interface_stays_when_nobody_can_go_on() {
    each(&["alice", "bob"], |world| {
        world.backend().set_usage("bob", Usage::percent(100.0, 40.0));
        world.cache_usage(&[("alice", 10.0, 10.0), ("bob", 100.0, 40.0)], 0);
        stays(world, world.codex(&[]), " resets first\",\"resets_at\":");
        let shown = world.pool(&["list", "--json"]).run().ok().json();
        let shown = testkit::text(&shown["moves"][0]["why"]);
        let (why, left) = shown.split_once(" resets first, in ").expect("a time");
        assert!(why.starts_with("no other account can go on; ") && left.ends_with(['h', 'm']), "{shown}");
    });
}

#[test]
fn history_that_another_account_left_is_put_right_in_the_window() {
    each(&["alice", "bob"], |world| {
        let mut ui = world.open(&[]);
        world.hello(&mut ui, "alice");
        world.rank(&["bob", "alice"]);
        // Past everything that makes a history fit for another account.
        world.pool(&["use", "--best", "--restart-server", "--force"]).run().ok();
        ui.wait_gone("Reconnecting", SOON);
        ui.send_line("do the task");
        let report =
            world.backend().wait_for("a refusal", SOON, |r| r.turns.iter().any(|turn| turn.status == 400));
        assert!(report.turns.iter().all(|turn| turn.status != 429));
        ui.wait_for_text("done by bob", SOON);
        assert_eq!(world.moved(), 1, "{}", world.moves());
        world.assert_nothing_lost(&["alice", "bob"]);
    });
}
