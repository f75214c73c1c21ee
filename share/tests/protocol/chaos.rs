//! Several machines that renew one account in a random order of steps, while they die, lose the database before or after
//! it has done what they asked, and sleep for minutes. No refresh token is sent twice, but by a machine that does not
//! know whether it was answered; and when all is well again, every machine has the newest login.

use std::time::Duration;

use codex_pool_share::Seen;
use codex_pool_share::login::Login;
use codex_pool_share::memory::{Connection, Fault};
use codex_pool_share::protocol::{Begun, Pushed, Share, Ticket};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::machine::{Pool, login};

/// The service: it knows which refresh token is good.
struct Issuer {
    good: i64,
    reused: u32,
}

impl Issuer {
    fn renew(&mut self, from: &Login) -> Option<Login> {
        if from.token != self.good.to_string() {
            self.reused += 1;
            return None;
        }
        self.good += 1;
        Some(login(self.good))
    }
}

/// Where a machine is. It is lost when the machine dies.
enum Step {
    Idle,
    Leased(Ticket),
    Marked(Ticket),
    Answered(Ticket, Option<Login>),
    Stored(Ticket),
}

/// A machine; what is not in `step` is on its disk.
struct Machine {
    share: Share<Connection>,
    login: Login,
    /// The renewal that was begun, and whether its token may have left the machine.
    mine: Option<(String, bool)>,
    step: Step,
    clock: Duration,
}

impl Machine {
    fn new(pool: &Pool, name: &str) -> Machine {
        Machine {
            share: pool.share(name),
            login: login(1),
            mine: None,
            step: Step::Idle,
            clock: Duration::from_secs(7),
        }
    }

    /// Keeps the newer one.
    fn adopt(&mut self, other: Login) {
        if other.age > self.login.age {
            self.login = other;
            self.mine = None;
        }
    }

    fn sync(&mut self) {
        let Ok(pulled) = self.share.pull() else { return };
        assert!(pulled.refused.is_empty(), "{:?}", pulled.refused);
        pulled.logins.into_iter().for_each(|login| self.adopt(login));
        if let Ok(Pushed::Newer(theirs)) = self.share.push(&self.login.clone()) {
            self.adopt(*theirs);
        }
    }

    /// Does the next thing of a renewal.
    fn step(&mut self, issuer: &mut Issuer) {
        self.step = match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle => {
                let mine = self.mine.as_ref().map(|(id, _)| id.clone());
                match self.share.begin(&self.login, mine.as_deref(), self.clock) {
                    Ok(Begun::Leased(ticket)) => {
                        let sent = self.mine.as_ref().is_some_and(|(_, sent)| *sent);
                        self.mine = Some((ticket.id.clone(), sent));
                        Step::Leased(ticket)
                    }
                    Ok(Begun::Newer(theirs)) => {
                        self.adopt(*theirs);
                        Step::Idle
                    }
                    _ => Step::Idle,
                }
            }
            Step::Leased(mut ticket) => match self.share.mark(&mut ticket) {
                Ok(true) => Step::Marked(ticket),
                _ => Step::Idle,
            },
            Step::Marked(ticket) if !ticket.may_send(self.clock) => {
                let _ = self.share.clear(ticket);
                Step::Idle
            }
            Step::Marked(ticket) => {
                let uncertain = self.mine.replace((ticket.id.clone(), true)).is_some_and(|(_, sent)| sent);
                let before = issuer.reused;
                let answer = issuer.renew(&self.login);
                assert!(uncertain || issuer.reused == before, "a used-up token was sent");
                Step::Answered(ticket, answer)
            }
            Step::Answered(ticket, answer) => {
                // Rejected: a person logs in.
                self.login = answer.unwrap_or_else(|| {
                    issuer.good += 1;
                    login(issuer.good)
                });
                self.mine = None;
                Step::Stored(ticket)
            }
            Step::Stored(ticket) => {
                if let Ok(Pushed::Newer(theirs)) = self.share.finish(ticket, &self.login.clone()) {
                    self.adopt(*theirs);
                }
                Step::Idle
            }
        };
    }

    fn die(&mut self, pool: &Pool, name: &str) {
        self.step = Step::Idle;
        let seen: Seen = serde_json::from_str(&serde_json::to_string(&self.share.seen).unwrap()).unwrap();
        self.share = pool.share_again(name, seen);
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Step(usize),
    Sync(usize),
    Die(usize),
    Fault(usize, Fault),
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let who = || 0usize..3;
    let fault = prop_oneof![4 => Just(Fault::None), 1 => Just(Fault::Before), 1 => Just(Fault::After)];
    let event = prop_oneof![
        12 => who().prop_map(Event::Step),
        2 => who().prop_map(Event::Sync),
        1 => who().prop_map(Event::Die),
        2 => (who(), fault).prop_map(|(who, fault)| Event::Fault(who, fault)),
        2 => prop_oneof![1u64..30, 60u64..300].prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 20..120)
}

#[test]
fn used_up_token_is_never_sent_and_all_have_the_newest_in_the_end() {
    let cases = 60;
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    });
    let renewed = std::cell::Cell::new(0);
    let result = runner.run(&events(), |events| {
        renewed.set(renewed.get() + run(&events));
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    assert!(renewed.get() > 2 * i64::from(cases), "the machines did work: {renewed:?}");
}

/// Runs the events, and returns how often the tokens were renewed.
fn run(events: &[Event]) -> i64 {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let pool = Pool::new();
    let mut issuer = Issuer { good: 1, reused: 0 };
    let mut machines = NAMES.map(|name| Machine::new(&pool, name));
    machines[0].sync();
    let pass = |machines: &mut [Machine; 3], seconds: u64| {
        pool.memory.pass(Duration::from_secs(seconds));
        machines.iter_mut().for_each(|machine| machine.clock += Duration::from_secs(seconds));
    };
    for event in events {
        match *event {
            Event::Step(who) => machines[who].step(&mut issuer),
            Event::Sync(who) => machines[who].sync(),
            Event::Die(who) => machines[who].die(&pool, NAMES[who]),
            Event::Fault(who, fault) => machines[who].share.store.fault = fault,
            Event::Pass(seconds) => pass(&mut machines, seconds),
        }
    }
    // All is well again: every machine ends what it is doing, and looks again.
    for machine in &mut machines {
        machine.share.store.fault = Fault::None;
    }
    let done = |machine: &Machine| matches!(machine.step, Step::Idle) && machine.mine.is_none();
    for _ in 0..60 {
        pass(&mut machines, 10);
        for machine in machines.iter_mut().filter(|machine| !done(machine)) {
            machine.step(&mut issuer);
        }
    }
    for _ in 0..2 {
        machines.iter_mut().for_each(Machine::sync);
    }
    let blocked = machines.iter_mut().find(|machine| !done(machine));
    assert!(
        blocked.is_none(),
        "nothing blocks for good: {:?}",
        blocked.map(|m| (m.mine.clone(), m.share.pull()))
    );
    for machine in &machines {
        assert_eq!(machine.login, login(issuer.good), "everybody has the newest");
    }
    issuer.good
}
