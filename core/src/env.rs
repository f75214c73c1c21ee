//! The process's surroundings, read once at the top and passed down. Nothing else reads the
//! environment, the current folder or the clock.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names of the environment variables that codex-pool reads or sets.
pub mod names {
    /// Codex's folder (default `~/.codex`).
    pub const CODEX_HOME: &str = "CODEX_HOME";
    /// Where Codex keeps its databases (default: `CODEX_HOME`).
    pub const CODEX_SQLITE_HOME: &str = "CODEX_SQLITE_HOME";
    /// Set by Codex in what a session runs.
    pub const CODEX_THREAD_ID: &str = "CODEX_THREAD_ID";
    /// The pool's folder (default `~/.codex-pool`).
    pub const CODEX_POOL_HOME: &str = "CODEX_POOL_HOME";
    /// `off` makes the shim step aside.
    pub const CODEX_POOL: &str = "CODEX_POOL";
    /// The account that a launch must use.
    pub const CODEX_POOL_ACCOUNT: &str = "CODEX_POOL_ACCOUNT";
    /// The real Codex.
    pub const CODEX_POOL_CODEX: &str = "CODEX_POOL_CODEX";
    /// `1`: one line on stderr about the pick.
    pub const CODEX_POOL_VERBOSE: &str = "CODEX_POOL_VERBOSE";
    /// `1`: no line on stderr unless the launch fails.
    pub const CODEX_POOL_QUIET: &str = "CODEX_POOL_QUIET";
    /// Set by the shim: how many shims deep we are, and in which thread (`<n>` or `<n>:<thread id>`).
    pub const CODEX_POOL_DEPTH: &str = "CODEX_POOL_DEPTH";
    /// Set by the shim: the ledger entry of the launch that this process belongs to.
    pub const CODEX_POOL_LAUNCH: &str = "CODEX_POOL_LAUNCH";
    /// Where releases of codex-pool are, instead of the place that was built in.
    pub const CODEX_POOL_RELEASES: &str = "CODEX_POOL_RELEASES";
    /// Makes the shim print its own version and exit (asked by installers, never by Codex).
    pub const CODEX_POOL_SHIM_VERSION: &str = "CODEX_POOL_SHIM_VERSION";
}

/// A snapshot of environment, current folder and clock.
#[derive(Clone)]
pub struct Env {
    vars: Vec<(OsString, OsString)>,
    /// The current folder; `None` if it was deleted or cannot be read.
    pub cwd: Option<PathBuf>,
    /// Unix seconds.
    pub now: i64,
}

impl std::fmt::Debug for Env {
    /// Names only: values of other programs' variables may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.vars.iter().map(|(name, _)| name)).finish()
    }
}

/// Unix seconds now, for what takes longer than a moment: a request, a live view.
pub fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

impl Env {
    /// The surroundings of this process.
    pub fn of_process() -> Self {
        Env { vars: std::env::vars_os().collect(), cwd: std::env::current_dir().ok(), now: clock() }
    }

    /// Made-up surroundings, for tests.
    pub fn of(vars: &[(&str, &str)], cwd: &Path, now: i64) -> Self {
        let vars = vars.iter().map(|(k, v)| (k.into(), v.into())).collect();
        Env { vars, cwd: Some(cwd.to_owned()), now }
    }

    /// A variable's value; unset and empty are the same.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_os_str()).filter(|v| !v.is_empty())
    }

    /// A variable's value as text; one that is not UTF-8 counts as unset.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str)
    }

    /// Whether a switch such as `CODEX_POOL_QUIET=1` is on.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != "0" && v != "false")
    }

    /// The same surroundings with one variable set (or removed).
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&OsStr>) -> Self {
        self.vars.retain(|(k, _)| k != name);
        if let Some(value) = value {
            self.vars.push((name.into(), value.to_owned()));
        }
        self
    }

    /// `$HOME`.
    pub fn home(&self) -> Option<&Path> {
        self.get("HOME").map(Path::new)
    }

    /// The folder for temporary files: `$TMPDIR`, else `/tmp`.
    pub fn temp_dir(&self) -> PathBuf {
        self.get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    }

    /// The pool's folder, if it can be told.
    pub fn pool_home(&self) -> Option<PathBuf> {
        match self.get(names::CODEX_POOL_HOME) {
            Some(dir) => self.absolute(Path::new(dir)),
            None => self.home().map(|home| home.join(".codex-pool")),
        }
    }

    /// `path` made absolute against the current folder.
    pub fn absolute(&self, path: &Path) -> Option<PathBuf> {
        if path.is_absolute() { Some(path.to_owned()) } else { Some(self.cwd.as_ref()?.join(path)) }
    }

    /// Every variable, in the environment's order.
    pub fn vars(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(k, v)| (k.as_os_str(), v.as_os_str()))
    }
}
