//! A scenario in its own world: enumerates the calls of clean runs, fails one of them in a run of its own, and judges what
//! has become of the world.
//!
//! Which calls are failed: each that concerns a file of the world, the system, or a process of the world, one by one, with
//! every error that it can have. What waits makes as many calls as it waits long: of those, the ones that each of a few
//! clean runs makes. What looks at processes that are none of the world's counts as one call per kind of file
//! ([`Site`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testkit::backend::Usage;
use testkit::{Cmd, Output, Process};

use crate::calls::{Address, Around, Site};
use crate::lab::Lab;
use crate::scenarios::{HOME, Scenario};
use crate::security::secrets;
use crate::{calls, moving, thread};

/// A call to be failed, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) site: Site,
    pub(crate) error: &'static str,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Point { site: Site { call, file, nth }, error } = self;
        write!(f, "{call} {file} #{nth} {error}")
    }
}

/// What came of failing a call.
enum Strike {
    Hit,
    /// Another call was failed instead, since processes wait and answers come differently in each run.
    Other(Point),
    /// It was not made.
    Missed,
}

/// Without these an answer that was sent is not heard: a login is then lost as with a cut cable, and the mark of
/// the refresh says so.
const LISTENING: [&str; 9] =
    ["recvfrom", "recvmsg", "read", "readv", "poll", "ppoll", "epoll_wait", "setsockopt", "clock_gettime"];

/// In the place of an error: the program is killed at the call.
const KILL: &str = "SIGKILL";

/// How long a program works that does not end by itself.
const WORKS: Duration = Duration::from_millis(700);

/// How often it is tried to fail the call that is meant.
const TRIES: usize = 8;

/// What is traced beside the call that fails: what tells its own number of the program, and where Codex begins.
const ALSO: &str = "sched_getaffinity,execve";

/// Returns whether a call was the loader's, or that of the Codex that a launch has become.
fn is_foreign(calls: &[(Site, Address, &str)], is: impl Fn(&str) -> bool) -> bool {
    let Some(at) = calls.iter().position(|(.., line)| is(line)) else { return false };
    let becomes = calls.iter().skip(1).position(|(site, ..)| site.call == "execve").map(|at| at + 1);
    calls[at].2.contains(".so.") || becomes.is_some_and(|becomes| at > becomes)
}

/// One scenario in its own world.
pub(crate) struct Bench {
    pub(crate) world: Lab,
    pub(crate) scenario: Scenario,
    /// Its calls, and where they were in the clean runs.
    calls: BTreeMap<Site, Address>,
}

impl Bench {
    /// With its calls as that many clean runs make them.
    pub(crate) fn new(scenario: Scenario, runs: usize) -> Bench {
        // A service that is asked again at once, and no refresh that runs on beside the launch.
        let settings = "background_refresh = false\nmin_poll_interval = \"0s\"\n";
        let world = Lab::new(&["alice", "bob", "carol"], settings);
        let mut bench = Bench { world, scenario, calls: BTreeMap::new() };
        for run in 0..runs {
            let new = bench.clean_run();
            if run == 0 {
                bench.calls = new;
                continue;
            }
            // What waits makes as many calls as it waits long: those that every run makes count. Threads share their
            // work differently each time: there, all count.
            if !scenario.follow {
                bench.calls.retain(|site, _| new.contains_key(site));
            }
            for (site, address) in new {
                match bench.calls.get_mut(&site) {
                    // A file that is not the same in each run cannot be told to strace.
                    Some(known) if known.file() != address.file() => known.on_file = None,
                    None if scenario.follow => drop(bench.calls.insert(site, address)),
                    _ => {}
                }
            }
        }
        bench
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.world.root().join("strace.log")
    }

