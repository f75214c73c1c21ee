//! What blanking costs: time and memory for a log of 100 MB with one line of 20 MB, and without the beginning of a turn.

#![expect(clippy::print_stdout, reason = "the figures are for whoever asks for them")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use codex_pool_core::codex::rollout::{Quiet, TurnState, blank, last_turn};
use codex_pool_core::paths::PoolPaths;
use nix::sys::resource::{UsageWho, getrusage};

const THREAD: &str = "01a2148a-1509-7203-9900-6a00d5afb73c";
const SIZE: u64 = 100 << 20;
/// More than this on top of what the program needs anyway is too much, kilobytes.
const MEMORY: i64 = 8 << 10;
/// With debug assertions it takes several times as long.
const TIME: Duration = if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_secs(1) };

/// Repeats a recorded turn, with outputs and reasoning of usual lengths and one line of 20 MB, up to 100 MB.
fn write_log(path: &Path) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rollouts/history");
    let recorded = fs::read_to_string(data.join("0.169.0-answered.jsonl")).expect("a recorded log");
    let turn =
        recorded.replace("finished step 1", &"finished ".repeat(3_000)).replace("X19f", &"X19f".repeat(8));
    let compacted = fs::read_to_string(data.join("0.169.0-compacted.jsonl")).expect("a recorded log");
    let compacted = compacted.lines().find(|line| line.contains("\"compacted\"")).expect("a compaction");
    let (before, after) = compacted.split_once("do the task").expect("a prompt");
    let mut log = BufWriter::new(File::create(path).expect("a log"));
    let mut written = 0;
    while written < SIZE - (20 << 20) {
        log.write_all(turn.as_bytes()).expect("written");
        written += turn.len() as u64;
    }
    log.write_all(before.as_bytes()).expect("written");
    (0..20 << 10).for_each(|_| log.write_all(&[b'i'; 1 << 10]).expect("written"));
    writeln!(log, "{after}").expect("written");
}

/// The most memory that this program has had, kilobytes.
fn peak() -> i64 {
    let peak = getrusage(UsageWho::RUSAGE_SELF).expect("usage").max_rss();
    if cfg!(target_os = "macos") { peak >> 10 } else { peak }
}

/// The time that `act` takes.
fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (act(), began.elapsed())
}

/// Blanks the log twice and reads its end, in a program that does nothing else.
fn measured(dir: &Path) {
    let (pool, log) = (PoolPaths::new(dir.join("pool")), log_in(dir));
    let before = peak();
    let (done, took) = timed(|| blank(&pool, THREAD, &log, Quiet::Stopped).expect("blanked"));
    let (again, again_took) = timed(|| blank(&pool, THREAD, &log, Quiet::Stopped).expect("blanked"));
    let file = File::open(&log).expect("the log");
    let (turn, end_took) = timed(|| last_turn(&file).expect("read"));
    let memory = peak() - before;
    println!(
        "{} lines and {} ids in {took:?}; again in {again_took:?}; the end in {end_took:?}; {memory} kB",
        done.lines, done.ids
    );
    assert!(done.lines > 1_000 && done.unknown.is_empty(), "{done:?}");
    assert_eq!(again, Default::default());
    assert_eq!(turn.map(|turn| turn.state), Some(TurnState::Answered));
    assert!(memory <= MEMORY, "{memory} kB");
    assert!(took <= TIME && again_took <= TIME && end_took <= TIME, "{took:?} {again_took:?} {end_took:?}");
}

fn log_in(dir: &Path) -> PathBuf {
    dir.join(format!("rollout-2026-11-25T21-08-43-{THREAD}.jsonl"))
}

/// Tells the program that this test starts anew where the log is.
const CHILD: &str = "BLANKING_DIR";

#[test]
fn a_log_of_100_mb_is_blanked_in_a_second_and_8_mb() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return measured(Path::new(&dir));
    }
    // Not in the system's temporary folder, which may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let log = log_in(dir.path());
    write_log(&log);
    let size = fs::metadata(&log).expect("a log").len();
    assert!(size >= SIZE);
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "a_log_of_100_mb_is_blanked_in_a_second_and_8_mb", "--nocapture"]);
    let output = child.env(CHILD, dir.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" kB"), "nothing was measured: {said}");
    assert_eq!(fs::metadata(&log).expect("a log").len(), size);
}
