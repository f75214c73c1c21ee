//! Notices: the user's command hears of limits, resets and logins, each once, whatever becomes of the command.

use std::fs;
use std::time::{Duration, Instant};

use testkit::files::write_script;
use testkit::{SOON, World, wait_until};

use super::{pool_of, use_up};

/// A pool whose notices are lines of a file.
fn told(names: &[&str]) -> World {
    let world = pool_of(names);
    let script = world.work().join("tell");
    write_script(&script, "echo \"$1 $2\" >> \"$(dirname \"$0\")/told\"\n");
    settings(&world, &format!("notify = [\"{}\", \"pool:\"]", script.display()));
    world
}

fn settings(world: &World, notify: &str) {
    world.settings(&format!("min_poll_interval = \"0s\"\nattend = false\n{notify}\n"));
}

fn lines(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.work().join("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until so many notices were told, and returns them.
fn wait_for(world: &World, count: usize) -> Vec<String> {
    wait_until("the notices", SOON, || lines(world).len() >= count);
    lines(world)
}

#[test]
fn limits_resets_and_logins_are_told_once_each() {
    let world = told(&["alice", "bob"]);
    use_up(&world, "alice", 100.0, 20.0);
    let first = wait_for(&world, 1);
    assert!(first[0].starts_with("pool: alice reached its limit; it resets in "), "{first:?}");
    world.pool(&["refresh"]).run().ok();
    use_up(&world, "bob", 100.0, 20.0);
    let all = wait_for(&world, 3);
    assert!(all[1].starts_with("pool: bob reached its limit"), "{all:?}");
    assert!(all[2].starts_with("pool: every account is at its limit; "), "{all:?}");
    use_up(&world, "alice", 5.0, 20.0);
    assert_eq!(wait_for(&world, 4)[3], "pool: alice is back: its limit has reset");
    world.backend().revoke_logins("bob");
    world.backend().reject_access_tokens("bob");
    world.pool(&["refresh", "bob"]).run();
    assert_eq!(wait_for(&world, 5)[4], "pool: bob needs a login: codex-pool reauth bob");
    for _ in 0..3 {
        world.pool(&["notify"]).run().ok();
        world.pool(&["refresh"]).run();
    }
    assert_eq!(lines(&world).len(), 5, "{:?}", lines(&world));
}

#[test]
fn two_messengers_at_once_tell_it_once() {
    let world = told(&["alice"]);
    settings(&world, "");
    use_up(&world, "alice", 100.0, 20.0);
    settings(&world, &format!("notify = [\"{}\", \"x\"]", world.work().join("tell").display()));
    let all: Vec<_> = (0..6).map(|_| world.pool(&["notify"]).spawn()).collect();
    for messenger in all {
        messenger.wait().ok();
    }
    assert_eq!(lines(&world).len(), 1, "{:?}", lines(&world));
}

#[test]
fn command_that_hangs_or_is_missing_harms_nothing() {
    let world = told(&["alice"]);
    let script = world.work().join("hang");
    write_script(&script, "echo $$ > \"$(dirname \"$0\")/pid\"\nexec sleep 600\n");
    settings(&world, &format!("notify = [\"{}\"]", script.display()));
    let start = Instant::now();
    use_up(&world, "alice", 100.0, 20.0);
    world.pool(&["list"]).run().ok();
    assert!(start.elapsed() < Duration::from_secs(15), "a refresh waited for the command");
    let pid = world.work().join("pid");
    wait_until("the command", SOON, || fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
    let pid: u32 = fs::read_to_string(&pid).expect("a pid").trim().parse().expect("a number");
    wait_until("its end", Duration::from_secs(60), || !testkit::alive(pid));
    settings(&world, "notify = [\"/no/such/program\"]");
    use_up(&world, "alice", 1.0, 20.0);
    world.pool(&["list"]).run().ok();
}

#[test]
fn attendant_tells_that_a_limit_has_reset() {
    let world = told(&["alice"]);
    world.link_admin();
    let notify = format!("notify = [\"{}\", \"x\"]", world.work().join("tell").display());
    use_up(&world, "alice", 100.0, 20.0);
    wait_for(&world, 1);
    world.settings(&format!("background_refresh = false\n{notify}\n"));
    let gate = world.hold(world.exec());
    world.edit_usage(|entry| {
        for window in entry["usage"]["windows"].as_array_mut().expect("windows") {
            window["resets_at"] = (testkit::now() + 1).into();
        }
    });
    assert_eq!(wait_for(&world, 2)[1], "x alice is back: its limit has reset");
    world.open_gate();
    gate.wait();
}
