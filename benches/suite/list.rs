//! What `codex-pool list` costs, compared in the same rounds with `codex-pool --version`, which only starts.

use std::ops::Range;

use testkit::figures::{Figure, median};

use crate::programs::{Programs, time};

/// The counted rounds, after the warm-up.
const ROUNDS: usize = 100;
const WARM_UP: usize = 5;
/// The rounds of a block, whose ratio counts for the spread.
const BLOCK: usize = 10;
const PEAKS: usize = 20;

pub(crate) fn figures(programs: &Programs) -> Vec<Figure> {
    let pools = [("10 accounts", programs.ten()), ("1000 accounts", programs.thousand())];
    let mut version = Vec::new();
    let mut lists = [Vec::new(), Vec::new()];
    for round in 0..WARM_UP + ROUNDS {
        let start = time(&mut programs.ten().admin(&["--version"]));
        let both = pools.map(|(_, pool)| time(&mut pool.admin(&["list"])));
        if round >= WARM_UP {
            version.push(start.as_secs_f64() * 1e3);
            lists.iter_mut().zip(both).for_each(|(times, took)| times.push(took.as_secs_f64() * 1e3));
        }
    }
    let mut figures = vec![Figure::of("list: codex-pool --version", &version, "ms")];
    for (times, (accounts, _)) in lists.iter().zip(&pools) {
        let ratio = |runs: Range<usize>| median(&times[runs.clone()]) / median(&version[runs]);
        figures.push(Figure::of_blocks(&format!("list: {accounts}"), ROUNDS, BLOCK, ratio, "versions"));
    }
    for (accounts, pool) in &pools {
        let peaks = programs.peaks(PEAKS, || pool.admin(&["list"]));
        figures.push(Figure::of(&format!("list: memory, {accounts}"), &peaks, "MB"));
    }
    figures
}
