//! The move of an open interface, whose background server and window are stand-ins: what can fail and be killed at any call,
//! and hundreds of times, must leave a server that runs, a thread that goes on, and every login.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testkit::backend::{Limit, Usage, rfc3339};
use testkit::{Process, Running, SOON, now, wait_until};

use crate::faults::sweep;
use crate::lab::Lab;
use crate::scenarios::{self, COMPLETE, MOVE, Scenario, THREAD, UNDO};

const SETTINGS: &str = "background_refresh = false\nmin_poll_interval = \"0s\"\n";
/// The turn that ends with the limit.
const TURN: &str = "turn-of-alice";

/// Lays out a world with an open interface of Alice's, whose thread the background server has loaded.
pub(crate) fn window(world: &Lab) -> Running {
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
    // As she comes now, it is known as whom the server will run.
    world.make_live("alice");
    let _ = fs::remove_file(world.gate());
    let window = world.hold(world.codex(&["resume", THREAD]).env("STANDIN_WINDOW", "1"));
    wait_until("the thread to be loaded", SOON, || is_loaded(world));
    window
}

/// Ends the last turn of the thread with the limit, as the service says it from now on. Nobody has noticed yet.
pub(crate) fn reach_limit(world: &Lab) {
    world.backend().limit_after("alice", 0, Limit::Refuse);
    let error = json!({"message": "usage limit", "codex_error_info": "usage_limit_exceeded"});
    let at = rfc3339(now());
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
    let mover = world.pool(&["move", &world.codex_home().to_string_lossy()]).spawn();
    let is = |process: &Process, word: &str| process.argv.iter().any(|arg| arg == word);
    wait_until("the server to be stopped", SOON, || world.processes().iter().any(|p| is(p, "stop")));
    mover.signal(Signal::SIGKILL);
    for process in world.processes().iter().filter(|p| is(p, "stop") || is(p, "--guard")) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
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
    let by = turns.iter().rfind(|turn| turn.status == 200).and_then(|turn| turn.user.clone());
    let live = world.live_owner();
    match () {
        () if !runs => Err("no server runs".to_owned()),
        () if !answered => Err(format!("the thread stands still: {}", moves(world))),
        () if by != live => Err(format!("{by:?} goes on while {live:?} is in the home: {}", moves(world))),
        () => Ok(()),
    }
}

/// Ends everything that runs in the world.
pub(crate) fn end_all(world: &Lab) {
    wait_until("nothing to run", SOON, || {
        let all = world.processes();
        for process in &all {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        all.is_empty()
    });
}

fn signal(pid: u32, how: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a pid fits")), how);
}

fn log(world: &Lab) -> PathBuf {
    world.rollouts().pop().expect("a log")
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
#[ignore = "an hour: every call of the end of a move, see docs/proof.md"]
fn end_of_a_move_survives_every_failed_call() {
    sweep(UNDO, None);
    sweep(COMPLETE, None);
}

#[test]
#[ignore = "minutes: a kill at every call of a move and of its end, see docs/proof.md"]
fn move_killed_at_every_call_is_ended() {
    for scenario in [MOVE, UNDO, COMPLETE] {
        sweep(Scenario { killed: true, ..scenario }, None);
    }
}
