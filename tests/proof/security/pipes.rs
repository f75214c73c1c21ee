//! Named pipes that nobody writes to, in the place of every file that a launch or a command may read. None waits for one.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use testkit::backend::LoginSpec;
use testkit::files::set_mode;
use testkit::{Cmd, Codex, Neighbour};

use super::neighbour::write;
use crate::lab::Lab;

/// A thread that began on 2026-11-22.
const THREAD: &str = "01a20399-89f9-7f61-a9c3-c721a01b72f4";

/// Returns the name of a ledger entry whose process has ended, in the ledger's own form.
fn ended_launch(world: &Lab) -> String {
    let ended = world.cmd("true").spawn();
    let pid = ended.pid();
    ended.wait().ok();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot: String = boot.chars().filter(char::is_ascii_hexdigit).collect();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let namespace: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    format!("{boot}-{namespace}-{pid}-1")
}

fn places(world: &Lab) -> Vec<PathBuf> {
    let (pool, home) = (world.pool_home(), world.codex_home());
    let over = "homes/0123456789";
    let entry = ended_launch(world);
    let rollout = format!("sessions/2026/11/22/rollout-2026-11-22T14-12-03-{THREAD}.jsonl");
    let in_pool = [
        "accounts.json",
        "accounts.v1.json",
        "state.json",
        "usage.json",
        "config.toml",
        "receipt.json",
        "env",
        "pool.lock",
        "refresh.lock",
        "bin/codex-pool",
        "lost+found/1-x-renewed.json",
        &format!("launches/{entry}"),
        &format!("launches/{}", entry.replace("-1", "-2")),
        &format!("{over}/.base"),
        &format!("{over}/{}/auth.json", world.ids["bob"]),
        &format!("threads/{THREAD}"),
        &format!("blanked/{THREAD}"),
        &format!("moving/{THREAD}"),
        &format!("auth/{}.json", world.ids["alice"]),
        &format!("auth/{}.json", world.ids["bob"]),
    ]
    .map(|name| pool.join(name));
    let in_home = [
        "auth.json",
        "auth.lock",
        "auth.json.lock",
        ".auth-x1y2z3",
        ".credentials.json",
        "config.toml",
        "session_index.jsonl",
        "state_5.sqlite",
        "state_5.sqlite-shm",
        "state_5.sqlite-wal",
        "app-server-daemon/daemon.pid",
        "app-server-daemon/daemon.lock",
        &format!("thread-writer-locks/{THREAD}.lock"),
        "thread-writer-locks/.coordination.lock",
        &rollout,
    ]
    .map(|name| home.join(name));
    let others =
        [world.work().join(".git"), world.work().join(".codex/config.toml"), world.work().join("AGENTS.md")];
    [&in_pool[..], &in_home, &others].concat()
}

fn commands(world: &Lab) -> Vec<Cmd> {
    let codex: [&[&str]; 7] = [
        &["exec", "hi"],
        &["resume", THREAD],
        &["exec", "resume", THREAD, "hi"],
        &["fork", THREAD],
        &["resume", "a name"],
        &["exec", "resume", "--last", "hi"],
        &["agents"],
    ];
    let pool: [&[&str]; 8] = [
        &["list"],
        &["why"],
        &["doctor"],
        &["doctor", "--fix"],
        &["refresh"],
        &["use", "bob"],
        &["use", "--auto"],
        &["export", "bob"],
    ];
    let mut commands: Vec<Cmd> = codex.iter().map(|words| world.codex(words)).collect();
    commands.push(world.codex(&["exec", "hi"]).env("CODEX_POOL_ACCOUNT", "bob"));
    commands.extend(pool.iter().map(|words| world.pool(words)));
    commands
}

fn plant(place: &Path) {
    fs::create_dir_all(place.parent().expect("a folder")).expect("make a folder");
    let _ = fs::remove_file(place);
    mkfifo(place, Mode::S_IRUSR | Mode::S_IWUSR).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
}

#[test]
fn pipes_hold_up_no_launch_and_no_command() {
    let world = Lab::with(Codex::Probe, &["alice", "bob"], "background_refresh = false\n");
    let config = fs::read_to_string(world.codex_home().join("config.toml")).expect("a config");
    for place in places(&world) {
        for command in commands(&world) {
            if !place.symlink_metadata().is_ok_and(|meta| meta.file_type().is_fifo()) {
                world.reset(&LoginSpec::default());
                plant(&place);
            }
            let output = command.timeout(Duration::from_secs(20)).run();
            let context = format!("a pipe at {}", place.display());
            assert!(output.signal().is_none() && !output.stderr.contains("panicked"), "{context}: {output}");
            assert!(!output.stderr.contains("internal error"), "{context}: {output}");
        }
        let _ = fs::remove_file(&place);
        write(&world.pool_home().join("config.toml"), "background_refresh = false\n");
        write(&world.codex_home().join("config.toml"), &config);
    }
}

/// Where a neighbour may make files: in a shared folder with the work in it, and in a home that is open to all.
#[test]
fn pipes_of_a_neighbour_hold_up_no_launch_and_no_command() {
    let Some(neighbour) = Neighbour::new() else { return };
    let world = Lab::with(Codex::Probe, &["alice", "bob"], "background_refresh = false\n");
    let shared = world.root().join("shared");
    let work = shared.join("work");
    let home = world.codex_home();
    fs::create_dir_all(&work).expect("make a folder");
    let locks = home.join("thread-writer-locks");
    fs::create_dir_all(&locks).expect("make a folder");
    for folder in [&shared, &home, &locks] {
        set_mode(folder, 0o1777);
    }
    let thread = format!("thread-writer-locks/{THREAD}.lock");
    let in_home = [
        "state_9.sqlite",
        "state_9.sqlite-shm",
        "session_index.jsonl",
        "history.jsonl",
        ".auth-x1y2z3",
        "auth.json.lock",
        &thread,
    ];
    let mut places = in_home.map(|name| home.join(name)).to_vec();
    places.extend([shared.join(".git"), shared.join("AGENTS.md")]);
    for place in &places {
        let _ = fs::remove_file(place);
        neighbour.runs(world.cmd("mkfifo").arg("-m").arg("666").arg(place)).run().ok();
    }
    neighbour.runs(world.cmd("mkdir").arg(shared.join(".codex"))).run().ok();
    neighbour.runs(world.cmd("mkfifo").arg(shared.join(".codex/config.toml"))).run().ok();
    for command in commands(&world) {
        let output = command.current_dir(&work).timeout(Duration::from_secs(20)).run();
        assert!(output.signal().is_none() && !output.stderr.contains("panicked"), "{output}");
        assert!(!output.stderr.contains("internal error"), "{output}");
    }
    for place in &places {
        assert!(place.symlink_metadata().is_ok_and(|meta| meta.file_type().is_fifo()), "{}", place.display());
    }
}
