//! The move of an open interface, whose background server and window are stand-ins: what can fail and be killed at any call,
//! and hundreds of times, must leave a server that runs, a thread that goes on, and every login.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testkit::backend::{Limit, Turn, Usage};
use testkit::{NOBODY, Process, Running, SOON, is_root, leave_out, now, wait_until};

use crate::faults::sweep;
use crate::lab::Lab;
use crate::random::Random;
use crate::scenarios::{self, COMPLETE, MOVE, Scenario, THREAD, UNDO};
use crate::thread;

const SETTINGS: &str = "background_refresh = false\nmin_poll_interval = \"0s\"\n";
/// The turn that ends with the limit.
const TURN: &str = "turn-of-alice";

/// Lays out a world with an open interface of Alice's, whose thread the background server has loaded.
pub(crate) fn window(world: &Lab) -> Running {
    window_with(world, &[])
}

/// Lays out the same, with more in the environment of the window.
pub(crate) fn window_with(world: &Lab, env: &[(&str, &str)]) -> Running {
    end_all(world);
    scenarios::alices_thread(world);
    let text = fs::read_to_string(log(world)).expect("a log");
    // It has not ended yet.
    let open = text.trim_end().rsplit_once('\n').expect("lines").0.to_owned() + "\n";
    world.write_private(&log(world), &open);
    world.write_private(&world.root().join("original"), &open);
    for user in ["alice", "bob", "carol"] {
        world.backend().set_usage(user, Usage::percent(10.0, 10.0));
    }
    world.cache_usage(&[("alice", 10.0, 10.0), ("bob", 20.0, 20.0), ("carol", 50.0, 50.0)], 5);
    // As she comes now, it is known as whom the server will run. What was killed may hold its locks a moment longer.
    wait_until("alice to be live", SOON, || {
        // It waits for a Codex that may just be starting, which may be any on this machine.
        world.pool(&["use", "alice"]).run();
        world.live_owner().as_deref() == Some("alice")
    });
    world.pool(&["use", "--auto"]).run().ok();
    let _ = fs::remove_file(world.gate());
    let cmd = world.codex(&["resume", THREAD]).env("STANDIN_WINDOW", "1");
    let window = world.hold(env.iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value)));
    wait_until("the thread to be loaded", SOON, || is_loaded(world));
    window
}

/// Ends the last turn of the thread with the limit, as the service says it from now on. Nobody has noticed yet.
pub(crate) fn reach_limit(world: &Lab) {
    world.backend().limit_after("alice", 0, Limit::Refuse);
    let error = json!({"message": "usage limit", "codex_error_info": "usage_limit_exceeded"});
    let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.9fZ");
    let end = format!(
        "{{\"timestamp\":\"{at}\",\"ordinal\":99,\"type\":\"event_msg\",\"payload\":{{\"type\":\"task_complete\",\
         \"turn_id\":\"{TURN}\",\"last_agent_message\":null,\"error\":{error}}}}}\n"
    );
    let mut log = File::options().append(true).open(log(world)).expect("the log");
    log.write_all(end.as_bytes()).expect("write to the log");
}

/// Lays out the same world at the moment when the attendant has noticed that and starts the move.
pub(crate) fn standing_still(world: &Lab) -> Option<Running> {
    let window = window(world);
    reach_limit(world);
    // All has been quiet for a while.
    let file = File::options().append(true).open(log(world)).expect("the log");
    file.set_modified(SystemTime::now() - Duration::from_secs(5)).expect("date the log");
    let alice = &world.ids["alice"];
    let limit = json!({"turn": TURN, "account": alice, "at_ms": now() * 1_000});
    let record =
        json!({"version": 1, "account": alice, "since": now() - 60, "log": log(world), "limit": limit});
    world.write_private(&world.pool_home().join("threads").join(THREAD), &record.to_string());
    Some(window)
}

