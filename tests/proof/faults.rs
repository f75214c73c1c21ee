//! Fails every system call of a launch, a renewal and other commands, one at a time, as full, broken, forbidden and
//! read-only disks do, and short of descriptors, and interrupted; and writes that are cut short. The calls are
//! enumerated by clean runs (`bench`), so that a new one is covered without anyone remembering it.
//!
//! What must hold each time: Codex starts, no login is lost, every document is whole, the issuer sees no token
//! twice, and the next launch works as if nothing had been.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::time::Instant;

use testkit::needs;

use crate::bench::{Bench, Point};
use crate::calls::Site;
use crate::random::Random;
use crate::scenarios::{ATTEND, BLANK, CARRY, LAUNCH, LEFT, PARALLEL, REFRESH, Scenario, USE};

/// Tries all points of a scenario, or that many of them; many of them in several worlds at once.
#[expect(clippy::print_stdout, reason = "the numbers are the result")]
pub(crate) fn sweep(scenario: Scenario, sample: Option<usize>) {
    let Some(_) = needs("strace") else { return };
    let began = Instant::now();
    let asked = |name: &str| std::env::var(name).ok().map(|n| n.parse::<usize>().expect("a number"));
    let sample = sample.or_else(|| asked("PROOF_POINTS"));
    let runs = if scenario.follow {
        5
    } else if sample.is_some() {
        2
    } else {
        3
    };
    let bench = Bench::new(scenario, runs);
    let mut points = bench.points(std::env::var("PROOF_ERRORS").is_ok_and(|how| how == "all"));
    if let Ok(text) = std::env::var("PROOF_CALL") {
        points.retain(|point| point.to_string().contains(&text));
    }
    let all = points.len();
    Random::seeded(7).shuffle(&mut points);
    // One of each kind of call first: some are made hundreds of times.
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    points.sort_by_cached_key(|point| {
        let before = seen.entry(point.site.call.clone()).or_default();
        *before += 1;
        *before
    });
    points.truncate(sample.unwrap_or(all));
    let todo: Mutex<BTreeSet<Point>> = Mutex::new(points.iter().cloned().collect());
    let next = Mutex::new(points.iter());
    let failures = Mutex::new(Vec::new());
    let work = |bench: Bench| loop {
        let Some(point) = next.lock().expect("not poisoned").next() else { break };
        let left = todo.lock().expect("not poisoned").len();
        if left.is_multiple_of(100) {
            println!("{left} of {} points left after {} s", points.len(), began.elapsed().as_secs());
        }
        if !todo.lock().expect("not poisoned").contains(point) {
            continue;
        }
        let done = |point: Point| {
            todo.lock().expect("not poisoned").remove(&point);
        };
        // A world that could not be laid out, or a program that does not end, is one failure of many.
        let strike = std::panic::AssertUnwindSafe(|| bench.strike(point, done));
        match std::panic::catch_unwind(strike).unwrap_or_else(|_| Err(format!("{point}: see above"))) {
            Ok(false) => {}
            Ok(true) => done(point.clone()),
            Err(what) => {
                println!("{what}\n====");
                failures.lock().expect("not poisoned").push(what);
                done(point.clone());
            }
        }
    };
    // Most of a point's time is waited for.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worlds = asked("PROOF_WORLDS").unwrap_or(cores * 2).min(points.len() / 50);
    std::thread::scope(|scope| {
        for _ in 1..worlds {
            scope.spawn(|| work(Bench::new(scenario, runs)));
        }
        work(bench);
    });
    let (missed, failures) =
        (todo.into_inner().expect("not poisoned"), failures.into_inner().expect("not poisoned"));
    let mut struck: BTreeMap<&str, usize> = BTreeMap::new();
    for point in points.iter().filter(|point| !missed.contains(point)) {
        *struck.entry(&point.site.call).or_default() += 1;
    }
    let (hit, took) = (points.len() - missed.len(), began.elapsed().as_secs());
    let not_reached: Vec<String> = missed.iter().map(Point::to_string).collect();
    println!(
        "{} {:?}: {all} points, {} tried, {hit} struck, {took} s: {struck:?}; not reached: {not_reached:?}",
        scenario.program,
        scenario.args,
        points.len()
    );
    // Of a small sample, one or two say little.
    let most = (points.len() * 9 / 10).saturating_sub(2).max(1);
    assert!(hit >= most, "most points must be reached, and these were not: {not_reached:?}");
    assert!(failures.is_empty(), "{} of {hit} points:\n{}", failures.len(), failures.join("\n====\n"));
}

#[test]
fn launch_survives_a_sample_of_failed_calls() {
    sweep(LAUNCH, Some(24));
}

#[test]
fn launch_in_an_own_home_survives_a_sample_of_failed_calls() {
    sweep(PARALLEL, Some(12));
}

