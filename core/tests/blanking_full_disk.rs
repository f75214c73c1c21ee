//! Blanking where the system refuses to write: beyond a file size limit, which a program of its own has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use codex_pool_core::codex::rollout::{Blanked, NotBlanked, Quiet, blank, restore};
use codex_pool_core::paths::PoolPaths;

const THREAD: &str = "01a2148a-1509-7203-9900-6a00d5afb73c";

/// Tells the program that a test starts anew where the log is, and what is to happen there.
const CHILD: &str = "BLANKING_DIR";

struct Lab {
    dir: tempfile::TempDir,
    text: String,
}

impl Lab {
    /// A log of that many bytes of other lines, then reasoning.
    fn new(plain: usize, reasoning: usize) -> Lab {
        let line = |kind: &str, rest: &str| {
            format!("{{\"timestamp\":\"2026-11-25T21:08:43Z\",\"type\":\"{kind}\",\"payload\":{rest}}}\n")
        };
        let plain = line("event_msg", &format!("\"{}\"", "p".repeat(plain)));
        let sealed = r#"{"type":"reasoning","summary":[],"encrypted_content":"gAAAAABocWl0aCBub3RoaW5n"}"#;
        let text = plain + &line("response_item", sealed).repeat(reasoning);
        let lab = Lab { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder"), text };
        fs::write(log_in(lab.dir.path()), &lab.text).expect("a log");
        lab
    }

    fn pool(&self) -> PoolPaths {
        PoolPaths::new(self.dir.path().join("pool"))
    }

    fn log(&self) -> String {
        fs::read_to_string(log_in(self.dir.path())).expect("the log")
    }

    /// Blanks in a program that can write no file beyond that many blocks of 512 bytes; what it says.
    fn blank_within(&self, blocks: usize, test: &str) -> String {
        let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("/bin/sh");
        child.args(["-c", script, "sh", &blocks.to_string()]).arg(program);
        child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, self.dir.path());
        // The harness writes to pipes, which have no such limit.
        let output = child.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn blank(&self) -> Blanked {
        blank(&self.pool(), THREAD, &log_in(self.dir.path()), Quiet::Stopped).expect("blanked")
    }

    /// All that was taken out can be brought back.
    fn assert_restored(&self) {
        restore(&self.pool(), THREAD, &log_in(self.dir.path())).expect("restored");
        assert_eq!(self.log(), self.text);
    }
}

fn log_in(dir: &Path) -> PathBuf {
    dir.join(format!("rollout-2026-11-25T21-08-43-{THREAD}.jsonl"))
}

/// In the program that a test has started: what came of it.
fn attempt() -> Option<Result<Blanked, NotBlanked>> {
    let dir = PathBuf::from(std::env::var_os(CHILD)?);
    Some(blank(&PoolPaths::new(dir.join("pool")), THREAD, &log_in(&dir), Quiet::Stopped))
}

#[test]
fn no_room_to_keep_what_would_be_taken_out_means_that_nothing_is() {
    if let Some(attempt) = attempt() {
        let error = attempt.expect_err("no room");
        assert!(matches!(error, NotBlanked::Record(_)), "{error}");
        return;
    }
    // What is kept is longer than the log, which is nothing but reasoning.
    let lab = Lab::new(0, 1_000);
    lab.blank_within(
        lab.text.len() / 512 + 8,
        "no_room_to_keep_what_would_be_taken_out_means_that_nothing_is",
    );
    assert_eq!(lab.log(), lab.text);
    assert!(!lab.pool().blanked().join(THREAD).exists());
    assert_eq!(lab.blank().lines, 1_000);
    lab.assert_restored();
}

#[test]
fn a_log_that_cannot_be_written_is_blanked_the_next_time() {
    if let Some(attempt) = attempt() {
        let error = attempt.expect_err("beyond the limit");
        assert!(matches!(error, NotBlanked::Log(_)), "{error}");
        return;
    }
    // The limit lies in the middle of what is to be changed.
    let lab = Lab::new(100_000, 300);
    let limit = lab.text.len() - 150 * (lab.text.lines().last().expect("lines").len() + 1);
    lab.blank_within(limit / 512, "a_log_that_cannot_be_written_is_blanked_the_next_time");
    let left = lab.log().matches("encrypted_content").count();
    assert!((140..170).contains(&left), "{left}");
    assert_eq!(lab.blank(), Blanked::default(), "completed, and then there was nothing more");
    assert!(!lab.log().contains("encrypted_content"));
    lab.assert_restored();
}
