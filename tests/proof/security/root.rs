//! Root with the HOME of a user: `sudo codex`, `sudo codex-pool`. The user's links must not lead root to root's files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use testkit::files::{files_below, give, set_mode, write_script};
use testkit::{Cmd, NOBODY, Output, World, answered, is_root, leave_out};

/// What root's file contains.
const SECRET: &str = "the words of root";

/// Returns a world of the user's, in which alice is live and bob is the pick. `None` if the tests cannot be two users: the
/// test is left out then.
fn world() -> Option<World> {
    if !is_root() {
        leave_out("only root can act in the place of `sudo codex`");
        return None;
    }
    let world = World::logged_in(&["alice", "bob"]);
    world.make_live("alice");
    world.rank(&["bob", "alice"]);
    give(world.root(), NOBODY);
    Some(world)
}

fn as_user(mut cmd: Cmd) -> Cmd {
    cmd.inner().uid(NOBODY).gid(NOBODY);
    cmd
}

/// Returns every file of the pool with its owner, mode, time and bytes.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, i64, Vec<u8>)> {
    let facts = |path: PathBuf| {
        let meta = path.symlink_metadata().expect("a file");
        let bytes = fs::read(&path).unwrap_or_default();
        (path, (meta.uid(), meta.mode(), meta.mtime_nsec(), bytes))
    };
    files_below(dir).into_iter().map(facts).collect()
}

#[test]
fn root_leaves_the_pool_of_a_user_alone() {
    let Some(world) = world() else { return };
    // Settings of the user would name a program for root to execute.
    let (mark, trap) = (world.root().join("mark"), world.root().join("trap"));
    write_script(&trap, &format!("touch {}", mark.display()));
    world.settings(&format!("codex_path = \"{}\"\n", trap.display()));
    let before = snapshot(&world.pool_home());
    let output = answered(world.exec().run(), "alice");
    assert!(output.stderr.contains("this is root") && output.stderr.lines().count() == 1, "{output}");
    let output = world.exec_as("bob").run().expect(4);
    assert!(output.stderr.contains("`bob` was asked for"), "{output}");
    world.pool(&["run", "bob", "--", "exec", "hi"]).run().expect(4);
    world.codex(&["--version"]).run();
    assert_eq!(snapshot(&world.pool_home()), before);
    assert!(!mark.exists(), "root executed what the user's settings name");
    // With places of its own, root has a pool.
    let own = world.root().join("own");
    fs::create_dir_all(own.join(".codex")).expect("make a folder");
    for path in [own.join(".codex"), own.clone()] {
        lchown(path, Some(0), Some(0)).expect("chown");
    }
    let list = world.pool(&["list", "--json"]).env("HOME", &own).run().ok().json();
    assert_eq!(list["accounts"], serde_json::json!([]));
}

#[test]
fn commands_of_root_on_the_pool_of_a_user_are_the_users() {
    let Some(world) = world() else { return };
    world.pool(&["use", "bob"]).run().ok();
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    world.pool(&["refresh"]).run().ok();
    world.list();
    world.pool(&["export", "bob", "--out", "out.json"]).run().ok();
    let mut files = files_below(&world.pool_home());
    files.retain(|path| !path.starts_with(world.pool_home().join("bin")));
    files.extend([world.codex_home().join("auth.json"), world.work().join("out.json")]);
    for path in files {
        let meta = path.symlink_metadata().expect("a file");
        assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY), "{}", path.display());
    }
    answered(as_user(world.exec_as("alice")).run(), "alice");
}

/// Root's folder, in which nothing may change, and whose file may get nowhere.
struct Roots {
    folder: PathBuf,
    file: PathBuf,
}

impl Roots {
    fn new(world: &World) -> Roots {
        let folder = world.root().join("roots");
        let file = folder.join("auth.json");
        fs::create_dir(&folder).expect("make a folder");
        fs::write(&file, SECRET).expect("write a file");
        set_mode(&file, 0o640);
        set_mode(&folder, 0o755);
        Roots { folder, file }
    }