#[test]
fn launch_after_others_survives_a_sample_of_failed_calls() {
    sweep(LEFT, Some(12));
}

#[test]
fn refresh_survives_a_sample_of_failed_calls() {
    sweep(REFRESH, Some(24));
}

#[test]
fn switch_survives_a_sample_of_failed_calls() {
    sweep(USE, Some(12));
}

#[test]
fn blanking_survives_a_sample_of_failed_calls() {
    sweep(BLANK, Some(24));
}

#[test]
fn exec_that_is_carried_on_survives_a_sample_of_failed_calls() {
    sweep(CARRY, Some(16));
}

#[test]
fn attendant_survives_a_sample_of_failed_calls() {
    sweep(ATTEND, Some(12));
}

#[test]
#[ignore = "minutes: every call of a blanking, see docs/proof.md"]
fn blanking_survives_every_failed_call() {
    sweep(BLANK, None);
}

#[test]
#[ignore = "minutes: every call of an exec that is carried on, see docs/proof.md"]
fn exec_that_is_carried_on_survives_every_failed_call() {
    sweep(CARRY, None);
}

#[test]
#[ignore = "minutes: every call of an attendant, see docs/proof.md"]
fn attendant_survives_every_failed_call() {
    sweep(ATTEND, None);
}

#[test]
#[ignore = "minutes: every call of a launch, see docs/proof.md"]
fn launch_survives_every_failed_call() {
    sweep(LAUNCH, None);
}

#[test]
#[ignore = "minutes: every call of a launch in a home, see docs/proof.md"]
fn launch_in_an_own_home_survives_every_failed_call() {
    sweep(PARALLEL, None);
}

#[test]
#[ignore = "minutes: every call of a launch after others, see docs/proof.md"]
fn launch_after_others_survives_every_failed_call() {
    sweep(LEFT, None);
}

#[test]
#[ignore = "minutes: every call of a refresh, see docs/proof.md"]
fn refresh_survives_every_failed_call() {
    sweep(REFRESH, None);
}

#[test]
#[ignore = "minutes: every call of a switch, see docs/proof.md"]
fn switch_survives_every_failed_call() {
    sweep(USE, None);
}

/// The standard library gives up, with a panic, when a folder cannot be closed: Codex starts all the same.
#[test]
fn codex_starts_when_folders_cannot_be_closed() {
    let Some(_) = needs("strace") else { return };
    let bench = Bench::new(LAUNCH, 0);
    (bench.scenario.prepare)(&bench.world);
    bench.traced(&[]).run().ok();
    let log = fs::read_to_string(bench.log()).expect("strace's log");
    let lists_a_folder = log.lines().position(|line| line.starts_with("getdents64(")).expect("a folder");
    let closed = log.lines().take(lists_a_folder).filter(|line| line.starts_with("close(")).count();
    let options = ["-e".to_owned(), format!("inject=close:error=EIO:when={}", closed + 1)];

    (bench.scenario.prepare)(&bench.world);
    let output = bench.traced(&options).run();
    assert!(output.stdout.contains("hello from"), "{output}");
    assert!(output.stderr.contains("internal error"), "it was another call: {output}");
    bench.heals().unwrap_or_else(|what| panic!("{what}"));

    (bench.scenario.prepare)(&bench.world);
    let output = bench.traced(&options).env("CODEX_POOL_ACCOUNT", "bob").run();
    assert_eq!((output.code(), output.stdout.as_str()), (Some(4), ""), "bob was asked for: {output}");
}

/// `ulimit -f`, in blocks of 512 bytes: a write is cut short at the limit, and the next one fails. The limit is Codex's
/// as well, whose output is short enough for it.
#[test]
fn writes_cut_short_lose_nothing() {
    for (scenario, blocks) in [(LAUNCH, "0"), (LAUNCH, "2"), (REFRESH, "2"), (USE, "2"), (PARALLEL, "2")] {
        let bench = Bench::new(scenario, 0);
        let running = (bench.scenario.prepare)(&bench.world);
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let cmd = bench.world.cmd("/bin/sh").args(["-c", &script, "sh"]).arg(bench.program());
        let output = cmd.args(bench.scenario.args).run();
        let site = Site { call: "write".to_owned(), file: String::new(), nth: 0 };
        let point = Point { site, error: "EFBIG" };
        // With no room at all Codex cannot say anything either.
        if blocks != "0" {
            bench.judge(&output, &point, "").unwrap_or_else(|what| panic!("{what}: {output}"));
        }
        drop(running);
        assert_eq!(bench.world.breaches(), Vec::<String>::new(), "{output}");
        assert_eq!(bench.world.lost(), Vec::<String>::new(), "{output}");
        bench.heals().unwrap_or_else(|what| panic!("{what}: {output}"));
    }
}
