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
        let record = ThreadRecord::read(paths, &thread.id).ok().flatten();
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
/// Why that cannot be recorded.
pub fn note(
    lock: &PoolLock,
    paths: &PoolPaths,
    thread: &ThreadMeta,
    account: &AccountId,
    now: i64,
) -> Result<(), String> {
    let record = match ThreadRecord::read(paths, &thread.id).ok().flatten() {
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
