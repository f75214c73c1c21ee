//! Installations of Codex as package managers lay them out, with the real launcher and a native program of the test's
//! choice, and launches of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use testkit::files::{copy_program, write_script};
use testkit::probe::{Record, text};
use testkit::{
    Cmd, Codex, Output, SOON, World, bins, find_program, needs, real_codex, version, wait_for, wait_until,
};

/// Returns a world with a pool of one account, and no Codex yet. `None` where there is no launcher to install: the test
/// is left out then.
#[track_caller]
pub(crate) fn world() -> Option<World> {
    needs("node")?;
    real_codex(&version())?;
    let world = World::with(Codex::Missing, &["alice"]);
    world.link_admin();
    world.settings("background_refresh = false\nattend = false\n");
    world.node(&world.root().join("node"));
    Some(world)
}

/// How a launch went: what the native program recorded, and the process that was started.
pub(crate) struct Launched {
    pub(crate) record: Record,
    pub(crate) pid: i32,
    /// Runs of Node's wrapper meanwhile.
    pub(crate) nodes: usize,
}

impl Launched {
    /// Requires that the process became the native program, and Node never ran.
    #[track_caller]
    pub(crate) fn natively(self) -> Record {
        assert_eq!((self.record.pid, self.nodes), (self.pid, 0), "no Node between");
        self.record
    }

    /// Requires that Node ran.
    #[track_caller]
    pub(crate) fn through_node(self) -> Record {
        assert!(self.nodes > 0, "Node ran");
        self.record
    }
}

/// What these tests do with an installation of Codex.
pub(crate) trait Installation {
    /// Puts a Node into that folder that notes its runs. A run that learns waits for the gate after
    /// [`Installation::shut_gate`].
    fn node(&self, dir: &Path) -> PathBuf;

    /// Makes runs that learn wait for [`World::gate`].
    fn shut_gate(&self);

    /// Runs of Node: its path and the first argument of each.
    fn nodes(&self) -> Vec<String>;

    /// Runs of Node that learnt.
    fn lessons(&self) -> usize;

    /// Returns a command that runs a program with these folders first on PATH, and Node behind them.
    fn cmd_in(&self, program: &Path, dirs: &[&Path]) -> Cmd;

    /// Returns `codex exec hi` through the shim, with the Codex in that folder.
    fn exec_in(&self, bin: &Path) -> Cmd;

    /// Launches, and gives the record of the native program.
    #[track_caller]
    fn launch(&self, cmd: Cmd) -> Launched;

    /// Launches until it is learnt what the Codex in that folder starts.
    #[track_caller]
    fn learn(&self, bin: &Path);

    /// Waits until nothing of this world runs.
    fn settle(&self);

    /// Returns the files of what was learnt, with their texts.
    fn learnt(&self) -> Vec<(PathBuf, String)>;

    /// Attempts to learn.
    fn tried(&self) -> Vec<(PathBuf, String)>;
}

impl Installation for World {
    fn node(&self, dir: &Path) -> PathBuf {
        let real = find_program("node").expect("Node");
        let (log, gate, shut) = (log(self), self.gate(), self.root().join("shut"));
        write_script(
            &dir.join("node"),
            &format!(
                "echo \"$0 $1\" >> '{}'\nif [ \"$1\" = --require ] && [ -e '{}' ]; then\n\
                 while [ ! -e '{}' ]; do /bin/sleep 0.02; done\nfi\nexec '{}' \"$@\"",
                log.display(),
                shut.display(),
                gate.display(),
                real.display()
            ),
        )
    }

    fn shut_gate(&self) {
        fs::write(self.root().join("shut"), "").expect("write");
    }

