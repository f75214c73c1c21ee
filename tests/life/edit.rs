//! `rm`, `rename`, `enable`, `disable`, and the references that name an account.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;
use testkit::backend::{UserSpec, refresh_token};
use testkit::pty::{CTRL_C, ENTER, ESCAPE};
use testkit::{Pty, SOON, World, complains};

use crate::logins::Logins as _;

#[test]
fn removed_account_leaves_no_credentials_behind() {
    let world = World::logged_in(&["alice", "bob"]);
    let backend = world.backend();
    let (first, bobs_id) = (world.stored("bob"), world.id("bob"));
    // A home of its own, a copy in lost+found, and a file of version 1.
    let (alice, bob) = (world.hold(world.exec_as("alice")), world.hold(world.exec_as("bob")));
    world.open_gate();
    alice.wait().ok();
    bob.wait().ok();
    world.pool(&["import", "-"]).stdin(backend.auth_json("bob")).run().ok();
    let inline = |doc: &str| serde_json::json!({"id": "x", "authJson": serde_json::from_str::<serde_json::Value>(doc).expect("JSON")});
    let v1 = serde_json::json!({"version": 1, "accounts": [inline(&first), inline(&world.stored("alice"))]});
    world.write_private(&world.pool_home().join("accounts.v1.json"), &v1.to_string());
    let second = world.stored("bob");
    assert!(world.pool_files_with(&refresh_token(&first)).len() >= 2);
    assert!(world.pool_files_with(&refresh_token(&second)).len() >= 2);
    let home = world.own_home("bob");
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&home).expect("the home").map(|e| e.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    fs::create_dir(home.join("tmp"))
        .and_then(|()| fs::write(home.join("made-by-a-later-codex"), ""))
        .expect("files");
    assert!(names().len() > 10);

    let output = world.pool(&["rm", "bob", "--yes"]).run().ok().says("removed `bob` and its credentials");
    complains(&output, "was not revoked");
    for token in [refresh_token(&first), refresh_token(&second)] {
        assert_eq!(world.pool_files_with(&token), [""; 0].map(std::path::PathBuf::from));
    }
    assert!(!world.pool_files_with(&refresh_token(&world.stored("alice"))).is_empty());
    assert_eq!(world.labels(), ["alice"]);
    // Codex finds old sessions through the home's links, and files that the main home never got are not removed.
    assert_eq!(names(), ["archived_sessions", "made-by-a-later-codex", "sessions"]);
    assert!(world.codex_home().join("sessions").is_dir());
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    // Its id is free again.
    world.pool(&["import", "-"]).stdin(backend.auth_json("bob")).run().ok().says("imported `bob`");
    assert_eq!(world.id("bob"), bobs_id);
}

#[test]
fn live_and_pinned_accounts_go_only_with_force_and_a_line() {
    let world = World::logged_in(&["alice", "bob"]);
    world.pool(&["use", "alice"]).run().ok();
    let output = world.pool(&["rm", "alice", "--yes"]).run().expect(1);
    complains(&output, &format!("`alice` is live in {}", world.codex_home().display()));
    complains(&output, "--force");
    complains(&world.pool(&["rm", "alice", "--force"]).run().expect(2), "next: add `--yes`");
    let mut terminal = world.pty(world.pool(&["rm", "alice", "--force"]));
    terminal.wait_for_text("it is pinned, and the pin ends", SOON);
    terminal.send("y");
    terminal.send(ENTER);
    terminal.wait_for_text("removed `alice`", SOON);
    assert!(terminal.wait(SOON).success());
    assert!(terminal.screen().contains("nothing is pinned any more"), "{}", terminal.screen());
    assert_eq!(world.live(), None);
    world.codex(&["exec", "hi"]).run().ok().says("hello from bob");
    world.backend().assert_clean();
}

#[test]
fn users_link_at_auth_json_stays_and_the_file_behind_it_goes() {
    let world = World::logged_in(&["alice"]);
    let (link, behind) = (world.codex_home().join("auth.json"), world.home().join("elsewhere.json"));
    fs::rename(&link, &behind).expect("move it");
    symlink(&behind, &link).expect("link it");
    world.pool(&["rm", "alice", "--yes", "--force"]).run().ok();
    assert!(link.is_symlink() && !behind.exists());
}

#[test]
fn account_in_use_is_not_removed() {
    let world = World::logged_in(&["alice", "bob"]);
    let held = world.hold(world.exec_as("alice"));
    let output = world.pool(&["rm", "alice", "--yes", "--force"]).run().expect(1);
    complains(&output, &format!("`alice` is in use by codex exec (pid {}", held.pid()));
    // In another CODEX_HOME, too.
    let other = world.home().join("other");
    fs::create_dir(&other).expect("a folder");
    let elsewhere = |cmd: testkit::Cmd| cmd.env("CODEX_HOME", &other);
    complains(&elsewhere(world.pool(&["rm", "alice", "--yes", "--force"])).run().expect(1), "is in use by");
    world.open_gate();
    held.wait().ok();
    complains(&elsewhere(world.pool(&["rm", "alice", "--yes"])).run().expect(1), "is live in");
    assert!(world.live_is_good());
}

fn asked(world: &World, args: &[&str]) -> Pty {
    let terminal = world.pty(world.pool(args));
    terminal.wait_for_text("Remove `bob` and its credentials?", SOON);
    terminal
}

