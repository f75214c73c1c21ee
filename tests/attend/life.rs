//! How long an attendant lives, and that there is one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testkit::files::write_script;
use testkit::{SOON, World, answered, wait_until};

use super::{Attended, as_root};

/// Waits until an attendant has looked at least twice.
fn looks_pass() {
    let until = Instant::now() + Duration::from_millis(1_500);
    wait_until("some looks", SOON, || Instant::now() >= until);
}

#[test]
fn attendant_lives_while_a_session_does_and_five_seconds_more() {
    let world = World::new(&["alice"]);
    let session = world.hold(world.exec());
    let mut attendant = world.attend();
    world.open_gate();
    answered(session.wait(), "alice");
    let ended = Instant::now();
    wait_until("the end of the attendant", SOON, || !attendant.is_running());
    // It looks every half second, and may have seen the end only with its next look.
    assert!(ended.elapsed() >= Duration::from_millis(4_900), "{:?}", ended.elapsed());
    attendant.wait().ok();
    assert!(!world.is_attended());
    wait_until("an empty world", SOON, || world.processes().is_empty());
}

#[test]
fn attendants_started_at_once_leave_one() {
    let world = World::new(&["alice"]);
    let _session = world.hold(world.exec());
    world.link_admin();
    let mut all: Vec<_> = (0..6).map(|_| world.attendant().spawn()).collect();
    let running =
        |all: &mut Vec<testkit::Running>| all.iter_mut().map(|a| usize::from(a.is_running())).sum::<usize>();
    wait_until("one attendant", SOON, || running(&mut all) <= 1);
    assert!(world.is_attended());
    assert_eq!(running(&mut all), 1);
    wait_until("one attendant", SOON, || world.attendants().len() == 1);
}

#[test]
fn attendant_of_a_pool_that_is_gone_ends_and_makes_nothing() {
    let world = World::new(&["alice"]);
    // A refresh that is on its way would make the pool again.
    world.settings("background_refresh = false\n");
    let _session = world.hold(world.exec());
    let mut attendant = world.attend();
    let aside = world.root().join("aside");
    fs::rename(world.pool_home(), &aside).expect("move the pool");
    wait_until("the end of the attendant", SOON, || !attendant.is_running());
    attendant.wait().ok();
    world.cmd(world.home().join(".local/bin/codex-pool")).arg("attend").run().ok();
    assert!(!world.pool_home().exists());
    assert!(aside.exists());
}

#[test]
fn attendant_that_is_turned_off_ends() {
    let world = World::new(&["alice"]);
    let _session = world.hold(world.exec());
    let mut attendant = world.attend();
    world.settings("attend = false\n");
    wait_until("the end of the attendant", SOON, || !attendant.is_running());
    world.attendant().run().ok();
    assert!(!world.is_attended());
}

#[test]
fn attendant_of_another_users_pool_ends_at_once() {
    if !as_root() {
        return;
    }
    let world = World::new(&["alice"]);
    let _session = world.hold(world.exec());
    std::os::unix::fs::chown(world.pool_home(), Some(testkit::NOBODY), None).expect("chown");
    world.attendant().run().ok();
    assert!(
        !fs::read_dir(world.pool_home())
            .expect("list")
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().starts_with("attend-") })
    );
}

#[test]
fn replaced_program_is_started_anew_in_the_same_process() {
    let world = World::new(&["alice"]);
    let _session = world.hold(world.exec());
    let attendant = world.attend();
    let admin = world.home().join(".local/bin/codex-pool");
    fs::remove_file(&admin).expect("remove");
    // A program that cannot be started changes nothing.
    fs::write(&admin, "no program").expect("write");
    let said = world.root().join("said");
    let script = world.root().join("next");
    // The attendant also starts refreshes.
    let says = format!("echo $$ \"$@\" > {0}.new; mv {0}.new {0}; sleep 600", said.display());
    write_script(&script, &format!("[ \"$1\" = attend ] || exit 0; {says}"));
    fs::rename(&script, &admin).expect("replace");
    wait_until("the new program", SOON, || said.exists());
    let text = fs::read_to_string(&said).expect("what it said");
    assert_eq!(text.trim(), format!("{} attend", attendant.pid()));
    assert!(!world.is_attended(), "the new program takes the lock itself");
}

#[test]
fn attendant_survives_a_missing_program_and_an_unreadable_pool() {
    let world = World::logged_in(&["alice"]);
    let _session = world.hold(world.exec());
    let mut attendant = world.attend();
    let admin = world.pool_home().join("bin/codex-pool");
    fs::remove_file(&admin).expect("remove");
    let registry = world.pool_home().join("accounts.json");
    let good = fs::read(&registry).expect("the registry");
    fs::write(&registry, "{").expect("break the registry");
    let rotated = world.backend().auth_json("alice");
    world.write_live(&rotated);
    looks_pass();
    assert!(attendant.is_running());
    fs::write(&registry, good).expect("repair the registry");
    wait_until("the login in the pool", SOON, || {
        fs::read_to_string(world.stored_path("alice")).is_ok_and(|stored| stored == rotated)
    });
}

#[test]
fn stopped_attendant_stays_the_only_one() {
    let world = World::new(&["alice"]);
    world.settings("background_refresh = false\n");
    let session = world.hold(world.exec());
    let attendant = world.attend();
    // Once it has taken in the homes in use, it does not lock the pool.
    looks_pass();
    attendant.signal(Signal::SIGSTOP);
    world.attendant().run().ok();
    world.open_gate();
    answered(session.wait(), "alice");
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(world.attendants(), [attendant.pid() as i32]);
}

#[test]
fn sandbox_leaves_no_attendant() {
    let world = World::new(&["alice"]);
    let _session = world.hold(world.exec());
    // As a launch starts it: nothing of the test waits for it.
    let detached = world.attendant().into_inner().spawn().expect("start").id();
    wait_until("an attendant", SOON, || world.is_attended());
    // A refresh that it starts looks like it for a moment.
    wait_until("one attendant", SOON, || world.attendants() == [detached as i32]);
    drop(world);
    assert!(!testkit::alive(detached));
}

#[test]
fn launches_start_one_attendant_which_ends_after_them() {
    let world = World::new(&["alice"]);
    world.usage(&[("alice", 10.0, 10.0)]);
    world.link_admin();
    let sessions = [(); 3].map(|()| world.hold(world.exec()));
    wait_until("an attendant", SOON, || world.is_attended());
    wait_until("one attendant", SOON, || world.attendants().len() == 1);
    let folder = fs::read_link(format!("/proc/{}/cwd", world.attendants()[0]));
    // Only root may read it: the attendant's memory is closed to others.
    assert!(folder.is_err() || folder.is_ok_and(|folder| folder == Path::new("/")));
    world.open_gate();
    for session in sessions {
        answered(session.wait(), "alice");
    }
    wait_until("the end of everything", SOON, || world.processes().is_empty());
}
