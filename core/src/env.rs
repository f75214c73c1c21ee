//! The process's environment, current folder and clock, read once at the top and passed down. Decisions get the time as
//! an argument.

use std::ffi::{CStr, OsStr, OsString, c_char};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names of the environment variables that codex-pool reads or sets.
pub mod names {
    /// Codex's folder (default `~/.codex`).
    pub const CODEX_HOME: &str = "CODEX_HOME";
    /// Where Codex keeps its databases (default: `CODEX_HOME`).
    pub const CODEX_SQLITE_HOME: &str = "CODEX_SQLITE_HOME";
    /// An API key that `codex exec` uses instead of `auth.json`. Interfaces ignore it.
    pub const CODEX_API_KEY: &str = "CODEX_API_KEY";
    /// An access token that Codex uses instead of `auth.json`.
    pub const CODEX_ACCESS_TOKEN: &str = "CODEX_ACCESS_TOKEN";
    /// A file with a token that Codex exchanges for an identity, where OPENAI_FEDERATION_RULE_ID is set, too.
    pub const OPENAI_IDENTITY_TOKEN_FILE: &str = "OPENAI_IDENTITY_TOKEN_FILE";
    /// Set by Codex in the commands that a session runs.
    pub const CODEX_THREAD_ID: &str = "CODEX_THREAD_ID";
    /// The pool's folder (default `~/.codex-pool`).
    pub const CODEX_POOL_HOME: &str = "CODEX_POOL_HOME";
    /// `off`: the shim starts Codex without the pool.
    pub const CODEX_POOL: &str = "CODEX_POOL";
    /// The account that a launch must use.
    pub const CODEX_POOL_ACCOUNT: &str = "CODEX_POOL_ACCOUNT";
    /// The real Codex.
    pub const CODEX_POOL_CODEX: &str = "CODEX_POOL_CODEX";
    /// `1`: one line on stderr about the pick.
    pub const CODEX_POOL_VERBOSE: &str = "CODEX_POOL_VERBOSE";
    /// `1`: no line on stderr unless the launch fails.
    pub const CODEX_POOL_QUIET: &str = "CODEX_POOL_QUIET";
    /// Set by the shim: how many shims called each other, and in which thread (`<n>` or `<n>:<thread id>`).
    pub const CODEX_POOL_DEPTH: &str = "CODEX_POOL_DEPTH";
    /// Set by the shim: the ledger entry of the launch that this process belongs to.
    pub const CODEX_POOL_LAUNCH: &str = "CODEX_POOL_LAUNCH";
    /// Where releases of codex-pool are, instead of the built-in place.
    pub const CODEX_POOL_RELEASES: &str = "CODEX_POOL_RELEASES";
    /// `0`: this `exec` ends at the limit; `1`: it goes on, whatever the settings say.
    pub const CODEX_POOL_CARRY_ON: &str = "CODEX_POOL_CARRY_ON";
    /// How long this `exec` waits for a reset (`6h`).
    pub const CODEX_POOL_CARRY_WAIT: &str = "CODEX_POOL_CARRY_WAIT";
    /// What a shim that executes itself tells itself about the `exec` that goes on (see `carry::Round`).
    pub const CODEX_POOL_CARRIED: &str = "CODEX_POOL_CARRIED";
    /// Makes the shim print its own version if it has no arguments. Installers set it.
    pub const CODEX_POOL_SHIM_VERSION: &str = "CODEX_POOL_SHIM_VERSION";
}

/// A snapshot of environment, current folder and clock.
#[derive(Clone)]
pub struct Env {
    /// Every entry as it came. Not all need be of the form `NAME=value`.
    entries: Vec<OsString>,
    /// The current folder; `None` if it was deleted or cannot be read.
    pub cwd: Option<PathBuf>,
    /// Unix seconds.
    pub now: i64,
    /// The same in milliseconds, for what happens within one second.
    pub now_ms: i64,
}

impl std::fmt::Debug for Env {
    /// Shows names alone, since values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.vars().map(|(name, _)| name)).finish()
    }
}

/// Returns the Unix seconds now, for a request, a live view or whatever else takes its time.
pub fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// Returns Unix milliseconds.
pub fn clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

