//! What the machines of a shared pool agree on while they work: one renews, all have the newest login, one asks the
//! service, the sessions of all count, and without the database each goes on with what it has.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::{Fault, LoginSpec, Route, UserSpec, refresh_token};
use testkit::files::write_script;
use testkit::postgres::Server;
use testkit::{Cmd, SOON, World, answered, text, wait_until};

use crate::crash::Wire;
use crate::world::{init, joined, known, newer_login, shared_by, status};

/// A login that is due: its access token ends within the day.
const DUE: i64 = 7_200;

/// Two members, with one account whose tokens are due.
#[track_caller]
fn due() -> Option<(Server, World, World)> {
    let server = Server::start()?;
    let laptop = World::new(&[]);
    laptop.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(DUE));
    init(&laptop, &server.url(), "laptop").ok();
    let desktop = joined(&laptop, "--member", "desktop");
    laptop.backend().clear_report();
    Some((server, laptop, desktop))
}

fn background(world: &World) -> Cmd {
    world.pool(&["refresh", "--background"])
}

/// What a machine keeps beside its accounts, and how it is changed.
fn edit_cache(world: &World, edit: impl FnOnce(&mut Value)) {
    let path = world.pool_home().join("usage.json");
    let mut cache = fs::read(&path)
        .map_or_else(|_| json!({"version": 1}), |bytes| serde_json::from_slice(&bytes).expect("JSON"));
    edit(&mut cache);
    // In one step: something may be running.
    let edited = path.with_file_name("usage.json.edited");
    world.write_private(&edited, &cache.to_string());
    fs::rename(&edited, &path).expect("put it in its place");
}

/// Lets that time pass since a machine last asked the database.
pub(crate) fn time_passes(world: &World, seconds: i64) {
    edit_cache(world, |cache| {
        for name in ["tried_at", "synced_at"] {
            if let Some(at) = cache["sharing"][name].as_i64() {
                cache["sharing"][name] = (at - seconds).into();
            }
        }
    });
}

/// Lets the leases end, as they do when their time is over.
fn leases_end(server: &Server) {
    server.sql("update codex_pool_records set held_until = now() where kind = 'lease'");
}

#[test]
fn one_machine_renews_and_all_have_the_new_login() {
    let Some((_server, laptop, desktop)) = due() else { return };
    let runner = joined(&laptop, "--runner", "ci");
    answered(runner.exec_as("alice").run(), "alice");
    laptop.pool(&["refresh"]).run().ok();
    assert_eq!(laptop.backend().report().refreshes.len(), 1);
    let newest = laptop.backend().newest_refresh_token("alice");
    assert_eq!(refresh_token(&laptop.stored("alice")), newest);
    time_passes(&desktop, 60);
    background(&desktop).run().ok();
    assert_eq!(desktop.stored("alice"), laptop.stored("alice"), "it came with the next sync");
    let before = runner.live().expect("live");
    runner.pool(&["refresh"]).run().ok();
    assert_eq!(known(&runner)["role"], "runner");
    assert_ne!(runner.live().expect("live"), before, "a home gets it at once");
    assert_eq!(
        (refresh_token(&runner.live().expect("live")), refresh_token(&runner.stored("alice"))),
        Default::default()
    );
    for machine in [&laptop, &desktop, &runner] {
        answered(machine.exec_as("alice").run(), "alice");
    }
    let report = laptop.backend().report();
    assert_eq!((report.refreshes.len(), report.usage_of("alice").len()), (1, 1), "{report:?}");
    laptop.backend().assert_clean();
}

#[test]
fn launches_at_once_on_two_machines_make_one_renewal() {
    let Some(server) = Server::start() else { return };
    let laptop = World::new(&[]);
    let login = LoginSpec { refreshed_ago: 800_000, ..LoginSpec::expires_in(200) };
    laptop.add_as("alice", UserSpec::new("alice"), &login);
    init(&laptop, &server.url(), "laptop").ok();
    let desktop = joined(&laptop, "--member", "desktop");
    laptop.backend().clear_report();
    for world in [&laptop, &desktop] {
        world.link_admin();
        world.settings("attend = false\n");
    }
    let running: Vec<_> = [&laptop, &desktop].map(|world| world.exec_as("alice").spawn()).into();
    for launch in running {
        answered(launch.wait(), "alice");
    }
    // A launch waits ten seconds at most, and the renewal goes on.
    wait_until("the new login on both", SOON, || {
        for world in [&laptop, &desktop] {
            world.pool(&["refresh"]).run();
        }
        let newest = laptop.backend().newest_refresh_token("alice");
        [&laptop, &desktop].iter().all(|world| refresh_token(&world.stored("alice")) == newest)
            && !laptop.backend().report().refreshes.is_empty()
    });
    assert_eq!(laptop.backend().report().refreshes.len(), 1);
    laptop.backend().assert_clean();
}