#[test]
fn rm_removes_nothing_on_no_ctrl_c_or_no_answer() {
    let world = World::logged_in(&["alice", "bob"]);
    world.make_live("bob");
    world.make_live("alice");
    let before = world.possessions();
    for (keys, said) in [
        (ENTER, "nothing was removed"),
        ("n\r", "nothing was removed"),
        (ESCAPE, "nothing was removed"),
        (CTRL_C, "stopped by Ctrl-C"),
    ] {
        let mut terminal = asked(&world, &["rm", "bob"]);
        terminal.send(keys);
        terminal.wait_for_text(said, SOON);
        assert_eq!(terminal.wait(SOON).code(), Some(1));
    }
    // While it waits for an answer, the pool is free, and the answer counts for what is there then.
    let mut terminal = asked(&world, &["rm", "bob"]);
    world.pool(&["use", "bob"]).run().ok();
    terminal.send("y\r");
    terminal.wait_for_text("was switched meanwhile; nothing was removed", SOON);
    terminal.wait(SOON);
    world.pool(&["use", "alice"]).run().ok();
    let mut terminal = asked(&world, &["rm", "bob"]);
    terminal.signal(Signal::SIGKILL);
    terminal.wait(SOON);
    complains(
        &world.pool(&["rm", "bob"]).run().expect(2),
        "`bob` is removed only after a yes, nothing was removed",
    );
    assert_eq!(world.possessions(), before);
    let mut terminal = asked(&world, &["rm", "bob"]);
    terminal.send("y\r");
    assert!(terminal.wait(SOON).success());
    assert_eq!(world.labels(), ["alice"]);
}

#[test]
fn disabling_says_what_still_uses_the_account() {
    let world = World::logged_in(&["alice", "bob"]);
    world
        .pool(&["disable", "bob"])
        .run()
        .ok()
        .says("`bob` is disabled: launches do not pick it; `codex-pool enable bob` undoes it");
    assert_eq!(world.account("bob")["state"], "disabled");
    world.pool(&["disable", "bob"]).run().ok().says("is already disabled");
    complains(&world.pool(&["disable", "alice"]).run().ok(), "stays live until the next launch");
    world.pool(&["use", "bob"]).run().ok();
    complains(&world.pool(&["disable", "bob"]).run().ok(), "it is pinned, so launches use it all the same");
    world.pool(&["enable", "bob"]).run().ok().says("`bob` is enabled");
    world.pool(&["enable", "bob"]).run().ok().says("`bob` is already enabled");
}

#[test]
fn labels_that_look_like_something_else_still_name_their_account() {
    let world = World::logged_in(&["alice", "bob"]);
    let bob = world.id("bob");
    for label in [
        "--best",
        "-",
        "../etc/passwd",
        "exec",
        "abcdefghij",
        "Büro für Übles",
        "日本",
        "a'b \"c\" $(d)",
        "--",
    ] {
        world.pool(&["rename", &bob, "--", label]).run().ok().says(&format!("is now `{label}`"));
        assert_eq!(world.id(label), bob);
        world.pool(&["use", "--", label]).run().ok().says(&format!("`{label}` is live and pinned"));
        let output = world.pool(&["use", "--auto"]).run().ok();
        // The command that is shown can be typed as it is.
        let typeable = label == "exec" || label == "abcdefghij";
        output.says(&format!("`codex-pool use {}` pins it", if typeable { label } else { &bob }));
        world.pool(&["use", "alice"]).run().ok();
    }
    complains(&world.pool(&["rename", &bob, "alice"]).run().expect(1), "`alice` is the label of alice");
    complains(&world.pool(&["rename", "alice", &bob]).run().expect(1), "is the id of");
    complains(
        &world.pool(&["rename", "alice", " \u{202e} "]).run().expect(2),
        "at least one visible character",
    );
    world.pool(&["rename", "alice", "alice"]).run().ok();
}

#[test]
fn references_go_by_id_account_id_label_email_then_beginning() {
    let world = World::logged_in(&["alice"]);
    let backend = world.backend();
    backend.add_user("bob", UserSpec::new("bob").workspace("aaaaaaaa-1111"));
    backend.add_user("bert", UserSpec::new("bert").workspace("aaaaaaaa-1111"));
    backend.add_user("carol", UserSpec::new("carol").workspace("bbbbbbbb-2222"));
    for user in ["bob", "bert", "carol"] {
        world.pool(&["import", "-"]).stdin(backend.auth_json(user)).run().ok();
    }
    let names = |reference: &str| world.pool(&["disable", "--", reference]).run();
    let found = |reference: &str, label: &str| {
        names(reference).ok().says(&format!("`{label}`"));
    };
    found(&world.id("bert"), "bert");
    found("bbbbbbbb-2222", "carol");
    found("bob", "bob");
    found("BOB", "bob");
    found("bob@example.com", "bob");
    found("car", "carol");
    found(&world.id("carol")[..4], "carol");
    complains(&names("bbbb").expect(3), "no account matches `bbbb`");
    world.pool(&["rename", "carol", "bo"]).run().ok();
    found("bo", "bo");
    for ambiguous in ["aaaaaaaa-1111", "b"] {
        let output = names(ambiguous).expect(3);
        complains(&output, &format!("`{ambiguous}` matches "));
        complains(&output, &format!("bob <bob@example.com> ({})", world.id("bob")));
        complains(&output, &format!("bert <bert@example.com> ({})", world.id("bert")));
        complains(&output, "use a longer reference or the id in parentheses");
    }
    complains(&names("stranger").expect(3), "one of ");
    complains(&names("").expect(3), "names no account");
}
