//! What this machine knows of the others that share the pool: how old that is, the sessions that they run, and the
//! refresh tokens that one of them has sent. It is in `usage.json`, so that a launch need not read one more file.

use serde::{Deserialize, Serialize};

use super::UsageCache;
use crate::account::AccountId;
use crate::shared::Role;

/// How often a machine asks the database of a shared pool for what is new, seconds.
pub const SYNC_EVERY: i64 = 60;
/// For this long after a failure nothing waits for the database, seconds.
const DOWN: i64 = 300;

/// What is known of the other machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    /// When the database last answered, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synced_at: Option<i64>,
    /// When it was last asked, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<i64>,
    /// Why it did not answer the last time, or did not take what this machine had to tell, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The sessions of other machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionsElsewhere>,
    /// The refresh tokens that are known as sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Sent>,
}

/// The sessions that another machine runs with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsElsewhere {
    /// The account.
    pub account: AccountId,
    /// The machine's name.
    pub machine: String,
    /// How many.
    pub running: u32,
    /// Until when that is believed, Unix seconds.
    pub until: i64,
}

/// A refresh token that a machine has sent, and nobody knows the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The account.
    pub account: AccountId,
    /// The machine's name.
    pub machine: String,
    /// The hash of the token.
    pub token: String,
    /// Until when the machine may still be waiting for the answer, Unix seconds.
    pub until: i64,
}

impl Sharing {
    /// Returns whether it is time to ask the database. `now`: Unix seconds.
    pub fn is_due(&self, now: i64) -> bool {
        self.tried_at.is_none_or(|at| !(0..SYNC_EVERY).contains(&now.saturating_sub(at)))
    }

    /// Returns whether the database did not answer lately, so that nothing waits for it. `now`: Unix seconds.
    pub fn is_down(&self, now: i64) -> bool {
        let lately = |at: i64| (0..DOWN).contains(&now.saturating_sub(at));
        self.error.is_some() && self.tried_at.is_some_and(lately)
    }

    /// Notes that the database was asked. `error`: why it did not answer.
    pub fn tried(&mut self, error: Option<String>, now: i64) {
        self.tried_at = Some(now);
        if error.is_none() {
            self.synced_at = Some(now);
        }
        self.error = error;
    }

    /// Notes the sessions that another machine runs with an account.
    pub fn note_sessions(&mut self, sessions: SessionsElsewhere, now: i64) {
        let same = |other: &SessionsElsewhere| {
            other.account == sessions.account && other.machine == sessions.machine
        };
        self.sessions.retain(|other| !same(other) && other.until > now);
        if sessions.running > 0 && sessions.until > now {
            self.sessions.push(sessions);
        }
    }

    /// Notes which machine has sent an account's refresh token; `None`: none has.
    pub fn note_sent(&mut self, account: &AccountId, sent: Option<Sent>) {
        self.sent.retain(|other| other.account != *account);
        self.sent.extend(sent);
    }
}

impl UsageCache {
    /// Returns how many sessions other machines run with an account. `now`: Unix seconds.
    pub fn sessions_elsewhere(&self, id: &AccountId, now: i64) -> usize {
        let sessions = self.sharing.iter().flat_map(|sharing| &sharing.sessions);
        let counted = sessions.filter(|sessions| sessions.account == *id && sessions.until > now);
        counted.map(|sessions| usize::try_from(sessions.running).unwrap_or(usize::MAX)).sum()
    }

    /// Returns the machine that has sent an account's refresh token and has not told the answer in time. `now`: Unix
    /// seconds.
    pub fn sent_by(&self, id: &AccountId, now: i64) -> Option<&str> {
        let sent = self.sharing.iter().flat_map(|sharing| &sharing.sent);
        let mut sent = sent.filter(|sent| sent.account == *id && sent.until <= now);
        sent.next().map(|sent| sent.machine.as_str())
    }

