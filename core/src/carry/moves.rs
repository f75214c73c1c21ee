//! The last moves of interfaces and of `exec`, why one was not made, and who waits for a reset: `moves.json`, for people.
//! It is a cache: one that is not understood begins anew.

use serde::{Deserialize, Serialize};

use crate::account::AccountId;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::homes::CodexHome;
use crate::journal::{self, Entry, Event};
use crate::paths::PoolPaths;
use crate::process::ProcessId;
use crate::store::path_key;
use crate::time::human_duration;

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
    /// The account that goes on. `None`: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<AccountId>,
    /// The threads that were at the limit.
    #[serde(default)]
    pub threads: Vec<String>,
    /// Why it was not made. `None`: it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When the account resets that the reason ends with, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<i64>,
    /// Whether the threads wait for that reset, in an open interface: they go on by themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// How long it took, from the look at the server to its successor, milliseconds.
    #[serde(default)]
    pub took_ms: i64,
}

impl MoveRecord {
    /// One of an `exec` at its account's limit: it goes on with `Ok`, or not at all, for the reason in `Err`.
    pub fn of_exec(
        home: &CodexHome,
        from: AccountId,
        thread: &str,
        to: Result<AccountId, String>,
        now: i64,
    ) -> MoveRecord {
        let (to, why) = match to {
            Ok(to) => (Some(to), None),
            Err(why) => (None, Some(why)),
        };
        let home = path_key(&home.auth_json());
        let threads = vec![thread.to_owned()];
        MoveRecord { at: now, home, from, to, threads, why, resets_at: None, waits: false, took_ms: 0 }
    }

    /// Returns why it was not made, with the time that is left until the reset. `None`: it was. `now`: Unix seconds.
    pub fn explain(&self, now: i64) -> Option<String> {
        let why = self.why.as_ref()?;
        Some(match self.resets_at.filter(|at| *at > now) {
            Some(at) => format!("{why}, in {}", human_duration(at - now)),
            None => why.clone(),
        })
    }
}

/// An `exec` that waits for a reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its process, as in the ledger. Once it has ended, the wait is over.
    pub process: String,
    /// The `auth.json` of the home that it was in.
    pub home: String,
    /// The account that was at its limit.
    pub account: AccountId,
    /// The thread that goes on then.
    pub thread: String,
    /// Since when, Unix seconds.
    pub since: i64,
    /// Until when at most, Unix seconds.
    pub until: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Moves {
    moves: Vec<MoveRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Waiting>,
}

impl Moves {
    fn read(paths: &PoolPaths) -> Moves {
        let read = || serde_json::from_slice(&files::read_small(&paths.moves(), MAX).ok()??).ok();
        read().unwrap_or_default()
    }

    fn write(mut self, _lock: &PoolLock, paths: &PoolPaths) -> Result<()> {
        self.moves.truncate(MOST);
        self.waiting.truncate(MOST);
        let bytes =
            serde_json::to_vec(&self).map_err(|e| Error::new(format!("cannot write the last moves: {e}")))?;
        let path = paths.moves();
        files::write_whole(&path, &bytes, Durability::Fast).map_err(|e| Error::io("write", &path, &e))
    }
}

/// Returns the last moves, the newest first.
pub fn last(paths: &PoolPaths) -> Vec<MoveRecord> {
    Moves::read(paths).moves
}

/// Returns who was noted as waiting, whether or not the process still runs.
pub fn waiting(paths: &PoolPaths) -> Vec<Waiting> {
    Moves::read(paths).waiting
}

/// Notes that a process waits.
///
/// # Errors
/// What the system says.
pub fn begin_wait(lock: &PoolLock, paths: &PoolPaths, waiting: Waiting) -> Result<()> {
    let mut moves = Moves::read(paths);
    moves.waiting.retain(|other| other.process != waiting.process);
    moves.waiting.insert(0, waiting);
    moves.write(lock, paths)
}

/// Notes that a process does not wait any more.
///
/// # Errors
/// What the system says.
pub fn end_wait(lock: &PoolLock, paths: &PoolPaths, process: &ProcessId) -> Result<()> {
    let (mut moves, process) = (Moves::read(paths), process.to_string());
    if !moves.waiting.iter().any(|waiting| waiting.process == process) {
        return Ok(());
    }
    moves.waiting.retain(|waiting| waiting.process != process);
    moves.write(lock, paths)
}

