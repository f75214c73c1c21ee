//! What the start of an npm-installed Codex costs: the native program alone, the Node launcher alone, and the shim in
//! front of it once it knows what the launcher starts. It runs the real Codex, and all runs are interleaved.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::figures::{Figure, Limit, median};
use testkit::{find_program, real_codex, version, wait_for};

use crate::pool::Pool;
use crate::programs::{Programs, timed};

/// The counted runs of each kind, after the warm-up.
const RUNS: usize = 120;
const WARM_UP: usize = 10;
/// The runs of a block, whose ratio counts for the spread.
const BLOCK: usize = 12;
/// The largest cost of a launch through the shim, as a multiple of the native program's time.
const GOAL: f64 = 1.3;
const SOON: Duration = Duration::from_secs(60);

/// A way to start Codex.
struct Kind {
    name: &'static str,
    command: Command,
    /// The times of the runs, milliseconds.
    times: Vec<f64>,
}

pub(crate) fn figures(programs: &Programs) -> Vec<Figure> {
    let Some(codex) = real_codex(&version()) else { return Vec::new() };
    let pool = programs.pool("native", 10);
    learn(&pool, &codex.launcher);
    // The first three need no account. The others pick one, and have an option that Codex does not know, so that it
    // ends at once.
    let pick = ["exec", "--no-such-option"];
    let in_pool = |program: &Path, args: &[&str]| with_codex(pool.run(program, args), &codex.launcher);
    let mut kinds = [
        ("native program", in_pool(&codex.native, &["--version"])),
        ("Node launcher", in_pool(&codex.launcher, &["--version"])),
        ("through the shim", in_pool(&programs.shim, &["--version"])),
        ("native program, exec", in_pool(&codex.native, &pick)),
        ("Node launcher, exec", in_pool(&codex.launcher, &pick)),
        ("through the shim, exec", in_pool(&programs.shim, &pick)),
    ]
    .map(|(name, command)| Kind { name, command, times: Vec::new() });
    for round in 0..WARM_UP + RUNS {
        // Forwards and backwards, so that no kind always runs after the same other one.
        let last = kinds.len() - 1;
        for i in 0..=last {
            let kind = &mut kinds[if round % 2 == 0 { i } else { last - i }];
            let took = time(&mut kind.command);
            if round >= WARM_UP {
                kind.times.push(took.as_secs_f64() * 1e3);
            }
        }
    }
    let mut figures: Vec<Figure> = kinds
        .iter()
        .map(|kind| Figure::of(&format!("native start: time, {}", kind.name), &kind.times, "ms"))
        .collect();
    for [native, node, shim] in [[0, 1, 2], [3, 4, 5]].map(|group| group.map(|i| &kinds[i])) {
        for (kind, limit) in [(node, None), (shim, Some(Limit::AtMost(GOAL)))] {
            let ratio = |runs: Range<usize>| median(&kind.times[runs.clone()]) / median(&native.times[runs]);
            let figure = Figure::of_blocks(
                &format!("native start: {}", kind.name),
                RUNS,
                BLOCK,
                ratio,
                "times native",
            );
            figures.push(limit.into_iter().fold(figure, Figure::limit));
        }
    }
    figures
}

/// Launches once, and waits until it is known what the launcher starts.
fn learn(pool: &Pool, launcher: &Path) {
    let bin = pool.folder().join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    std::os::unix::fs::symlink(pool.codex_pool(), bin.join("codex-pool")).expect("link");
    time(&mut with_codex(pool.launch(&["exec", "--no-such-option"]), launcher));
    wait_for("what was learnt", SOON, || {
        let files = std::fs::read_dir(pool.folder().join("native")).ok()?.flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.extension().is_some_and(|e| e == "json"))
    });
}

/// Sets this launcher as the real Codex, and puts Node on PATH.
fn with_codex(mut command: Command, launcher: &Path) -> Command {
    let node = find_program("node").expect("Node");
    let node = node.parent().expect("a folder");
    let path = std::env::join_paths([node, Path::new("/usr/bin"), Path::new("/bin")]).expect("no colon");
    command.env("PATH", path).env("CODEX_POOL_CODEX", launcher);
    command
}

/// Runs a command to its end, which may be a usage error. Returns the time that it took.
fn time(command: &mut Command) -> Duration {
    let (took, status) = timed(command);
    assert!(status.code().is_some_and(|code| code == 0 || code == 2), "{command:?}: {status}");
    took
}