    fn assert_unharmed(&self, world: &World, context: &str) {
        let names: Vec<_> =
            fs::read_dir(&self.folder).expect("a folder").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["auth.json"], "{context}");
        let facts = |path: &Path| {
            path.metadata().map(|meta| (meta.uid(), meta.mode() & 0o777, meta.nlink())).expect("it")
        };
        assert_eq!(facts(&self.file), (0, 0o640, 1), "{context}");
        assert_eq!((facts(&self.folder).0, facts(&self.folder).1), (0, 0o755), "{context}");
        assert_eq!(fs::read_to_string(&self.file).expect("text"), SECRET, "{context}");
        for path in [files_below(&world.pool_home()), files_below(&world.codex_home())].concat() {
            // Through a link it is the file itself.
            let is_itself = path.canonicalize().is_ok_and(|real| real == self.file);
            let text = fs::read(&path).unwrap_or_default();
            let leaked = !is_itself && String::from_utf8_lossy(&text).contains(SECRET);
            assert!(!leaked, "{context}: {} has it", path.display());
        }
    }
}

fn commands(world: &World) -> Vec<Output> {
    let pool: [&[&str]; 7] = [
        &["list"],
        &["use", "bob"],
        &["doctor"],
        &["doctor", "--fix"],
        &["refresh"],
        &["use", "alice", "--force"],
        &["export", "bob"],
    ];
    let mut outputs: Vec<Output> = pool.iter().map(|words| world.pool(words).run()).collect();
    outputs.push(world.exec().run());
    outputs.push(world.exec_as("bob").run());
    outputs
}

#[test]
fn links_of_a_user_lead_root_nowhere() {
    let Some(world) = world() else { return };
    let roots = Roots::new(&world);
    // Homes of the accounts' own, to plant links in.
    let session = world.hold(as_user(world.exec_as("alice")));
    answered(as_user(world.exec_as("bob")).run(), "bob");
    world.open_gate();
    answered(session.wait(), "alice");
    let (pool, home, own) = (world.pool_home(), world.codex_home(), world.own_home("bob"));
    let folders = [
        pool.join("launches"),
        pool.join("lost+found"),
        pool.join("auth"),
        own.clone(),
        home.clone(),
        pool.clone(),
    ];
    let files = [
        home.join("auth.json"),
        home.join(".credentials.json"),
        home.join("config.toml"),
        home.join("session_index.jsonl"),
        own.join("auth.json"),
        own.join(".credentials.json"),
        pool.join("accounts.json"),
        pool.join("state.json"),
        pool.join("usage.json"),
        pool.join("config.toml"),
        pool.join("pool.lock"),
        pool.join("env"),
        world.stored_path("bob"),
    ];
    let targets =
        folders.iter().map(|at| (at, &roots.folder)).chain(files.iter().map(|at| (at, &roots.file)));
    for (at, target) in targets {
        let aside = world.root().join("aside");
        let was_there = fs::rename(at, &aside).is_ok();
        symlink(target, at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
        lchown(at, Some(NOBODY), Some(NOBODY)).expect("chown");
        let outputs = commands(&world);
        let context = format!("a link at {}", at.display());
        roots.assert_unharmed(&world, &context);
        for output in outputs {
            // What Codex itself says of its files is up to Codex.
            let is_codex = output.program.starts_with("codex ");
            let lines = output.stdout.lines().chain(output.stderr.lines());
            let mut ours = lines.filter(|line| !is_codex || line.starts_with("codex-pool"));
            assert!(!ours.any(|line| line.contains(SECRET)), "{context}: {output}");
        }
        // What a command put in the link's place goes.
        let _ = fs::remove_file(at).or_else(|_| fs::remove_dir_all(at));
        if was_there {
            fs::rename(&aside, at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
        }
    }
    answered(as_user(world.exec_as("bob")).run(), "bob");
    world.assert_nothing_lost(&["alice", "bob"]);
}
