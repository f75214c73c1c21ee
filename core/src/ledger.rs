//! The launch ledger: one small file per launch, named after its process and written before exec. It says which launch
//! uses which home, without a server and without the pool's lock. Knows homes only by the paths of their `auth.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountId};
use crate::env::names;
use crate::error::{Error, Result};
use crate::files::record_lock::{self, Kind};
use crate::files::{self, Durability, PoolLock};
use crate::folders::FolderRules;
use crate::paths::PoolPaths;
use crate::process::{Liveness, ProcessId};
use crate::store::path_of_key;

/// How long a process of another pid namespace counts as running, seconds: its end cannot be seen from here.
pub const UNSEEN_COUNTS: i64 = 12 * 3600;

/// What a launch is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchKind {
    /// Any command but the two below.
    #[default]
    Session,
    /// `codex login`
    Login,
    /// `codex logout`
    Logout,
}

impl LaunchKind {
    fn is_session(&self) -> bool {
        *self == LaunchKind::Session
    }
}

/// The content of a launch's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchEntry {
    /// The account. `None`: unknown.
    pub account: Option<AccountId>,
    /// The `auth.json` of its home (see [`crate::store::path_key`]).
    pub home: String,
    /// The folder it was started in (see [`crate::store::path_key`]).
    #[serde(default)]
    pub cwd: Option<String>,
    /// The folders that it works in, if that is not this one alone (`-C`, the folder of a thread it goes on with).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// Unix seconds.
    pub started_at: i64,
    /// What it runs, for people: `codex`, `codex exec`, `codex login`.
    #[serde(default)]
    pub command: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "LaunchKind::is_session")]
    pub kind: LaunchKind,
    /// Its interface attaches to the background server of its home, and moves with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
    /// Its account was asked for by name, or pinned: it stays there at the limit, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
    /// What its environment says about requests and carrying on (see [`KEPT_VARIABLES`]). It holds for this launch
    /// alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl LaunchEntry {
    /// Returns the folder that it works in.
    pub fn works_in(&self) -> Option<PathBuf> {
        self.folders.first().or(self.cwd.as_ref()).map(|key| path_of_key(key))
    }

    /// Returns which accounts may be used where it works. An account that it is to go on with must be among them.
    pub fn rules(&self, accounts: &[Account], home: Option<&Path>) -> FolderRules {
        let rules = FolderRules::at(accounts, self.works_in().as_deref(), home);
        let others = self.folders.iter().skip(1).map(|key| path_of_key(key));
        others.fold(rules, |rules, folder| rules.and_among_owners_of(accounts, &folder, home))
    }
}

/// The variables of a launch that its entry keeps, for what is done for the launch by another process.
pub const KEPT_VARIABLES: [&str; 16] = [
    names::CODEX_POOL_CARRY_ON,
    names::CODEX_POOL_CARRY_WAIT,
    names::CODEX_SQLITE_HOME,
    "CODEX_REFRESH_TOKEN_URL_OVERRIDE",
    "CODEX_REVOKE_TOKEN_URL_OVERRIDE",
    "CODEX_CA_CERTIFICATE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A launch of the ledger.
#[derive(Debug, Clone)]
pub struct RecordedLaunch {
    /// Its process: the shim's, then Codex's.
    pub process: ProcessId,
    /// Whether it runs. `Unknown` counts as running, and includes a dead one whose entry a child [locks](lock_entry).
    pub liveness: Liveness,
    /// What it says of itself. `None`: its file cannot be read, so that it may use any home.
    pub entry: Option<LaunchEntry>,
}

/// The launches that count as running.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The launches.
    pub launches: Vec<RecordedLaunch>,
    /// The entries of launches that have ended and were not removed before.
    pub ended: Vec<LaunchEntry>,
    /// When an entry was last added or removed before this reading, Unix nanoseconds.
    pub changed_at: i64,
    /// The folder cannot be read: every home may be in use.
    pub unreadable: bool,
}

