//! `status`: one line from files alone, that never waits and never fails.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{SOON, Sandbox, World};

use super::{pool_of, use_up};

/// Alice is live, bob is next since alice is at her limit.
fn alice_and_bob() -> World {
    let world = pool_of(&["alice", "bob"]);
    use_up(&world, "alice", 30.0, 45.0);
    use_up(&world, "bob", 10.0, 20.0);
    world.make_live("alice");
    world.pool(&["use", "--auto"]).run().ok();
    world
}

fn status(world: &Sandbox, args: &[&str]) -> String {
    let all: Vec<&str> = ["status"].into_iter().chain(args.iter().copied()).collect();
    let output = world.pool(&all).run().ok();
    assert_eq!(output.stderr, "", "{output}");
    output.stdout.trim_end_matches('\n').to_owned()
}

fn json(world: &Sandbox) -> Value {
    world.pool(&["status", "--json"]).run().ok().json()
}

#[test]
fn formats_show_what_they_name() {
    let world = alice_and_bob();
    let of = |format: &str| status(&world, &["--format", format]);
    assert_eq!(of("{label} {5h}% {1week:>4}%|{plan:<6}|"), "alice 70%   55%|plus  |");
    assert_eq!(of("{pool} {next}"), format!("2/2 {}", world.why()[0]));
    let reset = of("{5h_reset}");
    assert!(reset.len() == 5 && reset.as_bytes()[2] == b':', "{reset}");
    assert_eq!(of("{1day} {nothing} {"), "- {nothing} {");
    assert_eq!(status(&world, &[]).split(" → ").next(), Some("alice · 5h 70% · week 55%"));
    assert!(status(&world, &["--ascii"]).starts_with("alice - 5h 70% - week 55%"));
    use_up(&world, "alice", 100.0, 50.0);
    let line = status(&world, &[]);
    assert!(line.starts_with("alice exhausted · 5h 0% ") && line.ends_with(" → bob"), "{line}");
    assert_eq!(of("{pool}"), "1/2");
}

#[test]
fn colours_follow_what_is_left_and_the_program() {
    let world = alice_and_bob();
    let of = |args: &[&str]| status(&world, &[&["--format", "{5h}%"], args].concat());
    assert_eq!(of(&[]), "70%");
    for always in [&["--color"][..], &["--color", "always"], &["--markup", "ansi"]] {
        assert_eq!(of(always), "\x1b[32m70\x1b[0m%");
    }
    assert_eq!(of(&["--markup", "tmux"]), "#[fg=green]70#[fg=default]%");
    assert_eq!(of(&["--markup", "zsh"]), "%F{green}70%f%%");
    use_up(&world, "alice", 95.0, 50.0);
    assert_eq!(of(&["--color"]), "\x1b[31m5\x1b[0m%");
}

#[test]
fn json_names_the_live_and_the_next_account() {
    let world = alice_and_bob();
    let answer = json(&world);
    assert_eq!((&answer["schema"], &answer["label"]), (&1.into(), &"alice".into()));
    assert_eq!(answer["live"], world.id("alice"));
    assert_eq!(answer["next"], world.id(&world.why()[0]));
    assert_eq!((&answer["class"], &answer["percentage"]), (&"good".into(), &55.0.into()));
    assert_eq!((&answer["pool"]["ready"], &answer["pool"]["accounts"]), (&2.into(), &2.into()));
    assert_eq!(answer["windows"][0]["name"], "5h");
    assert!(answer["text"].as_str().is_some_and(|text| text.starts_with("alice")), "{answer}");
    assert_eq!(answer["tooltip"].as_str().map(|text| text.lines().count()), Some(2), "{answer}");
}

#[test]
fn empty_damaged_or_missing_pools_print_nothing_and_are_no_error() {
    let sandbox = Sandbox::builder().without_pool().build();
    assert_eq!(status(&sandbox, &[]), "");
    assert!(!sandbox.pool_home().exists(), "it makes none");
    let world = pool_of(&[]);
    assert_eq!(status(&world, &[]), "");
    let world = pool_of(&["alice"]);
    assert!(status(&world, &["--format", "{label}"]).starts_with("alice"));
    let registry = world.pool_home().join("accounts.json");
    fs::write(&registry, "{").expect("damage");
    assert_eq!(status(&world, &[]), "");
    fs::remove_file(&registry).expect("remove");
    assert_eq!(status(&world, &["--json"]), "");
    let nowhere =
        world.pool(&["status"]).env_remove("HOME").env_remove("CODEX_POOL_HOME").env_remove("CODEX_HOME");
    assert_eq!(nowhere.run().ok().stdout, "");
    let odd = world.pool(&["status"]).env("CODEX_HOME", "/nowhere/at/all").run().ok();
    assert_eq!((odd.stdout, odd.stderr), (String::new(), String::new()));
}

#[test]
fn status_waits_for_no_lock_and_asks_no_one() {
    let world = alice_and_bob();
    world.backend().clear_report();
    let before = fs::read(world.pool_home().join("usage.json")).expect("usage");
    let held = ["pool.lock", "refresh.lock"].map(|name| testkit::files::lock(&world.pool_home().join(name)));
    let start = Instant::now();
    assert!(status(&world, &[]).starts_with("alice"));
    assert!(start.elapsed() < Duration::from_secs(5), "it waited");
    drop(held);
    assert_eq!(world.backend().report().usage.len(), 0);
    assert_eq!(fs::read(world.pool_home().join("usage.json")).expect("usage"), before);
}

#[test]
fn status_does_as_little_with_ten_accounts_as_its_speed_needs() {
    let Some(strace) = testkit::needs("strace") else { return };
    let names: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
    let world = pool_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        use_up(&world, name, 80.0, 90.0);
    }
    let trace = world.work().join("trace");
    let command = world.cmd(strace).args(["-f", "-o"]).arg(&trace).args(["codex-pool", "status"]);
    command.run().ok();
    let trace = fs::read_to_string(trace).expect("a trace");
    let count = |call: &str| trace.lines().filter(|line| line.contains(call)).count();
    // It lists the launches and nothing else: no processes, and not the time zones.
    assert!(count("getdents64(") <= 2, "{trace}");
    assert!(count("openat(") <= 30, "{trace}");
    assert!(trace.lines().count() <= 220, "{} calls: {trace}", trace.lines().count());
    for never in ["socket(", "fcntl(3, F_SETLK", "F_SETLKW", "fork(", "clone3(", "fsync("] {
        assert_eq!(count(never), 0, "{trace}");
    }
}

#[test]
fn watch_prints_a_line_per_change_and_ends_with_its_reader() {
    let world = alice_and_bob();
    let mut watch = world.pool(&["status", "--watch", "--format", "{label} {5h}%"]).spawn();
    watch.wait_for_stdout("alice 70%\n");
    use_up(&world, "alice", 60.0, 45.0);
    watch.wait_for_stdout("alice 70%\nalice 40%\n");
    world.pool(&["rename", "alice", "work"]).run().ok();
    watch.wait_for_stdout("work 40%\n");
    assert_eq!(watch.stdout(), "alice 70%\nalice 40%\nwork 40%\n");
    let mut piped = world.cmd("sh").args(["-c", "codex-pool status --watch | head -n 1"]).spawn();
    piped.wait_for_stdout("work");
    let end = Instant::now() + SOON;
    while piped.is_running() {
        assert!(Instant::now() < end, "it goes on without a reader");
        std::thread::sleep(Duration::from_millis(50));
    }
}