#[test]
fn one_machine_asks_the_service_and_all_have_the_usage() {
    let Some((server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let (desktop, runner) = (joined(&laptop, "--member", "desktop"), joined(&laptop, "--runner", "ci"));
    laptop.usage(&[("alice", 20.0, 30.0), ("bob", 40.0, 50.0)]);
    laptop.backend().clear_report();
    for machine in [&desktop, &laptop, &runner, &desktop, &laptop, &runner] {
        machine.pool(&["refresh"]).run().ok();
        // However slow this machine is, its minute is not over.
        server
            .sql("update codex_pool_records set held_until = now() + interval '1 hour' where kind = 'usage'");
        assert_eq!(machine.account("bob")["usage"]["windows"][0]["used_percent"], 40.0);
        assert_eq!(machine.account("alice")["state"], "ready");
    }
    for user in ["alice", "bob"] {
        assert_eq!(laptop.backend().report().usage_of(user).len(), 1, "{user}");
    }
}

#[test]
fn sessions_of_all_machines_count_for_room() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    laptop.usage(&[("alice", 0.0, 0.0), ("bob", 1.0, 1.0)]);
    let room = |world: &World, label: &str| {
        world.pool(&["refresh"]).run().ok();
        let why = world.pool(&["why", "--json"]).run().ok().json();
        let accounts = why["accounts"].as_array().expect("accounts").clone();
        let account = accounts.iter().find(|account| account["label"] == label).expect("it is there").clone();
        (account["room"].as_f64().expect("room"), account["sessions"].as_u64().expect("a number"))
    };
    let (before, _) = room(&desktop, "alice");
    let hold = laptop.backend().hold("alice");
    let sessions = [(); 3].map(|()| laptop.exec_as("alice").spawn());
    hold.wait_for(3, SOON);
    laptop.pool(&["refresh"]).run().ok();
    let (after, here) = room(&desktop, "alice");
    assert!(after < before && here == 0, "{before} {after} {here}");
    assert_eq!(room(&desktop, "bob").1, 0);
    drop(hold);
    for session in sessions {
        session.wait().ok();
    }
    laptop.pool(&["refresh"]).run().ok();
    assert_eq!(room(&desktop, "alice").0, before);
}

#[test]
fn machine_without_the_database_works_on_and_says_how_old_it_is() {
    let Some((mut server, laptop, desktop)) = due() else { return };
    desktop.pool(&["refresh"]).run().ok();
    let before = known(&desktop);
    assert_eq!((&before["role"], &before["error"]), (&json!("member"), &Value::Null));
    assert_eq!(before["synced_at"], status(&desktop)["synced_at"]);
    let (login, polls) = (desktop.stored("alice"), laptop.backend().report().usage_of("alice").len());
    laptop.backend().clear_report();
    server.kill();
    for machine in [&laptop, &desktop] {
        time_passes(machine, 3_600);
        background(machine).arg("alice").run();
        background(machine).run();
        answered(machine.exec_as("alice").run(), "alice");
        machine.pool(&["list"]).run().ok().says("Shared pool: the database cannot be reached");
        machine.pool(&["doctor"]).run().says("shared as member, and the database cannot be reached");
        assert!(text(&known(machine)["error"]).starts_with("the database cannot be reached"));
    }
    let since = known(&desktop)["synced_at"].as_i64().map(|at| at + 3_600);
    assert_eq!(since, before["synced_at"].as_i64(), "when it last answered");
    let report = laptop.backend().report();
    assert!(report.refreshes.is_empty(), "nothing is renewed without a lease: {:?}", report.refreshes);
    assert!(report.usage_of("alice").is_empty(), "who asks for all cannot be known");
    assert_eq!((desktop.stored("alice"), polls), (login, 1));
}

#[test]
fn list_that_repeats_asks_the_database_again_after_it_was_away() {
    let Some(server) = Server::start() else { return };
    let (wire, port) = Wire::to(server.port());
    let laptop = World::logged_in(&["alice"]);
    init(&laptop, &server.url_at(port), "laptop").ok();
    let problem = || {
        let cache = fs::read(laptop.pool_home().join("usage.json")).unwrap_or_default();
        let cache: Value = serde_json::from_slice(&cache).unwrap_or_default();
        cache["sharing"]["error"].as_str().map(str::to_owned)
    };
    let is_so = |wanted: bool| {
        let is = problem().is_some() == wanted;
        if !is {
            time_passes(&laptop, 60);
        }
        is
    };
    wire.cut_after(0);
    let watch = laptop.pool(&["watch", "--interval", "1"]).spawn();
    wait_until("it is noted that the database is away", SOON, || is_so(true));
    assert!(wire.restore());
    wait_until("the same process has asked again", SOON, || is_so(false));
    watch.signal(Signal::SIGTERM);
    watch.wait();
}

#[test]
fn database_that_can_only_be_read_is_not_shown_as_fine() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    laptop.pool(&["refresh"]).run().ok();
    let is_shown = |shown: bool| {
        // It is time to ask for usage again.
        laptop.age_usage(3_600);
        laptop.pool(&["refresh"]).run().ok();
        let list = laptop.pool(&["list"]).run().ok();
        let says = list.stdout.contains("it can only be read") && list.stdout.contains("Shared pool: ");
        assert_eq!(says, shown, "{list}");
        assert!(!list.stdout.contains("nothing of the other machines"), "{list}");
    };
    is_shown(false);
    // Its minute is over, so that the next machine asks for usage.
    server.sql(
        "update codex_pool_records set held_until = now(); alter database postgres set default_transaction_read_only = on",
    );
    is_shown(true);
    server
        .sql("set transaction_read_only = off; alter database postgres reset default_transaction_read_only");
    is_shown(false);
    // A login that only this machine has.
    laptop.import("carol", &{
        laptop.backend().add("carol");
        laptop.backend().auth_json("carol")
    });
    server.sql(
        "create function no_room() returns trigger language plpgsql as $$ begin raise exception 'no room'; end $$; create \
         trigger no_room before insert on codex_pool_records for each row when (new.kind = 'full') execute function \
         no_room()",
    );
    for is_mended in [false, true] {
        time_passes(&laptop, 60);
        background(&laptop).run();
        let list = laptop.pool(&["list"]).run().ok();
        assert_eq!(list.stdout.contains("no room"), !is_mended, "{list}");
        if !is_mended {
            server.sql("drop trigger no_room on codex_pool_records");
        }
    }
}

