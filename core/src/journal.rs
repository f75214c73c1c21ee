//! The log of what the pool did: launches and why they got their account, switches, renewals, adoptions, carried-on
//! work, refusals, and logins that ended. One line each, appended with one write and without a lock, to a file that is
//! put aside when it is full. It holds no secret. Accounts are named by their ids; reasons, which are for people, may name a
//! label.

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::account::AccountId;
use crate::files::{self, PoolLock};
use crate::paths::PoolPaths;
use crate::text;

/// A file of this size is full, bytes. There are two.
const FULL: u64 = 512 << 10;
/// The size of the largest file that is read, bytes: without the lock, a full one still grows.
const LARGEST: u64 = 8 << 20;
/// A line is no longer than this, bytes. So much is appended at once, whole.
const LONGEST_LINE: usize = 2_048;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Codex, or another program, was started on an account.
    Launch,
    /// A home changed hands.
    Switch,
    /// An account got new tokens, or did not.
    Renewal,
    /// A login was taken into the pool.
    Adoption,
    /// The account goes on with work of another one, which reached its limit.
    Carried,
    /// An account reached its limit.
    Limit,
    /// A launch failed, or the service refuses an account.
    Refusal,
    /// An account needs a new login.
    LoginEnded,
    /// Another version of codex-pool wrote it.
    #[serde(other)]
    Other,
}

impl Event {
    /// Returns the name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Launch => "launch",
            Event::Switch => "switch",
            Event::Renewal => "renewal",
            Event::Adoption => "adoption",
            Event::Carried => "carried",
            Event::Limit => "limit",
            Event::Refusal => "refusal",
            Event::LoginEnded => "login_ended",
            Event::Other => "other",
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unix seconds.
    pub at: i64,
    /// What happened.
    pub event: Event,
    /// The account that it happened to, or that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The account before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<AccountId>,
    /// Why, for people. Labels in it are those of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What a launch runs: `codex exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The folder of a launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Whether a launch is in a home of the account's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_home: bool,
    /// The thread of carried-on work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The process of a launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

impl Entry {
    /// Returns an entry without details. `at`: Unix seconds.
    pub fn new(at: i64, event: Event, account: Option<&AccountId>) -> Entry {
        Entry {
            at,
            event,
            account: account.cloned(),
            from: None,
            why: None,
            command: None,
            folder: None,
            own_home: false,
            thread: None,
            pid: None,
        }
    }

    /// Adds the reason, without what looks like a secret.
    #[must_use]
    pub fn why(mut self, why: &str) -> Entry {
        self.why = Some(text::clean(why, &[])).filter(|why| !why.is_empty());
        self
    }

    /// Adds the account before.
    #[must_use]
    pub fn from(mut self, account: Option<&AccountId>) -> Entry {
        self.from = account.cloned();
        self
    }

    fn line(&self) -> Option<Vec<u8>> {
        let mut line = serde_json::to_vec(self).ok()?;
        if line.len() >= LONGEST_LINE {
            let short = Entry { folder: None, why: None, ..self.clone() };
            line = serde_json::to_vec(&short).ok()?;
        }
        line.push(b'\n');
        Some(line)
    }
}

/// Appends entries. With the lock, a full file is put aside first.
///
/// # Errors
/// What the system says. There is nothing to repair: what was logged before is still there.
pub fn append(paths: &PoolPaths, lock: Option<&PoolLock>, entries: &[Entry]) -> io::Result<()> {
    let lines: Vec<u8> = entries.iter().filter_map(Entry::line).flatten().collect();
    if lines.is_empty() {
        return Ok(());
    }
    let path = paths.log();
    let mut file = files::open_to_append(&path)?;
    if lock.is_some() && file.metadata()?.len() >= FULL {
        // A writer that has the file open goes on in the one that is put aside.
        std::fs::rename(&path, paths.older_log())?;
        file = files::open_to_append(&path)?;
    }
    let written = file.write(&lines)?;
    if written < lines.len() {
        // A full disk. The next line must not become part of this one.
        let _ = file.write(b"\n");
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// Returns the entries since a time (Unix seconds), the oldest first. Lines that cannot be read are left out.
pub fn read(paths: &PoolPaths, since: i64) -> Vec<Entry> {
    let mut entries = read_file(&paths.older_log(), since);
    entries.extend(read_file(&paths.log(), since));
    // Two processes may have written in another order than they began.
    entries.sort_by_key(|entry| entry.at);
    entries
}

fn read_file(path: &Path, since: i64) -> Vec<Entry> {
    let bytes = files::read_small(path, LARGEST).ok().flatten().unwrap_or_default();
    let entries = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    entries.filter(|entry: &Entry| entry.at >= since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn pool() -> (tempfile::TempDir, PoolPaths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().to_owned());
        (dir, paths)
    }

    #[test]
    fn entries_come_back_in_order_and_damaged_lines_do_not() {
        let (_dir, paths) = pool();
        let id = AccountId::of_api_key("a");
        let entry = |at| Entry::new(at, Event::Launch, Some(&id)).why("room 70 %");
        append(&paths, None, &[entry(20), entry(30)]).unwrap();
        let mut text = fs::read(paths.log()).unwrap();
        text.extend(b"{\"at\":5,\n\xff\n{\"at\":40,\"event\":\"of the future\",\"new\":1}\n");
        fs::write(paths.log(), text).unwrap();
        append(&paths, None, &[entry(10)]).unwrap();
        let all = read(&paths, 0);
        assert_eq!(all.iter().map(|e| e.at).collect::<Vec<_>>(), [10, 20, 30, 40]);
        assert_eq!((&all[1], all[3].event), (&entry(20), Event::Other));
        assert_eq!(read(&paths, 30).len(), 2);
        assert_eq!(fs::metadata(paths.log()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn log_is_bounded_and_its_older_half_stays_readable() {
        let (_dir, paths) = pool();
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let long = "x ".repeat(60);
        for at in 0..12_000 {
            append(&paths, Some(&lock), &[Entry::new(at, Event::Refusal, None).why(&long)]).unwrap();
        }
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(size(&paths.log()) <= FULL + 4_096 && size(&paths.older_log()) <= FULL + 4_096);
        let all = read(&paths, 0);
        assert_eq!(all.last().unwrap().at, 11_999);
        assert!(all.len() as u64 > FULL / 200, "{}", all.len());
        assert!(all.windows(2).all(|pair| pair[0].at + 1 == pair[1].at), "no gap");
    }

    #[test]
    fn lines_are_short_and_without_what_looks_like_a_secret() {
        let (_dir, paths) = pool();
        let mut entry = Entry::new(1, Event::Launch, None).why(&format!("token {}", "a".repeat(60)));
        entry.folder = Some("/x".repeat(4_000));
        append(&paths, None, &[entry.clone(), Entry { folder: Some("/w".into()), ..entry }]).unwrap();
        let text = fs::read_to_string(paths.log()).unwrap();
        assert!(text.lines().all(|line| line.len() < LONGEST_LINE));
        assert!(!text.contains("aaaa") && text.contains("token …") && text.contains("/w"), "{text}");
    }

    #[test]
    fn writers_at_once_keep_their_lines_whole() {
        let (_dir, paths) = pool();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let paths = &paths;
                scope.spawn(move || {
                    for n in 0..200 {
                        append(paths, None, &[Entry::new(writer * 1_000 + n, Event::Launch, None)]).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&paths, 0).len(), 1_600);
    }
}
