//! The last moves of open interfaces, and why one was not made: `moves.json`, for people. It is a cache: one that is not
//! understood begins anew.

use serde::{Deserialize, Serialize};

use crate::account::AccountId;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::journal::{self, Entry, Event};
use crate::paths::PoolPaths;

/// How many are kept.
const MOST: usize = 20;
const MAX: u64 = 1 << 20;

/// A move, or one that was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRecord {
    /// When it ended, Unix seconds.
    pub at: i64,
    /// The `auth.json` of the home (see [`crate::store::path_key`]).
    pub home: String,
    /// The account that was at its limit.
    pub from: AccountId,
    /// The account that goes on. `None`: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<AccountId>,
    /// The threads that were at the limit.
    #[serde(default)]
    pub threads: Vec<String>,
    /// Why it was not made. `None`: it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How long it took, from the look at the server to its successor, milliseconds.
    #[serde(default)]
    pub took_ms: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Moves {
    moves: Vec<MoveRecord>,
}

/// Returns the last moves, the newest first.
pub fn last(paths: &PoolPaths) -> Vec<MoveRecord> {
    let read = || serde_json::from_slice::<Moves>(&files::read_small(&paths.moves(), MAX).ok()??).ok();
    read().unwrap_or_default().moves
}

/// Adds a move. One that was not made for the same reason as the last one of its home is that one.
///
/// # Errors
/// What the system says.
pub fn add(lock: &PoolLock, paths: &PoolPaths, record: MoveRecord) -> Result<()> {
    let mut moves = last(paths);
    let before = moves.iter().position(|other| other.home == record.home);
    if let Some(before) = before
        && record.why.is_some()
        && (&moves[before].why, &moves[before].threads) == (&record.why, &record.threads)
    {
        return Ok(());
    }
    // Whatever is wrong with the log, nothing depends on it.
    let _ = journal::append(paths, Some(lock), &[log_entry(&record)]);
    moves.insert(0, record);
    moves.truncate(MOST);
    let bytes = serde_json::to_vec(&Moves { moves })
        .map_err(|e| Error::new(format!("cannot write the last moves: {e}")))?;
    let path = paths.moves();
    files::write_whole(&path, &bytes, Durability::Fast).map_err(|e| Error::io("write", &path, &e))
}

fn log_entry(record: &MoveRecord) -> Entry {
    let entry = match (&record.to, &record.why) {
        (Some(to), None) => Entry::new(record.at, Event::Carried, Some(to)).from(Some(&record.from)),
        (_, why) => {
            let why = format!("its work was not carried on: {}", why.as_deref().unwrap_or("no account can"));
            Entry::new(record.at, Event::Refusal, Some(&record.from)).why(&why)
        }
    };
    Entry { thread: record.threads.first().cloned(), ..entry }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn last_moves_are_kept_and_a_reason_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let record = |at, why: Option<&str>| MoveRecord {
            at,
            home: "/h/auth.json".to_owned(),
            from: AccountId::of_chatgpt("alice", "w"),
            to: None,
            threads: vec!["t".to_owned()],
            why: why.map(str::to_owned),
            took_ms: 0,
        };
        assert_eq!(last(&paths), []);
        for at in 0..30 {
            add(&lock, &paths, record(at, None)).unwrap();
        }
        assert_eq!((last(&paths).len(), last(&paths)[0].at), (MOST, 29));
        for at in [30, 31] {
            add(&lock, &paths, record(at, Some("no"))).unwrap();
        }
        assert_eq!((last(&paths)[0].at, last(&paths)[1].at), (30, 29));
        std::fs::write(paths.moves(), "{").unwrap();
        assert_eq!(last(&paths), []);
    }
}
