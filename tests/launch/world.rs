//! What these tests have in common: a sandbox whose pool is filled and whose usage is known.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::backend::Usage;
use testkit::{Cmd, Codex, Output, Sandbox, real_codex, version};

/// How long to wait for something that happens at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Alice has least left, bob most: the pick is bob, then carol, then alice.
pub(crate) const BOB_FIRST: [(&str, f64, f64); 3] =
    [("alice", 50.0, 70.0), ("bob", 10.0, 10.0), ("carol", 30.0, 40.0)];

/// A sandbox with a pool.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
}

impl std::ops::Deref for World {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl World {
    /// With the stand-in Codex, and these accounts in the pool.
    pub(crate) fn new(users: &[&str]) -> World {
        World::with(Codex::StandIn, users)
    }

    /// With the real Codex, and these accounts in the pool.
    pub(crate) fn real(users: &[&str]) -> World {
        World::with(
            Codex::Real(real_codex(&version()).unwrap_or_else(|e| panic!("no real Codex: {e}"))),
            users,
        )
    }

    /// With the probe in Codex's place, and these accounts in the pool.
    pub(crate) fn probe(users: &[&str]) -> World {
        World::with(Codex::Probe, users)
    }

    /// With any Codex, and these accounts in the pool.
    pub(crate) fn with(codex: Codex, users: &[&str]) -> World {
        let world = World { sandbox: Sandbox::builder().codex(codex).build() };
        for name in users {
            world.backend().add(name);
            world.import(name, &world.backend().auth_json(name));
        }
        world
    }

    /// Puts a login into the pool under that label.
    pub(crate) fn import(&self, label: &str, auth_json: &str) {
        self.pool(&["import", "-", "--label", label]).stdin(auth_json).run().ok();
    }

    /// Makes these the accounts' usage, at the service and as just fetched: label, percent used of the 5h window
    /// (which resets in an hour) and of the week (in a day).
    pub(crate) fn usage(&self, usage: &[(&str, f64, f64)]) {
        for (label, five, week) in usage {
            self.backend().set_usage(label, Usage::percent(*five, *week));
        }
        self.cached_usage(usage);
    }

    /// The same, but the service knows nothing of it: nobody is refused.
    pub(crate) fn cached_usage(&self, usage: &[(&str, f64, f64)]) {
        let ids = self.ids();
        self.cache_usage(usage.iter().map(|(label, five, week)| (ids[*label].as_str(), *five, *week)), 0);
    }

    /// The labels in the order of `why --json`.
    pub(crate) fn why(&self) -> Vec<String> {
        let why = self.pool(&["why", "--json"]).run().ok().json();
        let accounts = why["accounts"].as_array().expect("accounts");
        accounts.iter().map(|a| a["label"].as_str().expect("a label").to_owned()).collect()
    }

    /// The file of an account's document in the pool.
    pub(crate) fn stored_path(&self, label: &str) -> PathBuf {
        let id = self.account(label)["id"].as_str().expect("an id").to_owned();
        self.pool_home().join(format!("auth/{id}.json"))
    }

    /// An account's document in the pool.
    pub(crate) fn stored(&self, label: &str) -> String {
        let path = self.stored_path(label);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Whose login is live.
    pub(crate) fn live_owner(&self) -> Option<String> {
        self.backend().owner(&self.live()?)
    }

    /// `codex exec hi` through the shim.
    pub(crate) fn exec(&self) -> Cmd {
        self.codex(&["exec", "--skip-git-repo-check", "hi"])
    }

    /// `codex exec hi` through the shim, on the account of that label.
    pub(crate) fn exec_as(&self, label: &str) -> Cmd {
        self.exec().env("CODEX_POOL_ACCOUNT", label)
    }

    /// Documents in `lost+found/`.
    pub(crate) fn lost_found(&self) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(self.pool_home().join("lost+found")) else { return Vec::new() };
        let mut found: Vec<_> = entries
            .map(|e| e.expect("an entry").path())
            .map(|p| {
                (
                    p.file_name().expect("a name").to_string_lossy().into_owned(),
                    fs::read_to_string(&p).expect("text"),
                )
            })
            .collect();
        found.sort();
        found
    }

    /// Requires that each of these users' newest refresh token is in the pool and still good, and that the
    /// service saw no rule broken.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self, users: &[&str]) {
        self.backend().assert_clean();
        let labels = self.list();
        for user in users {
            let newest = self.backend().newest_refresh_token(user);
            let held = labels.iter().any(|a| {
                let id = a["id"].as_str().expect("an id");
                let doc =
                    fs::read_to_string(self.pool_home().join(format!("auth/{id}.json"))).unwrap_or_default();
                doc.contains(&newest) && self.backend().is_good(&doc)
            });
            assert!(held, "{user}'s newest refresh token {newest} is not in the pool");
        }
    }
}

/// Requires that this user, and no other, answered the launch.
#[track_caller]
pub(crate) fn answered(output: Output, user: &str) -> Output {
    output.ok().says(&format!("hello from {user}"))
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("fits")
}

/// Takes away root's right to read and write everything, if the tests run as root, so that modes count.
pub(crate) fn drop_privileges(mut cmd: Cmd) -> Cmd {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: prctl with constants, in the child alone.
    #[expect(unsafe_code, reason = "pre_exec and prctl")]
    #[cfg(target_os = "linux")]
    unsafe {
        cmd.inner().pre_exec(|| {
            // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER; whoever is not root has none to drop.
            for capability in [1, 2, 3] {
                nix::libc::prctl(nix::libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            Ok(())
        });
    }
    cmd
}

/// Dates a file back, so that nobody can be writing it any more.
pub(crate) fn long_ago(path: &Path) {
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).expect("date");
}

/// Puts a shell script at that place.
pub(crate) fn program(path: &Path, script: &str) -> PathBuf {
    put(path, format!("#!/bin/sh\n{script}\n"))
}

/// Puts a copy of a program at that place.
pub(crate) fn copy(program: &Path, path: &Path) -> PathBuf {
    put(path, fs::read(program).expect("read the program"))
}

/// Another process writes it: a child that some other test forks while we have it open for writing would keep
/// it from being executed.
fn put(path: &Path, bytes: impl Into<Vec<u8>>) -> PathBuf {
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    let script = "PATH=/usr/bin:/bin; cat > \"$0\" && chmod 755 \"$0\"";
    Cmd::new("/bin/sh").args(["-c", script]).arg(path).stdin(bytes).run().ok();
    path.to_owned()
}
