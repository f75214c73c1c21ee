//! What a launch costs: the time that the shim adds to its target, in the unit of what a static C program adds that
//! only execs. All runs are interleaved. Also the size of the shim and its peak memory.

use std::ops::Range;
use std::process::Command;

use testkit::figures::{Figure, Limit, median};

use crate::programs::{Programs, time};

/// The counted runs of each kind, after the warm-up.
const RUNS: usize = 400;
const WARM_UP: usize = 30;
/// The runs of a block, whose ratio counts for the spread. That of single runs is mostly noise.
const BLOCK: usize = 20;
const PEAKS: usize = 20;

/// The limits of the shim's size and peak memory, MB.
const SIZE: f64 = 2.2;
const MEMORY: f64 = 4.0;

/// A command that picks an account and becomes Codex. An `exec` is waited for, so that it can be carried on.
const PICK: &[&str] = &["hi"];

/// A way to start the target.
struct Kind {
    name: &'static str,
    /// The largest ratio allowed.
    limit: Option<f64>,
    command: Box<dyn FnMut() -> Command>,
    /// The times of the runs, microseconds.
    times: Vec<f64>,
}

pub(crate) fn figures(programs: &Programs) -> Vec<Figure> {
    let mut kinds = measure(programs);
    let times = |kind: &Kind, name: &str| Figure::of(name, &kind.times, "us");
    let mut figures = vec![
        times(&kinds[0], "launch: the target alone"),
        times(&kinds[1], "launch: a C program that execs it"),
    ];
    let both = kinds.drain(..2).collect::<Vec<_>>();
    for kind in kinds {
        let ratio = |runs: Range<usize>| {
            let [direct, exec, own] =
                [&both[0], &both[1], &kind].map(|kind| median(&kind.times[runs.clone()]));
            (own - direct) / (exec - direct)
        };
        let figure = Figure::of_blocks(&format!("launch: {}", kind.name), RUNS, BLOCK, ratio, "execs");
        figures.push(kind.limit.into_iter().fold(figure, |figure, most| figure.limit(Limit::AtMost(most))));
    }
    for (accounts, pool) in [("10", programs.ten()), ("1000", programs.thousand())] {
        let peaks = programs.peaks(PEAKS, || pool.launch(PICK));
        let figure = Figure::of(&format!("launch: memory, {accounts} accounts"), &peaks, "MB");
        figures.push(figure.limit(Limit::AtMost(MEMORY)));
    }
    let size = std::fs::metadata(&programs.shim).expect("the shim").len() as f64 / 1e6;
    figures.push(Figure::of("launch: size of the shim", &[size], "MB").limit(Limit::AtMost(SIZE)));
    figures
}

/// Runs all kinds, round by round.
fn measure(programs: &Programs) -> Vec<Kind> {
    let (ten, thousand) = (programs.ten().clone(), programs.thousand().clone());
    let (hundred, carried) = (programs.pool("hundred", 100), programs.ten().clone());
    let busy = programs.pool("busy", 10);
    // A session uses the main home, so that another account gets its own home.
    let session = busy.sleeper();

    // An attendant runs, and takes in what each launch leaves.
    let attended = programs.pool("attended", 10);
    attended.link_admin();
    let attended_session = attended.sleeper();
    attended.attendant();

    let (target, exec) = (programs.target.clone(), programs.exec.clone());
    let mut kinds = vec![
        kind("direct", None, move || Command::new(&target)),
        kind("exec", None, move || Command::new(&exec)),
        kind("pass-through", Some(1.3), {
            let pool = ten.clone();
            move || pool.launch(&["--version"])
        }),
        kind("pick, 10 accounts", Some(1.6), move || ten.launch(PICK)),
        kind("exec that can be carried on", None, move || carried.launch(&["exec", "hi"])),
        kind("with an attendant", Some(1.8), {
            move || {
                let mut command = attended.launch(&["exec", "hi"]);
                command.env("CODEX_POOL_ACCOUNT", "user0");
                command
            }
        }),
        kind("pick and switch", Some(2.2), {
            let (pool, mut turn) = (programs.pool("switch", 10), 0);
            move || {
                turn += 1;
                let mut command = pool.launch(PICK);
                command.env("CODEX_POOL_ACCOUNT", format!("user{}", turn % 2));
                command
            }
        }),
        kind("own home", Some(2.5), move || {
            let mut command = busy.launch(PICK);
            command.env("CODEX_POOL_ACCOUNT", "user5");
            command
        }),
        kind("pick, 100 accounts", Some(2.0), move || hundred.launch(PICK)),
        kind("pick, 1000 accounts", Some(8.0), move || thousand.launch(PICK)),
    ];
    for round in 0..WARM_UP + RUNS {
        for kind in &mut kinds {
            let took = time(&mut (kind.command)());
            if round >= WARM_UP {
                kind.times.push(took.as_secs_f64() * 1e6);
            }
        }
    }
    for mut session in [session, attended_session] {
        session.kill().and_then(|()| session.wait().map(drop)).expect("the sleeper ends");
    }
    kinds
}

fn kind(name: &'static str, limit: Option<f64>, command: impl FnMut() -> Command + 'static) -> Kind {
    Kind { name, limit, command: Box::new(command), times: Vec::new() }
}
