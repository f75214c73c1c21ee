//! `watch`, on a pseudo terminal and without one.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::backend::{LoginSpec, Route, Usage, UserSpec, Window, refresh_token};
use testkit::{Pty, SOON, World};

use super::pool_of;

const LEAVE: &str = "\x1b[?1049l";

fn two_accounts() -> World {
    let world = pool_of(&["alice", "bob"]);
    world.backend().set_usage("alice", Usage::percent(30.0, 20.0));
    let week = Window::week(0.0).lasting(2_592_000);
    world.backend().set_usage("bob", Usage::windows(Some(Window::five_hours(100.0)), Some(week)));
    world.pool(&["use", "alice"]).run().ok();
    world
}

fn line_of(screen: &str, label: &str) -> String {
    screen
        .lines()
        .find(|l| l.contains(label))
        .unwrap_or_else(|| panic!("no {label} in:\n{screen}"))
        .to_owned()
}

#[test]
fn watch_shows_what_list_shows_and_obeys_its_keys() {
    let world = two_accounts();
    let mut watch = Pty::spawn(world.pool(&["watch"]), 24, 80);
    let screen = watch
        .wait_for("usage, and the next poll", SOON, |s| s.contains("70 %") && s.contains("next poll in"));
    let alice = line_of(&screen, "alice");
    assert!(alice.contains("●◆") && alice.contains("ready") && alice.contains("80 %"), "{screen}");
    let bob = line_of(&screen, "bob");
    assert!(bob.contains("exhausted") && bob.contains("0 %") && bob.contains("30 days"), "{screen}");
    // What happens is said where the keys are.
    assert!(screen.contains("q quit") || screen.contains("bob reached its limit"), "{screen}");
    watch.send(testkit::pty::DOWN);
    watch.wait_for_text("bob <bob@example.com>", SOON);
    watch.send("u");
    watch.wait_for_text("`bob` is live and pinned", SOON);
    assert_eq!(world.account("bob")["pinned"], true);
    watch.send("b");
    watch.wait_for_text("`alice` is live", SOON);
    assert_eq!(world.account("bob")["pinned"], false);
    world.backend().set_usage("alice", Usage::percent(55.0, 20.0));
    watch.send("r");
    watch.wait_for_text("45 %", SOON);
    watch.send("q");
    assert!(watch.wait(SOON).success());
    testkit::wait_until("the screen as before", SOON, || watch.raw().contains(LEAVE));
}

#[test]
fn watch_fits_any_terminal() {
    let world = two_accounts();
    world.pool(&["rename", "bob", "a label of a considerable length, as people may like them"]).run().ok();
    let mut watch = Pty::spawn(world.pool(&["watch"]), 24, 160);
    watch.wait_for_text("alice@example.com", SOON);
    for (rows, columns) in [(24, 80), (24, 40), (10, 40), (4, 30), (1, 10), (40, 200)] {
        watch.resize(rows, columns);
        watch.wait_for("a picture that fits", SOON, |screen| {
            let fits = screen.lines().all(|l| l.chars().count() <= usize::from(columns));
            let table = rows < 10 || line_of_or_empty(screen, "alice").contains("ready");
            fits && table && screen.contains("account") == (columns >= 80)
        });
    }
    // No key: the terminal library overlooks one that comes at the very moment of a resize, until the next.
    watch.signal(Signal::SIGTERM);
    watch.wait(SOON);
}

fn line_of_or_empty(screen: &str, label: &str) -> String {
    screen.lines().find(|l| l.contains(label)).unwrap_or_default().to_owned()
}

#[test]
fn signal_restores_the_terminal_and_ends_watch_as_signals_do() {
    use std::os::unix::process::ExitStatusExt;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let world = two_accounts();
        let mut watch = Pty::spawn(world.pool(&["watch"]), 24, 80);
        watch.wait_for_text("70 %", SOON);
        watch.signal(signal);
        assert_eq!(watch.wait(SOON).signal(), Some(signal as i32));
        // The terminal's reader may be a moment behind.
        testkit::wait_until("the screen as before", SOON, || watch.raw().contains(LEAVE));
    }
}

#[test]
fn watch_quits_only_after_a_renewal_that_is_under_way() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(3_600));
    world.backend().set_latency(Route::Token, Duration::from_millis(500));
    let mut watch = Pty::spawn(world.pool(&["watch"]), 24, 80);
    world.backend().wait_for("a refresh", SOON, |r| !r.refreshes.is_empty());
    watch.send("q");
    assert!(watch.wait(SOON).success());
    assert_eq!(refresh_token(&world.stored("alice")), world.backend().newest_refresh_token("alice"));
    world.backend().assert_clean();
}

#[test]
fn watch_polls_again_when_the_interval_is_over() {
    // What is typed replaces what is set.
    for (set, typed) in [("1s", &["watch"][..]), ("24h", &["watch", "--interval", "1"])] {
        let world = World::new(&["alice"]);
        world.settings(&format!("min_poll_interval = \"0s\"\nwatch_interval = \"{set}\"\n"));
        let mut watch = Pty::spawn(world.pool(typed), 24, 80);
        world.backend().wait_for("three polls", SOON, |r| r.usage.len() >= 3);
        watch.send("q");
        watch.wait(SOON);
    }
}

#[test]
fn watch_without_a_terminal_prints_a_table_per_interval() {
    let world = two_accounts();
    let mut command = world.pool(&["watch", "--interval", "1"]).into_inner();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start it");
    let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    let mut tables = 0;
    while tables < 2 {
        let line = lines.next().expect("more").expect("text");
        assert!(!line.contains('\x1b'), "{line}");
        tables += usize::from(line.contains("alice@example.com") && line.contains("70 %"));
    }
    drop(lines);
    testkit::wait_until("its end", SOON, || child.try_wait().expect("a child").is_some());
}
