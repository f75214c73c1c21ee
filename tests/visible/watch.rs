//! `watch`: what it shows beside the table, and its keys.

use testkit::{Pty, SOON, World};

use super::{pool_of, use_up};

fn two() -> World {
    let world = pool_of(&["alice", "bob"]);
    use_up(&world, "alice", 30.0, 30.0);
    use_up(&world, "alice", 40.0, 32.0);
    use_up(&world, "bob", 60.0, 60.0);
    world
}

fn watch(world: &World, rows: u16, columns: u16) -> Pty {
    let watch = Pty::spawn(world.pool(&["watch", "--interval", "86400"]), rows, columns);
    watch.wait_for("the accounts", SOON, |screen| screen.contains("alice") && screen.contains("bob"));
    watch
}

#[test]
fn sessions_resets_chart_and_moves_are_shown_where_there_is_room() {
    let world = two();
    let session = world.hold(world.exec());
    for (rows, columns) in [(30, 80), (40, 120), (60, 200), (34, 40)] {
        let watch = watch(&world, rows, columns);
        let screen = watch.wait_for("all panels", SOON, |screen| {
            screen.contains("codex exec")
                && screen.contains("resets ─")
                && screen.contains("left over the last day")
                && screen.chars().any(|c| ('⠁'..='⣿').contains(&c))
        });
        assert!(screen.contains("alice in ~/.codex") || screen.contains("in a home"), "{columns}:\n{screen}");
        let fits = |line: &str| line.chars().count() <= usize::from(columns);
        assert!(screen.lines().all(fits), "{columns}:\n{screen}");
    }
    world.open_gate();
    session.wait();
}

#[test]
fn narrow_view_breaks_lines_below_what_they_belong_to() {
    let world = two();
    world.backend().revoke_logins("bob");
    world.backend().reject_access_tokens("bob");
    world.pool(&["refresh", "bob"]).run();
    let mut watch = watch(&world, 34, 40);
    watch.wait_for_text("% an hour; ", SOON);
    watch.send("j");
    // All of it, though it has several lines.
    watch.wait_for("what to do about bob", SOON, |screen| {
        screen
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains("log in again with `codex-pool reauth bob`")
    });
    watch.send("k\r");
    watch.wait_for("a window in a line of its own", SOON, |screen| {
        let mut of_5h = screen.lines().filter(|line| line.trim_start().starts_with("5h "));
        of_5h.any(|line| line.contains(" % · ") && line.trim_end().ends_with(')'))
    });
    watch.send("\r?");
    watch.wait_for("the rest of a key below what it does", SOON, |screen| {
        let mut lines = screen.lines().skip_while(|line| !line.starts_with("u  "));
        lines.nth(1).is_some_and(|line| line.trim_end() == "              `codex-pool use --auto`")
    });
    watch.send("qq");
    watch.wait(SOON);
}

#[test]
fn keys_filter_sort_rename_disable_and_explain() {
    let world = two();
    let mut watch = watch(&world, 30, 120);
    watch.send("?");
    watch.wait_for_text("quit", SOON);
    watch.wait_for_text("disable it, or enable it again", SOON);
    watch.send("q");
    watch.wait_gone("disable it, or enable it again", SOON);
    watch.send("/");
    watch.send("bo");
    watch.wait_for("bob alone", SOON, |screen| screen.contains("show: bo") && !screen.contains("alice"));
    watch.send("\r");
    watch.wait_for_text("only `bo`", SOON);
    watch.send("d");
    watch.wait_for_text("disabled", SOON);
    testkit::wait_until("the registry", SOON, || world.account("bob")["enabled"] == false);
    watch.send("d");
    testkit::wait_until("the registry", SOON, || world.account("bob")["enabled"] == true);
    watch.send("n");
    watch.wait_for_text("new label: bob", SOON);
    watch.send("2\r");
    testkit::wait_until("the new label", SOON, || world.labels().contains(&"bob2".to_owned()));
    watch.send("\r");
    watch.wait_for_text("left over the last 7 days", SOON);
    watch.send("\r");
    watch.wait_gone("last 7 days", SOON);
    watch.send("s");
    watch.wait_for_text("by label", SOON);
    watch.send("q");
    assert!(watch.wait(SOON).success());
}

#[test]
fn switch_under_a_session_is_asked_for_in_the_view() {
    let world = two();
    world.pool(&["use", "alice"]).run().ok();
    let session = world.hold(world.exec());
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    let mut watch = watch(&world, 30, 120);
    let question = "1 session uses `alice`. Switch to `bob` under it?";
    watch.send("j");
    let chosen = |screen: &str| screen.lines().any(|line| line.contains('▸') && line.contains("bob"));
    watch.wait_for("bob selected", SOON, chosen);
    let ask = |watch: &mut Pty| {
        watch.send("u");
        watch.wait_for_text(question, SOON);
    };
    ask(&mut watch);
    watch.send("n");
    watch.wait_for_text("`bob` is pinned", SOON);
    assert_eq!(world.live_owner().as_deref(), Some("alice"), "the file was switched without a yes");
    ask(&mut watch);
    watch.send("y");
    testkit::wait_until("the switch", SOON, || world.live_owner().as_deref() == Some("bob"));
    watch.wait_gone(question, SOON);
    watch.send("q");
    assert!(watch.wait(SOON).success());
    world.open_gate();
    session.wait();
}

#[test]
fn limit_that_is_reached_meanwhile_rings_the_terminal_once() {
    let world = two();
    let watch = watch(&world, 24, 80);
    assert!(!watch.raw().contains("\x1b]9;"), "what was so from the start is no news");
    use_up(&world, "alice", 100.0, 40.0);
    testkit::wait_until("a notification", SOON, || {
        watch.raw().contains("\x1b]9;codex-pool: alice reached its limit")
    });
    watch.wait_for_text("exhausted", SOON);
    assert_eq!(watch.raw().matches("\x1b]9;").count(), 1);
}

#[test]
fn idle_view_reads_a_few_small_files_a_second_and_the_past_seldom() {
    let Some(strace) = testkit::needs("strace") else { return };
    let world = two();
    let trace = world.work().join("trace");
    let command = world.cmd(strace).args(["-f", "-e", "trace=openat", "-o"]).arg(&trace);
    let watch = Pty::spawn(command.args(["codex-pool", "watch", "--interval", "86400"]), 40, 120);
    watch.wait_for_text("left over the last day", SOON);
    let before = std::fs::read_to_string(&trace).expect("a trace").len();
    let opened = |what: &str| {
        let text = std::fs::read_to_string(&trace).expect("a trace");
        text[before..].lines().filter(|line| line.contains(what)).count()
    };
    // Each look reads the usage once: that of the view, and that of the thread which fetches what is due.
    testkit::wait_until("twenty looks", SOON * 2, || opened("/usage.json") >= 20);
    let (looks, files) = (opened("/usage.json"), opened("openat("));
    assert!(files <= 12 * looks, "{files} files in {looks} looks");
    for seldom in ["pool/history/", "pool/log.jsonl", "pool/moves.json"] {
        assert!(opened(seldom) * 5 <= looks, "{seldom}: {} times in {looks} looks", opened(seldom));
    }
    assert_eq!(opened("/etc/localtime"), 0, "the time zone is known already");
}