impl Ledger {
    /// Reads the ledger as seen from `me`. With the lock, entries of launches that ended are removed.
    pub fn read(lock: Option<&PoolLock>, paths: &PoolPaths, me: &ProcessId, now: i64) -> Ledger {
        let mut ledger = Ledger::default();
        let dir = paths.launches();
        ledger.changed_at = changed_at(&dir).unwrap_or(0);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return ledger,
            Err(_) => return Ledger { unreadable: true, ..ledger },
        };
        for file in entries {
            let Ok(file) = file else {
                ledger.unreadable = true;
                continue;
            };
            let Some(process) = file.file_name().to_str().and_then(ProcessId::parse) else { continue };
            let liveness = liveness(&file.path(), &process, me);
            let entry = read_entry(&file.path());
            let too_old = liveness == Liveness::Unknown
                && entry
                    .as_ref()
                    .map(|e| e.started_at)
                    .or_else(|| modified(&file.path()))
                    .is_none_or(|at| now.abs_diff(at) > UNSEEN_COUNTS.unsigned_abs());
            if liveness == Liveness::Dead || too_old {
                if lock.is_some() {
                    let _ = fs::remove_file(file.path());
                }
                ledger.ended.extend(entry);
                continue;
            }
            ledger.launches.push(RecordedLaunch { process, liveness, entry });
        }
        ledger
    }

    /// Returns the `auth.json` of each home that a launch is in, or was in until just now.
    pub fn auth_jsons(&self) -> Vec<PathBuf> {
        let entries = self.launches.iter().filter_map(|l| l.entry.as_ref()).chain(&self.ended);
        let mut keys: Vec<&str> = entries.map(|entry| entry.home.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().map(path_of_key).collect()
    }

    /// Returns the number of running launches of an account.
    pub fn sessions(&self, id: &AccountId) -> usize {
        self.launches
            .iter()
            .filter(|l| l.entry.as_ref().is_some_and(|e| e.account.as_ref() == Some(id)))
            .count()
    }

    /// Returns the running launch of this name.
    pub fn find(&self, name: &str) -> Option<&RecordedLaunch> {
        let process = ProcessId::parse(name)?;
        self.launches.iter().find(|l| l.process == process)
    }
}

/// Returns a launch of the ledger as it is now; `None` if its entry is gone.
pub(crate) fn launch(paths: &PoolPaths, process: ProcessId, me: &ProcessId) -> Option<RecordedLaunch> {
    let path = entry_path(paths, &process);
    let entry = read_entry(&path);
    if entry.is_none() && path.symlink_metadata().is_err() {
        return None;
    }
    Some(RecordedLaunch { liveness: liveness(&path, &process, me), process, entry })
}

/// Returns whether the launch with this entry runs.
pub(crate) fn liveness(path: &Path, process: &ProcessId, me: &ProcessId) -> Liveness {
    match process.liveness(me) {
        Liveness::Dead if is_locked(path) => Liveness::Unknown,
        liveness => liveness,
    }
}

fn read_entry(path: &Path) -> Option<LaunchEntry> {
    serde_json::from_slice(&files::read_small(path, 1 << 16).ok()??).ok()
}

fn entry_path(paths: &PoolPaths, process: &ProcessId) -> PathBuf {
    paths.launches().join(process.to_string())
}

fn encoded(entry: &LaunchEntry) -> Result<Vec<u8>> {
    serde_json::to_vec(entry).map_err(|e| Error::new(format!("cannot encode a launch: {e}")))
}

fn changed_at(dir: &Path) -> Option<i64> {
    let meta = fs::metadata(dir).ok()?;
    meta.mtime().checked_mul(1_000_000_000)?.checked_add(meta.mtime_nsec())
}

fn modified(path: &Path) -> Option<i64> {
    let at = fs::metadata(path).ok()?.modified().ok()?;
    Some(at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs() as i64)
}

/// Records what has changed of the launch of another process. Its entry is the old one or the new one: without a whole one
/// nobody knows which home the launch is in.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn change(paths: &PoolPaths, process: &ProcessId, entry: &LaunchEntry) -> Result<()> {
    let path = entry_path(paths, process);
    let bytes = encoded(entry)?;
    files::write_whole(&path, &bytes, Durability::Fast).map_err(|e| Error::io("write", &path, &e))
}

/// Records a launch, or what has changed of it. This needs no lock: the file belongs to the process alone.
///
/// # Errors
/// If the file cannot be written.
pub fn record(paths: &PoolPaths, process: &ProcessId, entry: &LaunchEntry) -> Result<()> {
    let path = entry_path(paths, process);
    let bytes = encoded(entry)?;
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file =
            files::open_with(options.write(true).create(true).truncate(true).mode(0o600), 0, &path)?;
        // Whatever the umask is: an entry that cannot be read makes every home count as in use.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(&bytes)
    };
    let result = match write() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            files::create_private_dir(&paths.launches()).and_then(|()| write())
        }
        other => other,
    };
    result.map_err(|e| Error::io("write", &path, &e))
}

/// Locks a launch's entry, so that it stays while the file is open here or in a child that has not executed another
/// program yet: until then, a child cannot be told from others. `None`: it cannot be locked.
pub(crate) fn lock_entry(paths: &PoolPaths, process: &ProcessId) -> Option<fs::File> {
    let path = entry_path(paths, process);
    let file = files::open_with(fs::OpenOptions::new().read(true).write(true), 0, &path).ok()?;
    record_lock::try_write_lock(&file).is_ok_and(|locked| locked).then_some(file)
}

/// Returns whether a process that may write the pool has locked an entry.
fn is_locked(path: &Path) -> bool {
    let in_the_way = |file: fs::File| record_lock::in_the_way(&file, Kind::Read);
    files::open(path).and_then(in_the_way).is_ok_and(|found| found.is_some())
}

/// Removes a launch that did not happen, or whose end is known.
pub(crate) fn remove(paths: &PoolPaths, process: &ProcessId) {
    let _ = fs::remove_file(entry_path(paths, process));
}
