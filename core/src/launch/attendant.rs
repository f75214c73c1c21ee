//! Starting the attendant (`attend`) from a launch that is in the ledger, if none runs. Waits for nothing.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;

use super::{Launch, Locked, spawn};
use crate::env::{Env, names};
use crate::files;
use crate::paths::PoolPaths;
use crate::process::{Liveness, ProcessId};

/// Codex sets them in the commands that a sandboxed session runs.
const SANDBOXED: [&str; 2] = ["CODEX_SANDBOX", "CODEX_SANDBOX_NETWORK_DISABLED"];
/// The variables of the attendant's own environment, beside CODEX_POOL_HOME. What else a launch's environment says is in
/// that launch's entry. The last ones are for the user's command that shows notices.
pub(crate) const ATTENDANT_VARIABLES: [&str; 14] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "TMUX",
];

/// An attendant that has shown no life for so long is stopped, or hangs: launches then refresh themselves, seconds.
const SILENT: i64 = 60;

impl Launch<'_> {
    /// Returns whether this launch may start an attendant. One inside a session leaves that to the session's launch.
    pub(super) fn may_start_attendant(&self, locked: &Locked<'_>) -> bool {
        let env = self.env();
        let around = env.text(names::CODEX_POOL_LAUNCH).and_then(|name| locked.processes.ledger.find(name));
        let nested =
            env.is_set(names::CODEX_THREAD_ID) || around.is_some_and(|l| l.liveness != Liveness::Dead);
        self.settings.attend && !nested && !SANDBOXED.iter().any(|name| env.is_set(name))
    }
}

/// Starts an attendant if none runs. Returns whether one looks after this launch. The launch must be in the ledger already:
/// an attendant that ends reads the ledger once more after it has released its lock.
pub(super) fn start(env: &Env, paths: &PoolPaths) -> bool {
    let Ok(me) = ProcessId::of_self() else { return false };
    let lock = paths.attend_lock(&me.boot, me.pid_namespace);
    match files::is_locked(&lock) {
        Ok(true) => return shows_life(&lock, env.now),
        Ok(false) => {}
        Err(_) => return false,
    }
    // As another user, it could write files that the owner cannot read.
    let owned = std::fs::metadata(paths.root()).is_ok_and(|meta| meta.uid() == geteuid().as_raw());
    let admin = paths.admin_link();
    if !owned || !admin.exists() {
        return false;
    }
    let own = ATTENDANT_VARIABLES.iter().filter_map(|name| Some((*name, env.get(name)?)));
    let own = own.chain([(names::CODEX_POOL_HOME, paths.root().as_os_str())]);
    let vars: Vec<(CString, CString)> =
        own.filter_map(|(n, v)| Some((CString::new(n).ok()?, CString::new(v.as_bytes()).ok()?))).collect();
    spawn::run_detached(&admin, &[OsStr::new("attend")], &vars, None);
    true
}

/// Returns whether the attendant has lately touched its lock file. It does so several times a minute.
fn shows_life(lock: &Path, now: i64) -> bool {
    let touched = lock.symlink_metadata().map(|meta| meta.mtime());
    touched.is_ok_and(|at| now.saturating_sub(at).saturating_abs() < SILENT)
}