    /// What is known of the other machines, to be changed.
    pub fn sharing_mut(&mut self) -> &mut Sharing {
        self.sharing.get_or_insert_default()
    }

    /// Returns whether it is time to ask the database of a shared pool. `now`: Unix seconds.
    pub fn sync_is_due(&self, now: i64) -> bool {
        self.sharing.as_ref().is_none_or(|sharing| sharing.is_due(now))
    }

    /// Returns whether this machine asks the service for usage by itself. In a shared pool one machine asks for all, and
    /// only the database knows which one: runners write nothing there, and without it no machine can tell. `now`: Unix
    /// seconds.
    pub fn may_ask(&self, shared: Option<Role>, now: i64) -> bool {
        match shared {
            None => true,
            Some(Role::Member) => !self.database_is_down(now),
            Some(Role::Runner) => false,
        }
    }

    /// Returns whether the database of a shared pool did not answer lately. `now`: Unix seconds.
    pub fn database_is_down(&self, now: i64) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.is_down(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    #[test]
    fn sessions_of_other_machines_count_until_their_time_is_over() {
        let id = AccountId::of_chatgpt("a", "w");
        let mut cache = UsageCache::default();
        let on = |machine: &str, running, until| SessionsElsewhere {
            account: id.clone(),
            machine: machine.to_owned(),
            running,
            until,
        };
        cache.sharing_mut().note_sessions(on("one", 2, NOW + 10), NOW);
        cache.sharing_mut().note_sessions(on("two", 3, NOW + 20), NOW);
        assert_eq!(cache.sessions_elsewhere(&id, NOW), 5);
        assert_eq!(cache.sessions_elsewhere(&id, NOW + 10), 3);
        cache.sharing_mut().note_sessions(on("two", 1, NOW + 20), NOW);
        assert_eq!(cache.sessions_elsewhere(&id, NOW), 3);
        cache.sharing_mut().note_sessions(on("one", 0, NOW), NOW);
        assert_eq!(cache.sessions_elsewhere(&id, NOW), 1);
        assert_eq!(cache.sessions_elsewhere(&AccountId::of_chatgpt("b", "w"), NOW), 0);
    }

    #[test]
    fn machine_that_sent_a_token_is_named_once_its_time_is_over() {
        let id = AccountId::of_chatgpt("a", "w");
        let mut cache = UsageCache::default();
        let sent =
            Sent { account: id.clone(), machine: "lab".to_owned(), token: "x".to_owned(), until: NOW + 90 };
        cache.sharing_mut().note_sent(&id, Some(sent));
        assert_eq!((cache.sent_by(&id, NOW), cache.sent_by(&id, NOW + 90)), (None, Some("lab")));
        cache.sharing_mut().note_sent(&id, None);
        assert_eq!(cache.sent_by(&id, NOW + 90), None);
    }

    #[test]
    fn database_that_did_not_answer_is_waited_for_by_nothing_until_it_is_asked_again() {
        let mut cache = UsageCache::default();
        assert!(cache.sync_is_due(NOW) && !cache.database_is_down(NOW));
        cache.sharing_mut().tried(Some("it is down".to_owned()), NOW);
        assert!(!cache.sync_is_due(NOW + 59) && cache.sync_is_due(NOW + 60) && cache.sync_is_due(NOW - 1));
        assert!(cache.database_is_down(NOW + 299) && !cache.database_is_down(NOW + 300));
        let may_ask =
            |now| [None, Some(Role::Member), Some(Role::Runner)].map(|role| cache.may_ask(role, now));
        assert_eq!(may_ask(NOW + 299), [true, false, false]);
        assert_eq!(may_ask(NOW + 300), [true, true, false]);
        cache.sharing_mut().tried(None, NOW + 60);
        assert!(!cache.database_is_down(NOW + 61));
        assert_eq!(cache.sharing_mut().synced_at, Some(NOW + 60));
    }
}
