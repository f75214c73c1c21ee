//! The machines of a pool, for people: which there are, and what each may do. A machine has a record under its name. That
//! of a runner is written by the member that lets it join, since a runner writes nothing.

use serde::{Deserialize, Serialize};

use crate::code::Role;
use crate::keys::RunnerKeys;
use crate::protocol::{Share, ShareError};
use crate::pull::{Pulled, Reader};
use crate::record::Kind;
use crate::seen::Seen;
use crate::store::{Hold, Store};

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub machine: String,
    /// "member" or "runner".
    pub role: String,
    /// When it joined, or was let in, Unix seconds by its own clock, or that of the member.
    pub since: i64,
    /// The database's user that was made for it.
    #[serde(default)]
    pub user: Option<String>,
    /// The id of the code that it was let in with, hexadecimal.
    #[serde(default)]
    pub code: Option<String>,
    /// Whether it has left, or was shut out.
    #[serde(default)]
    pub gone: bool,
    /// Whether it has only entered its name yet. It has no login of the others.
    #[serde(default)]
    pub joining: bool,
}

impl Machine {
    /// Returns a machine that joins.
    pub fn new(name: &str, role: Role, since: i64) -> Machine {
        let (machine, role) = (name.to_owned(), role.as_str().to_owned());
        Machine { machine, role, since, user: None, code: None, gone: false, joining: false }
    }

    /// Returns whether it is a member.
    pub fn is_member(&self) -> bool {
        Role::parse(&self.role) == Some(Role::Member)
    }

    /// Returns whether it has the logins of the pool: a member whose join was not cut off.
    pub fn has_logins(&self) -> bool {
        self.is_member() && !self.joining
    }
}

impl<S: Store> Share<S> {
    /// Enters a machine. Returns whether its name was free; if not, nothing has changed.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn enter(&mut self, machine: &Machine) -> Result<bool, ShareError> {
        let (revision, there) = self.read::<Machine>(Kind::Machine, &machine.machine, |_| None)?;
        if there.is_some_and(|(there, _)| !there.gone) {
            return Ok(false);
        }
        self.write(Kind::Machine, &machine.machine, revision, machine, None, Hold::Without)
    }

    /// Notes that this machine has joined. It comes before its first look at the logins of the others, so that a machine
    /// which has them is known as one. Returns whether it is on the list; there is none after a rotation.
    ///
    /// # Errors
    /// The database cannot be asked, or this machine was taken off the list.
    pub fn arrive(&mut self) -> Result<bool, ShareError> {
        let name = self.machine.clone();
        let (revision, there) = self.read::<Machine>(Kind::Machine, &name, |_| None)?;
        let Some((machine, _)) = there else { return Ok(false) };
        if machine.gone {
            return Err(ShareError::Gone);
        }
        if !machine.joining {
            return Ok(true);
        }
        let here = Machine { joining: false, ..machine };
        match self.write(Kind::Machine, &name, revision, &here, None, Hold::Without)? {
            true => Ok(true),
            false => Err(ShareError::Busy),
        }
    }

    /// Notes that a machine is gone.
    ///
    /// # Errors
    /// The database cannot be asked, or another machine writes the same record.
    pub fn depart(&mut self, name: &str) -> Result<(), ShareError> {
        let (revision, there) = self.read::<Machine>(Kind::Machine, name, |_| None)?;
        let Some((machine, _)) = there.filter(|(machine, _)| !machine.gone) else { return Ok(()) };
        let gone = Machine { gone: true, ..machine };
        match self.write(Kind::Machine, name, revision, &gone, None, Hold::Without)? {
            true => Ok(()),
            false => Err(ShareError::Busy),
        }
    }

    /// Returns the machines that are there, by name.
    ///
    /// # Errors
    /// The database cannot be asked, or a record of a machine is not believed.
    pub fn machines(&mut self) -> Result<Vec<Machine>, ShareError> {
        self.pull_kind(Kind::Machine).map(present)
    }
}

/// As [`Share::machines`], on a runner.
///
/// # Errors
/// As [`Share::machines`].
pub fn machines_for_runner<S: Store>(
    keys: &RunnerKeys,
    store: &mut S,
    seen: &mut Seen,
) -> Result<Vec<Machine>, ShareError> {
    Ok(present(Reader::Runner(keys).pull_kind(Kind::Machine, store, seen)?.whole()?))
}

/// Returns those that are there, by name.
fn present(pulled: Pulled) -> Vec<Machine> {
    let mut machines = pulled.machines;
    machines.retain(|machine| !machine.gone);
    machines.sort_by(|a, b| a.machine.cmp(&b.machine));
    machines
}
