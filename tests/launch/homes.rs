//! The home of a launch: one that is joined, the main home after a swap, or an own home, and what an own home is like.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use testkit::backend::Step;
use testkit::files::write_script;
use testkit::probe::Record;
use testkit::{Codex, Running, SOON, World, answered, leave_out, now, wait_until};

use crate::BOB_FIRST;

/// A session that stays until its gate is opened.
struct Session {
    running: Running,
    gate: PathBuf,
    user: String,
}

impl Session {
    fn start(world: &World, user: &str) -> Session {
        let gate =
            world.root().join(format!("gate-{user}-{}", fs::read_dir(world.root()).expect("list").count()));
        let running = world.exec_as(user).env("STANDIN_HOLD", &gate).env("STANDIN_REREAD", "1").spawn();
        wait_until("a session", SOON, || running.stderr().contains("holding"));
        Session { running, gate, user: user.to_owned() }
    }

    /// Opens the gate. The own account must answer the question.
    #[track_caller]
    fn end(self) {
        fs::write(&self.gate, "").expect("open the gate");
        answered(self.running.wait(), &self.user);
    }
}

fn world() -> World {
    let world = World::new(&["alice", "bob", "carol"]);
    world.usage(&BOB_FIRST);
    world
}

#[test]
fn free_home_is_swapped_and_one_in_use_is_not() {
    let world = world();
    let session = Session::start(&world, "alice");
    let before = world.live();
    answered(world.exec().run(), "bob");
    assert_eq!(world.live(), before);
    session.end();
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    assert!(!world.own_home("bob").join("auth.json").exists(), "one home per account");
    world.assert_nothing_lost(&["alice", "bob", "carol"]);
}

