//! An attendant where things go wrong, and beside others: a full disk, hundreds of sessions, pid namespaces.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Running, SOON, World, answered, wait_until};

use super::Attended;

#[test]
fn login_waits_while_the_disk_is_full_and_is_taken_in_then() {
    let world = World::logged_in(&["alice"]);
    world.link_admin();
    world.settings("background_refresh = false\n");
    let rotated = world.backend().auth_json("alice");
    world.write_private(&world.root().join("rotated"), &rotated);
    let script = r#"
        cp -a "$POOL" "$SAVED"
        mount -t tmpfs -o size=256k none "$POOL"
        mkdir "$POOL/bin"; mount --bind "$SAVED/bin" "$POOL/bin"
        for f in accounts.json state.json config.toml auth pool.lock; do cp -a "$SAVED/$f" "$POOL/"; done
        codex exec hi &
        until [ "$(ls "$POOL"/attend-*.lock 2>/dev/null)" ]; do sleep 0.1; done
        sleep 1
        attendant=$(pgrep -f "$POOL/bin/codex-pool attend")
        cat /dev/zero > "$POOL/ballast" 2>/dev/null || true
        cat "$ROTATED" > "$CODEX/auth.json"
        sleep 2
        ! cmp -s "$STORED" "$ROTATED"
        kill -0 "$attendant"
        rm "$POOL/ballast"
        until cmp -s "$STORED" "$ROTATED"; do sleep 0.1; done
        [ "$attendant" = "$(pgrep -f "$POOL/bin/codex-pool attend")" ]
        touch "$STANDIN_HOLD"
        wait
    "#;
    let Some(cmd) = world.unshare(&["-m"]) else { return };
    let cmd = cmd.args(["sh", "-ec", script]).env("POOL", world.pool_home()).env("CODEX", world.codex_home());
    let cmd = cmd.env("SAVED", world.root().join("saved")).env("ROTATED", world.root().join("rotated"));
    let cmd = cmd.env("STORED", world.stored_path("alice")).env("STANDIN_HOLD", world.gate());
    answered(cmd.run(), "alice");
}

/// Programs that run as if launches had become them, with an entry in the ledger each, in the homes of those accounts
/// in turn.
fn sessions(world: &World, count: usize, labels: &[&str]) -> Vec<Running> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let namespace = fs::read_link("/proc/self/ns/pid").expect("a pid namespace");
    let namespace = namespace.to_string_lossy().replace(|c: char| !c.is_ascii_digit(), "");
    let launches = world.pool_home().join("launches");
    fs::create_dir_all(&launches).expect("the ledger");
    let session = |at: usize| {
        let running = world.cmd("sleep").arg("600").spawn();
        let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid())).expect("a process");
        let ticks = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19)).expect("its start");
        let label = labels[at % labels.len()];
        let home = if at.is_multiple_of(labels.len()) { world.codex_home() } else { world.own_home(label) };
        let entry = json!({
            "account": world.id(label), "home": home.join("auth.json"), "started_at": testkit::now(),
            "command": "codex exec",
        });
        let name = format!("{}-{namespace}-{}-{ticks}", boot.trim().replace('-', ""), running.pid());
        world.write_private(&launches.join(name), &entry.to_string());
        running
    };
    (0..count).map(session).collect()
}

/// The time that a process has worked.
fn worked(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let mut fields = stat.rsplit(") ").next().expect("fields").split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok()).expect("ticks");
    Duration::from_millis((ticks() + ticks()) * 10)
}

#[test]
fn two_hundred_sessions_are_looked_after_without_effort() {
    let world = World::logged_in(&["alice", "bob"]);
    world.settings("background_refresh = false\n");
    // Bob's own home is there.
    let alice = world.hold(world.exec_as("alice"));
    let bob = world.hold(world.exec_as("bob"));
    let _sessions = sessions(&world, 200, &["alice", "bob"]);
    let attendant = world.attend();
    for (label, home) in [("alice", world.codex_home()), ("bob", world.own_home("bob"))] {
        let rotated = world.backend().auth_json(label);
        world.write_private(&home.join("auth.json"), &rotated);
        wait_until("the login in the pool", SOON, || {
            fs::read_to_string(world.stored_path(label)).is_ok_and(|stored| stored == rotated)
        });
    }
    let (since, before) = (Instant::now(), worked(attendant.pid()));
    wait_until("some looks", SOON, || since.elapsed() >= Duration::from_secs(4));
    let (share, status) = (
        (worked(attendant.pid()) - before).as_secs_f64() / since.elapsed().as_secs_f64(),
        fs::read_to_string(format!("/proc/{}/status", attendant.pid())).expect("its status"),
    );
    // Many times what an optimized program needs, and far from what reading every entry at every look would.
    assert!(share < 0.2, "{share} of a core");
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kilobytes < 8 << 10, "{kilobytes} kB");
    drop((alice, bob));
}

#[test]
fn pid_namespace_has_an_attendant_of_its_own() {
    let world = World::new(&["alice"]);
    world.link_admin();
    let outside = world.hold(world.exec());
    wait_until("an attendant", SOON, || world.is_attended() && world.attendants().len() == 1);
    let (attendant, own) = (world.attendants(), attend_locks(&world));
    for options in [&["-p", "--mount-proc"][..], &["-p", "-m", "--kill-child", "--mount-proc"]] {
        let script = r#"
            codex exec hi &
            until [ "$(ls "$POOL"/attend-*.lock | wc -l)" = 2 ]; do sleep 0.05; done
            ps -e -o args= | grep "[c]odex-pool attend" >&2
            touch "$STANDIN_HOLD"; wait
        "#;
        let Some(cmd) = world.unshare(options) else { return };
        let cmd = cmd.args(["sh", "-ec", script]).env("POOL", world.pool_home());
        let cmd = cmd.env("STANDIN_HOLD", world.root().join("inner-gate"));
        let output = answered(cmd.run(), "alice");
        // It is alone there, and ends with the namespace.
        let seen = output.stderr.lines().filter(|line| line.ends_with("codex-pool attend")).count();
        assert_eq!(seen, 1, "{output}");
        wait_until("the end of the inner one", SOON, || world.attendants() == attendant);
        // The next namespace may get the same number.
        let inner = attend_locks(&world).into_iter().find(|path| !own.contains(path)).expect("its lock");
        fs::remove_file(inner).expect("remove");
        fs::remove_file(world.root().join("inner-gate")).expect("remove");
    }
    // Where /proc shows other processes than its own, a launch knows no process, and starts none.
    let Some(cmd) = world.unshare(&["-p"]) else { return };
    answered(cmd.args(["codex", "exec", "hi"]).run(), "alice");
    assert_eq!((world.attendants(), attend_locks(&world)), (attendant, own));
    world.open_gate();
    answered(outside.wait(), "alice");
}

fn attend_locks(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.pool_home()).expect("the pool").flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with("attend-")).map(|e| e.path()).collect()
}
