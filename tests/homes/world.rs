//! What these tests have in common: a sandbox whose pool is filled and ranked, real Codexes in it, and the
//! question whether anything was lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::backend::Usage;
pub(crate) use testkit::has_server;
use testkit::pty::ENTER;
use testkit::{Cmd, Codex, Output, Pty, Running, Sandbox, real_codex, wait_until};

/// How long to wait for something that happens at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A sandbox with a pool and a real Codex.
pub(crate) struct World {
    sandbox: Sandbox,
    /// Codex's version.
    pub(crate) version: String,
}

impl std::ops::Deref for World {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

/// The versions of an ordinary run, or those that were asked for.
pub(crate) fn versions() -> Vec<String> {
    match std::env::var("CODEX_POOL_TEST_VERSIONS").as_deref() {
        Ok("all") => ["0.140.0", "0.159.3", "0.169.0"].map(str::to_owned).into(),
        _ => testkit::versions(),
    }
}

/// A world of each version with these accounts, the first of which ranks first and is live.
pub(crate) fn worlds(users: &[&str]) -> impl Iterator<Item = World> {
    versions().into_iter().map(|version| World::of(&version, users))
}

/// The same of the versions that have a background server.
pub(crate) fn worlds_with_server(users: &[&str]) -> impl Iterator<Item = World> {
    versions().into_iter().filter(|v| has_server(v)).map(|version| World::of(&version, users))
}

/// What Codex installs for its background server, 400 MB: once per version, not once per test.
fn packages(version: &str) -> PathBuf {
    let dir = testkit::bins::target_dir().join("codex-server");
    let place = dir.join(version);
    fs::create_dir_all(&dir).expect("make a folder");
    let lock = fs::File::create(dir.join(".lock")).expect("make a lock");
    lock.lock().expect("take the lock");
    if !place.exists() {
        let codex = real_codex(version).unwrap_or_else(|e| panic!("no real Codex: {e}"));
        let sandbox = Sandbox::builder().codex(Codex::Real(codex)).build();
        for verb in ["start", "stop"] {
            sandbox.real_codex(&["app-server", "daemon", verb]).run().ok();
        }
        fs::rename(sandbox.codex_home().join("packages/app-server-daemon"), &place).expect("keep it");
    }
    place
}

impl World {
    pub(crate) fn of(version: &str, users: &[&str]) -> World {
        let codex = real_codex(version).unwrap_or_else(|e| panic!("no real Codex: {e}"));
        let world = World::with(Sandbox::builder().codex(Codex::Real(codex)).build(), version);
        if has_server(version) {
            world.install_server(version);
        }
        world.fill(users);
        world
    }

    /// In this sandbox, with an empty pool.
    pub(crate) fn with(sandbox: Sandbox, version: &str) -> World {
        World { sandbox, version: version.to_owned() }
    }

    /// As if Codex had installed its background server before: its big files are links.
    fn install_server(&self, version: &str) {
        let (from, to) = (packages(version), self.codex_home().join("packages/app-server-daemon"));
        fs::create_dir_all(&to).expect("make a folder");
        symlink(from.join("releases"), to.join("releases")).expect("link the releases");
        for name in ["auto-update-version", "install.lock", "selection-history"] {
            let _ = fs::copy(from.join(name), to.join(name));
        }
        let current = fs::read_link(from.join("current")).expect("the current release");
        let release = to.join("releases").join(current.file_name().expect("a release's name"));
        symlink(release, to.join("current")).expect("link the current release");
    }

    /// Puts these accounts into the pool; the first ranks first and is live.
    pub(crate) fn fill(&self, users: &[&str]) {
        for user in users {
            self.backend().add(user);
            self.import(user, &self.backend().auth_json(user));
        }
        self.rank(users);
        self.live_is(users[0]);
    }

    /// Puts a login into the pool under that label.
    pub(crate) fn import(&self, label: &str, auth_json: &str) {
        self.pool(&["import", "-", "--label", label]).stdin(auth_json).run().ok();
    }

    /// Makes that account live, and requires it.
    pub(crate) fn live_is(&self, label: &str) {
        self.pool(&["use", label]).run().ok();
        self.pool(&["use", "--auto"]).run().ok();
        assert_eq!(self.live_owner().as_deref(), Some(label));
    }

    /// Ranks the accounts in this order, with room for all.
    pub(crate) fn rank(&self, labels: &[&str]) {
        let used = |at: usize| 5.0 + 80.0 * at as f64 / labels.len() as f64;
        self.usage(&labels.iter().enumerate().map(|(at, label)| (*label, used(at))).collect::<Vec<_>>());
    }

    /// Makes these the accounts' usage as just fetched: label, and percent used of both windows.
    pub(crate) fn usage(&self, usage: &[(&str, f64)]) {
        let ids = self.ids();
        for (label, used) in usage {
            // What Codex writes into its logs says the same.
            self.backend().set_usage(label, Usage::percent(used / 2.0, *used));
        }
        self.cache_usage(usage.iter().map(|(label, used)| (ids[*label].as_str(), used / 2.0, *used)), 0);
    }