    fn nodes(&self) -> Vec<String> {
        fs::read_to_string(log(self)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn lessons(&self) -> usize {
        self.nodes().iter().filter(|line| line.ends_with("--require")).count()
    }

    fn cmd_in(&self, program: &Path, dirs: &[&Path]) -> Cmd {
        let node = self.root().join("node");
        let shim = self.pool_home().join("bin");
        let own = [shim.as_path()].into_iter().chain(dirs.iter().copied());
        let path = std::env::join_paths(own.chain([node.as_path(), "/usr/bin".as_ref(), "/bin".as_ref()]));
        self.cmd(program).env("PATH", path.expect("no colon"))
    }

    fn exec_in(&self, bin: &Path) -> Cmd {
        self.cmd_in(&self.shim(), &[bin]).args(["exec", "hi", ""])
    }

    #[track_caller]
    fn launch(&self, cmd: Cmd) -> Launched {
        let out = self.root().join("record.json");
        let _ = fs::remove_file(&out);
        let before = self.nodes().len() - self.lessons();
        let running = cmd.env("PROBE_OUT", &out).spawn();
        let pid = i32::try_from(running.pid()).expect("fits");
        running.wait().ok();
        let nodes = self.nodes().len() - self.lessons() - before;
        Launched { record: Record::read(&out), pid, nodes }
    }

    #[track_caller]
    fn learn(&self, bin: &Path) {
        let before = self.learnt();
        self.launch(self.exec_in(bin)).through_node();
        wait_for("what was learnt", SOON, || (self.learnt() != before).then_some(()));
        self.settle();
    }

    fn settle(&self) {
        wait_until("the end of everything", SOON, || self.processes().is_empty());
    }

    fn learnt(&self) -> Vec<(PathBuf, String)> {
        known(self, "json")
    }

    fn tried(&self) -> Vec<(PathBuf, String)> {
        known(self, "tried")
    }
}

fn log(world: &World) -> PathBuf {
    world.root().join("nodes")
}

fn known(world: &World, extension: &str) -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(world.pool_home().join("native")).into_iter().flatten().flatten();
    let files = files.map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == extension));
    let mut all: Vec<_> = files.filter_map(|p| Some((p.clone(), fs::read_to_string(&p).ok()?))).collect();
    all.sort();
    all
}

/// Returns the folder `node_modules` of the real Codex of that version.
pub(crate) fn node_modules(version: &str) -> PathBuf {
    let real = real_codex(version).expect("looked for before");
    real.launcher.parent().and_then(Path::parent).expect("node_modules/.bin").to_owned()
}

/// Puts the packages of Codex into two folders: the launcher's package, and the platform's with the probe as the
/// native program, whose path is returned.
pub(crate) fn packages(version: &str, launcher: &Path, platform: &dyn Fn(&str) -> PathBuf) -> PathBuf {
    let from = node_modules(version).join("@openai");
    for file in ["package.json", "bin/codex.js"] {
        copy(&from.join("codex").join(file), &launcher.join(file));
    }
    let entries =
        fs::read_dir(&from).expect("list").flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let name = entries.into_iter().find(|name| name.starts_with("codex-")).expect("a platform's package");
    let to = platform(&name);
    copy(&from.join(&name).join("package.json"), &to.join("package.json"));
    let mut triples = fs::read_dir(from.join(&name).join("vendor")).expect("list").flatten();
    let native = to.join("vendor").join(triples.next().expect("a triple").file_name()).join("bin/codex");
    // A copy: the identity of the program is what the tests change.
    copy_program(&bins::standin_probe(), &native)
}

/// As `npm install --prefix DIR` or `npm install -g` lays it out: `<modules>/@openai/…`. The native program.
pub(crate) fn npm(version: &str, modules: &Path, link: &Path) -> PathBuf {
    let native =
        packages(version, &modules.join("@openai/codex"), &|name| modules.join("@openai").join(name));
    link_to(&modules.join("@openai/codex/bin/codex.js"), link);
    native
}

/// Returns a global npm in the world's folder `npm`, of the version that tests run: `bin` and the native program.
pub(crate) fn usual(world: &World) -> (PathBuf, PathBuf) {
    let bin = world.root().join("npm/bin");
    let native = npm(&version(), &world.root().join("npm/lib/node_modules"), &bin.join("codex"));
    (bin, native)
}

pub(crate) fn link_to(target: &Path, link: &Path) {
    fs::create_dir_all(link.parent().expect("a folder")).expect("make a folder");
    symlink(target, link).expect("link");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("make a folder");
    fs::copy(from, to).unwrap_or_else(|e| panic!("copy {}: {e}", from.display()));
}

/// Returns a record without what no two launches have in common: variables of ours and of shells, and numbers of
/// processes.
pub(crate) fn comparable(mut record: Record) -> Record {
    let own = ["CODEX_POOL_", "_=", "SHLVL=", "PWD=", "OLDPWD="];
    record.env.retain(|entry| !own.iter().any(|prefix| text(entry).starts_with(prefix)));
    record.env.sort();
    (record.pid, record.ppid, record.pgid, record.sid) = (0, 0, 0, 0);
    // Node changes some of these on its way; those of the native program are as the user gave them.
    (record.ignored, record.blocked) = (Vec::new(), Vec::new());
    record.descriptors.retain(|d| d.fd <= 2);
    for descriptor in &mut record.descriptors {
        descriptor.target = String::new();
    }
    record
}

/// Requires that a launch fails as without the shim.
#[track_caller]
pub(crate) fn fails_alike(direct: &Output, shim: &Output) {
    assert_ne!(direct.code(), Some(0));
    assert_eq!(shim.code(), direct.code(), "{shim}");
    let first = |output: &Output| output.stderr.lines().find(|l| l.contains("Error")).map(str::to_owned);
    assert_eq!(first(shim), first(direct), "{shim}");
}
