//! New keys for a pool. The member that makes them holds a lease for that, marks every account under the old keys, so
//! that no machine which has only those renews any more, and writes everything anew under the new ones. The last step is
//! to remove the rows of the old keys.

use std::time::Duration;

use crate::login::{Age, Lease, LeaseState};
use crate::protocol::{Share, ShareError};
use crate::record::Kind;
use crate::store::{Hold, Store};

/// In the place of an account in the lease of a rotation.
pub const ROTATION: &str = "rotation";
/// How long that lease holds. A rotation that was cut off may be followed by another member's after this time.
pub const ROTATION_LEASE: Duration = Duration::from_secs(900);

/// Whether this machine may make new keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotating {
    /// It may, with the lease at this revision.
    Here(u64),
    /// That machine is doing it, for so long at most.
    There(String, Duration),
}

impl<S: Store> Share<S> {
    /// Takes the lease of a rotation, or takes it again. `ticket`: what this machine knows it by.
    ///
    /// # Errors
    /// The database cannot be asked, or another machine has made new keys already.
    pub fn begin_rotation(&mut self, ticket: &str) -> Result<Rotating, ShareError> {
        let (revision, lease) = self.read::<Lease>(Kind::Lease, ROTATION, |_| None)?;
        if let Some((lease, held)) = lease
            && lease.ticket != ticket
            && !held.is_zero()
        {
            return Ok(Rotating::There(lease.machine, held));
        }
        Ok(match self.hold_rotation(ticket, revision)? {
            Some(revision) => Rotating::Here(revision),
            None => Rotating::There("another machine".to_owned(), ROTATION_LEASE),
        })
    }

    /// Holds the lease of a rotation on. `None`: another machine has it now.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn hold_rotation(&mut self, ticket: &str, revision: u64) -> Result<Option<u64>, ShareError> {
        let lease = Lease {
            account: ROTATION.to_owned(),
            state: LeaseState::Held,
            machine: self.machine.clone(),
            ticket: ticket.to_owned(),
            token: String::new(),
        };
        let held = self.write(Kind::Lease, ROTATION, revision, &lease, None, Hold::Set(ROTATION_LEASE))?;
        Ok(held.then_some(revision + 1))
    }

    /// Writes the mark of a renewal whose end is not known, as it was under the old keys.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn carry_mark(&mut self, lease: &Lease) -> Result<(), ShareError> {
        let (revision, there) = self.read::<Lease>(Kind::Lease, &lease.account, |_| None)?;
        if there.is_none() {
            self.write(Kind::Lease, &lease.account, revision, lease, None, Hold::Drop)?;
        }
        Ok(())
    }

    /// Writes that an account was removed, as it was under the old keys.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn carry_removal(&mut self, account: &str, age: Age) -> Result<(), ShareError> {
        self.remove_up_to(account, age).map(drop)
    }
}