    /// An account's home over the user's CODEX_HOME, whether or not it is there.
    pub(crate) fn home_of(&self, label: &str) -> PathBuf {
        let id = &self.ids()[label];
        let over = fs::read_dir(self.pool_home().join("homes")).into_iter().flatten();
        let over = over.map(|e| e.expect("an entry").path()).find(|over| {
            fs::read_to_string(over.join(".base")).is_ok_and(|base| Path::new(&base) == self.codex_home())
        });
        over.unwrap_or_else(|| self.pool_home().join("homes/none")).join(id)
    }

    /// Whose login is live.
    pub(crate) fn live_owner(&self) -> Option<String> {
        self.backend().owner(&self.live()?)
    }

    /// Whose login is in this `auth.json`.
    pub(crate) fn owner_at(&self, dir: &Path) -> Option<String> {
        self.backend().owner(&fs::read_to_string(dir.join("auth.json")).ok()?)
    }

    /// `codex exec hi` through the shim.
    pub(crate) fn exec(&self) -> Cmd {
        self.codex(&["exec", "--skip-git-repo-check", "hi"])
    }

    /// `codex exec hi` through the shim, on the account of that label.
    pub(crate) fn exec_as(&self, label: &str) -> Cmd {
        self.exec().env("CODEX_POOL_ACCOUNT", label).env("CODEX_POOL_VERBOSE", "1")
    }

    /// `codex exec hi` past the shim.
    pub(crate) fn foreign_exec(&self) -> Cmd {
        self.real_codex(&["exec", "--skip-git-repo-check", "hi"])
    }

    /// Starts a program in a terminal and waits for Codex's prompt.
    pub(crate) fn terminal(&self, cmd: Cmd) -> Pty {
        let pty = Pty::spawn(cmd, 40, 120);
        pty.wait_for_codex(SOON);
        pty
    }

    /// Starts `codex` in a terminal.
    pub(crate) fn ui(&self, args: &[&str]) -> Pty {
        self.terminal(self.codex(args))
    }

    /// Requires that each of these users' newest refresh token is in the pool and still good, and that the
    /// service saw no rule broken.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self, users: &[&str]) {
        self.list();
        self.backend().assert_clean();
        for user in users {
            let newest = self.backend().newest_refresh_token(user);
            let docs = fs::read_dir(self.pool_home().join("auth")).expect("the pool's documents");
            let docs = docs.map(|e| fs::read_to_string(e.expect("an entry").path()).expect("a document"));
            let held = docs.into_iter().any(|doc| doc.contains(&newest) && self.backend().is_good(&doc));
            assert!(held, "{}: {user}'s newest refresh token {newest} is not in the pool", self.version);
        }
    }
}

/// Types a prompt and waits until this user has answered it.
#[track_caller]
pub(crate) fn ask(world: &World, pty: &mut Pty, user: &str) {
    let done = |report: &testkit::backend::Report| report.turns.iter().filter(|t| t.done).count();
    let before = done(&world.backend().report());
    pty.send_line(&format!("question {before}"));
    let report = world.backend().wait_for("an answer", SOON, |report| done(report) > before);
    let turn = report.turns.iter().rfind(|t| t.done).expect("a turn");
    assert_eq!(turn.user.as_deref(), Some(user), "{}: {}", world.version, pty.screen());
    pty.wait_for_text(&format!("hello from {user}"), SOON);
}

/// Quits the interface.
#[track_caller]
pub(crate) fn quit(pty: &mut Pty) -> String {
    pty.send("/quit");
    pty.wait_for_text("/quit", SOON);
    std::thread::sleep(Duration::from_millis(200));
    pty.send(ENTER);
    assert!(pty.wait(SOON).success());
    pty.screen()
}

/// Requires that this user, and no other, answered the launch.
#[track_caller]
pub(crate) fn answered(output: Output, user: &str) -> Output {
    output.ok().says(&format!("hello from {user}"))
}

/// Whether any thread of a process still works: its first one can be a zombie already while others hold files.
pub(crate) fn alive(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .map(|t| fs::read_to_string(t.path().join("stat")).unwrap_or_default())
        .any(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
}

/// Waits until a process is gone.
#[track_caller]
pub(crate) fn wait_for_end(pid: u32) {
    wait_until(&format!("the end of {pid}"), SOON, || !alive(pid));
}

/// The background server of a home, if one runs.
pub(crate) fn server(dir: &Path) -> Option<u32> {
    let record = fs::read_to_string(dir.join("app-server-daemon/daemon.pid")).ok()?;
    let pid = serde_json::from_str::<Value>(&record).ok()?["pid"].as_u64()?;
    u32::try_from(pid).ok().filter(|pid| alive(*pid))
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The native Codex below a launcher.
#[track_caller]
pub(crate) fn native_of(launcher: &Running) -> u32 {
    testkit::wait_for("the native Codex", SOON, || children(launcher.pid()).first().copied())
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("fits")
}
