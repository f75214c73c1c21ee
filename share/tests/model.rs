//! A small model of the rules by which two machines renew one account, and an enumerator of everything that can happen
//! in it: every order of their steps, the death of a machine, an answer of the database that is lost, time that passes,
//! and a person who takes a token over that was not used. It shows that the rules suffice, and that without any one of
//! them a refresh token is sent twice or a login is lost.
//!
//! It models the rules, not the code. `protocol/chaos.rs` tries the code.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Tokens are numbered; only the newest is good.
type Version = u8;

/// The rules that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// The login is in the database before its lease.
    PushFirst,
    /// An older login never replaces a newer one.
    OnlyForward,
    /// A lease is written only as it was read.
    AsItWasRead,
    /// The lease that is taken was read before the login was compared.
    LeaseFirst,
    /// The mark is written before the token is sent.
    MarkFirst,
    /// A token that another machine has marked is left alone.
    LeaveMarked,
    /// A mark stays while its own machine tries again.
    KeepMark,
    /// After its deadline, a machine sends nothing.
    Deadline,
    /// The answer is on the machine's disk before the lease is free.
    StoreAnswer,
}

const RULES: [Rule; 9] = [
    Rule::PushFirst,
    Rule::OnlyForward,
    Rule::AsItWasRead,
    Rule::LeaseFirst,
    Rule::MarkFirst,
    Rule::LeaveMarked,
    Rule::KeepMark,
    Rule::Deadline,
    Rule::StoreAnswer,
];

/// What the row of the lease says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Says {
    Free,
    Held,
    /// Whose mark it is, and for which token.
    Sent(usize, Version),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Lease {
    revision: u8,
    says: Says,
    /// It still holds, for this machine.
    holder: Option<usize>,
}

/// Where a machine is. It is lost when the machine dies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Idle,
    /// It has read the lease.
    Looked(u8, Says),
    /// It has compared the logins, and reads the lease only now.
    Compared,
    /// Its login is the database's. `true`: the mark in the lease is its own.
    Pushed(u8, bool),
    /// It has the lease, at this revision.
    Leased(u8, bool),
    /// Its ticket is on its disk.
    Kept(u8, bool),
    Marked(u8, bool),
    Answered(u8, Version),
    /// The answer is on its disk.
    Stored(u8),
    /// The answer is in the database.
    Written(u8),
    /// Its token was used up, and only a person helps.
    Rejected,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Machine {
    /// On disk.
    login: Version,
    /// On disk: a renewal of this login was begun, and whether its token may have left.
    mine: Option<bool>,
    at: At,
    /// Its deadline is over.
    late: bool,
    begins_left: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    good: Version,
    database: Version,
    lease: Lease,
    machines: [Machine; 2],
    deaths_left: u8,
    lost_answers_left: u8,
    takeovers_left: u8,
    /// A token that was used up was sent by a machine that could have known it.
    reused: bool,
}

struct Model {
    without: Option<Rule>,
}