/// Lays out the world of a move that was cut off: the server has ended, and all processes of the move were killed.
pub(crate) fn cut_off(world: &Lab) -> Option<Running> {
    let window = standing_still(world);
    // It does not end by itself.
    let server = world.server(&world.codex_home()).expect("a server");
    signal(server, Signal::SIGSTOP);
    let stat = format!("/proc/{server}/stat");
    wait_until("the server to stand still", SOON, || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    let home = world.codex_home().to_string_lossy().into_owned();
    let mut mover = world.pool(&["move", &home]).spawn();
    let is = |process: &Process, word: &str| process.argv.iter().any(|arg| arg == word);
    let begun = Instant::now();
    while !world.processes().iter().any(|process| is(process, "stop")) {
        assert!(begun.elapsed() < SOON, "it is not stopped: {}", state(world));
        // A machine that stands still for a moment makes it say: later.
        if !mover.is_running() {
            mover = world.pool(&["move", &home]).spawn();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // The guard first: it ends the move once it no longer hears of the mover, and starts a server.
    for word in ["--guard", "move", "stop"] {
        for process in world.processes().iter().filter(|process| is(process, word)) {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
    mover.wait();
    signal(server, Signal::SIGKILL);
    testkit::wait_for_end(server);
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    window
}

/// Lays out the same after Bob has taken the home.
pub(crate) fn cut_off_late(world: &Lab) -> Option<Running> {
    let window = cut_off(world);
    world.write_live(&world.document("bob"));
    window
}

/// Checks that an attendant lets the thread go on as whoever is in the home then, with a server that runs.
pub(crate) fn goes_on(world: &Lab) -> Result<(), String> {
    world.settings(SETTINGS);
    let mut attendant = world.pool(&["attend"]).spawn();
    let begun = Instant::now();
    let server = || world.server(&world.codex_home()).is_some();
    while !(server() && is_answered(world)) && begun.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (runs, answered) = (server(), is_answered(world));
    world.settings(&format!("{SETTINGS}attend = false\n"));
    let begun = Instant::now();
    while attendant.is_running() {
        if begun.elapsed() > SOON {
            return Err(format!("the attendant stays: {} {:#?}", moves(world), world.processes()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let turns = world.backend().report().turns;
    let told = |turn: &&Turn| turn.status == 200 && turn.prompt.as_deref() == Some("continue");
    let by = turns.iter().rfind(told).and_then(|turn| turn.user.clone());
    let live = world.live_owner();
    match () {
        () if !runs => Err(format!("no server runs: {}", state(world))),
        () if !answered => Err(format!("the thread stands still: {}", state(world))),
        () if by != live => Err(format!("{by:?} goes on while {live:?} is in the home: {}", state(world))),
        () => Ok(()),
    }
}

/// Who takes part in a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Attendant,
    Mover,
    Guard,
    /// A call of Codex: the stop or the start of a server, or a message to a thread.
    Call,
}

const PARTS: [Part; 4] = [Part::Attendant, Part::Mover, Part::Guard, Part::Call];

impl Part {
    fn of(process: &Process) -> Option<Part> {
        let has = |word: &str| process.argv.iter().skip(1).any(|arg| arg == word);
        match process.argv.get(1).map(String::as_str) {
            Some("attend") => Some(Part::Attendant),
            Some("move") if has("--guard") => Some(Part::Guard),
            Some("move") => Some(Part::Mover),
            Some("queue") => Some(Part::Call),
            Some("app-server") if has("daemon") => Some(Part::Call),
            _ => None,
        }
    }
}

/// Kills some of those that take part in a move, at random instants from the limit on.
#[expect(clippy::print_stdout, reason = "the numbers are the result")]
fn kill_at_random(kills: usize, seed: u64) {
    let world = Lab::new(&["alice", "bob", "carol"], SETTINGS);
    let mut random = Random::seeded(seed);
    let (mut usual, mut hit, mut slowest) = (Duration::from_millis(800), 0, Duration::ZERO);
    for number in 0..kills {
        let window = window(&world);
        reach_limit(&world);
        world.settings(SETTINGS);
        let attendant = world.pool(&["attend"]).spawn();
        let after = random.up_to(usual * 5 / 4);
        let victims: Vec<Part> = PARTS.into_iter().filter(|_| random.below(2) == 0).collect();
        let begun = Instant::now();
        std::thread::sleep(after);
        let there = |process: &Process| Part::of(process).filter(|part| *part != Part::Attendant);
        let moves = world.processes().iter().any(|process| there(process).is_some());
        for process in world.processes().iter().filter(|p| Part::of(p).is_some_and(|p| victims.contains(&p)))
        {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        // The move gets slower and faster with the machine: the kills follow.
        hit += usize::from(moves);
        usual = match (moves, is_answered(&world)) {
            (true, _) => usual,
            (false, true) => usual * 9 / 10,
            (false, false) => (usual * 11 / 10).max(begun.elapsed()),
        };
        drop(attendant);
        let again = Instant::now();
        let what = format!("kill {number}: {victims:?} after {after:?}");
        goes_on(&world).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        slowest = slowest.max(again.elapsed());
        drop(window);
        assert_eq!((world.breaches(), world.lost()), (Vec::new(), Vec::new()), "{what}");
        thread::check(&world).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        assert_eq!((world.breaches(), world.lost()), (Vec::new(), Vec::new()), "{what}");
    }
    println!("{hit} of {kills} in a move; the next attendant took {slowest:?} at most");
    assert!(hit * 4 >= kills, "many kills must come in a move: {hit} of {kills}");
}

/// Ends everything that runs in the world. One that is just being started can be overlooked once, so it looks again.
pub(crate) fn end_all(world: &Lab) {
    let end = || {
        let all = world.processes();
        for process in &all {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        all.is_empty()
    };
    wait_until("nothing to run", SOON, || end() && end());
}

fn signal(pid: u32, how: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a pid fits")), how);
}

fn log(world: &Lab) -> PathBuf {
    world.rollouts().into_iter().find(|log| log.to_string_lossy().contains(THREAD)).expect("a log")
}

/// Returns what tells why a move did not come to its end.
pub(crate) fn state(world: &Lab) -> String {
    let log = fs::read_to_string(world.pool_home().join("log.jsonl")).unwrap_or_default();
    let marks = fs::read_dir(world.pool_home().join("moving")).into_iter().flatten().flatten();
    let marks: Vec<String> = marks.map(|mark| fs::read_to_string(mark.path()).unwrap_or_default()).collect();
    let (live, server) = (world.live_owner(), world.server(&world.codex_home()));
    let known = fs::read_to_string(world.pool_home().join("state.json")).unwrap_or_default();
    let processes: Vec<String> =
        world.processes().iter().map(|p| format!("{} {:?}", p.pid, p.argv)).collect();
    let turns = world.backend().report().turns;
    let turns: Vec<_> = turns.iter().map(|turn| (turn.at, &turn.user, turn.status, &turn.prompt)).collect();
    format!(
        "live: {live:?}, server: {server:?}, moves: {}, marks: {marks:?}, state: {known}\n{turns:?}\n{processes:#?}\n{log}",
        moves(world)
    )
}

fn moves(world: &Lab) -> String {
    fs::read_to_string(world.pool_home().join("moves.json")).unwrap_or_default()
}

/// Returns whether the server has loaded the thread.
fn is_loaded(world: &Lab) -> bool {
    let lock = world.codex_home().join(format!("thread-writer-locks/{THREAD}.lock"));
    File::open(lock).is_ok_and(|lock| lock.try_lock().is_err())
}

/// Returns whether the last turn has ended with an answer.
fn is_answered(world: &Lab) -> bool {
    let text = fs::read_to_string(log(world)).unwrap_or_default();
    text.lines().last().is_some_and(|line| line.contains("\"last_agent_message\":\"done\""))
}

#[test]
fn end_of_a_move_knows_whom_its_server_runs() {
    let world = Lab::new(&["alice", "bob", "carol"], SETTINGS);
    // The account came a moment ago, and nothing says when.
    let _window = cut_off_late(&world);
    goes_on(&world).unwrap_or_else(|wrong| panic!("{wrong}"));
    let output = world.codex(&["exec", "--skip-git-repo-check", "resume", THREAD, "again"]).run();
    assert!(!output.stderr.contains("an unknown account"), "{output}");
}

#[test]
fn move_survives_a_sample_of_failed_calls() {
    sweep(MOVE, Some(8));
}

#[test]
fn end_of_a_move_survives_a_sample_of_failed_calls() {
    sweep(UNDO, Some(4));
    sweep(COMPLETE, Some(4));
}

#[test]
fn move_killed_at_a_sample_of_calls_is_ended() {
    sweep(Scenario { killed: true, ..MOVE }, Some(8));
    sweep(Scenario { killed: true, ..COMPLETE }, Some(4));
}

#[test]
#[ignore = "an hour: every call of a move, see docs/proof.md"]
fn move_survives_every_failed_call() {
    sweep(MOVE, None);
}

#[test]
#[ignore = "half an hour: every call of a move that is undone, see docs/proof.md"]
fn move_that_is_undone_survives_every_failed_call() {
    sweep(UNDO, None);
}

#[test]
#[ignore = "an hour: every call of a move that is completed, see docs/proof.md"]
fn move_that_is_completed_survives_every_failed_call() {
    sweep(COMPLETE, None);
}

#[test]
#[ignore = "minutes: a kill at every call of a move and of its end, see docs/proof.md"]
fn move_killed_at_every_call_is_ended() {
    for scenario in [MOVE, UNDO, COMPLETE] {
        sweep(Scenario { killed: true, ..scenario }, None);
    }
}

#[test]
fn move_killed_at_random_lets_the_thread_go_on() {
    kill_at_random(12, 41);
}

#[test]
#[ignore = "an hour: PROOF_KILLS kills, 2,000 unless it says otherwise, see docs/proof.md"]
fn move_killed_thousands_of_times_lets_the_thread_go_on() {
    kill_at_random(std::env::var("PROOF_KILLS").map_or(2_000, |n| n.parse().expect("a number")), 43);
}

/// Another thread of Alice's, for another window.
const OTHER: &str = "01a2148a-1509-7203-9900-6a00d5afb702";

#[test]
fn everything_at_once_in_the_middle_of_a_move_mixes_no_sessions() {
    let world = Lab::new(&["alice", "bob", "carol"], SETTINGS);
    for round in 0..6 {
        let window = window(&world);
        let text = fs::read_to_string(log(&world)).expect("a log").replace(THREAD, OTHER);
        let other = log(&world).to_string_lossy().replace(THREAD, OTHER);
        world.settings(SETTINGS);
        reach_limit(&world);
        let attendant = world.pool(&["attend"]).spawn();
        let wrong = Mutex::new(Vec::new());
        let complain = |what: String| wrong.lock().expect("not poisoned").push(what);
        let launches = |name: &str| {
            for _ in 0..4 {
                let output = world.exec_as(name).env("STANDIN_TURNS", "3").run();
                let users: BTreeSet<&str> = output.stdout.lines().collect();
                let whole =
                    output.status.success() && users == BTreeSet::from([&*format!("hello from {name}")]);
                // What was asked for by name may not be had at this moment.
                let none = matches!(output.code(), Some(3 | 4)) && users.is_empty();
                if !whole && !none {
                    complain(format!("a session of {name}: {output}"));
                }
            }
        };
        let commands = || {
            for words in [["use", "bob"], ["use", "carol"], ["use", "--auto"], ["refresh", "bob"]] {
                let output = world.pool(&words).run();
                if output.code().is_none_or(|code| code > 4) || output.stderr.contains("panicked") {
                    complain(format!("{words:?}: {output}"));
                }
            }
        };
        // A new window comes in the middle, too.
        let another_window = std::thread::scope(|scope| {
            scope.spawn(|| launches("bob"));
            scope.spawn(|| launches("carol"));
            scope.spawn(commands);
            world.write_private(other.as_ref(), &text);
            let cmd = world.codex(&["resume", OTHER]).env("STANDIN_WINDOW", "1");
            world.hold(cmd)
        });
        drop(attendant);
        let wrong = wrong.into_inner().expect("not poisoned");
        assert!(wrong.is_empty(), "round {round}: {}", wrong.join("\n"));
        goes_on(&world).unwrap_or_else(|wrong| panic!("round {round}: {wrong}"));
        drop((window, another_window));
        assert_eq!((world.breaches(), world.lost()), (Vec::new(), Vec::new()), "round {round}");
    }
}

#[test]
fn updater_of_the_server_stops_no_move() {
    let world = Lab::new(&["alice", "bob", "carol"], SETTINGS);
    let _window = window(&world);
    let mut updater = world.real_codex(&["app-server", "daemon", "pid-update-loop"]).spawn();
    reach_limit(&world);
    goes_on(&world).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    assert!(updater.is_running(), "it is none of ours to end");
}

#[test]
fn server_of_another_user_is_not_moved() {
    if !is_root() {
        leave_out("only root can run a program as another user");
        return;
    }
    let world = Lab::new(&["alice", "bob", "carol"], SETTINGS);
    let _window = standing_still(&world);
    signal(world.server(&world.codex_home()).expect("a server"), Signal::SIGKILL);
    // A process of another user that has the thread open, and is named as the server.
    let lock = File::open(world.codex_home().join(format!("thread-writer-locks/{THREAD}.lock")));
    let mut other = world.cmd("sleep").arg("600").into_inner();
    let mut other = other.uid(NOBODY).stdin(lock.expect("its lock")).spawn().expect("it starts");
    let record = json!({"pid": other.id()}).to_string();
    world.write_private(&world.codex_home().join("app-server-daemon/daemon.pid"), &record);
    world.pool(&["move", &world.codex_home().to_string_lossy()]).run().expect(10);
    assert!(moves(&world).contains("belongs to another user or control group"), "{}", moves(&world));
    assert!(other.try_wait().expect("its state").is_none(), "it was not stopped");
    other.kill().and_then(|()| other.wait()).expect("its end");
}

/// A service manager ends what is in a unit's control group with it: a server that one started stays there.
#[test]
fn server_of_another_control_group_is_not_moved() {
    let world = Lab::new(&["alice", "bob", "carol"], SETTINGS);
    let _window = standing_still(&world);
    let home = world.codex_home();
    let server = world.server(&home).expect("a server");
    let place = format!("/proc/{server}/cgroup");
    let groups = fs::read_to_string(&place).expect("its control groups");
    // They cannot be made everywhere: a move sees this text in the place of what the system says.
    let moved_with = |groups: &str| {
        let said = world.root().join("cgroup");
        world.write_private(&said, groups);
        let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
        let inside = world.unshare(&["-m"])?.args(["sh", "-c", script]).arg(said).arg(&place);
        let run = inside.arg(world.home().join(".local/bin/codex-pool")).arg("move").arg(&home);
        Some(run.run())
    };

    let Some(output) = moved_with(&format!("{groups}0::/user.slice/another.scope\n")) else { return };
    output.expect(10);
    assert!(moves(&world).contains("belongs to another user or control group"), "{}", moves(&world));
    assert_eq!(world.server(&home), Some(server), "it was not stopped");

    moved_with(&groups).expect("the same place").ok();
    assert_eq!(world.live_owner().as_deref(), Some("bob"), "it was for the group alone");
}
