//! Another user of the machine and a stranger's folder cannot affect a launch.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use testkit::backend::account_id;
use testkit::files::set_mode;
use testkit::{Cmd, World, answered, is_root, leave_out, needs};

/// The number of the neighbour, a user id that is not taken here.
const NEIGHBOUR: u32 = 4243;

/// Another user of the machine. Only root can be one.
struct Neighbour;

impl Neighbour {
    /// Returns `None` if the tests cannot be two users: the test is left out then.
    fn new() -> Option<Neighbour> {
        if !is_root() {
            leave_out("only root can run programs as a second user");
        }
        is_root().then_some(Neighbour)
    }

    /// Makes a command the neighbour's.
    fn runs(&self, mut cmd: Cmd) -> Cmd {
        cmd.inner().uid(NEIGHBOUR).gid(NEIGHBOUR);
        cmd
    }

    /// Makes a file or folder the neighbour's, and what is in it.
    fn takes(&self, path: &Path) {
        lchown(path, Some(NEIGHBOUR), Some(NEIGHBOUR)).expect("chown");
        if path.is_dir() && !path.is_symlink() {
            fs::read_dir(path).expect("a folder").flatten().for_each(|entry| self.takes(&entry.path()));
        }
    }
}

/// Settings that only bob may be used with.
fn only_bob() -> String {
    format!("forced_chatgpt_workspace_id = \"{}\"\n", account_id("bob"))
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// Returns a world in which alice is picked, and whose work folder is a repository that the user trusts.
fn with_repository() -> World {
    let world = World::logged_in(&["alice", "bob"]);
    world.rank(&["alice", "bob"]);
    write(&world.work().join(".git/HEAD"), "ref: refs/heads/main\n");
    world
}

/// Returns the worktree of that name in the trusted repository, for the `.git` at that place.
fn record_worktree(world: &World, name: &str, dot_git: &Path) -> PathBuf {
    let record = world.work().join(".git/worktrees").join(name);
    write(&record.join("commondir"), "../..\n");
    write(&record.join("gitdir"), &format!("{}\n", dot_git.display()));
    record
}

/// A worktree at `dir` that restricts its launches to bob. `record`: what its `.git` names.
fn plant_worktree(dir: &Path, record: &Path) {
    write(&dir.join(".git"), &format!("gitdir: {}\n", record.display()));
    write(&dir.join(".codex/config.toml"), &only_bob());
}

#[test]
fn worktree_is_trusted_only_if_its_repository_names_it() {
    let world = with_repository();
    let exec_in = |dir: &Path| world.exec().current_dir(dir).run();
    let real = world.root().join("real");
    plant_worktree(&real, &record_worktree(&world, "real", &real.join(".git")));
    answered(exec_in(&real), "bob");
    world.make_live("alice");

    let forged = world.root().join("forged");
    for record in ["real", "x"] {
        plant_worktree(&forged, &world.work().join(".git/worktrees").join(record));
        answered(exec_in(&forged), "alice");
        assert_eq!(world.live_owner().as_deref(), Some("alice"));
    }
    // Below it, the same.
    fs::create_dir(forged.join("a")).expect("make a folder");
    answered(exec_in(&forged.join("a")), "alice");
}

#[test]
fn neighbour_does_not_decide_who_runs_in_a_shared_folder() {
    let Some(neighbour) = Neighbour::new() else { return };
    let world = with_repository();
    let shared = world.root().join("shared");
    let mine = shared.join("mine");
    fs::create_dir_all(&mine).expect("make a folder");
    set_mode(&shared, 0o1777);
    let forged = world.work().join(".git/worktrees/x");
    let script =
        format!("mkdir .codex && printf 'gitdir: {}\\n' >.git && cat >.codex/config.toml", forged.display());
    let plants = world.cmd("/bin/sh").args(["-c", &script]).current_dir(&shared).stdin(only_bob());
    neighbour.runs(plants).run().ok();
    assert_eq!(fs::metadata(shared.join(".git")).expect("planted").uid(), NEIGHBOUR);
    answered(world.exec().current_dir(&mine).run(), "alice");

    // Even where the repository names the place: the worktree that was there is gone, but still recorded.
    record_worktree(&world, "x", &shared.join(".git"));
    answered(world.exec().current_dir(&mine).run(), "alice");
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
}

#[test]
fn neighbours_settings_in_a_trusted_folder_do_not_count_and_are_named() {
    let Some(neighbour) = Neighbour::new() else { return };
    let world = with_repository();
    let settings = world.work().join(".codex");
    write(&settings.join("config.toml"), &only_bob());
    neighbour.takes(&settings);
    let output = answered(world.exec().run(), "alice");
    assert!(output.stderr.contains(".codex/config.toml belongs to another user"), "{output}");
    // The folder is mine, the file is not.
    lchown(&settings, Some(0), Some(0)).expect("chown");
    answered(world.exec().run(), "alice");
    let doctor = world.pool(&["doctor"]).run();
    assert!(doctor.stdout.contains(".codex/config.toml belongs to another user"), "{doctor}");
    lchown(settings.join("config.toml"), Some(0), Some(0)).expect("chown");
    answered(world.exec().run(), "bob");
}

/// Whatever a project contains, it hardly delays a launch.
#[test]
fn settings_of_a_project_are_read_up_to_a_megabyte_in_all() {
    let world = with_repository();
    let settings = world.work().join(".codex/config.toml");
    write(&settings, &format!("{}{}", only_bob(), "a = [[[[[]]]]]\n".repeat(1 << 20)));
    let output = answered(world.exec().run(), "alice");
    assert!(output.stderr.contains(".codex/config.toml is too large"), "{output}");
}

#[test]
fn chain_of_folders_with_large_settings_is_not_read() {
    let Some(strace) = needs("strace") else { return };
    let world = with_repository();
    let mut folder = world.root().join("deep");
    for _ in 0..40 {
        folder.push("d");
        write(&folder.join(".codex/config.toml"), &format!("hooks = 1\n#{}", "x".repeat((1 << 20) - 20)));
    }
    let log = world.root().join("log");
    let traced = world.cmd(strace).args(["-f", "-e", "trace=read,pread64", "-o"]).arg(&log);
    let traced = traced.arg(world.shim()).args(["exec", "hi"]).current_dir(&folder);
    answered(traced.run(), "alice");
    let text = fs::read_to_string(&log).expect("a log");
    let read = text.lines().filter_map(|line| line.rsplit_once(" = ")?.1.parse::<u64>().ok());
    let large: Vec<u64> = read.filter(|size| *size >= 1 << 19).collect();
    assert_eq!(large.len(), 1, "{large:?}");
}

/// Folders in which nothing can be made, and what is no folder.
#[test]
fn codex_starts_wherever_the_pool_is_said_to_be() {
    let world = World::probe(&["alice"]);
    let file = world.root().join("file");
    write(&file, "");
    let places = ["/proc", "/proc/self", "/proc/self/fd", "/proc/self/fd/0", "/proc/none/pool", "/dev/null"];
    for place in places.iter().map(Path::new).chain([file.as_path(), &file.join("pool")]) {
        let codex = world.codex(&["exec", "hi"]).env("CODEX_POOL_HOME", place).run();
        assert_eq!(codex.code(), Some(0), "{}: {codex}", place.display());
        assert!(codex.stderr.contains("Codex starts without the pool"), "{}: {codex}", place.display());
        for command in ["list", "doctor"] {
            let output = world.pool(&[command]).env("CODEX_POOL_HOME", place).run();
            assert_eq!(output.code(), Some(1), "{}: {output}", place.display());
        }
    }
}

#[test]
fn question_for_the_shims_version_does_not_replace_a_command() {
    let world = World::logged_in(&["alice"]);
    answered(world.exec().env("CODEX_POOL_SHIM_VERSION", "1").run(), "alice");
    let review = world.codex(&["exec", "review"]).env("CODEX_POOL_SHIM_VERSION", "1").run();
    assert!(!review.stdout.contains("codex-shim"), "{review}");
    world.codex(&[]).env("CODEX_POOL_SHIM_VERSION", "1").run().ok().says("codex-shim ");
}

/// Codex's sandbox keeps tools from `.codex` in their working root, but knows nothing of the pool.
#[test]
fn tools_that_may_write_in_the_pool_are_reported() {
    let world = World::logged_in(&["alice"]);
    let home = world.home();
    let line = "contains the pool";
    let told = |args: &[&str], dir: &Path| {
        let output = answered(world.codex(args).current_dir(dir).run(), "alice");
        let lines = output.stderr.matches(line).count();
        assert!(lines < 2, "{output}");
        lines == 1
    };
    let exec = ["exec", "--skip-git-repo-check", "hi"];
    let with = |options: &[&'static str]| [options, &exec].concat();
    assert!(!told(&exec, &world.work()));
    assert!(told(&exec, home));
    assert!(told(&exec, world.root()), "above HOME");
    assert!(told(&with(&["-s", "workspace-write"]), home));
    assert!(!told(&with(&["-s", "read-only"]), home));
    assert!(told(&with(&["-C", "../home"]), &world.work()));
    assert!(!told(&with(&["-C", "../work"]), home));
    assert!(told(&with(&["--add-dir", "../home"]), &world.work()));
    let linked = world.root().join("linked");
    symlink(home, &linked).expect("make a link");
    assert!(told(&exec, &linked));
    let quiet = world.exec().current_dir(home).env("CODEX_POOL_QUIET", "1").run();
    assert!(!quiet.stderr.contains(line), "{quiet}");
}
