//! Fails every system call of a launch, a renewal and other commands, one at a time, as full, broken, forbidden and
//! read-only disks do, and short of descriptors, and interrupted; and writes that are cut short. The calls are
//! enumerated by a clean run, so that a new one is covered without anyone remembering it.
//!
//! What must hold each time: Codex starts, no login is lost, every document is whole, the issuer sees no token
//! twice, and the next launch works as if nothing had been.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::backend::Usage;
use testkit::{Cmd, Output, needs};

use crate::lab::Lab;
use crate::random::Random;
use crate::scenarios::{ATTEND, BLANK, CARRY, HOME, LAUNCH, LEFT, PARALLEL, REFRESH, Scenario, USE};
use crate::security::secrets;
use crate::{calls, moving, thread};

/// A call to be failed: which, the how-manieth of a thread, and how.
#[derive(Clone, Debug)]
struct Point {
    call: String,
    nth: usize,
    error: &'static str,
}

/// Without these an answer that was sent is not heard: a login is then lost as with a cut cable, and the mark of
/// the refresh says so.
const LISTENING: [&str; 9] =
    ["recvfrom", "recvmsg", "read", "readv", "poll", "ppoll", "epoll_wait", "setsockopt", "clock_gettime"];

/// In the place of an error: the program is killed at the call.
const KILL: &str = "SIGKILL";

/// How long a program works that does not end by itself.
const WORKS: Duration = Duration::from_millis(700);

/// One scenario in its own world.
struct Bench {
    world: Lab,
    scenario: Scenario,
}

impl Bench {
    fn new(scenario: Scenario) -> Bench {
        // A service that is asked again at once, and no refresh that runs on beside the launch.
        let settings = "background_refresh = false\nmin_poll_interval = \"0s\"\n";
        Bench { world: Lab::new(&["alice", "bob", "carol"], settings), scenario }
    }

    fn log(&self) -> PathBuf {
        self.world.root().join("strace.log")
    }

    fn program(&self) -> PathBuf {
        if self.scenario.program == "codex" {
            self.world.shim()
        } else {
            self.world.home().join(".local/bin/codex-pool")
        }
    }

    fn args(&self) -> Vec<OsString> {
        let home = self.world.codex_home().into_os_string();
        self.scenario.args.iter().map(|arg| if *arg == HOME { home.clone() } else { arg.into() }).collect()
    }