    pub(crate) fn program(&self) -> PathBuf {
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

    pub(crate) fn traced(&self, options: &[String]) -> Cmd {
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

    /// Returns every call that can fail. `every_error`: with every way it can, else each with one of them, in turn.
    pub(crate) fn points(&self, every_error: bool) -> Vec<Point> {
        let mut points = Vec::new();
        let mut before: BTreeMap<&str, usize> = BTreeMap::new();
        for site in self.calls.keys() {
            // A close that fails has closed all the same, which strace cannot do: a lock would stay held, until
            // the exec of a launch ends that.
            if site.call == "close" && self.scenario.starts.is_none() {
                continue;
            }
            let errors = if self.scenario.killed { &[KILL] } else { calls::errors_of(&site.call) };
            let turn = before.entry(&site.call).or_default();
            let in_turn =
                errors.iter().enumerate().filter(|(at, _)| every_error || *at == *turn % errors.len());
            points.extend(in_turn.map(|(_, error)| Point { site: site.clone(), error }));
            *turn += 1;
        }
        points
    }

    fn clean_run(&self) -> BTreeMap<Site, Address> {
        let running = (self.scenario.prepare)(&self.world);
        let before = self.world.processes();
        // With the paths of descriptors.
        let output = self.run(&["-y".into()]);
        assert!(output.status.success(), "the clean run failed: {output}");
        let log = fs::read_to_string(self.log()).expect("strace's log");
        let calls = self.calls_in(&log, &before);
        drop(running);
        let own = calls::own(&calls, self.scenario.between);
        calls[own].iter().map(|(site, address, _)| (site.clone(), address.clone())).collect()
    }

    /// Returns the calls in a log of strace. `before`: the processes when it began.
    fn calls_in<'a>(&self, log: &'a str, before: &[Process]) -> Vec<(Site, Address, &'a str)> {
        let after = self.world.processes();
        let ours = before.iter().chain(&after).map(|process| process.pid);
        // Its own, which is known to it alone.
        let digits = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        let own = log.split("sched_getaffinity(").nth(1).and_then(digits);
        let root = self.world.root();
        let mut names: Vec<(String, String)> =
            self.world.ids.iter().map(|(name, id)| (id.clone(), name.clone())).collect();
        // The hash of a home.
        for folder in ["moving", "homes"] {
            let files = fs::read_dir(self.world.pool_home().join(folder)).into_iter().flatten().flatten();
            let name = |file: fs::DirEntry| file.file_name().to_string_lossy().into_owned();
            names.extend(files.map(|file| (name(file).replace(".lock", ""), "HOME".to_owned())));
        }
        let around = Around { root, names, ours: ours.chain(own).collect() };
        calls::sites(log, &around)
    }

    /// Fails one call. `Err`: what is wrong afterwards. `other` takes what was failed in its place.
    pub(crate) fn strike(&self, point: &Point, other: impl Fn(Point)) -> Result<bool, String> {
        let Some(mut address) = self.calls.get(&point.site).cloned() else { return Ok(false) };
        for _ in 0..if self.scenario.follow { 20 } else { TRIES } {
            match self.strike_at(point, &mut address)? {
                Strike::Hit => return Ok(true),
                Strike::Other(point) => other(point),
                Strike::Missed => {}
            }
        }
        Ok(false)
    }

    /// Fails the call at an address. If it is not the one that is meant, the address becomes that of the latter in this run.
    fn strike_at(&self, point: &Point, address: &mut Address) -> Result<Strike, String> {
        let world = &self.world;
        let running = (self.scenario.prepare)(world);
        let before = world.processes();
        let Point { site, error } = point;
        let how = if *error == KILL { "signal" } else { "error" };
        let call = &site.call;
        let mut options = vec!["-y".to_owned(), "-e".to_owned(), format!("trace={call},{ALSO}")];
        let nth = match &address.on_file {
            Some((file, nth)) => {
                options.extend(["-P".to_owned(), file.clone()]);
                nth
            }
            None => &address.number,
        };
        options.extend(["-e".to_owned(), format!("inject={call}:{how}={error}:when={nth}")]);
        let output = self.run(&options);
        let log = fs::read_to_string(self.log()).expect("strace's log");
        let calls = self.calls_in(&log, &before);
        let meant = calls.iter().find(|(found, ..)| found == site);
        if let Some((_, there, _)) = meant {
            match &mut address.on_file {
                // Links may lead to the same file.
                Some((_, nth)) => *nth = there.number,
                None => address.number = there.number,
            }
        }
        let is = |line: &str| line.contains("(INJECTED)") || line.contains("killed by SIGKILL");
        let Some(struck) = log.lines().find(|line| is(line)) else { return Ok(Strike::Missed) };
        if is_foreign(&calls, is) {
            return Ok(Strike::Missed);
        }
        // One that kills is the last that was begun.
        let hit = calls.iter().find(|(.., line)| is(line)).or(calls.last().filter(|_| *error == KILL));
        let context = |what: &str| {
            let state = if self.scenario.moves { moving::state(world) } else { String::new() };
            format!("{point} at `{struck}`: {what}\n{output}\n{state}")
        };
        self.judge(&output, point, struck).map_err(|what| context(&what))?;
        if self.scenario.moves {
            moving::goes_on(world).map_err(|what| context(&what))?;
            secrets::shows_none(world, &output).map_err(|what| context(&what))?;
        }
        drop(running);
        let begun = world.refreshes_begun();
        // Its next refresh would be a reuse that cannot be avoided.
        if !world.lost().iter().any(|name| begun.contains(name)) {
            self.heals().map_err(|what| context(&what))?;
        }
        Ok(match hit {
            Some((other, ..)) if other != site => Strike::Other(Point { site: other.clone(), error }),
            _ => Strike::Hit,
        })
    }

    pub(crate) fn judge(&self, output: &Output, point: &Point, struck: &str) -> Result<(), String> {
        // A thread that could not be made fit for its account is refused by the service.
        let refused = self.scenario.thread && thread::is_refused(output);
        // The standard library gives up when a folder cannot be closed. Codex has run by then, and is at its limit.
        let gave_up =
            self.scenario.thread && point.site.call == "close" && output.stderr.contains("internal error");
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
        if LISTENING.contains(&point.site.call.as_str()) {
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
    pub(crate) fn heals(&self) -> Result<(), String> {
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
                let place = world.whereabouts(name);
                return Err(format!(
                    "after the next refresh, {name}'s newest token is not in the pool: {place}"
                ));
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
