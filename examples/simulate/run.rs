//! Sessions on accounts, turn by turn. Several run at once; each stays on its account until it meets a limit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use codex_pool_core::usage::Usage;

use crate::accounts::Accounts;
use crate::demand::Session;
use crate::rules::{Rule, View};

/// What a turn needs, in 5h windows of a Plus account, and how long it takes: a session of usual size takes half an hour.
const TURN: f64 = 0.02;
const TURN_SECONDS: i64 = 300;

/// How sessions go on, and what is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    /// Whether a session at a limit goes on by itself. Otherwise the user begins it again, as a launch.
    pub(crate) carries_on: bool,
    /// How old usage is at most, seconds.
    pub(crate) late: i64,
}

/// What has come of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    sessions: usize,
    demand: f64,
    served: f64,
    limits: usize,
    stopped: usize,
    switches: usize,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Outcome) {
        self.sessions += other.sessions;
        self.demand += other.demand;
        self.served += other.served;
        self.limits += other.limits;
        self.stopped += other.stopped;
        self.switches += other.switches;
    }

    /// Percent.
    pub(crate) fn served(&self) -> f64 {
        100.0 * self.served / self.demand
    }

    /// Of 100 sessions.
    pub(crate) fn limits(&self) -> f64 {
        100.0 * self.limits as f64 / self.sessions as f64
    }

    /// Of 100 sessions.
    pub(crate) fn stopped(&self) -> f64 {
        100.0 * self.stopped as f64 / self.sessions as f64
    }

    /// Of 100 sessions.
    pub(crate) fn switches(&self) -> f64 {
        100.0 * self.switches as f64 / self.sessions as f64
    }
}

/// A session that runs.
struct Running {
    account: usize,
    left: f64,
    in_main_home: bool,
    met_a_limit: bool,
}

/// What the pool knows of the accounts.
struct Known {
    usages: Vec<Usage>,
    at: i64,
}

impl Known {
    /// Asks the service, unless what it said is not old enough.
    fn refresh(&mut self, accounts: &Accounts, late: i64, now: i64) {
        if now - self.at >= late {
            *self = Known { usages: accounts.all.iter().map(|a| a.usage(now)).collect(), at: now };
        }
    }
}

/// Runs all sessions.
pub(crate) fn run(rule: &Rule, mode: Mode, accounts: &mut Accounts, sessions: &[Session]) -> Outcome {
    let mut outcome = Outcome { sessions: sessions.len(), ..Outcome::default() };
    let mut running: Vec<Option<Running>> = Vec::new();
    let mut turns: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    let mut known = Known { usages: Vec::new(), at: i64::MIN / 2 };
    let (mut live, mut last) = (0, 0);
    let mut next = sessions.iter().peekable();
    loop {
        let begins = next.peek().map(|session| session.at);
        let turn = turns.peek().map(|Reverse((at, _))| *at);
        let now = match (begins, turn) {
            (None, None) => return outcome,
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
        };
        let many = accounts.all.len();
        let count = |running: &[Option<Running>]| {
            let mut sessions = vec![0; many];
            running.iter().flatten().for_each(|running| sessions[running.account] += 1);
            sessions
        };
        if begins == Some(now) {
            let Some(session) = next.next() else { continue };
            outcome.demand += session.size;
            known.refresh(accounts, mode.late, now);
            let view = View {
                accounts: &accounts.all,
                usages: &known.usages,
                sessions: &count(&running),
                live,
                now,
            };
            let account = (rule.pick)(&view);
            outcome.switches += usize::from(account != last);
            last = account;
            // The main home changes hands only when nobody is in it.
            let free = !running.iter().flatten().any(|running| running.in_main_home);
            if free {
                live = account;
            }
            turns.push(Reverse((now, running.len())));
            running.push(Some(Running {
                account,
                left: session.size,
                in_main_home: account == live,
                met_a_limit: false,
            }));
            continue;
        }
        let Some(Reverse((_, at))) = turns.pop() else { continue };
        let Some(mut session) = running[at].take() else { continue };
        let mut left = TURN.min(session.left);
        let mut done = Vec::new();
        loop {
            let taken = accounts.all[session.account].take(left, now);
            outcome.served += taken;
            session.left -= taken;
            left -= taken;
            if left <= 1e-9 {
                break;
            }
            // What was refused is known at once.
            known.refresh(accounts, mode.late, now);
            known.usages[session.account] = accounts.all[session.account].usage(now);
            outcome.limits += usize::from(!std::mem::replace(&mut session.met_a_limit, true));
            done.push(session.account);
            let view = View {
                accounts: &accounts.all,
                usages: &known.usages,
                sessions: &count(&running),
                live,
                now,
            };
            let other = if mode.carries_on { rule.next(&view, &done) } else { rule.again(&view, &done) };
            match other {
                Some(account) => {
                    session.account = account;
                    session.in_main_home = account == live;
                }
                None => {
                    outcome.stopped += 1;
                    session.left = 0.0;
                    break;
                }
            }
        }
        if session.left > 1e-9 {
            turns.push(Reverse((now + TURN_SECONDS, at)));
            running[at] = Some(session);
        }
    }
}
