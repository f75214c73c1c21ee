//! A small model of the protocol of pool lock, refresh lock, ledger and homes, and an enumerator of everything that can
//! happen in it: launches, renewals, a Codex that renews its own token and writes in two steps, and a crash of one of
//! the programs, in every order. It shows that the rules suffice, and that without any one of them a login is lost, a
//! token is sent twice, or a home changes hands.
//!
//! It models the rules, not the code, which `place`, `reconcile`, `renewal` and `take_home` in the core keep.

use std::collections::hash_map::{Entry, HashMap};

/// The two accounts, and the homes: the shared one and each account's own home.
const ACCOUNTS: [usize; 2] = [0, 1];
const SHARED: usize = 0;
const HOMES: usize = 3;

fn home_of(account: usize) -> usize {
    account + 1
}

/// Tokens are numbered; of each account only the newest is good.
type Version = u8;

/// What is at a home's `auth.json`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum File {
    Absent,
    Whole(usize, Version),
    /// Codex is writing it.
    Partial(usize),
}

impl File {
    fn account(self) -> Option<usize> {
        match self {
            File::Absent => None,
            File::Whole(account, _) | File::Partial(account) => Some(account),
        }
    }
}

/// Where a launch is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Launch {
    Typed,
    Locked,
    /// It knows its home, and is in the ledger.
    Entered(usize),
    /// Its account is in the home.
    Placed(usize),
    /// The lock is free again; Codex has not started yet.
    Unlocked(usize),
    Running(usize),
    /// Codex has got a new token and not written it yet.
    Renewed(usize, Version),
    /// Codex is in the middle of writing it.
    Writing(usize, Version),
    Ended,
}

/// Where a renewal is. It is about one account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Renewal {
    Idle,
    /// It has the refresh lock.
    Alone,
    /// It has the pool's lock, too.
    Locked,
    /// This token is the newest known; the mark is written, and the lock free.
    Marked(Version),
    Answered(Version),
    /// It has the pool's lock again.
    Storing(Version),
    /// The pool has it, the homes not yet.
    Stored(Version),
    Ended,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// The newest token of each account; all before are used up.
    issued: [Version; 2],
    store: [Version; 2],
    homes: [File; HOMES],
    /// What each home held when last seen.
    memory: [Option<(usize, Version)>; HOMES],
    /// A refresh was begun, and its answer was lost with the process that waited for it. That is known and cannot be
    /// repaired.
    unheard: [bool; 2],
    locked: bool,
    alone: bool,
    launches: [Launch; 3],
    renewals: [Renewal; 2],
    own_renewals_left: u8,
    crashes_left: u8,
    /// The newest token that the pool has sent.
    sent: [Version; 2],
    /// The pool sent a token although it could have known that it was used up.
    reused: bool,
}

/// The launches' accounts, and the renewals'.
const WANTED: [usize; 3] = [0, 1, 0];
const RENEWED: [usize; 2] = [0, 0];

/// The rules that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// What a home holds comes into the pool before it is overwritten.
    ReconcileFirst,
    /// Never an older document over a newer one.
    OnlyForward,
    /// A document that the account has elsewhere is removed.
    OneSeat,
    /// A home that the ledger says is in use is left alone.
    RespectLedger,
    /// The launch is entered before the lock is free.
    EnterUnderLock,
    /// The process that sends a token holds the refresh lock.
    RefreshAlone,
    /// The newest token is looked for after the locks are taken, in homes as well.
    LookInSeats,
    /// No renewal while Codex is writing the account's document.
    WaitForWriter,
    /// The pool has the answer before the homes.
    StoreAnswer,
}

const RULES: [Rule; 9] = [
    Rule::ReconcileFirst,
    Rule::OnlyForward,
    Rule::OneSeat,
    Rule::RespectLedger,
    Rule::EnterUnderLock,
    Rule::RefreshAlone,
    Rule::LookInSeats,
    Rule::WaitForWriter,
    Rule::StoreAnswer,
];

