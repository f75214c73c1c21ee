//! Everything at once, on one pool: launches with their attendant, which is killed again and again, refreshes, switches,
//! logins, and a Codex that rotates its own tokens and writes `auth.json` in place, in slow motion. No token is reused, no login lost, every session stays on one account
//! from beginning to end, and no command waits for the lock in vain.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::backend::LoginSpec;

use crate::lab::Lab;
use crate::random::Random;

/// These are renewed by `codex-pool refresh` all the time.
const RENEWED: [&str; 3] = ["alice", "bob", "carol"];
/// The token of this one is rejected, before its time, while it is in use: Codex renews it.
const SELF_RENEWED: &str = "eve";
/// This one logs in again and again.
const LOGS_IN: &str = "dave";

const SETTINGS: &str = "min_poll_interval = \"0s\"\n";
/// Tokens that live this long, in seconds, are always due.
const SHORT: i64 = 20_000;

/// How many of each there are, and for how long.
struct Crowd {
    launches: usize,
    refreshers: usize,
    switchers: usize,
    time: Duration,
}

/// What happened.
#[derive(Default, Debug)]
struct Tally {
    launches: AtomicUsize,
    refreshes: AtomicUsize,
    switches: AtomicUsize,
    own_renewals: AtomicUsize,
    logins: AtomicUsize,
    attendants: AtomicUsize,
}

struct Race {
    world: Lab,
    until: Instant,
    tally: Tally,
    wrong: Mutex<Vec<String>>,
}

