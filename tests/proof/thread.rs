//! A thread that another account goes on with, under kills and failures: its log stays whole, what was taken out is kept,
//! and it can be gone on with.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Cmd, Output};

use crate::lab::Lab;
use crate::random::Random;
use crate::scenarios::{self, BLANK, CARRY, Scenario};

/// Returns whether the session ended as Codex ends it: refused by the service for its history or for the limit.
pub(crate) fn is_refused(output: &Output) -> bool {
    ["encrypted content", "usage limit"].iter().any(|text| output.stderr.contains(text))
}

/// The newest log.
fn log(world: &Lab) -> Option<PathBuf> {
    world.rollouts().pop()
}

/// Returns the id in a log's name.
fn id(log: &std::path::Path) -> String {
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    stem[stem.len().saturating_sub(36)..].to_owned()
}

/// Checks that the log is whole: each line JSON, and that of [`scenarios::alices_thread`] the line of before, or one in
/// its place whose text was kept.
fn is_whole(world: &Lab) -> Result<(), String> {
    let Some(log) = log(world) else { return Ok(()) };
    let text = fs::read_to_string(&log).map_err(|e| e.to_string())?;
    let cut = |line: &str| !text.ends_with('\n') && text.lines().last() == Some(line);
    let broken = text.lines().find(|line| serde_json::from_str::<Value>(line).is_err() && !cut(line));
    if let Some(line) = broken {
        return Err(format!("a line of the log is broken: {line}"));
    }
    let original = fs::read_to_string(world.root().join("original")).unwrap_or_default();
    let kept = fs::read(world.pool_home().join("blanked").join(id(&log))).unwrap_or_default();
    let kept = String::from_utf8_lossy(&kept);
    for (before, now) in original.lines().zip(text.lines()) {
        let content = before.split('"').find(|part| part.starts_with("enc-"));
        let is_kept = content.is_none_or(|content| now.contains(content) || kept.contains(content));
        if before.len() != now.len() || !is_kept {
            return Err(format!("{before} became {now}"));
        }
    }
    if text.len() < original.len() {
        return Err("the log is shorter".to_owned());
    }
    Ok(())
}

/// Checks that the thread is whole and can be gone on with, by whoever is picked.
pub(crate) fn check(world: &Lab) -> Result<(), String> {
    is_whole(world)?;
    let Some(log) = log(world) else { return Ok(()) };
    let begun =
        fs::read_to_string(&log).is_ok_and(|text| text.contains(id(&log).as_str()) && text.contains('\n'));
    if !begun {
        return Ok(());
    }
    let resume = world.codex(&["exec", "--skip-git-repo-check", "resume", &id(&log), "again"]);
    let output = resume.env("STANDIN_LOG", "1").run();
    if !output.stdout.contains("hello from") {
        return Err(format!("the thread cannot be gone on with: {output}"));
    }
    is_whole(world)
}

fn command(world: &Lab, scenario: Scenario) -> Cmd {
    scenario.env.iter().fold(world.codex(scenario.args), |cmd, (name, value)| cmd.env(name, value))
}

/// Kills the shim of a scenario at random instants, and checks everything after each.
#[expect(clippy::print_stdout, reason = "the numbers are the result")]
fn kill(scenario: Scenario, kills: usize, seed: u64) {
    let world = Lab::new(&["alice", "bob", "carol"], "background_refresh = false\n");
    let mut random = Random::seeded(seed);
    (scenario.prepare)(&world);
    let began = Instant::now();
    let output = command(&world, scenario).run();
    assert!(output.stdout.contains("hello from bob"), "it was not killed: {output}");
    let (mut usual, mut in_time) = (began.elapsed(), 0);
    check(&world).unwrap_or_else(|what| panic!("not killed: {what}"));
    for number in 0..kills {
        (scenario.prepare)(&world);
        let after = random.up_to(usual * 5 / 4);
        let mut running = command(&world, scenario).spawn();
        std::thread::sleep(after);
        let alive = running.is_running();
        // The machine gets busier and idler: the kills follow.
        usual = if alive { usual * 21 / 20 } else { usual * 4 / 5 };
        if alive {
            in_time += 1;
            running.signal(Signal::SIGKILL);
        }
        let output = running.wait();
        world.wait_until_quiet();
        let what = format!("kill {number} after {after:?}: {output}");
        assert_eq!((world.breaches(), world.lost()), (Vec::new(), Vec::new()), "{what}");
        check(&world).unwrap_or_else(|wrong| panic!("{wrong}\n{what}"));
        assert_eq!((world.breaches(), world.lost()), (Vec::new(), Vec::new()), "{what}");
    }
    println!("{:?}: {in_time} of {kills} kills in time", scenario.args);
    assert!(in_time * 3 > kills, "many kills must come in time: {in_time}");
}

/// The kills of a long run.
fn many() -> usize {
    std::env::var("PROOF_KILLS").map_or(2_000, |n| n.parse().expect("a number"))
}

#[test]
fn blanking_killed_at_random_keeps_every_byte() {
    kill(BLANK, 30, 17);
}

#[test]
fn exec_killed_while_it_is_carried_on_loses_nothing() {
    kill(CARRY, 20, 19);
}

#[test]
#[ignore = "an hour: PROOF_KILLS kills, 2,000 unless it says otherwise, see docs/proof.md"]
fn thousands_of_kills_lose_no_thread() {
    kill(BLANK, many(), 23);
    kill(CARRY, many(), 29);
}

#[test]
fn stand_in_refuses_what_is_bound_to_another_account() {
    let world = Lab::new(&["alice", "bob", "carol"], "background_refresh = false\n");
    scenarios::alices_thread(&world);
    world.write_live(&world.document("bob"));
    let output = world.real_codex(BLANK.args).env("STANDIN_LOG", "1").run();
    assert!(is_refused(&output.expect(1)), "without blanking");
}
