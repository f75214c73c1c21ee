//! The threads that a background server has loaded, and how their last turns stand. Only reads.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::codex::argv::is_uuid;
use crate::codex::background_server::BackgroundServer;
use crate::codex::rollout::{LastTurn, Reader, TurnState};
use crate::codex::threads::{self, ThreadMeta};
use crate::files;
use crate::homes::CodexHome;
use crate::process;

/// How long all logs must be quiet: a follow-up that the user has queued begins right after the limit.
const QUIET: Duration = Duration::from_millis(400);

/// A loaded thread.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What its log begins with.
    pub meta: ThreadMeta,
    reader: Reader,
    /// Size and time of the log when it was read.
    seen: Option<(u64, i64)>,
    /// It could not be read when that was last tried.
    unread: bool,
    /// When the server loaded it, Unix nanoseconds.
    since: i64,
}

impl Loaded {
    /// Returns its last turn.
    pub fn turn(&self) -> Option<&LastTurn> {
        self.reader.turn()
    }

    /// Returns its last turn, if that ended since the server has the thread. What was before is none of its account's.
    pub fn own_turn(&self) -> Option<&LastTurn> {
        self.turn().filter(|turn| turn.at > self.since)
    }

    /// Returns whether its log could not be read just now, so that its last turn is not known.
    pub(super) fn is_unread(&self) -> bool {
        self.unread
    }

    /// Returns when the server loaded it, Unix milliseconds.
    pub fn loaded_ms(&self) -> i64 {
        self.since / 1_000_000
    }

    fn read(&mut self) {
        let Ok(log) = files::open(&self.meta.path) else { return self.unread = true };
        let stamp = log.metadata().ok().map(|meta| (meta.len(), nanos(&meta)));
        self.unread = stamp.is_none() || stamp != self.seen && self.reader.read(&log).is_err();
        if !self.unread {
            self.seen = stamp;
        }
    }
}

/// Follows the threads of a server.
#[derive(Debug, Clone)]
pub struct Threads {
    server: BackgroundServer,
    main_home: PathBuf,
    /// When the server started, Unix nanoseconds, at the latest.
    began: i64,
    loaded: BTreeMap<String, Loaded>,
}

impl Threads {
    /// Follows those of this server, whose sessions are in that main home.
    pub fn of(server: BackgroundServer, main_home: &Path) -> Threads {
        let began = process::started_at(server.pid).unwrap_or(0).saturating_mul(1_000_000_000);
        Threads { server, main_home: main_home.to_owned(), began, loaded: BTreeMap::new() }
    }

    /// Follows none, of no server of that home.
    pub fn none(home: &CodexHome, main_home: &Path) -> Threads {
        let server = BackgroundServer { home: home.dir().to_owned(), pid: 0, start_ticks: 0 };
        Threads { server, main_home: main_home.to_owned(), began: 0, loaded: BTreeMap::new() }
    }

    /// Returns the server.
    pub fn server(&self) -> &BackgroundServer {
        &self.server
    }

    /// Returns the threads of the last look.
    pub fn loaded(&self) -> impl Iterator<Item = &Loaded> {
        self.loaded.values()
    }

    /// Looks at what the server has loaded now, and forgets the rest.
    pub fn look(&mut self) {
        let ids = self.ids();
        self.loaded.retain(|id, _| ids.contains_key(id));
        self.add(ids);
        self.read();
    }

    /// Adds what the server has loaded now.
    pub fn look_for_more(&mut self) {
        let ids = self.ids();
        self.add(ids);
    }

    /// Adds these threads, whoever has them.
    pub(super) fn include(&mut self, metas: Vec<ThreadMeta>) {
        for meta in metas {
            let id = meta.id.clone();
            let loaded =
                Loaded { meta, reader: Reader::default(), seen: None, unread: false, since: self.began };
            self.loaded.entry(id).or_insert(loaded);
        }
        self.read();
    }

    /// Reads what is new in the logs.
    pub fn read(&mut self) {
        self.loaded.values_mut().for_each(Loaded::read);
    }