type Step = (&'static str, usize, State);

impl Model {
    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn start() -> State {
        let machine = Machine { login: 1, mine: None, at: At::Idle, late: false, begins_left: 2 };
        State {
            good: 1,
            database: 1,
            lease: Lease { revision: 0, says: Says::Free, holder: None },
            machines: [machine; 2],
            deaths_left: 1,
            lost_answers_left: 1,
            takeovers_left: 1,
            reused: false,
        }
    }

    fn next(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for who in 0..2 {
            self.machine(state, who, &mut steps);
        }
        let mut push = |what, who, change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            steps.push((what, who, next));
        };
        for who in 0..2 {
            let machine = state.machines[who];
            let is_busy = !matches!(machine.at, At::Idle | At::Rejected);
            if is_busy && !machine.late {
                push("deadline passes", who, &|s| s.machines[who].late = true);
            }
            if is_busy && state.deaths_left > 0 {
                push("machine dies", who, &|s| {
                    s.deaths_left -= 1;
                    (s.machines[who].at, s.machines[who].late) = (At::Idle, false);
                });
            }
            // The deadline of a machine is over long before its lease is.
            if state.lease.holder == Some(who) && (machine.late || !is_busy) {
                push("lease ends", who, &|s| s.lease.holder = None);
            }
            // A person is right: the token was not used.
            if let (Says::Sent(_, token), None) = (state.lease.says, state.lease.holder)
                && token == state.good
                && state.takeovers_left > 0
            {
                push("person takes over", who, &|s| {
                    s.takeovers_left -= 1;
                    s.lease = Lease { revision: s.lease.revision + 1, says: Says::Free, holder: None };
                });
            }
        }
        steps
    }

    fn machine(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let machine = state.machines[who];
        let mut push = |what, change: &dyn Fn(&mut State, usize)| {
            let mut next = state.clone();
            change(&mut next, who);
            steps.push((what, who, next));
        };
        // A write of the lease; without the answer the machine gives up.
        let mut write = |what, says: Says, holder: Option<usize>, after: &dyn Fn(&mut Machine, u8)| {
            push(what, &|s, who| {
                s.lease = Lease { revision: s.lease.revision + 1, says, holder };
                let revision = s.lease.revision;
                after(&mut s.machines[who], revision);
            });
            if state.lost_answers_left > 0 {
                push("answer is lost", &|s, who| {
                    s.lost_answers_left -= 1;
                    s.lease = Lease { revision: s.lease.revision + 1, says, holder };
                    (s.machines[who].at, s.machines[who].late) = (At::Idle, false);
                });
            }
        };
        let is_as_read = |revision| !self.keeps(Rule::AsItWasRead) || state.lease.revision == revision;
        let marked = Says::Sent(who, machine.login);
        match machine.at {
            At::Idle => {
                if state.database > machine.login {
                    push("machine adopts", &|s, who| adopt(s, who));
                } else if machine.begins_left > 0 {
                    push("machine looks", &|s, who| {
                        s.machines[who].begins_left -= 1;
                        s.machines[who].at = match s.lease.holder {
                            Some(_) => At::Idle,
                            None => At::Looked(s.lease.revision, s.lease.says),
                        };
                    });
                } else if state.database < machine.login {
                    push("machine syncs", &|s, _| s.database = machine.login);
                }
            }
            At::Looked(..) if state.database > machine.login && self.keeps(Rule::OnlyForward) => {
                push("machine adopts", &|s, who| adopt(s, who));
            }
            At::Looked(revision, says) => push("machine pushes", &|s, who| {
                if self.keeps(Rule::PushFirst) {
                    s.database = machine.login;
                }
                s.machines[who].at = match self.keeps(Rule::LeaseFirst) {
                    true => self.judge(&machine, who, revision, says),
                    false => At::Compared,
                };
            }),
            At::Compared => push("machine looks late", &|s, who| {
                s.machines[who].at = self.judge(&machine, who, s.lease.revision, s.lease.says);
            }),
            At::Pushed(revision, resumed) => {
                if is_as_read(revision) && (state.lease.holder.is_none() || !self.keeps(Rule::AsItWasRead)) {
                    let says = if resumed && self.keeps(Rule::KeepMark) { marked } else { Says::Held };
                    write("machine takes the lease", says, Some(who), &|m, revision| {
                        m.at = At::Leased(revision, resumed);
                    });
                } else {
                    push("machine comes too late", &|s, who| s.machines[who].at = At::Idle);
                }
            }
            At::Leased(revision, resumed) => push("machine keeps its ticket", &|s, who| {
                s.machines[who].mine = Some(s.machines[who].mine == Some(true));
                s.machines[who].at = At::Kept(revision, resumed);
            }),
            At::Kept(revision, resumed) if !self.keeps(Rule::MarkFirst) => {
                push("machine does not mark", &|s, who| s.machines[who].at = At::Marked(revision, resumed));
            }
            At::Kept(revision, resumed) => {
                if is_as_read(revision) && state.lease.holder == Some(who) {
                    write("machine marks", marked, Some(who), &|m, revision| {
                        m.at = At::Marked(revision, resumed);
                    });
                } else {
                    push("machine cannot mark", &|s, who| s.machines[who].at = At::Idle);
                }
            }
            At::Marked(revision, resumed) if machine.late && self.keeps(Rule::Deadline) => {
                push("machine is too late to send", &|s, who| {
                    if !resumed {
                        free(s, revision);
                    }
                    (s.machines[who].at, s.machines[who].late) = (At::Idle, false);
                });
            }
            At::Marked(revision, _) => push("machine sends", &|s, who| {
                let uncertain = s.machines[who].mine == Some(true);
                s.machines[who].mine = Some(true);
                if machine.login == s.good {
                    s.good += 1;
                    s.machines[who].at = At::Answered(revision, s.good);
                } else {
                    s.reused |= !uncertain;
                    s.machines[who].at = At::Rejected;
                }
            }),
            At::Answered(revision, version) => {
                if self.keeps(Rule::StoreAnswer) {
                    push("machine stores", &|s, who| {
                        s.machines[who].login = version;
                        s.machines[who].mine = None;
                        s.machines[who].at = At::Stored(revision);
                    });
                } else {
                    push("machine frees before it stores", &|s, who| {
                        free(s, revision);
                        s.machines[who].mine = None;
                        s.machines[who].at = At::Stored(revision);
                    });
                }
            }
            At::Stored(revision) => push("machine writes", &|s, who| {
                let login = if self.keeps(Rule::StoreAnswer) { machine.login } else { machine.login + 1 };
                s.machines[who].login = login;
                if login > s.database || !self.keeps(Rule::OnlyForward) {
                    s.database = login;
                }
                s.machines[who].at = At::Written(revision);
            }),
            At::Written(revision) => push("machine frees", &|s, who| {
                free(s, revision);
                (s.machines[who].at, s.machines[who].late) = (At::Idle, false);
            }),
            At::Rejected => {}
        }
    }

    /// Returns where a machine goes that has read this lease.
    fn judge(&self, machine: &Machine, who: usize, revision: u8, says: Says) -> At {
        let Says::Sent(whose, token) = says else { return At::Pushed(revision, false) };
        let mine = whose == who && machine.mine.is_some();
        if token == machine.login && !mine && self.keeps(Rule::LeaveMarked) {
            return At::Idle;
        }
        At::Pushed(revision, token == machine.login && mine)
    }

    /// Returns what is wrong in a state in which nothing more happens, or in any.
    fn fault(&self, state: &State, is_last: bool) -> Option<&'static str> {
        if state.reused {
            return Some("a used-up token was sent");
        }
        let logins = state.machines.iter().map(|machine| machine.login);
        let newest = logins.chain([state.database]).max().unwrap_or(0);
        let in_flight =
            state.machines.iter().any(|m| matches!(m.at, At::Answered(..)) || m.mine == Some(true));
        if newest < state.good && !in_flight {
            return Some("the newest login is lost, and no machine knows that");
        }
        let idle = state.machines.iter().all(|machine| machine.at == At::Idle);
        if is_last && idle && state.database < newest {
            return Some("the database went back");
        }
        None
    }
}