/// The protocol, perhaps without one of its rules.
struct Model {
    without: Option<Rule>,
}
/// What happened, to which launch or renewal, and what is then.
type Step = (&'static str, usize, State);

impl Model {
    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn start() -> State {
        State {
            issued: [1, 1],
            store: [1, 1],
            homes: [File::Whole(0, 1), File::Absent, File::Absent],
            memory: [Some((0, 1)), None, None],
            unheard: [false; 2],
            locked: false,
            alone: false,
            launches: [Launch::Typed; 3],
            renewals: [Renewal::Idle; 2],
            own_renewals_left: 2,
            crashes_left: 1,
            sent: [0, 0],
            reused: false,
        }
    }

    /// Everything that can happen next.
    fn next(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for who in 0..state.launches.len() {
            self.launch(state, who, &mut steps);
        }
        for who in 0..state.renewals.len() {
            self.renew(state, who, &mut steps);
        }
        steps
    }

    fn launch(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let wanted = WANTED[who];
        let mut push = |what, change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            steps.push((what, who, next));
        };
        match state.launches[who] {
            Launch::Typed if !state.locked => push("launch locks", &|s| {
                s.locked = true;
                s.launches[who] = Launch::Locked;
            }),
            Launch::Locked => {
                let mut looked = state.clone();
                if self.keeps(Rule::ReconcileFirst) {
                    self.reconcile_all(&mut looked);
                }
                if matches!(looked.homes[SHARED], File::Partial(_)) {
                    push("launch waits for a writer", &|s| {
                        s.locked = false;
                        s.launches[who] = Launch::Typed;
                    });
                } else {
                    let codex_home = self.home_for(&looked, who);
                    push("launch is entered", &|s| {
                        s.clone_from(&looked);
                        s.launches[who] = Launch::Entered(codex_home);
                    });
                }
            }
            Launch::Entered(codex_home) => push("launch is placed", &|s| {
                self.place(s, who, codex_home);
                s.launches[who] = Launch::Placed(codex_home);
            }),
            Launch::Placed(codex_home) => push("launch unlocks", &|s| {
                s.locked = false;
                s.launches[who] = Launch::Unlocked(codex_home);
            }),
            Launch::Unlocked(codex_home) => {
                push("launch executes Codex", &|s| s.launches[who] = Launch::Running(codex_home))
            }
            Launch::Running(codex_home) => {
                push("launch ends", &|s| s.launches[who] = Launch::Ended);
                if let File::Whole(account, version) = state.homes[codex_home]
                    && account == wanted
                    && version == state.issued[account]
                    && state.own_renewals_left > 0
                {
                    push("launch renews its token", &|s| {
                        s.own_renewals_left -= 1;
                        s.issued[account] += 1;
                        s.launches[who] = Launch::Renewed(codex_home, version + 1);
                    });
                }
            }
            Launch::Renewed(codex_home, version) => push("launch begins to write", &|s| {
                s.homes[codex_home] = File::Partial(wanted);
                s.launches[who] = Launch::Writing(codex_home, version);
            }),
            Launch::Writing(codex_home, version) => push("launch has written", &|s| {
                s.homes[codex_home] = File::Whole(wanted, version);
                s.launches[who] = Launch::Running(codex_home);
            }),
            Launch::Typed | Launch::Ended => {}
        }
        let ours = matches!(
            state.launches[who],
            Launch::Locked | Launch::Entered(_) | Launch::Placed(_) | Launch::Unlocked(_)
        );
        if ours && state.crashes_left > 0 {
            push("launch is killed", &|s| {
                s.crashes_left -= 1;
                if !matches!(s.launches[who], Launch::Unlocked(_)) {
                    s.locked = false;
                }
                s.launches[who] = Launch::Ended;
            });
        }
    }

    fn renew(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let account = RENEWED[who];
        let mut push = |what, change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            steps.push((what, who, next));
        };
        let alone = self.keeps(Rule::RefreshAlone);
        match state.renewals[who] {
            // What is lost needs a login; a renewal could only prove it.
            Renewal::Idle if !(state.unheard[account] || alone && state.alone) => {
                push("renewal is alone", &|s| {
                    s.alone = true;
                    s.renewals[who] = Renewal::Alone;
                })
            }
            Renewal::Alone if !state.locked => push("renewal locks", &|s| {
                s.locked = true;
                s.renewals[who] = Renewal::Locked;
            }),
            Renewal::Locked => push("renewal looks for the newest token", &|s| {
                if self.keeps(Rule::LookInSeats) {
                    self.reconcile_all(s);
                    self.write_homes(s, account);
                }
                s.locked = false;
                let written = s.homes.contains(&File::Partial(account));
                if s.unheard[account] || written && self.keeps(Rule::WaitForWriter) {
                    s.alone = false;
                    s.renewals[who] = Renewal::Ended;
                } else {
                    // Codex may have a new one and not have begun to write it: that cannot be known.
                    let unknowable = s
                        .launches
                        .iter()
                        .enumerate()
                        .any(|(l, launch)| WANTED[l] == account && matches!(launch, Launch::Renewed(..)));
                    s.reused |= s.store[account] < s.issued[account] && !unknowable;
                    s.renewals[who] = Renewal::Marked(s.store[account]);
                }
            }),
            Renewal::Marked(version) if version == state.issued[account] => {
                push("renewal is answered", &|s| {
                    s.issued[account] += 1;
                    s.sent[account] = version;
                    s.renewals[who] = Renewal::Answered(version + 1);
                })
            }
            Renewal::Marked(version) => push("renewal is rejected", &|s| {
                // That Codex was faster after the look cannot be avoided.
                s.reused |= version <= s.sent[account];
                s.alone = false;
                s.renewals[who] = Renewal::Ended;
            }),
            Renewal::Answered(version) if !state.locked => push("renewal locks again", &|s| {
                s.locked = true;
                s.renewals[who] = Renewal::Storing(version);
            }),
            Renewal::Storing(version) => push("renewal stores the answer", &|s| {
                if self.keeps(Rule::StoreAnswer) {
                    s.store[account] = s.store[account].max(version);
                }
                s.renewals[who] = Renewal::Stored(version);
            }),
            Renewal::Stored(_) => push("renewal brings it to the homes and unlocks", &|s| {
                self.write_homes(s, account);
                s.locked = false;
                s.alone = false;
                s.renewals[who] = Renewal::Ended;
            }),
            _ => {}
        }
        let runs = !matches!(state.renewals[who], Renewal::Idle | Renewal::Ended);
        if runs && state.crashes_left > 0 {
            push("renewal is killed", &|s| {
                s.crashes_left -= 1;
                if matches!(s.renewals[who], Renewal::Locked | Renewal::Storing(_) | Renewal::Stored(_)) {
                    s.locked = false;
                }
                if let Renewal::Answered(_) | Renewal::Storing(_) = s.renewals[who] {
                    s.unheard[account] = true;
                }
                s.alone = false;
                s.renewals[who] = Renewal::Ended;
            });
        }
    }

    /// Returns which home a launch takes, as `take_home` does.
    fn home_for(&self, state: &State, who: usize) -> usize {
        let wanted = WANTED[who];
        let home = home_of(wanted);
        if state.homes[SHARED].account() == Some(wanted) {
            return SHARED;
        }
        let in_home = state.homes[home].account() == Some(wanted) && self.in_use(state, home, who);
        if in_home || self.in_use(state, SHARED, who) { home } else { SHARED }
    }

    fn in_use(&self, state: &State, codex_home: usize, except: usize) -> bool {
        self.keeps(Rule::RespectLedger)
            && state.launches.iter().enumerate().any(|(who, launch)| {
                let entered = match launch {
                    Launch::Entered(at) | Launch::Placed(at) | Launch::Unlocked(at) => {
                        self.keeps(Rule::EnterUnderLock).then_some(*at)
                    }
                    Launch::Running(at) | Launch::Renewed(at, _) | Launch::Writing(at, _) => Some(*at),
                    Launch::Typed | Launch::Locked | Launch::Ended => None,
                };
                who != except && entered == Some(codex_home)
            })
    }

    fn place(&self, state: &mut State, who: usize, codex_home: usize) {
        let account = WANTED[who];
        if state.homes[codex_home].account() == Some(account) {
            return;
        }
        for other in 0..HOMES {
            let elsewhere = other != codex_home && state.homes[other].account() == Some(account);
            if elsewhere && self.keeps(Rule::OneSeat) && !self.in_use(state, other, who) {
                self.reconcile(state, other);
                state.homes[other] = File::Absent;
                state.memory[other] = None;
            }
        }
        state.homes[codex_home] = File::Whole(account, state.store[account]);
        state.memory[codex_home] = Some((account, state.store[account]));
    }

    fn reconcile_all(&self, state: &mut State) {
        (0..HOMES).for_each(|codex_home| self.reconcile(state, codex_home));
    }

    fn reconcile(&self, state: &mut State, codex_home: usize) {
        let File::Whole(account, version) = state.homes[codex_home] else { return };
        let forward = self.keeps(Rule::OnlyForward);
        if forward && state.memory[codex_home] == Some((account, version)) {
            return;
        }
        if !forward || version > state.store[account] {
            state.store[account] = version;
        }
        state.memory[codex_home] = Some((account, version));
    }

    /// The pool's newest into the homes that hold the account, in use or not.
    fn write_homes(&self, state: &mut State, account: usize) {
        for codex_home in 0..HOMES {
            if let File::Whole(at, version) = state.homes[codex_home]
                && at == account
            {
                self.reconcile(state, codex_home);
                if version < state.store[account] {
                    state.homes[codex_home] = File::Whole(account, state.store[account]);
                    state.memory[codex_home] = Some((account, state.store[account]));
                }
            }
        }
    }

    /// Returns a breach of what must hold at every moment.
    fn breach(&self, state: &State) -> Option<String> {
        for account in ACCOUNTS {
            let newest = state.issued[account];
            let on_disk =
                state.store[account] == newest || state.homes.contains(&File::Whole(account, newest));
            let with_codex = state.launches.iter().enumerate().any(|(who, launch)| {
                let held = matches!(launch, Launch::Renewed(_, v) | Launch::Writing(_, v) if *v == newest);
                WANTED[who] == account && held
            });
            let with_us = state.renewals.iter().enumerate().any(|(who, renewal)| {
                RENEWED[who] == account
                    && matches!(renewal, Renewal::Answered(v) | Renewal::Storing(v) if *v == newest)
            });
            if !(on_disk || with_codex || with_us || state.unheard[account]) {
                return Some(format!("the newest token of account {account} is lost"));
            }
            let homes = state.homes.iter().filter(|file| file.account() == Some(account)).count();
            if homes > 1 {
                return Some(format!("account {account} is in {homes} places"));
            }
        }
        for (who, launch) in state.launches.iter().enumerate() {
            if let Launch::Placed(codex_home)
            | Launch::Unlocked(codex_home)
            | Launch::Running(codex_home)
            | Launch::Renewed(codex_home, _)
            | Launch::Writing(codex_home, _) = launch
                && state.homes[*codex_home].account() != Some(WANTED[who])
            {
                return Some(format!("launch {who} is in a home that another account has taken"));
            }
        }
        state.reused.then(|| "a used-up token was sent".to_owned())
    }

    /// Visits every possible state. Returns their number, or the way to a breach.
    fn explore(&self) -> Result<usize, String> {
        let start = Model::start();
        let mut came_from: HashMap<State, Option<(State, &'static str, usize)>> =
            HashMap::from([(start.clone(), None)]);
        let mut open = vec![start];
        while let Some(state) = open.pop() {
            if let Some(breach) = self.breach(&state) {
                let mut way = vec![breach];
                let mut at = &state;
                while let Some(Some((before, what, who))) = came_from.get(at) {
                    way.push(format!("{what} ({who})"));
                    at = before;
                }
                way.reverse();
                return Err(way.join("\n"));
            }
            for (what, who, next) in self.next(&state) {
                if let Entry::Vacant(new) = came_from.entry(next.clone()) {
                    new.insert(Some((state.clone(), what, who)));
                    open.push(next);
                }
            }
        }
        Ok(came_from.len())
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the number is the result")]
fn protocol_holds_in_every_order_of_events() {
    let states = Model { without: None }.explore().unwrap_or_else(|way| panic!("{way}"));
    println!("{states} states");
    assert!(states > 10_000, "{states} are too few");
}

#[test]
fn protocol_needs_each_of_its_rules() {
    for rule in RULES {
        let way = Model { without: Some(rule) }.explore();
        assert!(way.is_err(), "without {rule:?} nothing breaks: the model does not see what it is for");
    }
}
