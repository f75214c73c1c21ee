//! What machines tell each other beside logins: what the service said of an account's usage, so that one machine asks for
//! all, and how many sessions each one runs, so that room counts them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::{Share, ShareError};
use crate::record::Kind;
use crate::store::{Hold, Store};

/// How long no other machine asks the service about an account that was just asked about: a minute, and the time within
/// which a machine asks that may.
pub const POLL: Duration = Duration::from_secs(75);
/// How long after it was allowed to a machine asks.
pub const ASKS_WITHIN: Duration = Duration::from_secs(15);
/// How long a count of sessions is believed. A machine that runs some writes it again before.
pub const SESSIONS: Duration = Duration::from_secs(180);

/// The usage of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The account's id.
    pub account: String,
    /// The machine that asked.
    pub machine: String,
    /// The service's answer, as the machines keep it; empty if there is none yet.
    pub answer: String,
}

/// How many sessions a machine runs with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The account's id.
    pub account: String,
    /// The machine's name.
    pub machine: String,
    /// How many.
    pub running: u32,
}

impl Sessions {
    /// Returns what names its row: each machine has its own.
    pub(crate) fn row_name(account: &str, machine: &str) -> String {
        format!("{account}/{machine}")
    }
}

/// The right to ask the service about an account.
#[derive(Debug)]
pub struct Poll {
    account: String,
    revision: u64,
}

/// Who asks.
#[derive(Debug)]
pub enum Polled {
    /// This machine may ask now.
    Ask(Poll),
    /// Another machine has asked, or is asking; for so long no other one asks. Its answer, if it is there.
    Known(Usage, Duration),
}

impl<S: Store> Share<S> {
    /// Asks whether this machine may ask the service about an account. All machines together do so once a minute.
    ///
    /// # Errors
    /// The database cannot be asked. Then this machine decides by what it knows itself.
    pub fn poll(&mut self, account: &str) -> Result<Polled, ShareError> {
        let (revision, known) = self.read::<Usage>(Kind::Usage, account, |_| None)?;
        let answer = match known {
            Some((usage, held)) if !held.is_zero() => return Ok(Polled::Known(usage, held)),
            Some((usage, _)) => usage.answer,
            None => String::new(),
        };
        let claim = Usage { account: account.to_owned(), machine: self.machine.clone(), answer };
        if self.write(Kind::Usage, account, revision, &claim, None, Hold::Take(POLL))? {
            return Ok(Polled::Ask(Poll { account: account.to_owned(), revision: revision + 1 }));
        }
        Ok(Polled::Known(claim, POLL))
    }

    /// Tells the other machines the service's answer. One that comes after its minute, when another machine has asked
    /// already, is of no use any more.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn tell(&mut self, poll: &Poll, answer: &str) -> Result<bool, ShareError> {
        let usage =
            Usage { account: poll.account.clone(), machine: self.machine.clone(), answer: answer.to_owned() };
        self.write(Kind::Usage, &poll.account, poll.revision, &usage, None, Hold::Keep)
    }

    /// Tells the other machines how many sessions run here. Zero ends what was said before.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn tell_sessions(&mut self, account: &str, running: u32) -> Result<(), ShareError> {
        let name = Sessions::row_name(account, &self.machine);
        let sessions = Sessions { account: account.to_owned(), machine: self.machine.clone(), running };
        let (revision, before) = self.read::<Sessions>(Kind::Sessions, &name, |_| None)?;
        if running == 0 && before.is_none_or(|(before, held)| before.running == 0 || held.is_zero()) {
            return Ok(());
        }
        // Only this machine writes the row, so that it may hold it again before it ends.
        let hold = if running > 0 { Hold::Set(SESSIONS) } else { Hold::Drop };
        match self.write(Kind::Sessions, &name, revision, &sessions, None, hold)? {
            true => Ok(()),
            false => Err(ShareError::Busy),
        }
    }
}