fn adopt(state: &mut State, who: usize) {
    let database = state.database;
    let machine = &mut state.machines[who];
    (machine.login, machine.mine, machine.at, machine.late) = (database, None, At::Idle, false);
}

fn free(state: &mut State, revision: u8) {
    if state.lease.revision == revision {
        state.lease = Lease { revision: revision + 1, says: Says::Free, holder: None };
    }
}

/// Enumerates every state. Returns how many there are, or the way to a fault.
fn explore(model: &Model) -> Result<usize, String> {
    let start = Model::start();
    let mut seen: HashMap<State, Option<(State, &'static str, usize)>> =
        HashMap::from([(start.clone(), None)]);
    let mut todo = vec![start];
    while let Some(state) = todo.pop() {
        let next = model.next(&state);
        if let Some(fault) = model.fault(&state, next.is_empty()) {
            let mut way = vec![fault.to_owned()];
            let mut at = &state;
            while let Some(Some((before, what, who))) = seen.get(at) {
                way.push(format!("{what} ({who})"));
                at = before;
            }
            way.reverse();
            return Err(way.join("\n"));
        }
        for (what, who, next) in next {
            if let Entry::Vacant(entry) = seen.entry(next) {
                todo.push(entry.key().clone());
                entry.insert(Some((state.clone(), what, who)));
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn rules_keep_every_token_from_being_sent_twice() {
    let states = explore(&Model { without: None }).unwrap_or_else(|way| panic!("{way}"));
    assert!(states > 10_000, "{states} states");
}

#[test]
fn each_rule_is_needed() {
    for rule in RULES {
        assert!(explore(&Model { without: Some(rule) }).is_err(), "all is well without {rule:?}");
    }
}
