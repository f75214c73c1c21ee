//! A folder with a stranger's or a neighbour's files does not decide about a launch there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use testkit::backend::account_id;
use testkit::files::set_mode;
use testkit::{Neighbour, World, answered, needs};

use super::neighbour::write;

/// Settings that only bob may be used with.
fn only_bob() -> String {
    format!("forced_chatgpt_workspace_id = \"{}\"\n", account_id("bob"))
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

/// Plants a worktree at `dir` that restricts its launches to bob. `record`: what its `.git` names.
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
    assert_eq!(fs::metadata(shared.join(".git")).expect("planted").uid(), neighbour.uid);
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
