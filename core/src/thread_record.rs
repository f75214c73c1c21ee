//! Who ran a thread last: `threads/<id>` in the pool, one small durable file per thread. The log names the account that
//! created the thread and no other; a thread that was carried on belongs to the one that went on with it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::read_dir;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::account::AccountId;
use crate::codex::argv::is_uuid;
use crate::codex::rollout::log_of_blanked;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;

/// The version of the file that is written here.
const VERSION: u32 = 1;
/// No record is longer, bytes.
const MAX: u64 = 64 << 10;
/// Logs lie in folders of years, months and days.
const DEPTH: usize = 3;

/// What is known of a thread beyond its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRecord {
    version: u32,
    /// The account that ran it last: the one whose history it holds.
    pub account: AccountId,
    /// Since when, Unix seconds.
    pub since: i64,
    /// The thread's log, by a path through the main home.
    pub log: PathBuf,
    /// The account that it was carried on from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_from: Option<AccountId>,
    /// The turn that ended with the limit while its interface was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitTurn>,
    /// A message that was queued to it, so that it is queued once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<Queued>,
    /// What a later version has added.
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

/// A turn that ended with the limit, and that another account is to go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitTurn {
    /// The turn, named as in [`Queued::turn`].
    pub turn: String,
    /// Whose limit it was.
    pub account: AccountId,
    /// When it was last seen that the turn waits, Unix milliseconds.
    pub at_ms: i64,
}

/// A "continue" that was queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The turn that it answers, by Codex's id, or by the time of its end where it has none.
    pub turn: String,
    /// When, Unix seconds.
    pub at: i64,
}

impl ThreadRecord {
    /// A thread that this account runs from now on.
    pub fn new(account: AccountId, log: PathBuf, now: i64) -> ThreadRecord {
        ThreadRecord {
            version: VERSION,
            account,
            since: now,
            log,
            carried_from: None,
            limit: None,
            queued: None,
            more: serde_json::Map::new(),
        }
    }

    /// The same thread, which another account goes on with.
    #[must_use]
    pub fn carried_to(self, account: AccountId, now: i64) -> ThreadRecord {
        ThreadRecord { carried_from: Some(self.account), account, since: now, queued: None, ..self }
    }

    /// Returns what is noted of this turn, if somebody is to go on from it and has not been told yet.
    pub fn is_to_go_on(&self, turn: &str) -> Option<&LimitTurn> {
        let untold = self.queued.as_ref().is_none_or(|queued| queued.turn != turn);
        self.limit.as_ref().filter(|limit| untold && limit.turn == turn)
    }

    /// The record of a thread (a UUID), if there is one.
    ///
    /// # Errors
    /// It cannot be read, is not understood, or was written by a later version.
    pub fn read(paths: &PoolPaths, thread: &str) -> Result<Option<ThreadRecord>> {
        let path = path(paths, thread)?;
        let Some(bytes) = files::read_small(&path, MAX).map_err(|e| Error::io("read", &path, &e))? else {
            return Ok(None);
        };
        let wrong = |what: &str| {
            let hint = "remove it; the thread then belongs to the account that created it";
            Error::new(format!("{} {what}", path.display())).hint(hint)
        };
        let record: ThreadRecord = serde_json::from_slice(&bytes).map_err(|_| wrong("is not understood"))?;
        if record.version > VERSION {
            return Err(Error::new(format!("{} was written by a later codex-pool", path.display()))
                .hint("update with `codex-pool update`"));
        }
        Ok(Some(record))
    }

