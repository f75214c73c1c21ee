//! The attendant that a launch starts: detached, in an environment of its own, and only where none runs. A script
//! stands in the admin command's place and records its start.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use testkit::files::write_script;
use testkit::{Cmd, NOBODY, SOON, World, answered, is_root, leave_out, wait_for, wait_until};

/// Returns a world in which a script stands in the place of the `codex-pool` that the shim finds.
fn world() -> World {
    let world = World::new(&["alice"]);
    world.usage(&[("alice", 10.0, 10.0)]);
    let out = world.root().join("started");
    let script = format!(
        "{{ echo \"$@\"; env; ls -l /proc/$$/fd; }} > {0}.new; read -r stat < /proc/$$/stat; \
         echo \"stat $stat\" >> {0}.new; ls {1}/launches >> {0}.new; \
         flock -n {1}/pool.lock true && mv {0}.new {0}",
        out.display(),
        world.pool_home().display()
    );
    write_script(&world.pool_home().join("bin/codex-pool"), &script);
    world
}

/// Launches. Returns what was started, as it recorded itself.
fn started(world: &World, exec: Cmd) -> Option<String> {
    let out = world.root().join("started");
    let _ = fs::remove_file(&out);
    answered(exec.run(), "alice");
    wait_until("the end of everything", SOON, || world.processes().is_empty());
    let text = fs::read_to_string(&out).ok();
    let _ = fs::remove_file(&out);
    text
}

/// Returns the lock of attendants of this boot and pid namespace.
fn lock(world: &World) -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let namespace = fs::read_link("/proc/self/ns/pid").expect("a pid namespace");
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let boot = boot.trim().replace('-', "");
    world.pool_home().join(format!("attend-{boot}-{}.lock", digits(&namespace.to_string_lossy())))
}

/// Takes the lock, as an attendant does.
fn hold(world: &World) -> File {
    File::create(lock(world)).expect("the lock");
    testkit::files::lock(&lock(world))
}

#[test]
fn attendant_is_started_detached_in_an_environment_of_its_own() {
    let world = world();
    let exec =
        world.exec().env("CODEX_POOL_DEPTH", "1").env("SECRET", "x").env("http_proxy", "http://127.0.0.1:1");
    let text = started(&world, exec).expect("an attendant");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("attend"));
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for name in ["HOME", "PATH", "USER", "TMPDIR", "CODEX_POOL_HOME"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    for name in
        ["SECRET", "http_proxy", "HTTPS_PROXY", "CODEX_POOL_DEPTH", "CODEX_REFRESH_TOKEN_URL_OVERRIDE"]
    {
        assert!(!names.contains(&name), "{name} is not its own");
    }
    let open = text.lines().filter(|line| line.contains(" -> ") && line.ends_with("/dev/null")).count();
    assert!(open >= 2, "{text}");
    let stat = text.lines().find_map(|line| line.strip_prefix("stat ")).expect("its entry");
    let mut fields = stat.rsplit_once(')').expect("a name").1.split_whitespace().skip(3);
    let session: i32 = fields.next().and_then(|sid| sid.parse().ok()).expect("a session");
    assert_ne!(session, nix::unistd::getsid(None).expect("a session").as_raw());
    assert!(
        text.lines().last().is_some_and(|entry| entry.matches('-').count() == 3),
        "the launch is recorded: {text}"
    );
}

#[test]
fn attendant_is_started_only_where_none_runs() {
    let world = world();
    let held = hold(&world);
    assert_eq!(started(&world, world.exec()), None);
    drop(held);
    assert!(started(&world, world.exec()).is_some());
    world.settings("attend = false\n");
    assert_eq!(started(&world, world.exec()), None);
}

#[test]
fn attendant_that_shows_no_life_leaves_the_refresh_to_launches() {
    let world = world();
    let held = hold(&world);
    for (silent, refreshes) in [(0_i64, false), (50, false), (120, true), (-120, true)] {
        world.age_usage(400);
        let touched =
            SystemTime::now() - Duration::from_secs(1_000) + Duration::from_secs((1_000 - silent) as u64);
        held.set_modified(touched).expect("set its time");
        let what = started(&world, world.exec());
        let what = what.as_deref().and_then(|text| text.lines().next());
        assert_eq!(what, refreshes.then_some("refresh --background"), "{silent}");
    }
}

#[test]
fn launches_inside_a_session_or_a_sandbox_start_none() {
    let world = world();
    for (name, value) in
        [("CODEX_THREAD_ID", "t"), ("CODEX_SANDBOX", "seatbelt"), ("CODEX_SANDBOX_NETWORK_DISABLED", "1")]
    {
        assert_eq!(started(&world, world.exec().env(name, value)), None, "{name}");
    }
    // A session that has ended is none.
    assert!(started(&world, world.exec().env("CODEX_POOL_LAUNCH", "0-0-1-1")).is_some());
    let session = world.hold(world.exec());
    let entry = |world: &World| {
        let mut entries = fs::read_dir(world.pool_home().join("launches")).expect("the ledger").flatten();
        entries.find_map(|e| {
            Some(e.file_name().into_string().ok()?).filter(|n| n.contains(&format!("-{}-", session.pid())))
        })
    };
    let name = wait_for("its entry", SOON, || entry(&world));
    let out = world.root().join("started");
    wait_until("the session's own", SOON, || out.exists());
    fs::remove_file(&out).expect("remove");
    answered(world.exec().env("CODEX_POOL_LAUNCH", name).run(), "alice");
    world.open_gate();
    answered(session.wait(), "alice");
    wait_until("the end of everything", SOON, || world.processes().is_empty());
    assert_eq!(fs::read_to_string(&out).ok(), None);
}

#[test]
fn launch_of_another_user_starts_none() {
    if !is_root() {
        leave_out("only root can act as other users");
        return;
    }
    let world = world();
    // Root leaves another user's pool alone, and Codex takes what is live.
    world.write_live(&world.backend().auth_json("alice"));
    chown(world.pool_home(), Some(NOBODY), None).expect("chown");
    assert_eq!(started(&world, world.exec()), None);
}
