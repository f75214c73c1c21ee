//! Many machines that share a pool, each a process after the other with a home of its own: they renew, launch and
//! refresh against one service, some with clocks that are a day off, and lose the database in between.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::backend::{LoginSpec, UserSpec, refresh_token};
use testkit::postgres::Server;
use testkit::{World, leave_out};

use crate::agree::time_passes;
use crate::world::{init, joined};

const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Access tokens of the service live for a day, in whose last hours the pool renews, and so many seconds.
const FRESH: i64 = 10;
/// How long anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(180);
/// Breaks every connection to the database.
const BREAK_ALL: &str = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' \
                         and pid <> pg_backend_pid()";

/// Returns the library that gives a process another clock, and what it is told.
fn other_clock(machine: usize) -> Option<(String, &'static str)> {
    let offset = match machine % 3 {
        1 => "+1d",
        2 => "-1d",
        _ => return None,
    };
    let folders = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];
    let library = folders.iter().map(|dir| format!("{dir}/libfaketime.so.1"));
    let library = library.into_iter().find(|path| std::path::Path::new(path).exists());
    if library.is_none() {
        leave_out("faketime is not installed, so that all clocks are the same");
    }
    Some((library?, offset))
}

/// Runs so many machines for that long.
fn fleet(count: usize, time: Duration) {
    let Some(server) = Server::start() else { return };
    let first = World::new(&[]);
    for user in USERS {
        first.add_as(user, UserSpec::new(user), &LoginSpec::expires_in(86_000));
    }
    let backend = first.backend();
    backend.set_access_lifetime(86_400 + FRESH);
    init(&first, &server.url(), "machine-0").ok();
    let mut machines = vec![first];
    for number in 1..count {
        let role = if number % 5 == 4 { "--runner" } else { "--member" };
        machines.push(joined(&machines[0], role, &format!("machine-{number}")));
    }
    for machine in &machines {
        machine.settings("attend = false\n");
    }
    machines[0].backend().clear_report();
    let clocks: Vec<_> = (0..count).map(other_clock).collect();
    let (ended, start) = (AtomicBool::new(false), Barrier::new(count + 1));
    std::thread::scope(|scope| {
        for (number, machine) in machines.iter().enumerate() {
            let (ended, start, clock) = (&ended, &start, &clocks[number]);
            scope.spawn(move || {
                start.wait();
                for turn in number.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let user = USERS[turn % USERS.len()];
                    let mut cmd = match turn % 4 {
                        0 => machine.pool(&["refresh", "--background"]),
                        1 => machine.exec_as(user),
                        _ => machine.pool(&["refresh", "--background", user]),
                    };
                    if let Some((library, offset)) = clock {
                        // Codex itself looks at its clock, and may think that its access is over.
                        cmd = cmd.env("LD_PRELOAD", library).env("FAKETIME", offset);
                        cmd.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").timeout(PATIENCE).run();
                        continue;
                    }
                    let output = cmd.timeout(PATIENCE).run();
                    assert!(turn % 4 != 1 || output.code() == Some(0), "machine {number}: {output}");
                }
            });
        }
        start.wait();
        let begun = Instant::now();
        let renewed = || machines[0].backend().report().refreshes.len() > USERS.len();
        while begun.elapsed() < time || !renewed() && begun.elapsed() < PATIENCE {
            std::thread::sleep(time / 4);
            server.sql(BREAK_ALL);
        }
        ended.store(true, Ordering::Relaxed);
    });
    let report = machines[0].backend().report();
    machines[0].backend().assert_clean();
    for user in USERS {
        let asked: Vec<f64> = report.usage_of(user).iter().map(|request| request.at).collect();
        let gaps: Vec<f64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 60.0), "{user} is asked about once a minute: {asked:?}");
    }
    assert!(report.refreshes.len() > USERS.len(), "they renewed: {}", report.refreshes.len());
    // What was cut off is ended by its own machine, and a sync later every machine has the newest.
    machines[0].backend().set_access_lifetime(864_000);
    server.sql("update codex_pool_records set held_until = now() where kind = 'lease'");
    for round in 0..10 {
        let renewed = machines[0].backend().report().refreshes.len();
        for machine in &machines {
            time_passes(machine, 60);
            if round == 0 {
                machine.forget_renewals();
            }
            machine.pool(&["refresh", "--background"]).run();
        }
        // Whoever renews does it after others have asked.
        if round > 0 && machines[0].backend().report().refreshes.len() == renewed {
            break;
        }
    }
    for user in USERS {
        let newest = machines[0].stored(user);
        assert_eq!(refresh_token(&newest), machines[0].backend().newest_refresh_token(user), "{user}");
        let access = |document: &str| {
            let document: serde_json::Value = serde_json::from_str(document).expect("JSON");
            document["tokens"]["access_token"].clone()
        };
        for (number, machine) in machines.iter().enumerate() {
            assert_eq!(access(&machine.stored(user)), access(&newest), "machine {number}, {user}");
        }
    }
    machines[0].backend().assert_clean();
}

#[test]
fn six_machines_renew_and_launch_and_send_no_used_token() {
    fleet(6, Duration::from_secs(20));
}

#[test]
#[ignore = "five minutes"]
fn fifty_machines_renew_and_launch_and_send_no_used_token() {
    fleet(50, Duration::from_secs(240));
}
