//! What a thread needs to go on after its last turn, by its session log and its record: another account, or another
//! history. Writes records, and nothing else.

use std::path::Path;

use super::Loaded;
use crate::account::AccountId;
use crate::carry::{self, hand_over};
use crate::codex::rollout::{EndedByLimit, LastTurn, TurnState};
use crate::codex::threads::ThreadMeta;
use crate::env::{clock, clock_ms};
use crate::files::PoolLock;
use crate::paths::PoolPaths;
use crate::thread_record::{LimitTurn, ThreadRecord};

/// Within which a thread that stands still is taken back by its window after a restart, milliseconds.
const TAKEN_BACK_MS: i64 = 30_000;
/// A thread whose history was put right a moment ago, and is refused again, is left alone, seconds.
const REPAIRED: i64 = 60;

/// When nothing has come of a message, it was not left, seconds.
const UNHEARD: i64 = 3;

/// What a thread that stands still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Another account: it has reached the limit of its own.
    Account,
    /// A history that its account can use.
    History,
}

/// Returns what a loaded thread needs to go on, if its last turn ended for the want of it.
pub fn need(thread: &Loaded, turn: &LastTurn, main_home: &Path) -> Option<Need> {
    if turn.state == TurnState::Foreign {
        return Some(Need::History);
    }
    if !matches!(turn.state, TurnState::Limit | TurnState::LimitInWords) {
        return None;
    }
    let service = carry::is_service(main_home, thread.meta.model_provider.as_deref());
    (turn.ended_by_limit(service) == EndedByLimit::Yes).then_some(Need::Account)
}

/// Notes that a thread is to go on from this turn. `account`: whose turn it was.
///
/// # Errors
/// Why it cannot be noted.
pub fn note_need(
    lock: &PoolLock,
    paths: &PoolPaths,
    thread: &ThreadMeta,
    turn: &LastTurn,
    account: &AccountId,
) -> std::result::Result<(), String> {
    hand_over::note(lock, paths, thread, account, clock())?;
    let read = ThreadRecord::read(paths, &thread.id).map_err(|e| e.to_string())?;
    let Some(mut record) = read else { return Ok(()) };
    record.limit = Some(LimitTurn { turn: turn.name(), account: account.clone(), at_ms: clock_ms() });
    record.write(lock, paths, &thread.id).map_err(|e| e.to_string())
}

/// Returns whether a thread stands still at this turn until it is told to go on: its turn was noted, and the server has
/// had the thread since then, or has taken it back right after. `account`: of the server, for which it stands still. A
/// thread that is opened again later is the user's own affair.
pub fn stands_still(paths: &PoolPaths, thread: &Loaded, turn: &LastTurn, account: &AccountId) -> bool {
    let record = ThreadRecord::find(paths, &thread.meta.id);
    let limit = record.as_ref().and_then(|record| record.is_to_go_on(&turn.name()));
    !thread.meta.subagent
        && limit.is_some_and(|limit| {
            limit.account == *account
                && (thread.own_turn().is_some() || thread.loaded_ms() - limit.at_ms < TAKEN_BACK_MS)
        })
}

/// Returns whether a thread is still to be told to go on from this turn, whoever has it.
pub(super) fn is_to_be_told(paths: &PoolPaths, thread: &ThreadMeta, turn: &LastTurn) -> bool {
    message(paths, thread, turn, false) != Message::None
}

/// Whether a thread gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// It does.
    Now,
    /// It may a moment later.
    Later,
    /// It needs none.
    None,
}

/// Returns whether a thread is to be told to go on from this turn. `again`: a message that was noted may not have been
/// left.
pub(super) fn message(paths: &PoolPaths, thread: &ThreadMeta, turn: &LastTurn, again: bool) -> Message {
    if thread.subagent {
        return Message::None;
    }
    match ThreadRecord::read(paths, &thread.id) {
        Err(_) => Message::Later,
        Ok(None) => Message::None,
        Ok(Some(record)) if record.is_to_go_on(&turn.name()).is_some() => Message::Now,
        Ok(Some(record)) => match record.queued.filter(|queued| again && queued.turn == turn.name()) {
            Some(queued) if clock().saturating_sub(queued.at) < UNHEARD => Message::Later,
            Some(_) => Message::Now,
            None => Message::None,
        },
    }
}

/// Returns whether a message answers this turn already.
pub fn was_answered(paths: &PoolPaths, thread: &ThreadMeta, turn: &LastTurn) -> bool {
    let queued = ThreadRecord::find(paths, &thread.id).and_then(|record| record.queued);
    queued.is_some_and(|queued| queued.turn == turn.name())
}

/// Returns whether the history of a thread was put right just before this turn, in vain.
pub fn repaired_in_vain(paths: &PoolPaths, thread: &ThreadMeta, turn: &LastTurn) -> bool {
    let queued = ThreadRecord::find(paths, &thread.id).and_then(|record| record.queued);
    queued.is_some_and(|queued| (0..REPAIRED).contains(&(turn.at / 1_000_000_000 - queued.at)))
}
