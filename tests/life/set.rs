//! `set`: an account's folders, reserve and weight, and what the user is told of them.

use std::fs;

use serde_json::json;
use testkit::pty::{DOWN, ENTER};
use testkit::{SOON, World, answered, complains};

#[test]
fn rules_of_an_account_are_shown_and_kept() {
    let world = World::logged_in(&["alice", "bob"]);
    let (acme, other) = (world.home().join("acme"), world.home().join("other"));
    fs::create_dir_all(acme.join("src")).and_then(|()| fs::create_dir(&other)).expect("folders");
    let bob = world.account("bob");
    assert_eq!((&bob["folders"], &bob["reserve"], &bob["weight"]), (&json!([]), &json!(0), &json!(null)));
    let set = |args: &[&str]| {
        let all = [&["set", "bob"], args].concat();
        world.pool(&all).current_dir(world.home()).run().ok()
    };
    let said = set(&[
        "--folder",
        "acme/src/..",
        "--folder",
        "other",
        "--folder",
        "acme",
        "--reserve",
        "20",
        "--weight",
        "2.5",
    ]);
    assert!(said.stdout.contains("`bob`: only in ~/acme, ~/other; reserve 20 %; weight 2.5"), "{said}");
    let bob = world.account("bob");
    assert_eq!(bob["folders"], json!([acme, other]));
    assert_eq!((&bob["reserve"], &bob["weight"]), (&json!(20), &json!(2.5)));
    let mut alone = bob.clone();
    alone.as_object_mut().expect("an account").remove("forecast");
    assert_eq!(set(&["--json"]).json()["accounts"], json!([alone]));
    let shown = world.pool(&["list", "--verbose"]).run().ok();
    assert!(shown.stdout.contains("bob: only in ~/acme, ~/other; reserve 20 %; weight 2.5"), "{shown}");
    let why = world.pool(&["why"]).current_dir(world.home()).run().ok();
    assert!(why.stdout.contains("only in ~/acme, ~/other"), "{why}");
    let why = world.pool(&["why"]).current_dir(&acme).run().ok();
    assert!(why.stdout.contains("~/acme is for bob"), "{why}");
    assert!(why.stdout.contains("Here only accounts of ~/acme are used"), "{why}");
    // A login, a renewal and a restart of everything keep it.
    world.import("bob", &world.backend().auth_json("bob"));
    assert_eq!(world.account("bob")["folders"], json!([acme, other]));
    // What is given replaces what there was, and what is free again is said.
    let said = set(&["--folder", "other"]);
    assert!(said.stderr.contains("~/acme is no account's folder any more"), "{said}");
    set(&["--no-folders", "--reserve", "0", "--weight", "plan"]);
    let bob = world.account("bob");
    assert_eq!((&bob["folders"], &bob["reserve"], &bob["weight"]), (&json!([]), &json!(0), &json!(null)));
    let registry = world.registry();
    assert!(!registry.to_string().contains("folders"), "{registry}");
}

#[test]
fn wrong_values_are_errors_that_change_nothing() {
    let world = World::logged_in(&["alice", "bob"]);
    let before = world.registry();
    let nowhere = world.pool(&["set", "bob", "--folder", "nowhere"]).run().expect(1);
    complains(&nowhere, "nowhere");
    let file = world.work().join("file");
    fs::write(&file, "").expect("a file");
    complains(&world.pool(&["set", "bob", "--folder"]).arg(&file).run().expect(1), "is not a folder");
    for wrong in [
        ["--reserve", "101"],
        ["--reserve", "-1"],
        ["--reserve", "NaN"],
        ["--weight", "0"],
        ["--weight", "inf"],
        ["--no-folders", "--folder=."],
    ] {
        world.pool(&["set", "bob", wrong[0], wrong[1]]).run().expect(2);
    }
    world.pool(&["set", "nobody", "--reserve", "1"]).run().expect(3);
    assert_eq!(world.registry(), before);
}

#[test]
fn sessions_that_run_against_new_rules_are_named() {
    let world = World::logged_in(&["alice", "bob"]);
    let session = world.hold(world.exec_as("alice"));
    let work = world.work();
    let said = world.pool(&["set", "bob", "--folder"]).arg(&work).run().ok();
    assert!(said.stderr.contains(&format!("(pid {})", session.pid())), "{said}");
    assert!(said.stderr.contains("goes on as `alice` until it ends"), "{said}");
    world.open_gate();
    session.wait().ok();
}

