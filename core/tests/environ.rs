//! The environment of other processes. A test program of its own: a child has the files of this process until it executes
//! its program, and with them the locks of tests that run beside.

use std::process::Command;

use codex_pool_core::process::environ;

#[test]
fn environment_of_a_program_that_is_just_executed_is_never_seen_empty() {
    for _ in 0..100 {
        let mut child = Command::new("sleep").arg("60").env("PROBE", "yes").spawn().expect("start a child");
        let environ = environ(child.id());
        child.kill().and_then(|()| child.wait()).expect("end it");
        assert!(environ.is_none_or(|entries| !entries.is_empty()));
    }
}
