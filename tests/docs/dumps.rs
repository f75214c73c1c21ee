//! docs/security.md: while they hold tokens, our programs can neither be dumped nor read by another process of
//! the same user.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use testkit::{Cmd, Sandbox, wait_until};

/// A user who is not root.
const NOBODY: u32 = 65_534;

/// A program of ours that waits for something, as a user who is not root. It ends when it is dropped.
struct Waiting(Child);

impl Waiting {
    fn start(command: Cmd) -> Waiting {
        let mut command = command.into_inner();
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Waiting(child.expect("start it"))
    }

    /// The kernel gives what it tells of a process that cannot be dumped to root.
    fn cannot_be_dumped(&self) -> bool {
        fs::metadata(format!("/proc/{}/mem", self.0.id())).is_ok_and(|meta| meta.uid() == 0)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets everybody into a folder, and gives it away if we are root.
fn open(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set a mode");
    if nix::unistd::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
}

#[test]
fn programs_cannot_be_dumped() {
    let sandbox = Sandbox::new();
    for path in [sandbox.root(), sandbox.home(), &sandbox.pool_home(), &sandbox.codex_home()] {
        open(path);
    }
    // It waits for its stdin.
    let admin = Waiting::start(sandbox.pool(&["import", "-"]));
    wait_until("codex-pool to protect itself", Duration::from_secs(10), || admin.cannot_be_dumped());
    // It waits for the lock.
    let path = sandbox.pool_home().join("pool.lock");
    let _lock = testkit::files::lock(&path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("set a mode");
    let shim = Waiting::start(sandbox.codex(&["exec", "hi"]));
    wait_until("the shim to protect itself", Duration::from_secs(10), || shim.cannot_be_dumped());
}
