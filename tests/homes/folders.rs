//! Sessions that are resumed, with the real Codex, where accounts have folders: the session's folder counts, and the one
//! that Codex works in.

use std::fs;
use std::path::PathBuf;

use testkit::{Output, SOON, World, answered};

use crate::world::{worlds, worlds_with_server};

/// Private ranks first and is live; work belongs to a folder.
const ALL: [&str; 2] = ["private", "work"];

/// Returns a folder that Codex trusts.
fn place(world: &World) -> PathBuf {
    let acme = world.home().join("acme");
    fs::create_dir_all(&acme).expect("a folder");
    world.edit_config(|config| {
        let trusted = toml::Table::from_iter([("trust_level".to_owned(), "trusted".into())]);
        let projects = config["projects"].as_table_mut().expect("projects");
        projects.insert(acme.display().to_string(), trusted.into());
    });
    acme
}

/// Returns such a folder, to which work is bound.
fn acme(world: &World) -> PathBuf {
    let acme = place(world);
    world.pool(&["set", "work", "--folder"]).arg(&acme).run().ok();
    acme
}

/// Returns the session that was asked in last.
fn last_session(world: &World) -> String {
    let report = world.backend().report();
    let turn = report.turns.iter().rfind(|turn| turn.session().is_some()).expect("a turn");
    turn.session().expect("a session").to_owned()
}

fn resume_in(world: &World, session: &str, folder: &std::path::Path) -> Output {
    world.codex(&["exec", "--skip-git-repo-check", "resume", session, "go on"]).current_dir(folder).run()
}

#[test]
fn session_is_resumed_on_an_account_of_its_folder_from_anywhere() {
    for world in worlds(&ALL) {
        let acme = acme(&world);
        answered(world.exec().current_dir(&acme).run(), "work");
        let of_acme = last_session(&world);
        answered(world.exec().current_dir(world.home()).run(), "private");
        let of_home = last_session(&world);
        answered(resume_in(&world, &of_acme, world.home()), "work");
        answered(resume_in(&world, &of_acme, &acme), "work");
        answered(resume_in(&world, &of_home, world.home()), "private");
        // `exec` would work in acme, which the session's own account may not.
        let output = resume_in(&world, &of_home, &acme).expect(4);
        assert!(output.stderr.contains("~/acme is for work"), "{}: {output}", world.version());
        let mut ui = world.terminal(world.codex(&["resume", &of_acme]).current_dir(&acme));
        world.ask(&mut ui, "work");
        ui.quit_codex();
    }
}

#[test]
fn session_that_an_account_of_another_folder_began_changes_hands() {
    for world in worlds(&ALL) {
        let place = place(&world);
        answered(world.exec().current_dir(&place).run(), "private");
        let session = last_session(&world);
        let acme = acme(&world);
        let output = answered(resume_in(&world, &session, &acme), "work");
        assert!(output.stderr.contains("this session is private's (~/acme is for work)"), "{output}");
        assert_eq!(last_session(&world), session, "{}", world.version());
    }
}

#[test]
fn session_open_as_another_account_is_not_joined_against_a_folder() {
    for world in worlds_with_server(&ALL) {
        let place = place(&world);
        let mut ui = world.terminal(world.codex(&[]).current_dir(&place));
        world.ask(&mut ui, "private");
        let session = last_session(&world);
        let acme = acme(&world);
        let queue = ["queue", "--thread", session.as_str(), "--message", "more"];
        let output = world.codex(&queue).current_dir(&acme).run().expect(4);
        assert!(
            output.stderr.contains("open in a running Codex") && output.stderr.contains("~/acme is for work"),
            "{}: {output}",
            world.version()
        );
        ui.wait_for_text("hello from private", SOON);
        ui.quit_codex();
    }
}