    /// The record of a thread, if there is one that is understood. For whoever changes nothing: without it, the thread
    /// belongs to the account that created it.
    pub fn find(paths: &PoolPaths, thread: &str) -> Option<ThreadRecord> {
        ThreadRecord::read(paths, thread).ok().flatten()
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// What the system says; the old record is then still there.
    pub fn write(&self, _lock: &PoolLock, paths: &PoolPaths, thread: &str) -> Result<()> {
        let path = path(paths, thread)?;
        let bytes = serde_json::to_vec(self)
            .map_err(|e| Error::new(format!("cannot write a thread's record: {e}")))?;
        let write = || {
            files::create_private_dir(&paths.threads())?;
            files::write_whole(&path, &bytes, Durability::Durable)
        };
        write().map_err(|e| Error::io("write", &path, &e))
    }
}

fn path(paths: &PoolPaths, thread: &str) -> Result<PathBuf> {
    if !is_uuid(thread) {
        return Err(Error::new(format!("{thread:?} is not the id of a thread")));
    }
    Ok(paths.threads().join(thread.to_ascii_lowercase()))
}

/// What the pool keeps of a thread that is gone.
#[derive(Debug)]
pub struct Gone {
    file: PathBuf,
    /// Where its log was.
    log: PathBuf,
}

/// Returns what the pool keeps of threads that are gone: their records, and what was blanked in their logs. A thread is
/// gone when its CODEX_HOME can be read and no log there bears its id, be it archived or compressed. This reads the
/// folders of all sessions if a log is missing, so that it needs its time, and no lock.
pub fn gone(paths: &PoolPaths) -> Vec<Gone> {
    // Threads whose log is not where it was, by the home that it was in.
    let mut missing: BTreeMap<PathBuf, Vec<(String, Gone)>> = BTreeMap::new();
    for (thread, file, log) in kept(paths) {
        if !log.exists()
            && let Some(home) = home_of(&log)
        {
            missing.entry(home.to_owned()).or_default().push((thread, Gone { file, log }));
        }
    }
    let mut gone = Vec::new();
    for (home, threads) in missing {
        let Ok(there) = threads_of(&home) else { continue };
        gone.extend(threads.into_iter().filter(|(thread, _)| !there.contains(thread)).map(|(_, gone)| gone));
    }
    gone
}

/// Removes what is kept of threads that are [`gone`], but of those that have come back. Returns how much went.
pub fn forget(_lock: &PoolLock, gone: &[Gone]) -> usize {
    gone.iter().filter(|gone| !gone.log.exists() && files::remove_file(&gone.file).is_ok()).count()
}

/// All files kept for a thread: its id, the file, and where its log was.
fn kept(paths: &PoolPaths) -> Vec<(String, PathBuf, PathBuf)> {
    let threads = |folder: &Path| {
        let entries = read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
            .filter(|(name, _)| is_uuid(name))
            .collect::<Vec<_>>()
    };
    let recorded = threads(&paths.threads()).into_iter().filter_map(|(thread, file)| {
        let log = ThreadRecord::find(paths, &thread)?.log;
        Some((thread, file, log))
    });
    let blanked = threads(&paths.blanked()).into_iter().filter_map(|(thread, file)| {
        let log = log_of_blanked(&file)?;
        Some((thread, file, log))
    });
    recorded.chain(blanked).collect()
}

/// The CODEX_HOME of a log at `sessions/YYYY/MM/DD/rollout-….jsonl`.
fn home_of(log: &Path) -> Option<&Path> {
    let sessions = log.ancestors().nth(4)?;
    (sessions.file_name() == Some(OsStr::new("sessions"))).then(|| sessions.parent())?
}

/// The ids of all threads that have a log in a CODEX_HOME.
///
/// # Errors
/// A folder cannot be read, or there is no log at all, as where a file system is not mounted: then nobody can say which
/// are gone.
fn threads_of(home: &Path) -> io::Result<HashSet<String>> {
    let sessions = home.join("sessions");
    let mut found = HashSet::new();
    add_threads(&sessions, DEPTH, &mut found)?;
    if found.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // An account's own home may have a link to the sessions of the main home, and none to its archive yet. What is just
    // being archived is seen, since the archive is read last.
    let real = sessions.canonicalize()?;
    for archived in
        [Some(home), real.parent()].into_iter().flatten().map(|home| home.join("archived_sessions"))
    {
        match archived.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            _ => add_threads(&archived, DEPTH, &mut found)?,
        }
    }
    Ok(found)
}

/// Adds the ids of the threads that have a log in a folder, and in those below it, so many levels deep.
fn add_threads(folder: &Path, depth: usize, found: &mut HashSet<String>) -> io::Result<()> {
    for entry in read_dir(folder)? {
        let entry = entry?;
        if let Some(thread) = thread_of(entry.file_name().as_bytes()) {
            found.insert(thread);
        } else if depth > 0 {
            let kind = entry.file_type()?;
            // A link that leads nowhere is an error here.
            if kind.is_dir() || kind.is_symlink() && entry.path().metadata()?.is_dir() {
                add_threads(&entry.path(), depth - 1, found)?;
            }
        }
    }
    Ok(())
}