#[test]
fn doctor_says_where_nothing_asks_the_database() {
    let Some((_server, laptop)) = shared_by(&["alice"]) else { return };
    laptop.pool(&["refresh"]).run().ok();
    laptop.pool(&["doctor", "-v"]).run().says("shared as member; what is here of the others is ");
    time_passes(&laptop, 86_400);
    laptop.pool(&["doctor"]).run().says("nothing asks the database where only editors run Codex");
    laptop.pool(&["list"]).run().ok().says("what is here of the other machines is 1d old");
}

#[test]
fn runner_says_when_its_access_ends() {
    let Some((_server, laptop, _desktop)) = due() else { return };
    let runner = joined(&laptop, "--runner", "ci");
    for command in [&["list"][..], &["why"]] {
        runner.pool(command).run().ok().says("Runner: the first access ends in ");
    }
    runner.pool(&["doctor", "-v"]).run().says("alice: its login has no refresh token and ends in ");
    runner.pool(&["refresh", "alice"]).run().ok();
    assert!(laptop.backend().report().refreshes.is_empty(), "a runner renews nothing");
}

/// A member, and a runner that has alice's access token from before the member renewed it. It ends in so many seconds.
#[track_caller]
fn runner_that_is_behind(ends_in: i64) -> Option<(Server, World, World)> {
    let server = Server::start()?;
    let laptop = World::new(&[]);
    let login = LoginSpec { refreshed_ago: 800_000, ..LoginSpec::expires_in(ends_in) };
    laptop.add_as("alice", UserSpec::new("alice"), &login);
    init(&laptop, &server.url(), "laptop").ok();
    let runner = joined(&laptop, "--runner", "ci");
    laptop.pool(&["refresh"]).run().ok();
    assert_eq!(laptop.backend().report().refreshes.len(), 1);
    time_passes(&runner, 60);
    runner.link_admin();
    runner.settings("attend = false\n");
    Some((server, laptop, runner))
}

fn access_token(auth_json: &str) -> String {
    let document: Value = serde_json::from_str(auth_json).expect("JSON");
    testkit::text(&document["tokens"]["access_token"]).to_owned()
}

/// The longest that a launch waits for the database.
const LAUNCH_WAITS: Duration = Duration::from_secs(10);

