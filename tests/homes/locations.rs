//! Places of a CODEX_HOME and its pool: two CODEX_HOMEs, another file system, a temporary folder, root, two pid
//! namespaces. An account has one chain of tokens in all of them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use testkit::backend::Step;
use testkit::files::give;
use testkit::{Cmd, NOBODY, Running, SOON, World, answered, complains, is_root, leave_out, wait_until};

use crate::world::{TWO, worlds};

/// A session whose tool runs until the gate is opened, and which then asks once more.
struct Session {
    gate: PathBuf,
    running: Running,
}

impl Session {
    fn start(world: &World, user: &str, cmd: Cmd) -> Session {
        let number = fs::read_dir(world.root()).expect("the sandbox").count();
        let (begun, gate) =
            (world.root().join(format!("begun-{number}")), world.root().join(format!("gate-{number}")));
        let wait =
            format!("touch {}; while [ ! -e {} ]; do sleep 0.02; done", begun.display(), gate.display());
        world.backend().script(user, [Step::Shell(wait)]);
        let running = cmd.args(["-s", "danger-full-access"]).spawn();
        wait_until("a session at work", SOON, || begun.exists());
        Session { gate, running }
    }

    #[track_caller]
    fn end(self, user: &str) {
        fs::write(self.gate, "").expect("open the gate");
        answered(self.running.wait(), user);
    }
}

/// Requires that this user's token was renewed that often, and that nothing is lost.
#[track_caller]
fn one_chain(world: &World, user: &str, refreshes: usize) {
    let report = world.backend().report();
    assert_eq!(report.refreshes_of(user).len(), refreshes, "{}: {:?}", world.version(), report.refreshes);
    world.assert_nothing_lost(&TWO);
}

/// Returns a second CODEX_HOME.
fn second_base(world: &World) -> PathBuf {
    let second = world.home().join("second");
    world.write_private(&second.join("config.toml"), &world.codex_config().to_string());
    second
}