#[test]
fn account_in_use_in_a_home_is_joined_there() {
    let world = world();
    let (alice, bob) = (Session::start(&world, "alice"), Session::start(&world, "bob"));
    assert!(world.own_home("bob").join("auth.json").exists());
    // A second session of each; then the main home gets free, and bob stays where he is.
    Session::start(&world, "alice").end();
    Session::start(&world, "bob").end();
    alice.end();
    answered(world.exec_as("bob").run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    assert_eq!(world.account("bob")["sessions"], 1);
    bob.end();
    answered(world.exec_as("bob").run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
}

#[test]
fn session_on_the_main_home_is_joined_by_launches_of_its_own_account() {
    let world = world();
    let session = Session::start(&world, "bob");
    answered(world.exec().run(), "bob");
    assert!(!world.pool_home().join("homes").exists());
    session.end();
}

#[test]
fn session_that_was_killed_does_not_keep_the_home() {
    let world = world();
    let session = Session::start(&world, "alice");
    session.running.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(session.running.wait().signal(), Some(9));
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
}

#[test]
fn launch_with_parallel_off_stays_on_the_live_account_and_says_so() {
    let world = world();
    world.settings("parallel = \"off\"\n");
    let session = Session::start(&world, "alice");
    let output = answered(world.exec().run(), "alice");
    assert!(
        output.stderr.contains("running as alice, not bob: ") && output.stderr.contains("parallel"),
        "{output}"
    );
    assert!(output.stderr.contains("codex exec (pid "), "it says who is in the way: {output}");
    let output = world.exec_as("bob").run().expect(4);
    assert!(output.stderr.contains("`bob` was asked for"), "{output}");
    session.end();
}

#[test]
fn pool_in_a_temporary_folder_or_on_another_file_system_has_no_homes() {
    let world = world();
    let session = Session::start(&world, "alice");
    let output = answered(world.exec().env("TMPDIR", world.home()).run(), "alice");
    assert!(output.stderr.contains("temporary folder"), "{output}");
    session.end();
    let device = |path: &Path| fs::metadata(path).expect("a folder").dev();
    let elsewhere = tempfile::tempdir_in("/dev/shm").ok();
    let elsewhere = elsewhere.filter(|folder| device(folder.path()) != device(world.root()));
    let Some(elsewhere) = elsewhere else { return leave_out("there is no second file system at /dev/shm") };
    fs::write(elsewhere.path().join("config.toml"), world.codex_config().to_string())
        .expect("write the config");
    let there = |cmd: testkit::Cmd| cmd.env("CODEX_HOME", elsewhere.path());
    let session = world.hold(there(world.exec_as("alice")));
    let output = answered(there(world.exec()).run(), "alice");
    assert!(output.stderr.contains("different file systems"), "{output}");
    world.open_gate();
    answered(session.wait(), "alice");
}

#[test]
fn own_home_has_its_own_login_and_links_for_the_rest() {
    let world = world();
    let main = world.codex_home();
    fs::create_dir_all(main.join("skills/mine")).expect("make a folder");
    fs::write(main.join("AGENTS.md"), "be kind").expect("write a file");
    fs::write(main.join("custom-file"), "mine").expect("write a file");
    fs::write(main.join("state_5.sqlite"), "a database").expect("write a file");
    world.write_private(&main.join(".credentials.json"), "{\"mcp\": 1}");
    let session = Session::start(&world, "alice");
    answered(world.exec().run(), "bob");
    let home = world.own_home("bob");
    assert!(home.join("auth.json").symlink_metadata().expect("a file").is_file());
    for name in [
        "config.toml",
        "sessions",
        "archived_sessions",
        "skills",
        "AGENTS.md",
        "custom-file",
        "history.jsonl",
        "log",
    ] {
        assert_eq!(fs::read_link(home.join(name)).expect(name), main.join(name));
    }
    assert!(home.join("state_5.sqlite").symlink_metadata().is_err(), "databases stay in the main home");
    let inode = |path: PathBuf| fs::metadata(path).expect("a file").ino();
    assert_eq!(inode(home.join(".credentials.json")), inode(main.join(".credentials.json")), "a hard link");
    for name in ["app-server-daemon", "app-server-control", "tmp", "models_cache.json"] {
        fs::write(main.join(name), "the main home's own").expect("write a file");
        answered(world.exec().run(), "bob");
        assert!(home.join(name).symlink_metadata().is_err(), "{name} is private");
    }
    session.end();
}

#[test]
fn own_home_is_brought_up_to_date_at_each_launch() {
    let world = world();
    let main = world.codex_home();
    let session = Session::start(&world, "alice");
    answered(world.exec().run(), "bob");
    let home = world.own_home("bob");
    // New in the main home, and new in the home; a database, a socket and a lock stay where they are.
    fs::write(main.join("later"), "from the main home").expect("write a file");
    fs::create_dir(home.join("made-by-codex")).expect("make a folder");
    fs::write(home.join("made-by-codex/file"), "from the home").expect("write a file");
    fs::write(home.join("both"), "the home's").expect("write a file");
    fs::write(main.join("both"), "the main home's").expect("write a file");
    for stays in ["x.sqlite", "x.sqlite-wal", "x.pid", "x.lock"] {
        fs::write(home.join(stays), "").expect("write a file");
    }
    let socket = std::os::unix::net::UnixListener::bind(home.join("x.sock")).expect("a socket");
    // An MCP client replaces its tokens in the home: not through the link, but by rename.
    fs::write(home.join("new"), "{\"mcp\": 2}").expect("write a file");
    fs::rename(home.join("new"), home.join(".credentials.json")).expect("rename");
    answered(world.exec().run(), "bob");
    assert_eq!(fs::read_link(home.join("later")).expect("a link"), main.join("later"));
    assert_eq!(fs::read_to_string(main.join("made-by-codex/file")).expect("moved"), "from the home");
    assert!(home.join("made-by-codex").is_symlink());
    assert_eq!(fs::read_to_string(main.join("both")).expect("kept"), "the main home's");
    assert_eq!(fs::read_to_string(home.join("both")).expect("kept"), "the home's");
    for stays in ["x.sqlite", "x.sqlite-wal", "x.pid", "x.lock", "x.sock"] {
        assert!(main.join(stays).symlink_metadata().is_err() && !home.join(stays).is_symlink(), "{stays}");
    }
    assert_eq!(fs::read_to_string(main.join(".credentials.json")).expect("shared"), "{\"mcp\": 2}");
    drop(socket);
    session.end();
}

#[test]
fn files_that_codex_makes_in_a_home_in_use_stay_until_it_is_free() {
    let world = world();
    let (alice, bob) = (Session::start(&world, "alice"), Session::start(&world, "bob"));
    let home = world.own_home("bob");
    fs::write(home.join("being-written"), "x").expect("write a file");
    answered(world.exec_as("bob").run(), "bob");
    assert!(!home.join("being-written").is_symlink());
    bob.end();
    answered(world.exec_as("bob").run(), "bob");
    assert!(home.join("being-written").is_symlink());
    alice.end();
}

#[test]
fn codex_home_inherited_from_an_own_home_means_its_main_home() {
    let world = world();
    let session = Session::start(&world, "alice");
    answered(world.exec().run(), "bob");
    let home = world.own_home("bob");
    let inherited = |label: &str| {
        world.exec_as(label).env("CODEX_HOME", &home).env("CODEX_SQLITE_HOME", world.codex_home())
    };
    answered(inherited("alice").run(), "alice");
    answered(inherited("carol").run(), "carol");
    assert!(world.pool_home().join("homes").read_dir().expect("homes").count() == 1, "no home over a home");
    session.end();
    answered(inherited("carol").run(), "carol");
    assert_eq!(world.live_owner().as_deref(), Some("carol"));
    assert_eq!(
        world.backend().owner(&fs::read_to_string(home.join("auth.json")).unwrap_or_default()).as_deref(),
        Some("bob")
    );
}

#[test]
fn environment_is_restored_on_the_way_back_from_an_inherited_home() {
    let world = World::with(Codex::Missing, &["alice", "bob"]);
    write_script(
        &world.root().join("bin/codex"),
        "echo \"${CODEX_HOME-unset} ${CODEX_SQLITE_HOME-unset}\"; [ -z \"$GATE\" ] || while [ ! -e \"$GATE\" ]; do sleep 0.02; done",
    );
    let gate = world.root().join("gate");
    let mut session = world.exec_as("alice").env("GATE", &gate).spawn();
    session.wait_for_stdout("unset unset");
    let output = world.exec_as("bob").run().ok();
    let (home, databases) = output.stdout.trim().split_once(' ').expect("two words");
    assert_eq!(Path::new(databases), world.codex_home());
    fs::write(&gate, "").expect("open the gate");
    session.wait().ok();
    let back = world.exec_as("alice").env("CODEX_HOME", home).env("CODEX_SQLITE_HOME", databases);
    assert_eq!(back.run().ok().stdout, "unset unset\n");
    // An installation in the main home knows itself only there.
    let inside = |command: &str| {
        let codex = world.codex(&[command]).env("CODEX_HOME", home).env("CODEX_SQLITE_HOME", databases);
        codex.run().ok().stdout
    };
    assert_eq!(inside("update"), "unset unset\n");
    assert_eq!(inside("features"), format!("{home} {databases}\n"));
}

/// A Codex that, when told `outer`, waits for its gate, runs a tool that calls `codex`, and asks its own question.
fn with_tools(world: &World) {
    let standin = testkit::bins::standin_codex();
    let script = format!(
        "if [ \"$1\" = outer ]; then echo begun; while [ ! -e \"$GATE\" ]; do sleep 0.02; done\n\
         codex exec inner || exit; fi\nexec {} exec hi",
        standin.display()
    );
    write_script(&world.root().join("bin/codex"), &script);
}

#[test]
fn nested_codex_stays_on_its_sessions_account_and_home_while_that_lives() {
    let world = World::with(Codex::Missing, &["alice", "bob", "carol"]);
    with_tools(&world);
    let outer = |user: &str| {
        let gate = world.root().join(format!("gate-{user}"));
        let mut running = world.codex(&["outer"]).env("GATE", &gate).spawn();
        running.wait_for_stdout("begun");
        Session { running, gate, user: user.to_owned() }
    };
    // Bob is in the main home and carol in her own home; meanwhile alice becomes the first in the ranking.
    world.usage(&[("alice", 50.0, 70.0), ("bob", 10.0, 10.0), ("carol", 30.0, 40.0)]);
    let bob = outer("bob");
    world.usage(&[("alice", 50.0, 70.0), ("bob", 95.0, 95.0), ("carol", 10.0, 10.0)]);
    let carol = outer("carol");
    world.usage(&[("alice", 10.0, 10.0), ("bob", 95.0, 95.0), ("carol", 95.0, 95.0)]);
    for session in [carol, bob] {
        fs::write(&session.gate, "").expect("open the gate");
        let output = session.running.wait().ok();
        assert_eq!(output.stdout, format!("begun\n{}", format!("hello from {}\n", session.user).repeat(2)));
    }
    // The id of a launch that has ended has no effect.
    answered(world.codex(&["exec", "hi"]).env("CODEX_POOL_LAUNCH", "0-0-1-1").run(), "alice");
}

#[test]
fn nested_real_codex_in_its_sessions_shell_stays_on_its_account() {
    let Some(world) = World::real(&["alice", "bob"]) else { return };
    // Alice is in the main home. Bob, who ranks first, gets his own home. Meanwhile alice becomes the first.
    world.usage(&[("alice", 10.0, 10.0), ("bob", 50.0, 50.0)]);
    let alices = world.backend().hold("alice");
    let alice = world.exec().spawn();
    alices.wait_for(1, SOON);
    world.usage(&[("alice", 90.0, 90.0), ("bob", 10.0, 10.0)]);
    let bobs = world.backend().hold("bob");
    let inner = "codex exec --skip-git-repo-check inner";
    world.backend().script("bob", [Step::Shell(inner.to_owned())]);
    let bob = world.codex(&["exec", "--skip-git-repo-check", "-s", "danger-full-access", "outer"]).spawn();
    bobs.wait_for(1, SOON);
    world.usage(&[("alice", 10.0, 10.0), ("bob", 90.0, 90.0)]);
    drop((alices, bobs));
    answered(bob.wait(), "bob");
    answered(alice.wait(), "alice");
    let turns = world.backend().report().turns;
    let users: Vec<_> =
        turns.iter().filter(|t| t.prompt.as_deref() == Some("inner")).map(|t| t.user.as_deref()).collect();
    assert_eq!(users, [Some("bob")]);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn ledger_has_one_private_file_per_launch_named_after_its_process() {
    let world = World::probe(&["alice"]);
    let (out, gate) = (world.root().join("record"), world.root().join("gate"));
    let session = world.exec().env("PROBE_OUT", &out).env("PROBE_HOLD", &gate).spawn();
    wait_until("the probe", SOON, || out.exists());
    let entries: Vec<PathBuf> = fs::read_dir(world.pool_home().join("launches"))
        .expect("the ledger")
        .map(|e| e.expect("an entry").path())
        .collect();
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(fs::metadata(entry).expect("it").mode() & 0o777, 0o600);
    let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
    let parts: Vec<&str> = name.split('-').collect();
    assert_eq!(
        (parts.len(), parts[2]),
        (4, session.pid().to_string().as_str()),
        "boot, pid namespace, pid, ticks"
    );
    assert_eq!(Record::read(&out).var("CODEX_POOL_LAUNCH").as_deref(), Some(name.as_str()));
    let text = fs::read_to_string(entry).expect("it");
    let said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(said["account"].as_str(), Some(world.ids()["alice"].as_str()));
    assert_eq!(said["home"].as_str(), world.codex_home().join("auth.json").to_str());
    assert_eq!(said["cwd"].as_str(), world.work().to_str());
    assert!(said["started_at"].as_i64().is_some_and(|at| (now() - at).abs() < 100));
    fs::write(&gate, "").expect("open the gate");
    session.wait().ok();
    world.list();
    assert!(!entry.exists(), "it goes with its launch");
}

#[test]
fn two_codex_homes_have_homes_of_their_own() {
    let world = world();
    let second = world.home().join("second");
    world.write_private(&second.join("config.toml"), &world.codex_config().to_string());
    let there = |cmd: testkit::Cmd| cmd.env("CODEX_HOME", &second);
    answered(world.exec_as("alice").run(), "alice");
    answered(there(world.exec_as("carol")).run(), "carol");
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    let live = fs::read_to_string(second.join("auth.json")).expect("carol's login");
    assert_eq!(world.backend().owner(&live).as_deref(), Some("carol"));
    // A rotation in one is seen by the other.
    world.backend().reject_access_tokens("carol");
    answered(there(world.exec_as("carol")).run(), "carol");
    answered(world.exec_as("carol").run(), "carol");
    world.assert_nothing_lost(&["alice", "bob", "carol"]);
}