/// Adds a move. One that was not made for the same reason as the last one of its home is that one, with the newer reset.
/// A wait in that home is over, or goes on as this one.
///
/// # Errors
/// What the system says.
pub fn add(lock: &PoolLock, paths: &PoolPaths, mut record: MoveRecord) -> Result<()> {
    let mut all = Moves::read(paths);
    let moves = &mut all.moves;
    let before = moves.iter().position(|other| other.home == record.home);
    if let Some(before) = before.map(|index| &mut moves[index])
        && record.why.is_some()
        && (&before.why, &before.threads, before.waits) == (&record.why, &record.threads, record.waits)
    {
        if before.resets_at == record.resets_at {
            return Ok(());
        }
        before.resets_at = record.resets_at;
        return all.write(lock, paths);
    }
    let waited = moves.iter().position(|other| other.waits && other.home == record.home);
    let waited = waited.map(|index| moves.remove(index));
    if record.waits {
        let since = waited.filter(|waited| waited.threads == record.threads).map(|waited| waited.at);
        record.at = since.unwrap_or(record.at);
    } else {
        // Whatever is wrong with the log, nothing depends on it.
        let _ = journal::append(paths, Some(lock), &[log_entry(&record)]);
    }
    moves.insert(0, record);
    all.write(lock, paths)
}

fn log_entry(record: &MoveRecord) -> Entry {
    let entry = match (&record.to, &record.why) {
        (Some(to), None) => Entry::new(record.at, Event::Carried, Some(to)).from(Some(&record.from)),
        _ => {
            let why = record.explain(record.at);
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
            resets_at: None,
            waits: false,
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
        for (at, resets_at) in [(32, 332), (33, 333)] {
            let why = Some("no account can; bob resets first");
            add(&lock, &paths, MoveRecord { resets_at: Some(resets_at), ..record(at, why) }).unwrap();
        }
        let [newest, before] = [&last(&paths)[0], &last(&paths)[1]];
        assert_eq!((newest.at, newest.resets_at, before.at), (32, Some(333), 30), "it is said once");
        let says = |now| newest.explain(now).unwrap();
        assert_eq!(says(213), "no account can; bob resets first, in 2m");
        assert_eq!(says(333), "no account can; bob resets first", "that was");
        let logged = journal::read(&paths, 0).into_iter().filter_map(|entry| entry.why);
        let of_reset: Vec<String> = logged.filter(|why| why.contains("resets")).collect();
        assert_eq!(of_reset, ["its work was not carried on: no account can; bob resets first, in 5m"]);
        std::fs::write(paths.moves(), "{").unwrap();
        assert_eq!(last(&paths), []);
    }

    #[test]
    fn wait_of_an_interface_is_one_record_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let home = CodexHome::main(dir.path().join("codex"));
        let alice = AccountId::of_chatgpt("alice", "w");
        let of = |at, to: std::result::Result<AccountId, &str>| {
            MoveRecord::of_exec(&home, alice.clone(), "t", to.map_err(str::to_owned), at)
        };
        let wait = |at, why, until| MoveRecord { waits: true, resets_at: Some(until), ..of(at, Err(why)) };
        for (at, why, until) in [(1, "alice first", 60), (2, "alice first", 61), (3, "bob first", 50)] {
            add(&lock, &paths, wait(at, why, until)).unwrap();
        }
        let waiting = last(&paths);
        assert_eq!((waiting.len(), waiting[0].at, waiting[0].resets_at), (1, 1, Some(50)), "{waiting:?}");
        let logged = || journal::read(&paths, 0).iter().map(|entry| entry.event).collect::<Vec<_>>();
        assert_eq!(logged(), [], "nothing was refused");
        add(&lock, &paths, of(51, Err("bob first"))).unwrap();
        assert_eq!(last(&paths), [of(51, Err("bob first"))], "it was in vain");
        assert_eq!(logged(), [Event::Refusal]);
        add(&lock, &paths, wait(52, "alice first", 60)).unwrap();
        add(&lock, &paths, of(61, Ok(alice.clone()))).unwrap();
        assert_eq!(last(&paths), [of(61, Ok(alice.clone())), of(51, Err("bob first"))]);
        assert_eq!(logged(), [Event::Refusal, Event::Carried]);
    }

    #[test]
    fn who_waits_is_noted_until_the_wait_ends() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let me = ProcessId::of_self().unwrap();
        let wait = |process: String, until| Waiting {
            process,
            home: "/h/auth.json".to_owned(),
            account: AccountId::of_chatgpt("alice", "w"),
            thread: "t".to_owned(),
            since: 1,
            until,
        };
        for (process, until) in [("0-0-1-1".to_owned(), 5), (me.to_string(), 6), (me.to_string(), 7)] {
            begin_wait(&lock, &paths, wait(process, until)).unwrap();
        }
        let home = CodexHome::main(dir.path().join("codex"));
        let to = Err("no".to_owned());
        let record = MoveRecord::of_exec(&home, AccountId::of_chatgpt("alice", "w"), "t", to, 3);
        add(&lock, &paths, record.clone()).unwrap();
        assert_eq!(waiting(&paths).iter().map(|w| w.until).collect::<Vec<_>>(), [7, 5]);
        end_wait(&lock, &paths, &me).unwrap();
        assert_eq!((waiting(&paths).len(), waiting(&paths)[0].until, last(&paths)), (1, 5, vec![record]));
    }
}