#[test]
fn launch_on_a_runner_waits_for_newer_access_if_its_own_ends_soon() {
    let Some((_server, laptop, runner)) = runner_that_is_behind(300) else { return };
    let newest = access_token(&laptop.stored("alice"));
    assert_ne!(access_token(&runner.stored("alice")), newest);
    let codex = write_script(
        &runner.root().join("codex-that-shows"),
        "cp \"${CODEX_HOME:-$HOME/.codex}/auth.json\" \"$HOME/seen\"",
    );
    let start = Instant::now();
    runner.exec_as("alice").env("CODEX_POOL_CODEX", &codex).run().ok();
    let seen = std::fs::read_to_string(runner.home().join("seen")).expect("what Codex saw");
    // On a machine that is very busy, it started without.
    assert!(access_token(&seen) == newest || start.elapsed() >= LAUNCH_WAITS);
}

#[test]
fn launch_on_a_runner_whose_access_has_ended_gets_what_the_members_have() {
    for named in [false, true] {
        let Some((_server, laptop, runner)) = runner_that_is_behind(-5) else { return };
        let start = Instant::now();
        let launch = if named { runner.exec_as("alice") } else { runner.exec() };
        let output = launch.run();
        if output.status.success() || start.elapsed() < LAUNCH_WAITS {
            answered(output, "alice");
            assert_eq!(access_token(&runner.stored("alice")), access_token(&laptop.stored("alice")));
        }
    }
}

/// A member whose request for new tokens got no answer, and another one that has heard of it.
#[track_caller]
fn unanswered() -> Option<(Server, World, World)> {
    let (server, laptop, desktop) = due()?;
    laptop.backend().inject_times(Route::Token, None, Fault::HangUp, 1);
    laptop.pool(&["refresh", "alice"]).run();
    assert!(laptop.backend().report().refreshes.is_empty(), "the service has done nothing");
    leases_end(&server);
    let output = desktop.pool(&["refresh", "alice"]).run();
    assert!(laptop.backend().report().refreshes.is_empty(), "{output}");
    desktop.pool(&["list"]).run().ok().says("`laptop` has sent its refresh token and not told the answer");
    let problem = desktop.account("alice")["error"].clone();
    assert!(problem.as_str().is_some_and(|text| text.contains("share take-over alice")), "{problem}");
    answered(desktop.exec_as("alice").run(), "alice");
    Some((server, laptop, desktop))
}

#[test]
fn token_that_a_machine_has_sent_is_its_own_to_send_again() {
    let Some((_server, laptop, desktop)) = unanswered() else { return };
    laptop.forget_renewals();
    laptop.pool(&["refresh", "alice"]).run().ok();
    let newest = laptop.backend().newest_refresh_token("alice");
    desktop.pool(&["refresh"]).run().ok();
    for machine in [&laptop, &desktop] {
        assert_eq!(refresh_token(&machine.stored("alice")), newest);
        assert_eq!(machine.account("alice")["error"], Value::Null);
    }
    assert_eq!(laptop.backend().report().refreshes.len(), 1);
    laptop.backend().assert_clean();
}

#[test]
fn token_of_a_lost_machine_is_sent_after_a_person_takes_it_over() {
    let Some((_server, laptop, desktop)) = unanswered() else { return };
    desktop.pool(&["share", "take-over", "alice", "--yes"]).run().ok();
    desktop.forget_renewals();
    desktop.pool(&["refresh", "alice"]).run().ok();
    let newest = laptop.backend().newest_refresh_token("alice");
    // The machine comes back, and finds that the place of its token is taken.
    laptop.forget_renewals();
    laptop.pool(&["refresh", "alice"]).run().ok();
    for machine in [&laptop, &desktop] {
        assert_eq!(refresh_token(&machine.stored("alice")), newest);
    }
    assert_eq!(laptop.backend().report().refreshes.len(), 1);
    laptop.backend().assert_clean();
}

#[test]
fn answer_that_is_lost_costs_one_login_and_no_machine_sends_its_token() {
    let Some((server, laptop, desktop)) = due() else { return };
    laptop.backend().inject_times(Route::Token, None, Fault::LostAnswer, 1);
    laptop.pool(&["refresh", "alice"]).run();
    leases_end(&server);
    desktop.pool(&["refresh", "alice"]).run();
    assert_eq!(laptop.backend().report().refreshes.len(), 1);
    // A login on any machine puts it right on all.
    let login = newer_login(&laptop, "alice");
    desktop.write_live(&login);
    desktop.pool(&["refresh"]).run().ok();
    laptop.pool(&["refresh"]).run().ok();
    for machine in [&laptop, &desktop] {
        assert_eq!(refresh_token(&machine.stored("alice")), refresh_token(&login));
        assert_eq!(machine.account("alice")["error"], Value::Null);
        answered(machine.exec_as("alice").run(), "alice");
    }
    laptop.backend().assert_clean();
}