#[test]
fn two_codex_homes_with_one_account_have_one_login() {
    for world in worlds(&TWO) {
        let second = second_base(&world);
        let there = |cmd: Cmd| cmd.env("CODEX_HOME", &second);
        answered(there(world.exec_as("alice")).run(), "alice");
        let files =
            [&world.codex_home(), &second].map(|dir| fs::canonicalize(dir.join("auth.json")).expect("one"));
        assert_eq!(files[0], files[1], "{}: one file", world.version());
        // Both are at work: the first renews in place, and the other goes on with what it finds.
        let first = Session::start(&world, "alice", world.exec_as("alice"));
        let other = Session::start(&world, "alice", there(world.exec_as("alice")));
        world.backend().reject_access_tokens("alice");
        first.end("alice");
        other.end("alice");
        one_chain(&world, "alice", 1);
        // Each goes its own way again.
        answered(there(world.exec_as("bob")).run(), "bob");
        assert_eq!(world.owner_at(&second).as_deref(), Some("bob"), "{}", world.version());
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        answered(there(world.exec_as("alice")).run(), "alice");
        answered(world.exec_as("alice").run(), "alice");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn token_rotated_in_one_codex_home_is_in_the_other() {
    for world in worlds(&TWO) {
        let second = second_base(&world);
        let there = |cmd: Cmd| cmd.env("CODEX_HOME", &second);
        let session = Session::start(&world, "alice", world.exec_as("alice"));
        // In use in the one, it is linked from the other, also past the shim.
        answered(there(world.exec_as("alice")).run(), "alice");
        world.backend().reject_access_tokens("alice");
        answered(there(world.foreign_exec()).run(), "alice");
        one_chain(&world, "alice", 1);
        session.end("alice");
        one_chain(&world, "alice", 1);
    }
}

#[test]
fn account_whose_home_is_in_use_is_made_live_by_a_link() {
    for world in worlds(&TWO) {
        let alice = Session::start(&world, "alice", world.exec_as("alice"));
        let bob = Session::start(&world, "bob", world.exec_as("bob"));
        alice.end("alice");
        world.pool(&["use", "bob"]).run().ok();
        let (live, home) = (world.codex_home().join("auth.json"), world.own_home("bob"));
        assert_eq!(fs::read_link(&live).expect("a link"), home.join("auth.json"), "{}", world.version());
        // A Codex that reads CODEX_HOME renews the one file, and the session in the own home goes on with it.
        world.backend().reject_access_tokens("bob");
        answered(world.foreign_exec().run(), "bob");
        assert!(live.is_symlink(), "{}: Codex writes through it", world.version());
        bob.end("bob");
        one_chain(&world, "bob", 1);
        // The own home is free: the next swap ends its use.
        answered(world.exec_as("alice").run(), "alice");
        answered(world.exec_as("bob").run(), "bob");
        assert!(!live.is_symlink() && !home.join("auth.json").exists(), "{}", world.version());
        one_chain(&world, "bob", 1);
    }
}

/// Requires that bob cannot be used while alice is at work, and that each launch says why. `with` changes the commands.
#[track_caller]
fn stays_on_alice(world: &World, with: impl Fn(Cmd) -> Cmd, why: &str) {
    let session = Session::start(world, "alice", with(world.exec_as("alice")));
    world.rank(&["bob", "alice"]);
    let output = answered(with(world.exec()).run(), "alice");
    assert!(output.stderr.contains("running as alice, not bob: "), "{}: {output}", world.version());
    assert!(output.stderr.contains(why), "{}: {output}", world.version());
    let output = with(world.exec_as("bob")).run().expect(4);
    assert!(output.stderr.contains("`bob` was asked for, but"), "{}: {output}", world.version());
    world.backend().reject_access_tokens("alice");
    session.end("alice");
    // With the main home free no own home is needed.
    answered(with(world.exec()).run(), "bob");
    one_chain(world, "alice", 1);
}

#[test]
fn launch_without_own_homes_stays_on_the_live_account() {
    for world in worlds(&TWO) {
        fs::write(world.pool_home().join("config.toml"), "parallel = \"off\"\n").expect("write the settings");
        stays_on_alice(&world, |cmd| cmd, "parallel = \"off\"");
    }
}

#[test]
fn pool_in_a_temporary_folder_has_its_homes_in_the_users_state_folder() {
    for world in worlds(&TWO) {
        // Codex refuses a CODEX_HOME below the temporary folder.
        let with = |cmd: Cmd| cmd.env("TMPDIR", world.pool_home());
        let alice = Session::start(&world, "alice", with(world.exec_as("alice")));
        let bob = Session::start(&world, "bob", with(world.exec_as("bob")));
        let homes = fs::canonicalize(world.pool_home().join("homes")).expect("homes");
        assert!(homes.starts_with(world.home().join(".local/state/codex-pool")), "{}", homes.display());
        assert_eq!(world.account("bob")["sessions"], 1, "{}", world.version());
        world.backend().reject_access_tokens("bob");
        bob.end("bob");
        alice.end("alice");
        one_chain(&world, "bob", 1);
        let said = with(world.pool(&["uninstall", "--purge"])).run().ok();
        assert!(!world.pool_home().exists() && !homes.exists(), "{}: {said}", world.version());
    }
}

#[test]
fn home_of_any_kind_of_a_pool_in_a_temporary_folder_is_made_elsewhere() {
    let without_account = ["-c", "forced_login_method=\"api\"", "exec", "--skip-git-repo-check", "hi"];
    let firsts: [&dyn Fn(&World) -> Cmd; 6] = [
        &|world| {
            // Without a login it does not try for long.
            let retries = ["request_max_retries", "stream_max_retries"];
            let impatient = retries.map(|key| ["-c".to_owned(), format!("model_providers.lab.{key}=0")]);
            world.codex(&without_account).args(impatient.concat())
        },
        &|world| world.codex(&["logout"]).env("CODEX_POOL_ACCOUNT", "bob"),
        &|world| world.codex(&["login", "--bogus"]),
        &|world| world.exec_as("alice").env("CODEX_HOME", second_base(world)),
        &|world| world.pool(&["use", "alice"]).env("CODEX_HOME", second_base(world)),
        &|world| world.pool(&["add", "--", "--bogus"]),
    ];
    for first in firsts {
        for world in worlds(&TWO) {
            let with = |cmd: Cmd| cmd.env("TMPDIR", world.pool_home());
            // The main home is in use.
            let alice = Session::start(&world, "alice", with(world.exec_as("alice")));
            let said = with(first(&world)).run();
            let homes = fs::canonicalize(world.pool_home().join("homes")).expect("homes");
            let state = world.home().join(".local/state/codex-pool");
            assert!(homes.starts_with(state), "{}: {} {said}", world.version(), homes.display());
            alice.end("alice");
        }
    }
}

#[test]
fn launch_with_the_pool_in_a_temporary_folder_stays_live() {
    for world in worlds(&TWO) {
        stays_on_alice(&world, |cmd| cmd.env("TMPDIR", world.home()), "the pool is in a temporary folder");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn launch_with_the_pool_on_another_file_system_stays_live() {
    for world in worlds(&TWO) {
        let elsewhere = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let pool = world.pool_home();
        for entry in fs::read_dir(&pool).expect("the pool").flatten() {
            let to = elsewhere.path().join(entry.file_name());
            if entry.file_name() == "bin" {
                // Programs may not run from there.
                fs::rename(entry.path(), world.root().join("pool-bin")).expect("move the shim");
                std::os::unix::fs::symlink(world.root().join("pool-bin"), to).expect("link the shim");
            } else {
                let copied = world.cmd("cp").arg("-a").arg(entry.path()).arg(to).run();
                copied.ok();
            }
        }
        fs::remove_dir_all(&pool).expect("remove the old one");
        std::os::unix::fs::symlink(elsewhere.path(), &pool).expect("link the pool");
        stays_on_alice(&world, |cmd| cmd, "on different file systems");
    }
}

/// Returns files and folders of the pool that belong to another user, but for those that Codex makes in a home.
fn of_others(dir: &Path, uid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let (path, meta) = (entry.path(), entry.metadata().expect("it"));
        if meta.is_symlink() || path.ends_with("bin") {
            continue;
        }
        let homes_own = ["tmp", ".tmp", "shell_snapshots", "models_cache.json", "app-server-daemon"];
        if meta.uid() != uid && !homes_own.iter().any(|name| path.ends_with(name)) {
            found.push(path.clone());
        }
        if meta.is_dir() && meta.uid() == uid {
            found.extend(of_others(&path, uid));
        }
    }
    found
}

#[test]
fn root_with_the_home_of_a_user_leaves_the_pool_to_that_user() {
    if !is_root() {
        return leave_out("only root can act in the place of `sudo codex`");
    }
    for world in worlds(&TWO) {
        world.make_live("alice");
        for dir in [world.home(), &world.root().join("tmp"), &world.work()] {
            give(dir, NOBODY);
        }
        chown(world.root(), Some(NOBODY), Some(NOBODY)).expect("chown");
        let owner = |path: &Path| fs::metadata(path).expect("it").uid();
        let theirs = |what: &str| {
            assert_eq!(
                of_others(&world.pool_home(), NOBODY),
                [""; 0].map(PathBuf::from),
                "{}: {what}",
                world.version()
            );
            assert_eq!(owner(&world.codex_home().join("auth.json")), NOBODY, "{}: {what}", world.version());
        };
        // Codex runs as root on the login that is live, without the pool.
        complains(&answered(world.exec().run(), "alice"), "Codex starts without the pool");
        world.exec_as("bob").run().expect(4);
        theirs("after root's Codex");
        // Root's commands are the user's, and the user goes on with it.
        world.pool(&["use", "bob"]).run().ok();
        theirs("after root's command");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}", world.version());
        let mut list = world.pool(&["use", "alice"]);
        list.inner().uid(NOBODY).gid(NOBODY);
        list.run().ok();
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn two_pid_namespaces_share_a_pool_and_keep_their_homes() {
    const EXEC: [&str; 4] = ["codex", "exec", "--skip-git-repo-check", "hi"];
    for world in worlds(&TWO) {
        let inside = || world.unshare(&["-p", "--mount-proc"]).map(|cmd| cmd.args(EXEC));
        let Some(cmd) = inside() else { return };
        // Seen from inside, alice's session outside is no process at all.
        let alice = Session::start(&world, "alice", world.exec_as("alice"));
        let bob = Session::start(&world, "bob", cmd.env("CODEX_POOL_ACCOUNT", "bob"));
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        assert_eq!(world.owner_at(&world.own_home("bob")).as_deref(), Some("bob"), "{}", world.version());
        world.backend().reject_access_tokens("alice");
        world.backend().reject_access_tokens("bob");
        alice.end("alice");
        // Seen from outside, bob's session is in his own home: he is joined there, though the main home is free.
        bob.end("bob");
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        let again = inside().expect("as before").env("CODEX_POOL_ACCOUNT", "alice");
        answered(again.run(), "alice");
        one_chain(&world, "alice", 1);
        one_chain(&world, "bob", 1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn session_in_a_pid_namespace_without_its_own_proc_keeps_its_home() {
    // The shim cannot name its own process there: Codex starts without the pool, as one that was not launched through
    // it.
    for world in worlds(&TWO) {
        let Some(cmd) = world.unshare(&["-p"]) else { return };
        let session =
            Session::start(&world, "alice", cmd.args(["codex", "exec", "--skip-git-repo-check", "hi"]));
        assert!(session.running.stderr().contains("Codex starts without the pool"), "{}", world.version());
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        world.backend().reject_access_tokens("alice");
        session.end("alice");
        one_chain(&world, "alice", 1);
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}", world.version());
    }
}
