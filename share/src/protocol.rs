//! What machines agree on through a [`Store`]: which login of an account is the newest, and which machine may send its
//! refresh token. A refresh token is good for one use, so two machines must never send the same one.
//!
//! A renewal is [`Share::begin`], [`Share::mark`], [`Ticket::may_send`] as the last thing before the request, and then
//! [`Share::finish`], or [`Share::clear`] if no byte left this machine. A machine that dies in between leaves the mark.
//! Another one then leaves the token alone until a person says otherwise ([`Share::take_over`]).

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keys::{MemberKeys, random};
use crate::login::{Age, Lease, LeaseState, Login, LoginText, RemovalText};
use crate::pull::{LeaseView, Pulled, Reader};
use crate::record::{Kind, Record, Refused};
use crate::seen::Seen;
use crate::store::{Hold, Listed, Store, StoreError};

/// How long a machine holds the lease of a renewal.
pub const LEASE: Duration = Duration::from_secs(90);
/// How long before its end nothing is sent any more.
const MARGIN: Duration = Duration::from_secs(30);
/// How often a write is tried over what other machines have written meanwhile.
const TRIES: u32 = 8;

/// Why something did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareError {
    /// The database.
    Store(StoreError),
    /// A record is not believed.
    Refused(Refused),
    /// A record is older than one that was seen before.
    Rollback,
    /// A record says what it cannot say.
    Malformed,
    /// Other machines write faster than this one.
    Busy,
    /// This machine was taken off the list before it was in step.
    Gone,
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Store(error) => error.fmt(f),
            ShareError::Refused(why) => write!(f, "a record in the database is refused: {why}"),
            ShareError::Rollback => {
                f.write_str("the database returns an older state than before, as after a restored backup")
            }
            ShareError::Malformed => f.write_str("a record in the database cannot be understood"),
            ShareError::Busy => f.write_str("other machines change the same account all the time"),
            ShareError::Gone => f.write_str("this machine is not on the list of the pool any more"),
        }
    }
}

impl std::error::Error for ShareError {}

impl From<StoreError> for ShareError {
    fn from(error: StoreError) -> ShareError {
        ShareError::Store(error)
    }
}

/// What became of a login that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// The database has it now.
    Written,
    /// The database had it already.
    Same,
    /// The database has a newer one.
    Newer(Box<Login>),
}

/// Whether a renewal can begin.
#[derive(Debug)]
pub enum Begun {
    /// This machine has the lease.
    Leased(Ticket),
    /// Another machine has renewed it.
    Newer(Box<Login>),
    /// That machine is renewing it, for so long at most.
    Busy(String, Duration),
    /// That machine has sent this refresh token, and nobody knows the answer.
    SentBy(String),
    /// The account was removed, with a login of this age and all that are older.
    Removed(Age),
}

/// Whether an account was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removing {
    /// It is, with a login of this age and all that are older.
    Removed(Age),
    /// That machine is renewing it at this moment. Nothing was removed.
    Busy(String),
}

/// A renewal that this machine has the lease for.
#[derive(Debug)]
pub struct Ticket {
    /// A random number, for the machine to know the lease again. It must be kept before [`Share::mark`].
    pub id: String,
    account: String,
    token: String,
    /// This machine has marked it before, and does not know whether the token was used.
    resumed: bool,
    /// The revision of the lease.
    lease: u64,
    /// In time that passes while the machine sleeps.
    deadline: Duration,
}

impl Ticket {
    /// Returns whether the refresh token may still be sent. It is the last thing to ask before the request. `clock`: as
    /// in [`Share::begin`].
    pub fn may_send(&self, clock: Duration) -> bool {
        clock < self.deadline
    }
}

/// The pool of several machines, as a member sees it.
#[derive(Debug)]
pub struct Share<S> {
    keys: MemberKeys,
    /// The name of this machine, for people.
    pub(crate) machine: String,
    /// The connection.
    pub store: S,
    /// What was seen. The machine keeps it in a file.
    pub seen: Seen,
    ignores_later_keys: bool,
}

impl<S: Store> Share<S> {
    /// Returns the pool. `seen`: what this machine has kept of the last time.
    pub fn new(keys: MemberKeys, machine: &str, store: S, seen: Seen) -> Share<S> {
        Share { keys, machine: machine.to_owned(), store, seen, ignores_later_keys: false }
    }

