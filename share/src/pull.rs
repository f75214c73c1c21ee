//! Reading the records of a pool: all of them, or those that this machine has not seen yet. What is not believed is told
//! apart, and hides nothing else.

use std::time::Duration;

use crate::keys::{MemberKeys, RunnerKeys};
use crate::login::{Age, Lease, LeaseState, Login, LoginText, RemovalText};
use crate::machines::Machine;
use crate::protocol::{ShareError, parse};
use crate::record::{Kind, Refused, RowId};
use crate::rotate::ROTATION;
use crate::seen::Seen;
use crate::store::{Listed, Row, Store, StoreError};
use crate::usage::{Sessions, Usage};

/// How many rows are asked for at once. A login has 8 KB.
const AT_ONCE: usize = 256;

/// The lease of an account, and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// What it says.
    pub lease: Lease,
    /// How long it still holds. Zero: it has ended.
    pub held: Duration,
}

impl Pulled {
    /// Returns it, if everything in it is believed.
    ///
    /// # Errors
    /// Something is not.
    pub(crate) fn whole(mut self) -> Result<Pulled, ShareError> {
        match self.refused.pop() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// Without the complaint of rows with later keys.
    pub(crate) fn without_rotated(mut self) -> Pulled {
        self.refused.retain(|error| *error != ShareError::Refused(Refused::Rotated));
        self
    }
}

impl LeaseView {
    /// Returns whether a machine has sent the refresh token, or was about to, and nobody knows what came of it.
    pub fn is_sent(&self) -> bool {
        self.lease.state == LeaseState::Sent && self.held.is_zero()
    }
}

/// What is in the database.
#[derive(Debug, Default)]
pub struct Pulled {
    /// The newest login of each account that was not removed since.
    pub logins: Vec<Login>,
    /// The accounts that were removed, each with the age of the login that was removed with it.
    pub removed: Vec<(String, Age)>,
    /// The leases that are not free.
    pub leases: Vec<LeaseView>,
    /// The accounts whose lease is free again.
    pub freed: Vec<String>,
    /// What the service said of accounts.
    pub usages: Vec<Usage>,
    /// The sessions of machines, each with the time for which its count is believed.
    pub sessions: Vec<(Sessions, Duration)>,
    /// The machines, if they were asked for.
    pub machines: Vec<Machine>,
    /// The machines that run no sessions with an account any more: the account's id, and the machine's name.
    pub ended: Vec<(String, String)>,
    /// The records that are not believed.
    pub refused: Vec<ShareError>,
}

/// Reads what a runner has not seen yet: logins without refresh tokens, removals, usage and sessions.
///
/// # Errors
/// The database cannot be asked.
pub fn pull_for_runner<S: Store>(
    keys: &RunnerKeys,
    store: &mut S,
    seen: &mut Seen,
) -> Result<Pulled, ShareError> {
    Reader::Runner(keys).pull_changes(store, seen)
}

/// Reads these rows, many at once.
fn read_all_of<'l, S: Store>(
    store: &mut S,
    listed: impl Iterator<Item = &'l Listed>,
) -> Result<Vec<Row>, StoreError> {
    let listed: Vec<RowId> = listed.map(|listed| listed.row).collect();
    let mut rows = Vec::new();
    for some in listed.chunks(AT_ONCE) {
        rows.extend(store.read_rows(some)?);
    }
    Ok(rows)
}

