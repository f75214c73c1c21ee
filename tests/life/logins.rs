//! Logins by device code, and what of a pool must stay when a command changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use testkit::files::texts_below;
use testkit::{Cmd, Codex, Output, SOON, World, wait_until};

/// What these tests need beyond the common words.
pub(crate) trait Logins {
    /// Runs `codex-pool <args> --device-auth`, which that user approves.
    fn login(&self, args: &[&str], user: &str) -> Output;

    /// Returns `codex-pool <args> --device-auth` against the stand-in issuer.
    fn login_cmd(&self, args: &[&str]) -> Cmd;

    /// Waits until a device login waits for approval.
    fn wait_for_login(&self);

    /// Returns what must stay when a command changes nothing: the registry, the credentials, the live login.
    fn possessions(&self) -> BTreeMap<PathBuf, String>;

    /// Files below the pool that hold this text.
    fn pool_files_with(&self, needle: &str) -> Vec<PathBuf>;

    /// Requires that logins left nothing behind.
    #[track_caller]
    fn assert_no_login_home(&self);
}

impl Logins for World {
    fn login(&self, args: &[&str], user: &str) -> Output {
        self.backend().approve_login(user);
        self.login_cmd(args).run()
    }

    fn login_cmd(&self, args: &[&str]) -> Cmd {
        let cmd = self.pool(args).arg("--device-auth");
        match self.codex_kind() {
            Codex::Real(_) => cmd.args(["--", "--experimental_issuer", &self.backend().url()]),
            _ => cmd,
        }
    }

    fn wait_for_login(&self) {
        wait_until("a login that waits", SOON, || self.backend().pending_logins() > 0);
    }

    fn possessions(&self) -> BTreeMap<PathBuf, String> {
        let pool = self.pool_home();
        let mut files = texts_below(&pool.join("auth"));
        for file in [pool.join("accounts.json"), self.codex_home().join("auth.json")] {
            files.insert(file.clone(), fs::read_to_string(&file).unwrap_or_default());
        }
        files
    }

    fn pool_files_with(&self, needle: &str) -> Vec<PathBuf> {
        let files = texts_below(&self.pool_home()).into_iter();
        files.filter(|(_, text)| text.contains(needle)).map(|(path, _)| path).collect()
    }

    #[track_caller]
    fn assert_no_login_home(&self) {
        assert!(self.login_homes().is_empty(), "{:?}", self.login_homes());
    }
}
