//! What `codex-pool status` costs, which runs before every prompt: compared in the same rounds with a static C program
//! that only execs another one, and with `codex-pool --version`, which only starts.

use std::ops::Range;
use std::process::Command;

use testkit::figures::{Figure, Limit, median};

use crate::programs::{Programs, time};

/// The counted rounds, after the warm-up.
const ROUNDS: usize = 200;
const WARM_UP: usize = 10;
/// The rounds of a block, whose ratio counts for the spread.
const BLOCK: usize = 20;
/// The most that a line about ten accounts may take: 3 ms on a machine where the C program takes 0.6 ms.
const MOST: f64 = 5.0;

type Start<'a> = Box<dyn Fn() -> Command + 'a>;

pub(crate) fn figures(programs: &Programs) -> Vec<Figure> {
    let (ten, thousand) = (programs.ten(), programs.thousand());
    let kinds: [(&str, Start<'_>); 5] = [
        ("status: a C program that execs another", Box::new(|| Command::new(&programs.exec))),
        ("status: codex-pool --version", Box::new(|| ten.admin(&["--version"]))),
        ("status: 10 accounts", Box::new(|| ten.admin(&["status"]))),
        (
            "status: 10 accounts, with a time and a forecast",
            Box::new(|| ten.admin(&["status", "--format", "{label} {1week}% {1week_reset} {forecast}"])),
        ),
        ("status: 1000 accounts", Box::new(|| thousand.admin(&["status"]))),
    ];
    let mut times = [(); 5].map(|()| Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        for ((_, command), times) in kinds.iter().zip(&mut times) {
            let took = time(&mut command()).as_secs_f64() * 1e3;
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    let mut figures = vec![
        Figure::of(kinds[0].0, &times[0], "ms"),
        Figure::of(kinds[1].0, &times[1], "ms"),
        Figure::of("status: 10 accounts, time", &times[2], "ms"),
    ];
    for ((name, _), of_kind) in kinds.iter().zip(&times).skip(2) {
        let ratio = |runs: Range<usize>| median(&of_kind[runs.clone()]) / median(&times[0][runs]);
        let figure = Figure::of_blocks(name, ROUNDS, BLOCK, ratio, "execs");
        let limited = *name == "status: 10 accounts";
        figures.push(if limited { figure.limit(Limit::AtMost(MOST)) } else { figure });
    }
    figures
}