    /// Returns whether a turn is in flight, or may be. One that an earlier server left without an end is not.
    pub fn in_flight(&self) -> bool {
        let runs = |turn: &LastTurn| turn.state == TurnState::InFlight && turn.at >= self.began;
        self.loaded().any(|thread| thread.unread || thread.turn().is_some_and(runs))
    }

    /// Returns when a log was last written to, Unix nanoseconds.
    pub fn changed_at(&self) -> i64 {
        self.loaded().filter_map(|thread| Some(thread.seen?.1)).max().unwrap_or(0)
    }

    fn add(&mut self, ids: BTreeMap<String, Option<PathBuf>>) {
        for (id, log) in ids {
            if self.loaded.contains_key(&id) {
                continue;
            }
            // The first line of a log may not be there yet: the next look sees it.
            let meta = match log {
                Some(log) => threads::of_log(&log),
                None => threads::by_id(&self.main_home, &id),
            };
            let Some(meta) = meta else { continue };
            let lock = self.server.home.join("thread-writer-locks").join(format!("{id}.lock"));
            let since = lock.metadata().map_or(0, |meta| nanos(&meta)).max(self.began);
            self.loaded
                .insert(id, Loaded { meta, reader: Reader::default(), seen: None, unread: false, since });
        }
    }

    /// Returns the threads that the server has loaded, by the locks and the logs that it has open.
    fn ids(&self) -> BTreeMap<String, Option<PathBuf>> {
        let mut ids: BTreeMap<String, Option<PathBuf>> = BTreeMap::new();
        for file in process::open_files(self.server.pid).unwrap_or_default() {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(id) = name.strip_suffix(".lock").filter(|id| is_uuid(id)) {
                ids.entry(id.to_ascii_lowercase()).or_default();
            } else if let Some(stem) = name.strip_prefix("rollout-").and_then(|n| n.strip_suffix(".jsonl"))
                && let Some(id) =
                    stem.len().checked_sub(36).and_then(|at| stem.get(at..)).filter(|id| is_uuid(id))
            {
                ids.insert(id.to_ascii_lowercase(), Some(file.clone()));
            }
        }
        ids
    }
}

/// When logs were last written to, as far as that was seen.
#[derive(Default)]
pub(super) struct Logs {
    seen: Option<(i64, Instant)>,
}

impl Logs {
    /// Returns whether they have been quiet for a moment. `changed_at`: by their own times, Unix nanoseconds. Where the
    /// clock was set back these lie in the future, so that they only have to stay as they are.
    pub(super) fn are_quiet(&mut self, changed_at: i64, now_ms: i64, now: Instant) -> bool {
        let since = match self.seen {
            Some((before, since)) if before == changed_at => since,
            _ => now,
        };
        self.seen = Some((changed_at, since));
        let quiet = i64::try_from(QUIET.as_nanos()).unwrap_or(i64::MAX);
        now_ms.saturating_mul(1_000_000).saturating_sub(changed_at) >= quiet || now - since >= QUIET
    }
}

fn nanos(meta: &std::fs::Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_quiet_by_their_times_or_once_they_were_seen_to_be() {
        let (start, second) = (Instant::now(), 1_000_000_000);
        let after = |ms| start + Duration::from_millis(ms);
        assert!(!Logs::default().are_quiet(second, 1_399, start));
        assert!(Logs::default().are_quiet(second, 1_400, start));
        // The clock was set back by an hour.
        let (mut logs, ahead) = (Logs::default(), 3_601 * second);
        assert!(!logs.are_quiet(ahead, 1_000, start));
        assert!(!logs.are_quiet(ahead, 1_399, after(399)));
        assert!(!logs.are_quiet(ahead + 1, 1_400, after(400)), "something was written");
        assert!(!logs.are_quiet(ahead + 1, 1_799, after(799)));
        assert!(logs.are_quiet(ahead + 1, 1_800, after(800)));
    }
}