impl Race {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until && self.wrong.lock().expect("not poisoned").is_empty()
    }

    fn complain(&self, what: String) {
        self.wrong.lock().expect("not poisoned").push(what);
    }

    /// Launches, half of them on a named account. A session takes several turns.
    fn launch(&self, mut random: Random) {
        while self.goes_on() {
            let name = (random.below(2) == 0).then(|| *random.one_of(&RENEWED));
            let mut cmd = self.world.exec().env("STANDIN_TURNS", "3");
            if let Some(name) = name {
                cmd = cmd.env("CODEX_POOL_ACCOUNT", name);
            }
            let output = cmd.run();
            let users: Vec<&str> =
                output.stdout.lines().filter_map(|l| l.strip_prefix("hello from ")).collect();
            let one = users.first().copied();
            let right = output.status.success()
                && users.len() == 3
                && users.iter().all(|user| Some(*user) == one)
                && name.is_none_or(|name| Some(name) == one)
                && !output.stderr.contains("without the pool");
            if !right {
                self.complain(format!("a session for {name:?}: {output}"));
            }
            self.tally.launches.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn refresh(&self) {
        while self.goes_on() {
            let output = self.world.pool(&["refresh"]).run();
            // What the service rejects before its time is left to Codex, and that is said with status 1.
            if output.code().is_none_or(|code| code > 1) || output.stderr.contains("panicked") {
                self.complain(format!("a refresh: {output}"));
            }
            self.tally.refreshes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Switches again and again. A switch is refused while sessions use the main home.
    fn switch(&self, mut random: Random) {
        while self.goes_on() {
            let word = *random.one_of(&["alice", "bob", "carol", "--best", "--auto"]);
            let output = self.world.pool(&["use", word]).run();
            if output.code().is_none() || output.stderr.contains("panicked") {
                self.complain(format!("a switch: {output}"));
            }
            self.tally.switches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs sessions whose token the service rejects: Codex renews it itself, and writes slowly.
    fn renew_in_codex(&self) {
        while self.goes_on() {
            let _ = std::fs::remove_file(self.world.gate());
            let session = self.world.exec_as(SELF_RENEWED).env("STANDIN_SLOW_WRITE", "40");
            let session = self.world.hold(session);
            self.world.backend().reject_access_tokens(SELF_RENEWED);
            self.world.open_gate();
            let output = session.wait();
            if !output.status.success() || output.stdout.trim() != "hello from eve" {
                self.complain(format!("the session that renews: {output}"));
            }
            self.tally.own_renewals.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn log_in(&self) {
        let backend = self.world.backend();
        while self.goes_on() {
            backend.approve_login(LOGS_IN);
            let issuer = backend.url();
            let output =
                self.world.codex(&["login", "--device-auth", "--experimental_issuer", &issuer]).run();
            if !output.status.success() || output.stderr.contains("codex-pool:") {
                self.complain(format!("a login: {output}"));
            }
            self.tally.logins.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Kills the attendant that launches have started.
    fn kill_attendants(&self, mut random: Random) {
        while self.goes_on() {
            std::thread::sleep(random.up_to(Duration::from_millis(1_500)));
            let all = self.world.processes().into_iter();
            for attendant in all.filter(|process| process.argv.get(1).is_some_and(|arg| arg == "attend")) {
                // It may have ended since.
                let _ = kill(Pid::from_raw(attendant.pid), Signal::SIGKILL);
                self.tally.attendants.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Lets every refresh renew again at once, and gives each round's tokens another time. The cache is the
    /// pool's, so its lock is taken.
    fn turn_the_clock(&self) {
        let mut lifetime = SHORT;
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(50));
            lifetime += 1;
            for name in RENEWED {
                self.world.backend().set_access_lifetime_of(name, lifetime);
            }
            let _lock = testkit::files::lock(&self.world.pool_home().join("pool.lock"));
            self.world.forget_renewals();
        }
    }
}

#[expect(clippy::print_stdout, reason = "the numbers are the result")]
fn run(crowd: &Crowd) {
    let users = [RENEWED.as_slice(), &[SELF_RENEWED, LOGS_IN]].concat();
    let world = Lab::new(&users, SETTINGS);
    for name in RENEWED {
        world.backend().set_access_lifetime_of(name, SHORT);
    }
    world.reset(&LoginSpec::expires_in(SHORT));
    for name in [SELF_RENEWED, LOGS_IN] {
        world.store(name, &world.backend().auth_json(name));
        // Never the pick.
        world.pool(&["disable", name]).run().ok();
    }
    world.settings(SETTINGS);
    let race =
        Race { world, until: Instant::now() + crowd.time, tally: Tally::default(), wrong: Mutex::default() };
    std::thread::scope(|scope| {
        for number in 0..crowd.launches {
            let random = Random::seeded(100 + number as u64);
            scope.spawn(|| race.launch(random));
        }
        for _ in 0..crowd.refreshers {
            scope.spawn(|| race.refresh());
        }
        for number in 0..crowd.switchers {
            let random = Random::seeded(200 + number as u64);
            scope.spawn(|| race.switch(random));
        }
        scope.spawn(|| race.renew_in_codex());
        scope.spawn(|| race.log_in());
        scope.spawn(|| race.turn_the_clock());
        scope.spawn(|| race.kill_attendants(Random::seeded(300)));
    });
    race.world.wait_until_quiet();
    println!("{:?}, {} refreshes at the issuer", race.tally, race.world.backend().report().refreshes.len());
    let wrong = race.wrong.into_inner().expect("not poisoned");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(race.world.breaches(), Vec::<String>::new());
    assert_eq!(race.world.lost(), Vec::<String>::new());
    race.world.pool(&["refresh"]).run();
    assert_eq!(race.world.breaches(), Vec::<String>::new());
    for name in users {
        let newest = race.world.backend().newest_refresh_token(name);
        assert!(race.world.document(name).contains(&newest), "{name}'s newest token is not in the pool");
    }
    let Tally { launches, refreshes, own_renewals, logins, attendants, .. } = &race.tally;
    let counts = [launches, refreshes, own_renewals, logins, attendants];
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) > 0), "{:?}", race.tally);
}

#[test]
fn everything_at_once_loses_nothing_and_mixes_no_sessions() {
    run(&Crowd { launches: 6, refreshers: 2, switchers: 1, time: Duration::from_secs(6) });
}

#[test]
#[ignore = "minutes, with --release: 64 launches at once for PROOF_SECONDS (180), see docs/proof.md"]
fn crowd_of_launches_for_minutes_loses_nothing() {
    let seconds = std::env::var("PROOF_SECONDS").map_or(180, |n| n.parse().expect("a number"));
    run(&Crowd { launches: 64, refreshers: 8, switchers: 4, time: Duration::from_secs(seconds) });
}
