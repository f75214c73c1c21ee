//! The launch, end to end on the real programs: the shim in front of the real Codex, a stand-in or a probe, and
//! `codex-pool` beside it, against the stand-in service. Each test is named after the claim that it would see broken.

mod adoption;
mod arguments;
mod attendant;
mod background;
mod commands;
mod files;
mod finding;
#[cfg(target_os = "linux")]
mod fixed;
mod folders;
mod foreign;
mod homes;
mod inheritance;
mod migration;
mod parallel;
mod pick;
mod rotation;
mod server;
mod transparency;
mod trouble;

use testkit::Cmd;

/// Who is in most of the pools.
const ALL: [&str; 3] = ["alice", "bob", "carol"];

/// Alice has least left, bob most: the pick is bob, then carol, then alice.
const BOB_FIRST: [(&str, f64, f64); 3] = [("alice", 50.0, 70.0), ("bob", 10.0, 10.0), ("carol", 30.0, 40.0)];

/// Takes away root's right to read and write everything, if the tests run as root, so that modes count.
#[cfg(target_os = "linux")]
fn drop_privileges(mut cmd: Cmd) -> Cmd {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: prctl with constants, in the child alone.
    #[expect(unsafe_code, reason = "pre_exec and prctl")]
    unsafe {
        cmd.inner().pre_exec(|| {
            // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER; a user who is not root has none to drop.
            for capability in [1, 2, 3] {
                nix::libc::prctl(nix::libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            Ok(())
        });
    }
    cmd
}

/// macOS has no such rights; nobody runs the tests as root there.
#[cfg(not(target_os = "linux"))]
fn drop_privileges(cmd: Cmd) -> Cmd {
    cmd
}
