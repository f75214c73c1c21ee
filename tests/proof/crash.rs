//! Kills the programs at random instants, again and again on the same pool, while the issuer rotates its tokens:
//! after each kill, and once nothing of the killed one runs any more, the invariants are checked.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::LoginSpec;
use testkit::{Cmd, Output, Running};

use crate::lab::Lab;
use crate::random::Random;

const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Comes and goes: `add` takes this one in, and it is removed now and then.
const GUEST: &str = "dave";

/// Tokens that live this long, in seconds, are renewed by every refresh, and never by Codex.
const LIFETIME: i64 = 20_000;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    /// A launch on the pick.
    Launch,
    /// A launch on a named account: a swap.
    Named(&'static str),
    /// The same while a session runs on another: a home of its own.
    Beside(&'static str),
    Refresh,
    Use(&'static str),
    /// A new login of an account comes from a file.
    Import(&'static str),
    /// A login is made, with the device flow: of an account that is there, or of the guest, who may not be.
    Add(&'static str),
    /// The same of an account that is named.
    Reauth(&'static str),
    /// The same with `codex login` itself, which the shim runs as a child.
    Login(&'static str),
}

const OPERATIONS: [Operation; 20] = [
    Operation::Launch,
    Operation::Launch,
    Operation::Named("alice"),
    Operation::Named("bob"),
    Operation::Named("carol"),
    Operation::Beside("bob"),
    Operation::Beside("carol"),
    Operation::Refresh,
    Operation::Refresh,
    Operation::Refresh,
    Operation::Refresh,
    Operation::Use("alice"),
    Operation::Use("bob"),
    Operation::Import("carol"),
    Operation::Import("alice"),
    Operation::Add(GUEST),
    Operation::Add(GUEST),
    Operation::Add("carol"),
    Operation::Reauth("bob"),
    Operation::Login("carol"),
];

impl Operation {
    /// Returns the account whose new login it brings, and the words with which it reports that.
    fn brings(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Operation::Import(name) => Some((name, &["imported", "updated"])),
            Operation::Add(name) => Some((name, &["added", "are updated"])),
            Operation::Reauth(name) => Some((name, &["is logged in again"])),
            Operation::Login(name) => Some((name, &[])),
            _ => None,
        }
    }
}

/// How the kills went.
#[derive(Default, Debug)]
struct Tally {
    kills: usize,
    /// The program still ran when the signal came.
    in_time: usize,
    /// The issuer's answer was lost with the program that waited for it: its mark tells, and a login repairs it.
    unheard: usize,
}

struct Driver {
    world: Lab,
    random: Random,
    /// How long each takes when it is not killed.
    usual: BTreeMap<Operation, Duration>,
    tally: Tally,
    /// The lifetime of tokens issued in this round, in seconds.
    lifetime: i64,
    /// The last operations, newest last, for the message of a failure.
    history: VecDeque<String>,
    begun: Instant,
}

impl Driver {
    fn new(seed: u64) -> Driver {
        let users = [USERS.as_slice(), &[GUEST]].concat();
        let world = Lab::new(&users, "min_poll_interval = \"0s\"\nusage_max_age = \"5m\"\n");
        world.reset(&LoginSpec::expires_in(LIFETIME));
        let mut driver = Driver {
            world,
            random: Random::seeded(seed),
            usual: BTreeMap::new(),
            tally: Tally::default(),
            lifetime: LIFETIME,
            history: VecDeque::new(),
            begun: Instant::now(),
        };
        for (number, operation) in OPERATIONS.into_iter().enumerate() {
            driver.refresh_is_due(number);
            let beside = driver.prepare(operation);
            let began = Instant::now();
            let output = driver.command(operation).run();
            assert!(output.status.success(), "it was not killed: {output}");
            if let Some((_, words)) = operation.brings() {
                let said = words.is_empty() || words.iter().any(|word| says(&output, word));
                assert!(said, "{operation:?} says that it is done: {output}");
            }
            driver.usual.insert(operation, began.elapsed());
            driver.end(beside);
            driver.world.wait_until_quiet();
            driver.check(&format!("{operation:?}, not killed"));
            driver.heal(&format!("{operation:?}, not killed"));
        }
        driver
    }

    /// Makes every round's tokens newer than those of the last one, also within one second, and every refresh due.
    fn refresh_is_due(&mut self, round: usize) {
        self.lifetime = LIFETIME + i64::try_from(round).expect("fits");
        self.world.backend().set_access_lifetime(self.lifetime);
        // Old enough for a refresh in the background, every other time.
        self.world.usage_of_age(if self.random.below(2) == 0 { 400 } else { 0 });
    }

    /// Prepares an operation: starts the session on Alice that it runs beside, or removes the guest.
    fn prepare(&mut self, operation: Operation) -> Option<Running> {
        match operation {
            Operation::Beside(_) => {
                let _ = fs::remove_file(self.world.gate());
                Some(self.world.hold(self.world.exec_as("alice")))
            }
            Operation::Add(GUEST) if self.random.below(3) > 0 => {
                self.world.pool(&["rm", GUEST, "--yes", "--force"]).run().ok();
                self.world.wait_until_quiet();
                self.world.backend().revoke_logins(GUEST);
                None
            }
            _ => None,
        }
    }

    /// Ends the session that ran beside, which must be undisturbed.
    fn end(&self, beside: Option<Running>) {
        if let Some(session) = beside {
            self.world.open_gate();
            session.wait().ok().says("hello from alice");
        }
    }

    fn command(&self, operation: Operation) -> Cmd {
        let world = &self.world;
        let backend = world.backend();
        match operation {
            Operation::Launch => world.exec(),
            Operation::Named(name) | Operation::Beside(name) => world.exec_as(name),
            Operation::Refresh => world.pool(&["refresh"]),
            Operation::Use(name) => world.pool(&["use", name, "--force"]),
            Operation::Import(name) => {
                let login = backend.auth_json_with(name, &LoginSpec::expires_in(self.lifetime));
                world.pool(&["import", "-", "--label", name]).stdin(login)
            }
            Operation::Add(name) => {
                backend.approve_login(name);
                let issuer = backend.url();
                world.pool(&["add", "--device-auth", "--", "--experimental_issuer", &issuer])
            }
            Operation::Reauth(name) => {
                backend.approve_login(name);
                let issuer = backend.url();
                world.pool(&["reauth", name, "--device-auth", "--", "--experimental_issuer", &issuer])
            }
            Operation::Login(name) => {
                backend.approve_login(name);
                world.codex(&["login", "--device-auth", "--experimental_issuer", &backend.url()])
            }
        }
    }

    /// One kill and what must hold after it.
    fn round(&mut self, number: usize) {
        self.refresh_is_due(OPERATIONS.len() + number);
        let operation = *self.random.one_of(&OPERATIONS);
        let after = self.random.up_to(self.usual[&operation] * 5 / 4);
        let beside = self.prepare(operation);
        let mut running = self.command(operation).spawn();
        std::thread::sleep(after);
        self.tally.kills += 1;
        let in_time = running.is_running();
        // The machine gets busier and idler: the kills follow.
        let usual = self.usual.get_mut(&operation).expect("measured");
        *usual = if in_time { *usual * 21 / 20 } else { *usual * 4 / 5 };
        if in_time {
            self.tally.in_time += 1;
            running.signal(Signal::SIGKILL);
        }
        let output = running.wait();
        self.end(beside);
        self.world.wait_until_quiet();
        self.world.backend().forget_approvals();
        let what = format!("kill {number}: {operation:?} after {after:?}");
        let token = |text: String| {
            text.lines().find(|line| line.contains("refresh_token")).map(str::trim).map(str::to_owned)
        };
        self.history.push_back(format!(
            "{what}, {:?}: {output}; live: {:?}",
            self.begun.elapsed(),
            self.world.live().and_then(token)
        ));
        if self.history.len() > 16 {
            self.history.pop_front();
        }
        if let Some((name, words)) = operation.brings() {
            let good = self.world.backend().good_refresh_tokens(name);
            let stored = good.last().is_some_and(|newest| self.world.document(name).contains(newest));
            let in_pool = stored && self.world.is_registered(name);
            let said = words.iter().any(|word| says(&output, word));
            // A new login that ends soon is renewed at once, as these are; the answer can be lost, see `check`.
            let renewing = self.world.refreshes_begun().contains(name);
            assert!(in_pool || !said || renewing, "{what}: it said that the login is in the pool: {output}");
            // A user whose import was killed imports again, and one who saw the login fail logs in again. What is left
            // in a login home was never reported as a login. A login that Codex itself made belongs to the home.
            let gone = self.world.lost().iter().any(|lost| lost == name);
            if !renewing && (gone || !in_pool && !matches!(operation, Operation::Login(_))) {
                self.log_in(name);
            }
        }
        self.check(&what);
        if self.random.below(8) == 0 {
            self.heal(&what);
        }
    }

    fn newest(&self, name: &str) -> String {
        self.world.backend().newest_refresh_token(name)
    }

    /// Imports another login, which is newer even if the last one was made within this second.
    fn log_in(&mut self, name: &str) {
        self.lifetime += 1;
        let login = self.world.backend().auth_json_with(name, &LoginSpec::expires_in(self.lifetime));
        self.world.pool(&["import", "-", "--label", name]).stdin(login).run().ok();
    }

    fn check(&mut self, what: &str) {
        let breaches = self.world.breaches();
        if !breaches.is_empty() {
            let report = self.world.backend().report();
            let last = |length: usize| length.saturating_sub(8);
            panic!(
                "{what}: {breaches:#?}\nbefore: {:#?}\nrefreshes: {:?}\nrevocations: {:?}",
                self.history,
                &report.refreshes[last(report.refreshes.len())..],
                &report.revocations[last(report.revocations.len())..]
            );
        }
        let begun = self.world.refreshes_begun();
        for name in self.world.lost() {
            assert!(begun.contains(&name), "{what}: {name}'s login is lost");
            self.tally.unheard += 1;
            self.log_in(&name);
        }
    }

    /// Requires that the next launch works, and that the pool has every login then.
    fn heal(&mut self, what: &str) {
        let world = &self.world;
        let output = world.exec().run();
        assert!(output.stdout.contains("hello from"), "{what}, and then: {output}");
        world.wait_until_quiet();
        let output = world.pool(&["refresh"]).run();
        assert!(output.status.success(), "{what}, and then: {output}");
        world.wait_until_quiet();
        let names: Vec<&str> = world.ids.keys().map(String::as_str).collect();
        for name in names {
            let (newest, stored) = (self.newest(name), world.document(name));
            let seen = world.backend().report().refreshes;
            assert!(
                stored.contains(&newest),
                "{what}: {name}'s newest token {newest} is not in the pool, but {:?}; lost: {:?}; begun: {:?}; seen: {:?}",
                stored.lines().find(|line| line.contains("refresh_token")),
                world.lost(),
                world.refreshes_begun(),
                &seen[seen.len().saturating_sub(6)..]
            );
        }
        let at_rest = world.breaches_at_rest();
        assert!(at_rest.is_empty(), "{what}, and then: {at_rest:#?}");
        self.check(what);
    }

    #[expect(clippy::print_stdout, reason = "the numbers are the result")]
    fn run(mut self, kills: usize) {
        for number in 1..=kills {
            self.round(number);
            if number % 100 == 0 {
                println!("{:?}", self.tally);
            }
        }
        self.heal("at the end");
        println!("{:?}", self.tally);
        assert!(self.tally.in_time * 3 > kills, "many kills must come in time: {:?}", self.tally);
    }
}

fn says(output: &Output, word: &str) -> bool {
    output.stdout.contains(word) || output.stderr.contains(word)
}

#[test]
fn programs_killed_at_random_lose_nothing() {
    Driver::new(11).run(60);
}

#[test]
#[ignore = "an hour: PROOF_KILLS kills, 10,000 unless it says otherwise, see docs/proof.md"]
fn ten_thousand_kills_lose_nothing() {
    let kills = std::env::var("PROOF_KILLS").map_or(10_000, |n| n.parse().expect("a number"));
    Driver::new(13).run(kills);
}

#[test]
fn login_after_an_interrupted_refresh_is_made_once_and_kept() {
    let world = Lab::new(&["alice", "bob"], "background_refresh = false\n");
    world.reset(&LoginSpec::default());
    world.write_live(&world.document("alice"));
    // A refresh of Bob's login was killed long ago, and now he logs in.
    let path = world.pool_home().join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).expect("a state")).expect("JSON");
    let mark = json!({"kind": "renewal", "account": world.ids["bob"], "process": "0-0-1-1", "at": 5});
    state["marks"] = json!([mark]);
    world.write_private(&path, &state.to_string());
    let backend = world.backend();
    backend.approve_login("bob");
    let login = world.codex(&["login", "--device-auth", "--experimental_issuer", &backend.url()]).run().ok();
    assert!(!login.stderr.contains("codex-pool:"), "{login}");
    let report = backend.report();
    assert_eq!((report.logins.len(), report.revocations.len()), (1, 0), "{login}");
    let newest = backend.newest_refresh_token("bob");
    assert!(
        world.document("bob").contains(&newest) && world.live().is_some_and(|live| live.contains(&newest))
    );
    assert!(world.refreshes_begun().is_empty(), "the new login ends what was begun");
    assert!(!fs::read_to_string(&path).expect("a state").contains("marks"));
    assert_eq!((world.lost(), world.breaches()), (Vec::new(), Vec::new()));
}