    /// Reads everything. What is not believed is told apart, and hides nothing else.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn pull(&mut self) -> Result<Pulled, ShareError> {
        let rows = self.store.read_all()?;
        let listed: Vec<Listed> = rows.iter().map(|row| row.record.listed()).collect();
        let reader = Reader::Member(&self.keys);
        let wanted = rows.iter().filter(|row| reader.wants(row.record.kind));
        let pulled = reader.take_all(wanted, &listed, &mut self.seen);
        Ok(if self.ignores_later_keys { pulled.without_rotated() } else { pulled })
    }

    /// Reads what this machine has not seen yet. Without a change, that is one question with a short answer.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn pull_changes(&mut self) -> Result<Pulled, ShareError> {
        Reader::Member(&self.keys).pull_changes(&mut self.store, &mut self.seen)
    }

    /// Reads all records of one kind, seen or not.
    pub(crate) fn pull_kind(&mut self, kind: Kind) -> Result<Pulled, ShareError> {
        let pulled = Reader::Member(&self.keys).pull_kind(kind, &mut self.store, &mut self.seen)?;
        if self.ignores_later_keys { pulled.without_rotated() } else { pulled }.whole()
    }

    /// Returns the leases that are not free.
    ///
    /// # Errors
    /// The database cannot be asked, or a lease is not believed.
    pub fn leases(&mut self) -> Result<Vec<LeaseView>, ShareError> {
        self.pull_kind(Kind::Lease).map(|pulled| pulled.leases)
    }

    /// Lets rows with later keys be: they are of a rotation of this machine.
    pub fn ignore_later_keys(&mut self) {
        self.ignores_later_keys = true;
    }

    /// Returns the age of an account's login in the database, as far as this machine has seen it. One that is no newer
    /// need not be offered.
    pub fn known_age(&self, account: &str) -> Option<Age> {
        self.seen.age(self.keys.runner().row(Kind::Full, account))
    }

    fn note(&mut self, record: &Record, age: Option<Age>) -> Result<(), ShareError> {
        if self.seen.note(record, age) { Ok(()) } else { Err(ShareError::Rollback) }
    }

    /// Reads one record of an account. Returns its revision and text; 0 if there is none.
    pub(crate) fn read<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        account: &str,
        age: impl FnOnce(&T) -> Option<Age>,
    ) -> Result<(u64, Option<(T, Duration)>), ShareError> {
        let id = self.keys.runner().row(kind, account);
        let Some(row) = self.store.read(id)? else {
            // Rows are never removed. One that is gone hides something.
            return if self.seen.has(id) { Err(ShareError::Rollback) } else { Ok((0, None)) };
        };
        let text = self.keys.read(&row.record, account).map_err(ShareError::Refused)?;
        let value: T = parse(&text)?;
        self.note(&row.record, age(&value))?;
        Ok((row.record.revision, Some((value, row.held))))
    }

    fn login(&mut self, account: &str) -> Result<(u64, Option<Login>), ShareError> {
        let (revision, found) = self.read(Kind::Full, account, |text: &LoginText| Some(text.age))?;
        Ok((revision, found.map(|(text, _)| text.login())))
    }

    fn lease(&mut self, account: &str) -> Result<(u64, Option<(Lease, Duration)>), ShareError> {
        self.read(Kind::Lease, account, |_| None)
    }

    pub(crate) fn write<T: Serialize>(
        &mut self,
        kind: Kind,
        account: &str,
        over: u64,
        value: &T,
        age: Option<Age>,
        hold: Hold,
    ) -> Result<bool, ShareError> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(value).map_err(|_| ShareError::Malformed)?);
        let record = self.keys.write(kind, account, over + 1, &text);
        let written = self.store.write(&record, over, hold)?;
        if written {
            self.note(&record, age)?;
        }
        Ok(written)
    }

    /// Offers a login: what this machine has got by a login, or from a Codex that renewed it. The newer one wins.
    ///
    /// # Errors
    /// The database cannot be asked, or what it returns is not believed.
    pub fn push(&mut self, login: &Login) -> Result<Pushed, ShareError> {
        for _ in 0..TRIES {
            let (revision, theirs) = self.login(&login.account)?;
            match theirs {
                Some(theirs) if theirs.age == login.age && theirs.token == login.token => {
                    self.push_access(login)?;
                    return Ok(Pushed::Same);
                }
                // Of two that are equally old, this machine keeps both, and the database the first.
                Some(theirs) if theirs.age >= login.age => return Ok(Pushed::Newer(Box::new(theirs))),
                _ => {}
            }
            let text = LoginText::full(login);
            if self.write(Kind::Full, &login.account, revision, &text, Some(login.age), Hold::Without)? {
                self.push_access(login)?;
                return Ok(Pushed::Written);
            }
        }
        Err(ShareError::Busy)
    }

    /// Brings the record for runners up to date. A machine that died before it did leaves that to the next one.
    fn push_access(&mut self, login: &Login) -> Result<(), ShareError> {
        let Some(text) = LoginText::access(login) else { return Ok(()) };
        for _ in 0..TRIES {
            let age = |text: &LoginText| Some(text.age);
            let (revision, theirs) = self.read(Kind::Access, &login.account, age)?;
            if theirs.is_some_and(|(theirs, _)| theirs.age >= login.age) {
                return Ok(());
            }
            if self.write(Kind::Access, &login.account, revision, &text, Some(login.age), Hold::Without)? {
                return Ok(());
            }
        }
        Err(ShareError::Busy)
    }

    /// Begins a renewal of the newest login that this machine has. `mine`: the ticket of an earlier renewal of this
    /// machine that got no answer, and is not under way any more. `clock`: time that passes while the machine sleeps, as
    /// it was before the call.
    ///
    /// # Errors
    /// The database cannot be asked, or what it returns is not believed. Nothing may be sent then.
    pub fn begin(&mut self, login: &Login, mine: Option<&str>, clock: Duration) -> Result<Begun, ShareError> {
        // The lease is taken as it was read here, before the logins are compared: if its mark is of a newer login than this
        // one, the database has that login already, and the mark is not overwritten.
        let (revision, lease) = self.lease(&login.account)?;
        // What is renewed must be there before its lease is. The lease takes the place of a mark for an older token, and a
        // machine that knew only the older login would send that token again.
        if let Pushed::Newer(theirs) = self.push(login)? {
            return Ok(Begun::Newer(theirs));
        }
        let (mut resumed, mut hold) = (false, Hold::Take(LEASE));
        if let Some((lease, held)) = lease {
            if !held.is_zero() {
                // Its own lease, of a renewal that was cut off, need not end first: this machine renews one at a time.
                if mine != Some(lease.ticket.as_str()) {
                    return Ok(Begun::Busy(lease.machine, held));
                }
                hold = Hold::Set(LEASE);
            }
            let sent = lease.state == LeaseState::Sent && lease.token == login.token;
            resumed = sent && mine == Some(lease.ticket.as_str());
            if sent && !resumed {
                return Ok(Begun::SentBy(lease.machine));
            }
        }
        // A mark stays the same one until there is an answer, so that it can never be lost on the way.
        let id = mine.filter(|_| resumed).map(str::to_owned);
        let ticket = Ticket {
            id: id.unwrap_or_else(|| random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()),
            account: login.account.clone(),
            token: login.token.clone(),
            resumed,
            lease: revision + 1,
            deadline: clock.saturating_add(LEASE - MARGIN),
        };
        let state = if resumed { LeaseState::Sent } else { LeaseState::Held };
        if !self.write_lease(&ticket, revision, state, hold)? {
            return Ok(Begun::Busy("another machine".to_owned(), LEASE));
        }
        // A person may have logged in on another machine meanwhile.
        if let (_, Some(theirs)) = self.login(&login.account)?
            && theirs.age > login.age
        {
            self.free(&ticket)?;
            return Ok(Begun::Newer(Box::new(theirs)));
        }
        // Or has removed the account. Who removes has the lease, so a removal that is not here yet is made after this
        // renewal, and takes its answer, too.
        if let Some(age) = self.removal(&login.account)?.1
            && login.age <= age
        {
            self.clear(ticket)?;
            return Ok(Begun::Removed(age));
        }
        Ok(Begun::Leased(ticket))
    }

    fn write_lease(
        &mut self,
        ticket: &Ticket,
        over: u64,
        state: LeaseState,
        hold: Hold,
    ) -> Result<bool, ShareError> {
        let lease = Lease {
            account: ticket.account.clone(),
            state,
            machine: self.machine.clone(),
            ticket: ticket.id.clone(),
            token: ticket.token.clone(),
        };
        self.write(Kind::Lease, &ticket.account, over, &lease, None, hold)
    }

    /// Notes that the refresh token is about to be sent. Returns whether the lease still holds; otherwise nothing may be
    /// sent.
    ///
    /// # Errors
    /// The database cannot be asked. Nothing may be sent then, though the mark may be there.
    pub fn mark(&mut self, ticket: &mut Ticket) -> Result<bool, ShareError> {
        let marked = self.write_lease(ticket, ticket.lease, LeaseState::Sent, Hold::Keep)?;
        ticket.lease += u64::from(marked);
        Ok(marked)
    }

    /// Ends a renewal of which no byte has left this machine. The mark of an earlier one stays.
    ///
    /// # Errors
    /// The database cannot be asked. The mark stays, for this machine to try again.
    pub fn clear(&mut self, ticket: Ticket) -> Result<(), ShareError> {
        if !ticket.resumed {
            return self.free(&ticket);
        }
        self.write_lease(&ticket, ticket.lease, LeaseState::Sent, Hold::Drop).map(drop)
    }

    fn free(&mut self, ticket: &Ticket) -> Result<(), ShareError> {
        self.write_lease(ticket, ticket.lease, LeaseState::Free, Hold::Drop).map(drop)
    }

    /// Ends a renewal with the issuer's answer, which is durable on this machine already. An answer is newer than what
    /// it was made from, unless a person has logged in meanwhile.
    ///
    /// # Errors
    /// The database cannot be asked. The next [`Share::push`] of this machine brings the answer there.
    pub fn finish(&mut self, ticket: Ticket, answer: &Login) -> Result<Pushed, ShareError> {
        let pushed = self.push(answer)?;
        self.free(&ticket)?;
        Ok(pushed)
    }

    /// Declares the mark of another machine void: a person says that its refresh token was not used. Returns whether
    /// there was one. A lease that still holds is left alone.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn take_over(&mut self, account: &str) -> Result<bool, ShareError> {
        let (revision, lease) = self.lease(account)?;
        let Some((lease, held)) = lease else { return Ok(false) };
        if lease.state != LeaseState::Sent || !held.is_zero() {
            return Ok(false);
        }
        let free = Lease { state: LeaseState::Free, machine: self.machine.clone(), ..lease };
        self.write(Kind::Lease, account, revision, &free, None, Hold::Drop)
    }

    /// Removes an account for every machine: this login, one that another machine has renewed meanwhile, and all that
    /// are older. It holds the lease for that: what is being renewed would be newer than the removal.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn remove(&mut self, login: &Login) -> Result<Removing, ShareError> {
        let (revision, lease) = self.lease(&login.account)?;
        let lease = match lease {
            Some((lease, held)) if !held.is_zero() => return Ok(Removing::Busy(lease.machine)),
            // The mark stays: its token is no machine's to send.
            Some((lease, _)) if lease.state == LeaseState::Sent => lease,
            _ => Lease {
                account: login.account.clone(),
                state: LeaseState::Free,
                machine: self.machine.clone(),
                ticket: String::new(),
                token: String::new(),
            },
        };
        if !self.write(Kind::Lease, &login.account, revision, &lease, None, Hold::Take(LEASE))? {
            return Ok(Removing::Busy("another machine".to_owned()));
        }
        let age = self.login(&login.account)?.1.map_or(login.age, |theirs| theirs.age.max(login.age));
        let age = self.remove_up_to(&login.account, age)?;
        // It is removed, and the hold ends by itself.
        let _ = self.write(Kind::Lease, &login.account, revision + 1, &lease, None, Hold::Drop);
        Ok(Removing::Removed(age))
    }

    /// Writes a removal, unless there is a later one. Returns its age.
    pub(crate) fn remove_up_to(&mut self, account: &str, age: Age) -> Result<Age, ShareError> {
        for _ in 0..TRIES {
            let (revision, there) = self.removal(account)?;
            if let Some(there) = there.filter(|there| *there >= age) {
                return Ok(there);
            }
            let text = RemovalText { account: account.to_owned(), age };
            if self.write(Kind::Removal, account, revision, &text, Some(age), Hold::Without)? {
                return Ok(age);
            }
        }
        Err(ShareError::Busy)
    }

    fn removal(&mut self, account: &str) -> Result<(u64, Option<Age>), ShareError> {
        let (revision, found) = self.read(Kind::Removal, account, |text: &RemovalText| Some(text.age))?;
        Ok((revision, found.map(|(text, _)| text.age)))
    }
}

pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ShareError> {
    serde_json::from_slice(text).map_err(|_| ShareError::Malformed)
}
