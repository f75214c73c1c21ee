//! What a test needs beyond Rust. A test whose tool is not installed is left out: it ends at once, and the test program
//! says at its end, after the harness's own report, how many were left out and why. With `CODEX_POOL_TEST_ALL=1` a
//! missing tool is a failure instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};

use crate::find_program;

/// Names of tests by the reason why they were left out.
static LEFT_OUT: Mutex<BTreeMap<String, BTreeSet<String>>> = Mutex::new(BTreeMap::new());

/// Returns the program of that name on the PATH of the tests. Without it the calling test is left out, and has to
/// return.
///
/// # Panics
/// If it is not installed and `CODEX_POOL_TEST_ALL` is 1.
#[track_caller]
pub fn needs(tool: &str) -> Option<PathBuf> {
    let found = find_program(tool);
    if found.is_none() {
        missing(&format!("{tool} is not installed"));
    }
    found
}

/// Returns the program of that name, for a test that takes all of a kind that a machine has. Without it that part of
/// the test is left out, also if `CODEX_POOL_TEST_ALL` is 1.
pub fn takes(tool: &str) -> Option<PathBuf> {
    let found = find_program(tool);
    if found.is_none() {
        leave_out(&format!("{tool} is not installed"));
    }
    found
}

/// Leaves the calling test out, since something that can be installed is not there.
///
/// # Panics
/// If `CODEX_POOL_TEST_ALL` is 1.
#[track_caller]
pub(crate) fn missing(why: &str) {
    let all = std::env::var_os("CODEX_POOL_TEST_ALL").is_some_and(|all| all == "1");
    assert!(!all, "{why}, and CODEX_POOL_TEST_ALL=1 leaves no test out");
    leave_out(why);
}

/// Leaves the calling test out, or a part of it, for a reason that no installation changes: a user who is not root, a
/// kernel that does not permit something.
pub fn leave_out(why: &str) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: the handler is a function without captures, and it does not panic.
        #[expect(unsafe_code, reason = "atexit")]
        let registered = unsafe { libc::atexit(report) };
        assert_eq!(registered, 0, "register a function for the end of the program");
    });
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    let mut left_out = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    left_out.entry(why.to_owned()).or_default().insert(test);
}

/// Writes past the harness, which shows what a test prints only if the test fails.
extern "C" fn report() {
    let left_out = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::new();
    for (why, tests) in &*left_out {
        let names: Vec<&str> = tests.iter().map(String::as_str).collect();
        let _ = writeln!(text, "left out: {} ({}): {}", names.len(), why, names.join(", "));
    }
    // Nothing can be done about a standard error that is closed.
    let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
}