#[test]
fn session_in_a_folder_is_not_switched_to_an_account_that_does_not_belong() {
    let world = World::logged_in(&["alice", "bob"]);
    let acme = world.home().join("acme");
    fs::create_dir(&acme).expect("a folder");
    world.pool(&["set", "alice", "--folder"]).arg(&acme).run().ok();
    let session = world.hold(world.exec().current_dir(&acme));
    let live = world.live();
    let output = world.pool(&["use", "bob", "--force"]).run().expect(4);
    complains(&output, "would go on as `bob`, which may not be used there: ~/acme is for alice");
    assert_eq!(world.live(), live);
    world.open_gate();
    session.wait().ok();
    world.pool(&["use", "bob"]).run().ok();
    let output = world.pool(&["use", "alice"]).run().ok();
    complains(&output, "it is used only in ~/acme");
    // `--best` is the best for the current folder.
    world.rank(&["bob", "alice"]);
    world.pool(&["use", "--best"]).current_dir(&acme).run().ok();
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    let output = world.pool(&["rm", "alice", "--yes", "--force"]).run().ok();
    complains(&output, "~/acme is no account's folder any more");
}

#[test]
fn why_says_that_a_pinned_account_is_not_used_in_the_current_folder() {
    let world = World::logged_in(&["alice", "bob"]);
    let acme = world.home().join("acme");
    fs::create_dir(&acme).expect("a folder");
    world.pool(&["set", "bob", "--folder"]).arg(&acme).run().ok();
    world.pool(&["use", "bob"]).run().ok();
    let inside = world.pool(&["why"]).current_dir(&acme).run().ok();
    assert!(inside.stdout.contains("bob is pinned: launches use it regardless of the ranking."), "{inside}");
    let outside = world.pool(&["why"]).run().ok();
    let said =
        "bob is pinned, but a launch here does not use it: only in ~/acme. `codex-pool use --auto` unpins.";
    assert!(outside.stdout.contains(said), "{outside}");
    answered(world.exec().run(), "alice");
}

#[test]
fn status_and_list_name_who_is_next_in_the_current_folder() {
    let world = World::logged_in(&["alice", "bob"]);
    let acme = world.home().join("acme");
    fs::create_dir(&acme).expect("a folder");
    world.pool(&["set", "bob", "--folder"]).arg(&acme).run().ok();
    world.rank(&["alice", "bob"]);
    for (folder, next) in [(acme.as_path(), "bob"), (world.home(), "alice")] {
        let status = world.pool(&["status", "--format", "{label} {next}"]).current_dir(folder).run().ok();
        assert_eq!(status.stdout.trim_end(), format!("{next} {next}"), "{}", folder.display());
        let list = world.pool(&["list", "--json"]).current_dir(folder).run().ok().json();
        assert_eq!(list["next"], json!(world.id(next)), "{list:#}");
    }
}

#[test]
fn init_offers_folders_where_there_are_several_accounts() {
    let world = World::logged_in(&["alice", "bob"]);
    fs::create_dir(world.home().join("acme")).expect("a folder");
    let said = world.pool(&["init", "--yes"]).run().ok();
    complains(&said, "codex-pool set <account> --folder <folder>");
    let mut terminal = world.pty(world.pool(&["init"]));
    terminal.wait_for_text("Log in to another?", SOON);
    terminal.send(ENTER);
    terminal.wait_for_text("for certain folders only, such as work and private on one machine?", SOON);
    terminal.send(DOWN);
    terminal.send(DOWN);
    terminal.wait_for_text("> yes, bob", SOON);
    terminal.send(ENTER);
    terminal.wait_for_text("Which folder is bob for?", SOON);
    terminal.send_line("~/nowhere");
    terminal.wait_for_text("cannot find the folder", SOON);
    terminal.wait_for_text("> no", SOON);
    terminal.send(DOWN);
    terminal.send(DOWN);
    terminal.send(ENTER);
    terminal.wait_for_text("Which folder is bob for?", SOON);
    terminal.send_line("~/acme");
    terminal.wait_for_text("`bob` is used only in ~/acme now", SOON);
    terminal.wait_for_text("Is another one for certain folders only?", SOON);
    terminal.send(ENTER);
    terminal.wait_for_text("codex-pool doctor", SOON);
    assert_eq!(world.account("bob")["folders"], json!([world.home().join("acme")]));
}