/// Who reads.
pub(crate) enum Reader<'a> {
    Member(&'a MemberKeys),
    Runner(&'a RunnerKeys),
}

impl Reader<'_> {
    /// Returns whether it reads such records.
    pub(crate) fn wants(&self, kind: Kind) -> bool {
        match (self, kind) {
            (Reader::Member(_), Kind::Full | Kind::Lease) | (Reader::Runner(_), Kind::Access) => true,
            (_, kind) => matches!(kind, Kind::Removal | Kind::Usage | Kind::Sessions),
        }
    }

    /// Reads all records of one kind, seen or not.
    pub(crate) fn pull_kind<S: Store>(
        &self,
        kind: Kind,
        store: &mut S,
        seen: &mut Seen,
    ) -> Result<Pulled, ShareError> {
        let listed = store.list()?;
        let rows = read_all_of(store, listed.iter().filter(|listed| listed.kind == kind))?;
        Ok(self.take_all(rows.iter(), &listed, seen))
    }

    pub(crate) fn pull_changes<S: Store>(
        &self,
        store: &mut S,
        seen: &mut Seen,
    ) -> Result<Pulled, ShareError> {
        let listed = store.list()?;
        let new = listed.iter().filter(|listed| self.wants(listed.kind) && !seen.is_newest(listed));
        let rows = read_all_of(store, new)?;
        Ok(self.take_all(rows.iter(), &listed, seen))
    }

    /// `listed`: all rows that the database says it has.
    pub(crate) fn take_all<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
        listed: &[Listed],
        seen: &mut Seen,
    ) -> Pulled {
        let mut pulled = Pulled::default();
        // Rows are never removed. One that is gone hides something.
        if seen.misses(listed) {
            pulled.refused.push(ShareError::Rollback);
        }
        for row in rows {
            match self.take(row, seen, &mut pulled) {
                // What is left of a rotation says nothing.
                Ok(()) | Err(ShareError::Refused(Refused::OtherEpoch)) => {}
                Err(error) => pulled.refused.push(error),
            }
        }
        // Then the rows of the old keys are gone, and that is no fault.
        let rotated = ShareError::Refused(Refused::Rotated);
        if pulled.refused.contains(&rotated) {
            pulled.refused.retain(|error| *error != rotated && *error != ShareError::Rollback);
            pulled.refused.push(rotated);
        }
        let removed = &pulled.removed;
        let is_removed = |login: &Login| {
            removed.iter().any(|(account, age)| *account == login.account && login.age <= *age)
        };
        pulled.logins.retain(|login| !is_removed(login));
        pulled
    }

    fn take(&self, row: &Row, seen: &mut Seen, pulled: &mut Pulled) -> Result<(), ShareError> {
        let record = &row.record;
        let (text, keys) = match self {
            Reader::Member(keys) => (keys.read_unknown(record), keys.runner()),
            Reader::Runner(keys) => (keys.read_unknown(record), *keys),
        };
        let text = text.map_err(ShareError::Refused)?;
        let mut note = |account: &str, age| {
            if keys.row(record.kind, account) != record.row {
                return Err(ShareError::Refused(Refused::Misplaced));
            }
            if seen.note(record, age) { Ok(()) } else { Err(ShareError::Rollback) }
        };
        match record.kind {
            Kind::Full | Kind::Access => {
                let login = parse::<LoginText>(&text)?.login();
                note(&login.account, Some(login.age))?;
                pulled.logins.push(login);
            }
            Kind::Lease => {
                let lease: Lease = parse(&text)?;
                note(&lease.account, None)?;
                match lease.state {
                    _ if lease.account == ROTATION => {}
                    LeaseState::Free => pulled.freed.push(lease.account),
                    LeaseState::Held | LeaseState::Sent => {
                        pulled.leases.push(LeaseView { lease, held: row.held });
                    }
                }
            }
            Kind::Removal => {
                let removal: RemovalText = parse(&text)?;
                note(&removal.account, Some(removal.age))?;
                pulled.removed.push((removal.account, removal.age));
            }
            Kind::Machine => {
                let machine: Machine = parse(&text)?;
                note(&machine.machine, None)?;
                pulled.machines.push(machine);
            }
            Kind::Usage => {
                let usage: Usage = parse(&text)?;
                note(&usage.account, None)?;
                pulled.usages.push(usage);
            }
            Kind::Sessions => {
                let sessions: Sessions = parse(&text)?;
                note(&Sessions::row_name(&sessions.account, &sessions.machine), None)?;
                match sessions.running > 0 && !row.held.is_zero() {
                    true => pulled.sessions.push((sessions, row.held)),
                    false => pulled.ended.push((sessions.account, sessions.machine)),
                }
            }
        }
        Ok(())
    }
}