    fn traced(&self, options: &[String]) -> Cmd {
        let mut cmd = self.world.cmd("strace").arg("-o").arg(self.log());
        if self.scenario.follow {
            // The second stops it at the calls that are asked for alone: it runs nearly as fast as untraced.
            cmd = cmd.args(["-f", "--seccomp-bpf"]);
        }
        let cmd = cmd.args(options).arg(self.program()).args(self.args());
        self.scenario.env.iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value))
    }

    /// Runs it to its end.
    fn run(&self, options: &[String]) -> Output {
        let cmd = self.traced(options);
        let Some(end) = self.scenario.end else { return cmd.run() };
        let running = cmd.spawn();
        std::thread::sleep(WORKS);
        end(&self.world);
        running.wait()
    }

    /// Returns every call of a clean run that can fail, with every way it can, once. Where answers come together their
    /// entering is fewer calls: of a few runs, the longest counts.
    fn points(&self) -> Vec<Point> {
        let mut calls: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for _ in 0..if self.scenario.follow { 5 } else { 1 } {
            for (call, numbers) in self.clean_run() {
                calls.entry(call).or_default().extend(numbers);
            }
        }
        let mut points = Vec::new();
        for (call, numbers) in calls {
            // A close that fails has closed all the same, which strace cannot do: a lock would stay held, until
            // the exec of a launch ends that.
            if call == "close" && self.scenario.starts.is_none() {
                continue;
            }
            for error in self.errors_of(&call) {
                points.extend(numbers.iter().map(|nth| Point { call: call.clone(), nth: *nth, error }));
            }
        }
        points
    }

    fn errors_of(&self, call: &str) -> &'static [&'static str] {
        if self.scenario.killed { &[KILL] } else { calls::errors_of(call) }
    }

    fn clean_run(&self) -> BTreeMap<String, BTreeSet<usize>> {
        let running = (self.scenario.prepare)(&self.world);
        let ours: Vec<i32> = self.world.processes().iter().map(|process| process.pid).collect();
        // With the paths of descriptors.
        let output = self.run(&["-y".into()]);
        drop(running);
        assert!(output.status.success(), "the clean run failed: {output}");
        let log = fs::read_to_string(self.log()).expect("strace's log");
        calls::own(&log, self.scenario.between, |line| {
            self.scenario.moves && calls::is_of_others(line, &ours)
        })
    }

    /// Fails one call; what is wrong afterwards, or whether the call came at all. How many answers come together
    /// differs, so that a call may come when it is waited for once more: about one run in three is a long one.
    fn strike(&self, point: &Point) -> Result<bool, String> {
        for _ in 0..if self.scenario.follow { 20 } else { 3 } {
            if self.strike_once(point)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn strike_once(&self, point: &Point) -> Result<bool, String> {
        let world = &self.world;
        let running = (self.scenario.prepare)(world);
        let Point { call, nth, error } = point;
        let how = if *error == KILL { "signal" } else { "error" };
        let inject = format!("inject={call}:{how}={error}:when={nth}");
        let output = self.run(&["-e".into(), format!("trace={call}"), "-e".into(), inject]);
        let log = fs::read_to_string(self.log()).expect("strace's log");
        let is = |line: &&str| line.contains("(INJECTED)") || line.contains("killed by SIGKILL");
        let struck = log.lines().find(is);
        let Some(struck) = struck else { return Ok(false) };
        let context = |what: &str| format!("{point:?} at `{struck}`: {what}\n{output}");
        self.judge(&output, point, struck).map_err(|what| context(&what))?;
        if self.scenario.moves {
            moving::goes_on(world).map_err(|what| context(&what))?;
            secrets::shows_none(world, &output).map_err(|what| context(&what))?;
        }
        drop(running);
        let begun = world.refreshes_begun();
        if world.lost().iter().any(|name| begun.contains(name)) {
            return Ok(true); // Its next refresh would be a reuse that cannot be avoided.
        }
        self.heals().map_err(|what| context(&what))?;
        Ok(true)
    }

    fn judge(&self, output: &Output, point: &Point, struck: &str) -> Result<(), String> {
        // A thread that could not be made fit for its account is refused by the service.
        let refused = self.scenario.thread && thread::is_refused(output);
        // The standard library gives up when a folder cannot be closed. Codex has run by then, and is at its limit.
        let gave_up =
            self.scenario.thread && point.call == "close" && output.stderr.contains("internal error");
        if let Some(said) = self.scenario.starts
            && !output.stdout.contains(said)
            && !self.codex_itself(output, struck)
            && !(refused || gave_up)
        {
            return Err("Codex did not start".to_owned());
        }
        if point.error != KILL && output.signal().is_some() || output.stderr.contains("panicked") {
            return Err("it crashed".to_owned());
        }
        let mut lost = self.world.lost();
        if LISTENING.contains(&point.call.as_str()) {
            let begun = self.world.refreshes_begun();
            lost.retain(|name| !begun.contains(name));
        }
        if !lost.is_empty() {
            return Err(format!("lost: {lost:?}"));
        }
        match self.world.breaches().as_slice() {
            [] => Ok(()),
            breaches => Err(breaches.join("; ")),
        }
    }

    /// Returns whether the call concerned Codex's own file: if it cannot be read, Codex cannot start, and the shim says
    /// so.
    fn codex_itself(&self, output: &Output, struck: &str) -> bool {
        struck.contains(&format!("\"{}\"", self.world.real_path().display()))
            && matches!(output.code(), Some(126 | 127))
            && output.stderr.contains("codex-pool: ")
    }

    /// Checks that the next launch and the next refresh put everything right.
    fn heals(&self) -> Result<(), String> {
        let world = &self.world;
        if self.scenario.thread {
            thread::check(world)?;
            // Her limit is over.
            world.backend().set_usage("alice", Usage::percent(10.0, 10.0));
        }
        let output = world.exec().run();
        if !output.stdout.contains("hello from") {
            return Err(format!("the next launch failed: {output}"));
        }
        let output = world.pool(&["refresh"]).run();
        if !output.status.success() {
            return Err(format!("the next refresh failed: {output}"));
        }
        for name in world.ids.keys() {
            let newest = world.backend().newest_refresh_token(name);
            if !world.document(name).contains(&newest) {
                return Err(format!("after the next refresh, {name}'s newest token is not in the pool"));
            }
            if !world.is_registered(name) {
                return Err(format!("after the next refresh, {name} is not in the registry"));
            }
        }
        match world.breaches().as_slice() {
            [] => Ok(()),
            breaches => Err(format!("after the next refresh: {}", breaches.join("; "))),
        }
    }
}

/// Tries all points of a scenario, or that many of them; many of them in several worlds at once.
#[expect(clippy::print_stdout, reason = "the numbers are the result")]
pub(crate) fn sweep(scenario: Scenario, sample: Option<usize>) {
    let Some(_) = needs("strace") else { return };
    let began = Instant::now();
    let bench = Bench::new(scenario);
    let mut points = bench.points();
    let all = points.len();
    Random::seeded(7).shuffle(&mut points);
    // One of each kind of call first: some are made hundreds of times.
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    points.sort_by_cached_key(|point| {
        let before = seen.entry(point.call.clone()).or_default();
        *before += 1;
        *before
    });
    let asked = || std::env::var("PROOF_POINTS").ok().map(|n| n.parse().expect("a number"));
    points.truncate(sample.or_else(asked).unwrap_or(all));
    let next = AtomicUsize::new(0);
    let work = |bench: Bench| {
        let take = || points.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(take).map(|point| (point, bench.strike(point))).collect::<Vec<_>>()
    };
    let worlds = std::thread::available_parallelism().map_or(1, usize::from).min(points.len() / 50);
    let tried = std::thread::scope(|scope| {
        let others: Vec<_> = (1..worlds).map(|_| scope.spawn(|| work(Bench::new(scenario)))).collect();
        let mut tried = work(bench);
        tried.extend(others.into_iter().flat_map(|other| other.join().expect("its points")));
        tried
    });
    let mut struck: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut failures, mut missed) = (Vec::new(), Vec::new());
    for (point, how) in tried {
        match how {
            Ok(true) => *struck.entry(&point.call).or_default() += 1,
            Ok(false) => missed.push(format!("{} #{} {}", point.call, point.nth, point.error)),
            Err(what) => failures.push(what),
        }
    }
    let (hit, took) = (struck.values().sum::<usize>() + failures.len(), began.elapsed().as_secs());
    println!(
        "{} {:?}: {all} points, {} tried, {hit} struck, {took} s: {struck:?}; not reached: {missed:?}",
        scenario.program,
        scenario.args,
        points.len()
    );
    // Of a small sample, one or two say little.
    let most = (points.len() * 8 / 10).saturating_sub(2).max(1);
    assert!(hit >= most, "most points must be reached, and these were not: {missed:?}");
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
    let bench = Bench::new(LAUNCH);
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
        let bench = Bench::new(scenario);
        let running = (bench.scenario.prepare)(&bench.world);
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let cmd = bench.world.cmd("/bin/sh").args(["-c", &script, "sh"]).arg(bench.program());
        let output = cmd.args(bench.scenario.args).run();
        let point = Point { call: "write".to_owned(), nth: 0, error: "EFBIG" };
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