/// The id in the name of a log, compressed or not.
fn thread_of(name: &[u8]) -> Option<String> {
    let stem = name.strip_suffix(b".zst").unwrap_or(name).strip_suffix(b".jsonl")?;
    let id = stem.get(stem.len().checked_sub(36)?..)?;
    let id = std::str::from_utf8(id).ok().filter(|id| is_uuid(id))?;
    Some(id.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::rollout::{Quiet, blank};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    const NOW: i64 = 1_795_640_000;
    const DAY: &str = "sessions/2026/11/25";

    struct Lab {
        dir: tempfile::TempDir,
        paths: PoolPaths,
    }

    impl Lab {
        fn new() -> Lab {
            let dir = tempfile::tempdir().unwrap();
            let paths = PoolPaths::new(dir.path().join("pool"));
            Lab { dir, paths }
        }

        fn lock(&self) -> PoolLock {
            PoolLock::acquire(&self.paths, Duration::ZERO).unwrap().expect("free")
        }

        /// A thread with a log, a record and something blanked.
        fn thread(&self, number: u8) -> (String, PathBuf) {
            let id = format!("01a2148a-1509-7203-9900-6a00d5afb7{number:02x}");
            let log = self.dir.path().join(DAY).join(format!("rollout-2026-11-25T21-08-43-{id}.jsonl"));
            fs::create_dir_all(log.parent().unwrap()).unwrap();
            let line = r#"{"timestamp":"2026-11-25T21:08:43Z","type":"response_item","payload":{"type":"reasoning","summary":[],"encrypted_content":"gAAAAABocWl0"}}"#;
            fs::write(&log, format!("{line}\n")).unwrap();
            blank(&self.paths, &id, &log, Quiet::Stopped).unwrap();
            ThreadRecord::new(alice(), log.clone(), NOW).write(&self.lock(), &self.paths, &id).unwrap();
            (id, log)
        }

        fn tidy(&self) -> usize {
            forget(&self.lock(), &gone(&self.paths))
        }

        fn kept(&self, id: &str) -> [bool; 2] {
            [self.paths.threads().join(id), self.paths.blanked().join(id)].map(|file| file.exists())
        }
    }

    fn alice() -> AccountId {
        AccountId::of_chatgpt("alice", "a")
    }

    fn bob() -> AccountId {
        AccountId::of_chatgpt("bob", "b")
    }

    #[test]
    fn a_thread_belongs_to_who_went_on_with_it() {
        let lab = Lab::new();
        let (id, log) = lab.thread(1);
        let mut record = ThreadRecord::read(&lab.paths, &id.to_uppercase()).unwrap().unwrap();
        assert_eq!((&record.account, record.since, &record.log), (&alice(), NOW, &log));
        record.queued = Some(Queued { turn: "t1".to_owned(), at: NOW });
        record = record.carried_to(bob(), NOW + 5);
        record.queued = Some(Queued { turn: "t2".to_owned(), at: NOW + 6 });
        record.write(&lab.lock(), &lab.paths, &id).unwrap();
        let read = ThreadRecord::read(&lab.paths, &id).unwrap().unwrap();
        assert_eq!((read.account, read.carried_from, read.since), (bob(), Some(alice()), NOW + 5));
        assert_eq!(read.queued.unwrap().turn, "t2");
        assert_eq!(fs::metadata(lab.paths.threads().join(&id)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ThreadRecord::read(&lab.paths, "01a2148a-1509-7203-9900-6a00d5afb7ff").unwrap(), None);
        assert!(ThreadRecord::read(&lab.paths, "../accounts.json").is_err());
    }

    #[test]
    fn what_later_versions_write_is_kept_or_refused() {
        let lab = Lab::new();
        let (id, _) = lab.thread(1);
        let file = lab.paths.threads().join(&id);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen('{', "{\"mood\":[1],", 1)).unwrap();
        ThreadRecord::read(&lab.paths, &id).unwrap().unwrap().write(&lab.lock(), &lab.paths, &id).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("\"mood\":[1]"));
        fs::write(&file, text.replace("\"version\":1", "\"version\":2")).unwrap();
        assert!(ThreadRecord::read(&lab.paths, &id).unwrap_err().message.contains("later codex-pool"));
        fs::write(&file, &text[..20]).unwrap();
        let error = ThreadRecord::read(&lab.paths, &id).unwrap_err();
        assert!(error.message.contains("not understood") && error.hint.is_some(), "{error:?}");
    }

    #[test]
    fn what_is_kept_goes_with_the_thread_and_not_before() {
        let lab = Lab::new();
        let threads: Vec<_> = (0..5).map(|number| lab.thread(number)).collect();
        let name = |log: &Path| log.file_name().unwrap().to_owned();
        let archived = lab.dir.path().join("archived_sessions");
        fs::create_dir(&archived).unwrap();
        fs::rename(&threads[1].1, archived.join(name(&threads[1].1))).unwrap();
        fs::rename(&threads[2].1, threads[2].1.with_extension("jsonl.zst")).unwrap();
        let other_day = lab.dir.path().join("sessions/2027/01/01");
        fs::create_dir_all(&other_day).unwrap();
        fs::rename(&threads[3].1, other_day.join(name(&threads[3].1))).unwrap();
        fs::remove_file(&threads[4].1).unwrap();
        assert_eq!(lab.tidy(), 2);
        for (at, (id, _)) in threads.iter().enumerate() {
            assert_eq!(lab.kept(id), [at < 4; 2], "{at}");
        }
        assert_eq!(lab.tidy(), 0);
    }

    #[test]
    fn thread_that_an_own_home_has_and_the_main_home_archived_is_kept() {
        let lab = Lab::new();
        let (id, log) = lab.thread(1);
        lab.thread(2);
        let own = lab.dir.path().join("own");
        fs::create_dir(&own).unwrap();
        symlink(lab.dir.path().join("sessions"), own.join("sessions")).unwrap();
        let name = log.file_name().unwrap();
        let record = ThreadRecord::new(alice(), own.join(DAY).join(name), NOW);
        record.write(&lab.lock(), &lab.paths, &id).unwrap();
        let archived = lab.dir.path().join("archived_sessions");
        fs::create_dir(&archived).unwrap();
        fs::rename(&log, archived.join(name)).unwrap();
        assert_eq!(lab.tidy(), 0);
        fs::remove_dir_all(archived).unwrap();
        assert_eq!(lab.tidy(), 2);
    }

    #[test]
    fn thread_that_comes_back_meanwhile_is_kept() {
        let lab = Lab::new();
        let (id, log) = lab.thread(1);
        lab.thread(2);
        fs::remove_file(&log).unwrap();
        let gone = gone(&lab.paths);
        assert_eq!(gone.len(), 2);
        fs::write(&log, "").unwrap();
        assert_eq!((forget(&lab.lock(), &gone), lab.kept(&id)), (0, [true; 2]));
    }

    #[test]
    fn where_nobody_can_say_all_is_kept() {
        let lab = Lab::new();
        let (id, log) = lab.thread(1);
        // As when the file system with the home is not mounted.
        let away = lab.dir.path().join("away");
        fs::rename(lab.dir.path().join("sessions"), &away).unwrap();
        assert_eq!(lab.tidy(), 0);
        // The folder on which it is mounted is empty then.
        fs::create_dir(lab.dir.path().join("sessions")).unwrap();
        assert_eq!(lab.tidy(), 0);
        assert_eq!(lab.kept(&id), [true; 2]);
        fs::remove_dir(lab.dir.path().join("sessions")).unwrap();
        fs::rename(&away, lab.dir.path().join("sessions")).unwrap();
        // Or a part of it is behind a link that leads nowhere.
        lab.thread(2);
        fs::remove_file(log).unwrap();
        for link in ["sessions/2024", "archived_sessions"].map(|name| lab.dir.path().join(name)) {
            symlink("nowhere", &link).unwrap();
            assert_eq!(lab.tidy(), 0, "{}", link.display());
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(lab.kept(&id), [true; 2]);
        // And what is not understood stays.
        fs::write(lab.paths.threads().join(&id), "{").unwrap();
        fs::write(lab.paths.blanked().join(&id), "codex-pool blanked 2\n").unwrap();
        assert_eq!(lab.tidy(), 0);
        assert_eq!(lab.kept(&id), [true; 2]);
        assert_eq!(Lab::new().tidy(), 0);
    }
}
