//! Attendants killed at random instants, while sessions rotate their tokens and others are renewed.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testkit::backend::LoginSpec;
use testkit::{SOON, wait_until};

use crate::lab::Lab;
use crate::random::Random;

/// Tokens that live this long, in seconds, are renewed by the attendant.
const DUE: i64 = 20_000;
const SETTINGS: &str = "min_poll_interval = \"0s\"\nusage_max_age = \"5m\"\n";

/// A world in which Alice's session is in the main home, and Carol's in her own.
struct Attended {
    world: Lab,
    homes: [(&'static str, PathBuf); 2],
    _sessions: [testkit::Running; 2],
    lifetime: i64,
}

impl Attended {
    fn new() -> Attended {
        let world = Lab::new(&["alice", "bob", "carol"], SETTINGS);
        world.reset(&LoginSpec::expires_in(DUE));
        let sessions = ["alice", "carol"].map(|name| world.hold(world.exec_as(name)));
        let own =
            world.documents().into_iter().find(|path| path.starts_with(world.pool_home().join("homes")));
        let homes = [("alice", world.codex_home().join("auth.json")), ("carol", own.expect("Carol's home"))];
        world.settings(SETTINGS);
        world.backend().set_access_lifetime(DUE);
        Attended { world, homes, _sessions: sessions, lifetime: DUE }
    }

    /// Writes new tokens into a home, as its session does.
    fn rotate(&mut self, which: usize) {
        self.lifetime += 1;
        let (name, path) = &self.homes[which];
        let login = self.world.backend().auth_json_with(name, &LoginSpec::expires_in(self.lifetime));
        self.world.write_private(path, &login);
    }

    /// Returns whether the pool has the newest tokens of both.
    fn is_taken_in(&self) -> bool {
        self.homes.iter().all(|(name, _)| {
            let newest = self.world.backend().newest_refresh_token(name);
            self.world.document(name).contains(&newest)
        })
    }

    /// Waits until nothing but the sessions runs.
    fn wait_until_quiet(&self) {
        wait_until("the end of refreshes", SOON, || {
            !self
                .world
                .processes()
                .iter()
                .any(|p| p.argv.iter().any(|arg| arg == "refresh" || arg == "attend"))
        });
    }

    fn check(&self, what: &str) {
        assert_eq!(self.world.breaches(), Vec::<String>::new(), "{what}");
        let lost = || {
            let begun = self.world.refreshes_begun();
            let mut lost = self.world.lost();
            lost.retain(|name| !begun.contains(name));
            lost
        };
        if !lost().is_empty() {
            // A renewal that was under way between the two looks has ended, or is known as begun, once all is quiet.
            self.wait_until_quiet();
            assert_eq!(lost(), Vec::<String>::new(), "{what}: lost");
        }
    }

    /// Lets an attendant put everything right. Returns how long that took.
    fn heal(&self, what: &str) -> Duration {
        let began = Instant::now();
        let attendant = self.world.pool(&["attend"]).spawn();
        wait_until(&format!("all in the pool: {what}"), SOON, || self.is_taken_in());
        let took = began.elapsed();
        attendant.signal(Signal::SIGKILL);
        attendant.wait();
        self.wait_until_quiet();
        took
    }
}

#[expect(clippy::print_stdout, reason = "the numbers are the result")]
fn kill(kills: usize, seed: u64) {
    let mut random = Random::seeded(seed);
    let mut lab = Attended::new();
    lab.rotate(0);
    lab.rotate(1);
    let mut usual = lab.heal("at the beginning");
    let mut before = 0;
    for number in 0..kills {
        let which = random.below(2);
        lab.rotate(which);
        lab.world.usage_of_age(if random.below(2) == 0 { 400 } else { 0 });
        let after = random.up_to(usual * 5 / 4);
        let attendant = lab.world.pool(&["attend"]).spawn();
        std::thread::sleep(after);
        attendant.signal(Signal::SIGKILL);
        let output = attendant.wait();
        let what = format!("kill {number} after {after:?}: {output}");
        before += usize::from(!lab.is_taken_in());
        lab.check(&what);
        lab.wait_until_quiet();
        lab.check(&what);
        if random.below(3) == 0 {
            usual = lab.heal(&what).max(Duration::from_millis(20));
            lab.check(&what);
        }
    }
    println!("{before} of {kills} before all was in the pool");
    assert!(before > 0 && before < kills, "kills must come before and after: {before} of {kills}");
    lab.heal("at the end");
    // Nothing is broken that the next launch would have to repair.
    let output = lab.world.exec_as("bob").env("STANDIN_HOLD", "/").run();
    testkit::answered(output, "bob");
    let left = fs::read_dir(lab.world.pool_home()).expect("the pool").flatten();
    let half = left.map(|e| e.file_name()).find(|name| name.to_string_lossy().ends_with(".tmp"));
    assert_eq!(half, None, "an unfinished file is left");
}

#[test]
fn attendants_killed_at_random_lose_nothing() {
    kill(24, 31);
}

#[test]
#[ignore = "half an hour: PROOF_KILLS kills, 2,000 unless it says otherwise, see docs/proof.md"]
fn thousands_of_killed_attendants_lose_nothing() {
    kill(std::env::var("PROOF_KILLS").map_or(2_000, |n| n.parse().expect("a number")), 37);
}
