//! A pool to launch from, in its own folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::backend::Backend;

use crate::programs::Programs;

/// A pool with accounts whose usage is fresh.
#[derive(Clone)]
pub(crate) struct Pool {
    home: PathBuf,
    shim: PathBuf,
    codex_pool: PathBuf,
    target: PathBuf,
}

impl Pool {
    pub(crate) fn new(home: &Path, accounts: usize, programs: &Programs) -> Pool {
        let pool = Pool {
            home: home.to_owned(),
            shim: programs.shim.clone(),
            codex_pool: programs.codex_pool.clone(),
            target: programs.target.clone(),
        };
        std::fs::create_dir_all(home.join(".codex")).expect("a home");
        let backend = Backend::start();
        let names: Vec<String> = (0..accounts).map(|number| format!("user{number}")).collect();
        std::fs::write(home.join("store.json"), backend.store(&names)).expect("a store");
        let status =
            pool.admin(&["import", "store.json"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("codex-pool starts").success());
        let listed = pool.admin(&["list", "--json"]).output().expect("codex-pool starts");
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let now = testkit::now();
        let usage: serde_json::Map<_, _> = listed["accounts"]
            .as_array()
            .expect("accounts")
            .iter()
            .enumerate()
            .map(|(i, account)| {
                let windows = json!([
                    { "window_seconds": 18000, "used_percent": 10.0, "resets_at": now + 9000 },
                    { "window_seconds": 604_800, "used_percent": (i % 50) as f64, "resets_at": now + 300_000 },
                ]);
                let usage = json!({ "fetched_at": now + 40, "source": "api", "limit_reached": false, "windows": windows });
                (account["id"].as_str().expect("an id").to_owned(), json!({ "usage": usage }))
            })
            .collect();
        let file = home.join(".codex-pool/usage.json");
        std::fs::write(file, json!({ "version": 1, "accounts": usage }).to_string()).expect("usage");
        // The first launch writes what later ones read.
        assert!(pool.launch(&["exec", "hi"]).status().expect("it starts").success());
        pool
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("HOME", &self.home)
            .env("TMPDIR", "/nonexistent")
            .current_dir(&self.home);
        // Nothing here makes requests. One that is made all the same finds no listener.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9");
        command.env("PATH", "/usr/bin:/bin").env("CODEX_POOL_CODEX", &self.target);
        command
    }

    /// Returns a command that runs the shim.
    pub(crate) fn launch(&self, args: &[&str]) -> Command {
        self.command(&self.shim, args)
    }

    /// Returns a command that runs `codex-pool`.
    pub(crate) fn admin(&self, args: &[&str]) -> Command {
        self.command(&self.codex_pool, args)
    }

    /// Returns any program, in this pool's environment.
    pub(crate) fn run(&self, program: &Path, args: &[&str]) -> Command {
        self.command(program, args)
    }

    /// Returns the pool's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.home.join(".codex-pool")
    }

    /// Returns the program `codex-pool`.
    pub(crate) fn codex_pool(&self) -> &Path {
        &self.codex_pool
    }

    /// Returns a launch that runs until it is killed.
    pub(crate) fn sleeper(&self) -> Child {
        self.sleeper_of(0)
    }

    /// Returns a launch of the account of that number, which runs until it is killed.
    pub(crate) fn sleeper_of(&self, user: usize) -> Child {
        let mut command = self.launch(&["600"]);
        command.env("CODEX_POOL_CODEX", "/bin/sleep").env("CODEX_POOL_ACCOUNT", format!("user{user}"));
        let child = command.spawn().expect("it starts");
        let asleep = PathBuf::from(format!("/proc/{}/comm", child.id()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(&asleep).is_ok_and(|name| name != "sleep\n")
            && Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        child
    }

    /// Tells the shim where `codex-pool` is, so that launches start an attendant.
    pub(crate) fn link_admin(&self) {
        let bin = self.folder().join("bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        std::os::unix::fs::symlink(&self.codex_pool, bin.join("codex-pool")).expect("a link");
    }

    /// Waits for the attendant. Returns its folder in /proc.
    pub(crate) fn attendant(&self) -> PathBuf {
        let needle = format!("{}\0attend\0", self.folder().join("bin/codex-pool").display());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut processes = std::fs::read_dir("/proc").expect("processes").flatten().map(|e| e.path());
            let is_it = |path: &PathBuf| {
                std::fs::read(path.join("cmdline")).is_ok_and(|line| line == needle.as_bytes())
            };
            if let Some(found) = processes.find(is_it) {
                return found;
            }
            assert!(Instant::now() < deadline, "there is no attendant");
            std::thread::yield_now();
        }
    }
}
