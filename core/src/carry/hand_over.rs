//! Handing a thread over to another account: what in its history is bound to the one before is taken out, or the service
//! would refuse it, and the pool notes who has the thread now.

use std::path::Path;

use crate::account::AccountId;
use crate::codex::rollout::{Blanked, Quiet, Taken, TurnState, WriterLock, blank, last_turn};
use crate::codex::threads::{self, ThreadMeta};
use crate::error::os_text;
use crate::files;
use crate::files::PoolLock;
use crate::paths::PoolPaths;
use crate::thread_record::ThreadRecord;

/// How long a chain of forks may be.
const MOST_FORKS: usize = 16;

/// Whether a process may be in the middle of a turn of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// It may: a last turn without an end is in flight.
    MayRun,
    /// None is: the process that had the thread was seen to end.
    CutOff,
}

/// Takes out of a thread's history what is bound to another account than this one, also where it is read in the log of
/// the thread that it is a fork of.
///
/// # Errors
/// Why the history stays as it is.
pub fn fit(
    paths: &PoolPaths,
    codex_home: &Path,
    thread: &ThreadMeta,
    account: &AccountId,
    turns: Turns,
) -> Result<Blanked, String> {
    let blanked = blank_one(paths, codex_home, thread, turns)?;
    let mut origin = thread.forked_from.clone();
    for _ in 0..MOST_FORKS {
        let Some(thread) = origin.and_then(|id| threads::by_id(codex_home, &id)) else { break };
        let record = ThreadRecord::find(paths, &thread.id);
        if record.is_none_or(|record| record.account != *account) {
            blank_one(paths, codex_home, &thread, Turns::MayRun)?;
        }
        origin = thread.forked_from;
    }
    Ok(blanked)
}

fn blank_one(
    paths: &PoolPaths,
    codex_home: &Path,
    thread: &ThreadMeta,
    turns: Turns,
) -> Result<Blanked, String> {
    let held = match WriterLock::take(codex_home, &thread.id).map_err(|e| os_text(&e))? {
        Taken::Held(lock) => Some(lock),
        Taken::InUse => return Err("it is open in a running Codex".to_owned()),
        Taken::NoLocks => None,
    };
    let quiet = match &held {
        _ if turns == Turns::CutOff => Quiet::Stopped,
        Some(lock) => Quiet::Locked(lock),
        None => {
            let turn = files::open(&thread.path).and_then(|log| last_turn(&log)).map_err(|e| os_text(&e))?;
            if turn.is_some_and(|turn| turn.state == TurnState::InFlight) {
                return Err("it may be open in a running Codex".to_owned());
            }
            Quiet::Stopped
        }
    };
    blank(paths, &thread.id, &thread.path, quiet).map_err(|e| e.to_string())
}

/// Records that this account has the thread.
///
/// # Errors
/// Why that cannot be recorded: the record that is there may be a later version's.
pub fn note(
    lock: &PoolLock,
    paths: &PoolPaths,
    thread: &ThreadMeta,
    account: &AccountId,
    now: i64,
) -> Result<(), String> {
    let record = match ThreadRecord::read(paths, &thread.id).map_err(|e| e.to_string())? {
        Some(record) if record.account == *account => return Ok(()),
        Some(record) => record.carried_to(account.clone(), now),
        None => {
            let creator = match (&thread.creator_user_id, &thread.creator_account_id) {
                (Some(user), Some(space)) => Some(AccountId::of_chatgpt(user, space)),
                _ => None,
            };
            let mut record = ThreadRecord::new(account.clone(), thread.path.clone(), now);
            record.carried_from = creator.filter(|creator| creator != account);
            record
        }
    };
    record.write(lock, paths, &thread.id).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn record_of_a_later_version_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let id = "01a2148a-1509-7203-9900-6a00d5afb701";
        let path = dir.path().join(format!("rollout-2026-11-25T21-08-43-{id}.jsonl"));
        let meta = format!(r#"{{"type":"session_meta","payload":{{"id":"{id}","cwd":"/"}}}}"#);
        std::fs::write(&path, meta + "\n").unwrap();
        let thread = threads::of_log(&path).unwrap();
        let [alice, bob] = ["alice", "bob"].map(|name| AccountId::of_chatgpt(name, "space"));
        note(&lock, &paths, &thread, &alice, 5).unwrap();
        note(&lock, &paths, &thread, &bob, 6).unwrap();
        let record = ThreadRecord::find(&paths, id).unwrap();
        assert_eq!((record.account, record.carried_from, record.since), (bob, Some(alice.clone()), 6));
        let file = paths.threads().join(id);
        let later = std::fs::read_to_string(&file).unwrap().replace("\"version\":1", "\"version\":2");
        std::fs::write(&file, &later).unwrap();
        let why = note(&lock, &paths, &thread, &alice, 7).unwrap_err();
        assert!(why.contains("later codex-pool"), "{why}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), later);
        assert_eq!(ThreadRecord::find(&paths, id), None);
    }
}