impl Env {
    /// Returns the snapshot of this process.
    pub fn of_process() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (now, now_ms) = (since.as_secs() as i64, since.as_millis() as i64);
        Env { entries: environment(), cwd: std::env::current_dir().ok(), now, now_ms }
    }

    /// Returns a snapshot for a test.
    pub fn of(vars: &[(&str, &str)], cwd: &Path, now: i64) -> Self {
        let entries = vars.iter().map(|(name, value)| entry(name.as_ref(), value.as_ref())).collect();
        Env { entries, cwd: Some(cwd.to_owned()), now, now_ms: now * 1000 }
    }

    /// Returns the snapshot of another process, by its environment and folder.
    pub fn of_other(entries: Vec<OsString>, cwd: Option<PathBuf>) -> Self {
        Env { entries, cwd, now: clock(), now_ms: clock_ms() }
    }

    /// Returns a variable's value; `None` if it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.entries.iter().find_map(|entry| value_of(entry, name)).filter(|v| !v.is_empty())
    }

    /// Returns the variable that says who Codex is, above `auth.json`. `exec`: the command is `exec`; only there
    /// CODEX_API_KEY counts.
    pub fn identity(&self, exec: bool) -> Option<&'static str> {
        const FEDERATION: &str = "OPENAI_FEDERATION_RULE_ID";
        let counts = |name: &&str| match *name {
            names::CODEX_API_KEY => exec && self.get(name).is_some(),
            names::OPENAI_IDENTITY_TOKEN_FILE => self.get(name).is_some() && self.get(FEDERATION).is_some(),
            name => self.get(name).is_some(),
        };
        let all = [names::CODEX_API_KEY, names::CODEX_ACCESS_TOKEN, names::OPENAI_IDENTITY_TOKEN_FILE];
        all.into_iter().find(counts)
    }

    /// Returns whether a variable is set, even if it is empty.
    pub fn is_set(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| value_of(entry, name).is_some())
    }

    /// Returns a variable's value as text; `None` if it is unset, empty or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str)
    }

    /// Returns whether a switch such as `CODEX_POOL_QUIET=1` is on.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != "0" && v != "false")
    }

    /// Returns the snapshot with one variable set, or removed.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&OsStr>) -> Self {
        set(&mut self.entries, name, value);
        self
    }

    /// Returns `$HOME`.
    pub fn home(&self) -> Option<&Path> {
        self.get("HOME").map(Path::new)
    }

    /// Returns the folder for temporary files: `$TMPDIR`, else `/tmp`.
    pub fn temp_dir(&self) -> PathBuf {
        self.get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    }

    /// Returns the pool's folder; `None` if neither HOME nor CODEX_POOL_HOME tells.
    pub fn pool_home(&self) -> Option<PathBuf> {
        match self.get(names::CODEX_POOL_HOME) {
            Some(dir) => self.absolute(Path::new(dir)),
            None => self.home().map(|home| home.join(".codex-pool")),
        }
    }

    /// Returns `path` as an absolute path; `None` if it is relative and the current folder is unknown.
    pub fn absolute(&self, path: &Path) -> Option<PathBuf> {
        if path.is_absolute() { Some(path.to_owned()) } else { Some(self.cwd.as_ref()?.join(path)) }
    }

    /// Returns every variable, in the environment's order.
    pub fn vars(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.entries.iter().filter_map(|entry| {
            let bytes = entry.as_bytes();
            // A name can begin with `=`, but not be empty.
            let at = bytes.iter().skip(1).position(|b| *b == b'=')? + 1;
            Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
        })
    }

    /// Returns every entry, in the environment's order.
    pub(crate) fn entries(&self) -> &[OsString] {
        &self.entries
    }
}

/// Sets or removes a variable. One that is there keeps its place.
pub(crate) fn set(entries: &mut Vec<OsString>, name: &str, value: Option<&OsStr>) {
    match (entries.iter_mut().find(|entry| value_of(entry, name).is_some()), value) {
        (Some(there), Some(value)) => *there = entry(name.as_ref(), value),
        (None, Some(value)) => entries.push(entry(name.as_ref(), value)),
        (_, None) => entries.retain(|entry| value_of(entry, name).is_none()),
    }
}

/// Returns the value if this is the entry of that variable.
pub(crate) fn value_of<'a>(entry: &'a OsStr, name: &str) -> Option<&'a OsStr> {
    entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(OsStr::from_bytes)
}

fn entry(name: &OsStr, value: &OsStr) -> OsString {
    [name, OsStr::new("="), value].into_iter().collect()
}

/// Returns the entries of this process's environment. The standard library leaves out those without `=`, which Codex
/// must get all the same.
fn environment() -> Vec<OsString> {
    #[expect(unsafe_code, reason = "the C environment")]
    unsafe extern "C" {
        static mut environ: *const *const c_char;
    }
    let mut entries = Vec::new();
    // SAFETY: an array of C strings that ends with a null pointer, or is null. Nothing changes it, since no variable of
    // this process is ever set.
    #[expect(unsafe_code, reason = "the C environment")]
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            entries.push(OsString::from_vec(CStr::from_ptr(*at).to_bytes().to_vec()));
            at = at.add(1);
        }
    }
    entries
}
