//! Codex's background server (from 0.159 on): finding it by its pid file, and stopping and restarting it with
//! Codex's own command. Touches no file of Codex itself.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{probe, threads};
use crate::env::names;
use crate::files;
use crate::process::{self, ProcessId};

/// How long a server may take to end after `stop` has answered.
const ENDS: Duration = Duration::from_millis(400);
/// How long `stop` may take. The pool is locked meanwhile, and launches wait 2 s for it.
const STOPS: Duration = Duration::from_millis(1500);

/// A living background server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackgroundServer {
    /// Its CODEX_HOME.
    pub home: PathBuf,
    /// Its process.
    pub pid: u32,
    /// The start of its process, in clock ticks since boot.
    pub start_ticks: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PidFile {
    pid: u32,
    process_identity: Option<PidFileIdentity>,
}

/// Which process of that pid it is, in the terms of the system.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PidFileIdentity {
    boot_id: Option<String>,
    start_ticks: Option<u64>,
    /// On macOS, of the epoch.
    start_seconds: Option<u64>,
    start_microseconds: Option<u64>,
}

impl PidFileIdentity {
    /// Returns the start of the process, as in [`ProcessId::start_ticks`].
    fn start(&self) -> Option<u64> {
        let micros = |seconds: u64| seconds.checked_mul(1_000_000)?.checked_add(self.start_microseconds?);
        self.start_ticks.or_else(|| self.start_seconds.and_then(micros))
    }
}

impl BackgroundServer {
    /// Returns the server of a CODEX_HOME, from `app-server-daemon/daemon.pid`.
    pub fn of_home(home: &Path) -> Option<BackgroundServer> {
        let bytes = files::read_small(&home.join("app-server-daemon/daemon.pid"), 1 << 16).ok()??;
        let file: PidFile = serde_json::from_slice(&bytes).ok()?;
        let stat = process::stat(file.pid).filter(|stat| !stat.ended)?;
        if let Some(identity) = &file.process_identity {
            let me = ProcessId::of_self().ok()?;
            let same_boot = identity.boot_id.as_ref().is_none_or(|b| b.replace('-', "") == me.boot);
            if !same_boot || identity.start().is_some_and(|start| start != stat.start_ticks) {
                return None;
            }
        }
        Some(BackgroundServer { home: home.to_owned(), pid: file.pid, start_ticks: stat.start_ticks })
    }

    /// Returns whether it holds a thread. `None`: unknown.
    pub fn holds_thread(&self) -> Option<bool> {
        threads::has_writer(self.pid, &self.home)
    }

    /// Stops it and waits for its end. Returns whether it ended.
    pub fn stop(&self, codex: &Path) -> bool {
        let _ = call(codex, &self.home, "stop", STOPS);
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > ENDS {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Returns whether it runs.
    pub fn is_alive(&self) -> bool {
        process::stat(self.pid).is_some_and(|stat| !stat.ended && stat.start_ticks == self.start_ticks)
    }
}

/// Returns the file that an interface locks while it starts the server of a CODEX_HOME.
pub(crate) fn start_lock(home: &Path) -> PathBuf {
    home.join("app-server-daemon/daemon.lock")
}

/// Restarts the server of a CODEX_HOME. Attached interfaces reconnect by themselves; a running turn is interrupted.
/// The new server has read `auth.json` as it is now.
///
/// # Errors
/// Codex cannot be run, or no new server appears in time.
pub fn restart(codex: &Path, home: &Path, limit: Duration) -> io::Result<BackgroundServer> {
    let before = BackgroundServer::of_home(home);
    let status = call(codex, home, "restart", limit)?;
    match BackgroundServer::of_home(home).filter(|now| Some(now) != before.as_ref()) {
        Some(server) if status.success() => Ok(server),
        _ => Err(io::Error::other(format!("`codex app-server daemon restart` did not do it ({status})"))),
    }
}

/// Runs `codex app-server daemon <verb>`. A new server gets our environment without the variables of one launch.
fn call(codex: &Path, home: &Path, verb: &str, limit: Duration) -> io::Result<ExitStatus> {
    let mut command = Command::new(codex);
    command.args(["app-server", "daemon", verb]).env(names::CODEX_HOME, home);
    for name in
        [names::CODEX_POOL_LAUNCH, names::CODEX_POOL_ACCOUNT, names::CODEX_POOL_DEPTH, names::CODEX_THREAD_ID]
    {
        command.env_remove(name);
    }
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe::wait_within(&mut quiet.spawn()?, limit)?.ok_or_else(|| {
        let limit = limit.as_secs();
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("`codex app-server daemon {verb}` did not end within {limit} s"),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn pid_file_names_the_process_that_began_then_and_no_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let me = ProcessId::of_self().unwrap();
        let pid_file = dir.path().join("app-server-daemon/daemon.pid");
        std::fs::create_dir(pid_file.parent().unwrap()).unwrap();
        let found = |identity: Value| {
            let text = json!({"pid": me.pid, "processIdentity": identity}).to_string();
            std::fs::write(&pid_file, text).unwrap();
            BackgroundServer::of_home(dir.path()).is_some()
        };
        for (start, is_it) in [(me.start_ticks, true), (me.start_ticks - 1, false)] {
            let linux = json!({"bootId": me.boot, "startTicks": start});
            let macos = json!({"startSeconds": start / 1_000_000, "startMicroseconds": start % 1_000_000});
            assert_eq!((found(linux), found(macos)), (is_it, is_it));
        }
        assert!(!found(json!({"bootId": "0".repeat(32), "startTicks": me.start_ticks})));
        assert!(found(Value::Null), "no more than the pid is said");
    }
}
