//! What these tests have in common: a sandbox, logins by device code, and everything that a pool holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::{Cmd, Codex, Output, Pty, Sandbox, real_codex, version, wait_until};

/// How long to wait for something that happens at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(60);

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
    /// With the stand-in Codex; the first of these users is live, all are in the pool.
    pub(crate) fn new(users: &[&str]) -> World {
        World::with(Codex::StandIn, users)
    }

    /// The same with the real Codex.
    pub(crate) fn real(users: &[&str]) -> World {
        World::with(
            Codex::Real(real_codex(&version()).unwrap_or_else(|e| panic!("no real Codex: {e}"))),
            users,
        )
    }

    /// The same with a shell script in Codex's place.
    pub(crate) fn script(script: &str, users: &[&str]) -> World {
        let world = World::with(Codex::Missing, users);
        let file = world.root().join("bin/codex");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("write the script");
        set_mode(&file, 0o755);
        world
    }

    pub(crate) fn with(codex: Codex, users: &[&str]) -> World {
        let world = World { sandbox: Sandbox::builder().codex(codex).build() };
        if let Some(live) = users.first() {
            world.backend().add(live);
            world.write_live(&world.backend().auth_json(live));
            world.pool(&["list"]).run().ok();
        }
        for name in users.iter().skip(1) {
            world.import(name);
        }
        world
    }

    /// `codex-pool <args> --device-auth`, which that user approves.
    pub(crate) fn login(&self, args: &[&str], user: &str) -> Output {
        self.backend().approve_login(user);
        self.login_cmd(args).run()
    }

    /// `codex-pool <args> --device-auth` against the stand-in issuer.
    pub(crate) fn login_cmd(&self, args: &[&str]) -> Cmd {
        let cmd = self.pool(args).arg("--device-auth");
        match self.codex_kind() {
            Codex::Real(_) => cmd.args(["--", "--experimental_issuer", &self.backend().url()]),
            _ => cmd,
        }
    }

    /// A command in a terminal.
    pub(crate) fn pty(&self, cmd: Cmd) -> Pty {
        Pty::spawn(cmd, 40, 120)
    }

    /// Waits until a device login waits for approval.
    pub(crate) fn wait_for_login(&self) {
        wait_until("a login that waits", SOON, || self.backend().pending_logins() > 0);
    }

    /// The labels of the pool, sorted.
    pub(crate) fn labels(&self) -> Vec<String> {
        let mut labels: Vec<_> = self.list().iter().map(|a| text(&a["label"])).collect();
        labels.sort();
        labels
    }

    pub(crate) fn id(&self, label: &str) -> String {
        text(&self.account(label)["id"])
    }

    /// An account's document in the pool.
    pub(crate) fn stored(&self, label: &str) -> String {
        let path = self.pool_home().join(format!("auth/{}.json", self.id(label)));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Whose login is live.
    pub(crate) fn live_owner(&self) -> Option<String> {
        self.backend().owner(&self.live()?)
    }

    /// Whether the live login would still be accepted.
    pub(crate) fn live_is_good(&self) -> bool {
        self.live().is_some_and(|live| self.backend().is_good(&live))
    }

    /// The registry as it is on disk.
    pub(crate) fn registry(&self) -> Value {
        let bytes = fs::read(self.pool_home().join("accounts.json")).expect("a registry");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// What must not change when nothing is to change: the registry, the credentials, the live login.
    pub(crate) fn possessions(&self) -> BTreeMap<PathBuf, String> {
        let pool = self.pool_home();
        let mut files: BTreeMap<_, _> = files(&pool.join("auth"));
        for file in [pool.join("accounts.json"), self.codex_home().join("auth.json")] {
            files.insert(file.clone(), fs::read_to_string(&file).unwrap_or_default());
        }
        files
    }

    /// Files below the pool that hold this text.
    pub(crate) fn pool_files_with(&self, needle: &str) -> Vec<PathBuf> {
        files(&self.pool_home())
            .into_iter()
            .filter(|(_, text)| text.contains(needle))
            .map(|(path, _)| path)
            .collect()
    }

    /// Requires that no secret was printed.
    #[track_caller]
    pub(crate) fn assert_no_secret(&self, text: &str) {
        let shown = self.backend().secrets().into_iter().find(|secret| text.contains(secret));
        assert_eq!(shown, None, "a secret was shown");
    }

    /// Requires that logins left nothing behind.
    #[track_caller]
    pub(crate) fn assert_no_private_home(&self) {
        assert!(self.login_homes().is_empty(), "{:?}", self.login_homes());
    }
}

/// Every readable file below a folder; links are not followed.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("its kind"));
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.insert(
                path.clone(),
                String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned(),
            );
        }
    }
    found
}

/// Requires `needle` on stderr.
#[track_caller]
pub(crate) fn complains(output: &Output, needle: &str) {
    assert!(output.stderr.contains(needle), "expected {needle:?} on stderr: {output}");
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).expect("stat").permissions().mode() & 0o777
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set a mode");
}
