//! `standings`: what launches look at of a large pool, in a form that is read in no time. Made of registry and usage
//! as they were, and used only while both are the very files that it was made of. Losing it costs nothing.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::REGISTRY_VERSION;
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::process;
use crate::standing::Standings;

/// The first is to be raised whenever something is encoded differently.
const FORMAT: (u32, u64) = (1, REGISTRY_VERSION);
/// A registry below this size, bytes, is read as fast as an index of it (some hundred accounts).
const WORTH_IT: u64 = 32 << 10;
/// A file that was changed twice within this time, nanoseconds, may look the same after the second change: where the
/// file system's clock counts nanoseconds, though it moves in steps, and where it counts seconds.
const TICKS: (i64, i64) = (100_000_000, 2_000_000_000);

/// The very files that an index is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sources {
    /// An index of another boot may be half-written, since nobody waits for the disk.
    boot: String,
    registry: Stamp,
    /// There is none before the first refresh.
    usage: Option<Stamp>,
}

/// Which file, and when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since the epoch, by the file system's clock.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        // Opened, since a network file system may know of a file by its path what was true a minute ago.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
        let meta = file.metadata().ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// When it was last changed in any way.
    fn latest(&self) -> (i64, i64) {
        self.modified.max(self.changed)
    }
}

/// Whether there was no other change between a change and what was written then.
fn clearly_later(written: (i64, i64), changed: (i64, i64)) -> bool {
    let apart = written.0.saturating_sub(changed.0).saturating_mul(1_000_000_000);
    let tick = if changed.1 == 0 { TICKS.1 } else { TICKS.0 };
    apart.saturating_add(written.1 - changed.1) > tick
}

impl Sources {
    /// The files as they are now; `None` if an index of them is not worth it.
    pub(crate) fn look(paths: &PoolPaths) -> Option<Sources> {
        let registry = Stamp::of(&paths.registry()).filter(|stamp| stamp.size >= WORTH_IT)?;
        Some(Sources { boot: process::boot_id().ok()?, registry, usage: Stamp::of(&paths.usage()) })
    }

    /// Reads their index, if there is one that can be trusted.
    pub(crate) fn read_index(&self, paths: &PoolPaths) -> Option<Standings> {
        let path = paths.standings();
        let last_change = self.registry.latest().max(self.usage.map_or((0, 0), |usage| usage.latest()));
        if !clearly_later(Stamp::of(&path)?.modified, last_change) {
            return None;
        }
        let bytes = files::read_small(&path, super::MAX_JSON).ok()??;
        let (head, rest) = postcard::take_from_bytes::<((u32, u64), Sources)>(&bytes).ok()?;
        if head.0 != FORMAT || head.1 != *self {
            return None;
        }
        postcard::from_bytes(rest).ok()
    }

    /// Writes their index, unless they are other files by now. Without it the next launch takes longer, no more.
    pub(crate) fn write_index(&self, _lock: &PoolLock, paths: &PoolPaths, standings: &Standings) {
        if Sources::look(paths).as_ref() == Some(self)
            && let Ok(bytes) = postcard::to_allocvec(&(FORMAT, self, standings))
        {
            let _ = files::write_whole(&paths.standings(), &bytes, Durability::Fast);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{AccountKind, AuthState};
    use crate::store::Registry;
    use crate::usage::{Attempt, Credits, Failure, Source, Usage, UsageCache, UsageEntry, Window};
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    const LATER: Duration = Duration::from_millis(101);

    /// A pool that is worth an index.
    struct Lab {
        _dir: tempfile::TempDir,
        paths: PoolPaths,
        lock: PoolLock,
    }

    impl Lab {
        fn new() -> Lab {
            let dir = tempfile::tempdir().unwrap();
            let paths = PoolPaths::new(dir.path().join("pool"));
            let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
            Registry::default().save(&lock, &paths).unwrap();
            let mut bytes = std::fs::read(paths.registry()).unwrap();
            bytes.resize(WORTH_IT as usize, b' ');
            std::fs::write(paths.registry(), bytes).unwrap();
            std::fs::write(paths.usage(), "{}").unwrap();
            Lab { _dir: dir, paths, lock }
        }

        /// Writes an index as a launch does some seconds after the last change.
        fn index(&self, standings: &Standings) -> Sources {
            let sources = Sources::look(&self.paths).expect("worth it");
            sources.write_index(&self.lock, &self.paths, standings);
            self.date_index(LATER);
            sources
        }

        /// No test can date a change back, but the index ahead.
        fn date_index(&self, after_the_change: Duration) {
            let changed = Stamp::of(&self.paths.usage()).unwrap().latest();
            let changed = Duration::new(changed.0 as u64, changed.1 as u32);
            let index = File::options().write(true).open(self.paths.standings()).unwrap();
            index.set_modified(SystemTime::UNIX_EPOCH + changed + after_the_change).unwrap();
        }

        fn read(&self) -> Option<Standings> {
            Sources::look(&self.paths)?.read_index(&self.paths)
        }
    }

    /// An account in each state, of which the first has everything that there is.
    fn standings() -> Standings {
        let mut registry = Registry::default();
        let states =
            [AuthState::Ok, AuthState::Expired, AuthState::ReauthRequired, AuthState::WorkspaceRemoved];
        for (at, state) in states.into_iter().enumerate() {
            let key = crate::auth_doc::Secret::new(format!("key-{at}"));
            registry.enter(&crate::auth_doc::AuthDoc::of_api_key(&key).unwrap(), None, 7);
            registry.accounts[at].auth.state = state;
        }
        registry.accounts[0].kind = AccountKind::Chatgpt;
        registry.accounts[1].enabled = false;
        registry.accounts[0].account_id = Some("space".to_owned());
        let window = |resets_at| Window { window_seconds: 18_000, used_percent: 12.5, resets_at };
        let usage = Usage {
            fetched_at: 1_000_000,
            source: Source::Api,
            limit_reached: true,
            windows: vec![window(Some(-5)), window(None)],
            credits: Some(Credits { has_credits: true, unlimited: false, balance: None }),
            plan: Some("pro".to_owned()),
            extra: Vec::new(),
        };
        let attempt = Attempt::failed(None, Failure::Offline, "no network".to_owned(), None, 1_000_100);
        let entry = UsageEntry { usage: Some(usage), attempt: Some(attempt.into()), ..UsageEntry::default() };
        let mut cache = UsageCache { no_wait_until: Some(9), ..UsageCache::default() };
        cache.accounts.insert(registry.accounts[0].id.clone(), entry);
        Standings::new(&registry, &cache)
    }

    #[test]
    fn what_was_written_is_read() {
        let lab = Lab::new();
        assert_eq!(lab.read(), None);
        lab.index(&standings());
        assert_eq!(lab.read(), Some(standings()));
    }

    #[test]
    fn an_index_of_other_files_is_not_read() {
        let changes: [fn(&Lab); 6] = [
            |lab| std::fs::write(lab.paths.usage(), "[]").unwrap(),
            |lab| std::fs::write(lab.paths.usage(), "{} ").unwrap(),
            |lab| std::fs::remove_file(lab.paths.usage()).unwrap(),
            |lab| {
                let other = lab.paths.root().join("other");
                std::fs::copy(lab.paths.registry(), &other).unwrap();
                std::fs::rename(other, lab.paths.registry()).unwrap();
            },
            // As if it had been written in the moment of the last change, after which there may have been another.
            |lab| lab.date_index(Duration::from_millis(100)),
            |lab| std::fs::remove_file(lab.paths.standings()).unwrap(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let lab = Lab::new();
            lab.index(&standings());
            change(&lab);
            assert_eq!(lab.read(), None, "change {at}");
        }
    }

    #[test]
    fn an_index_of_another_boot_or_format_or_half_of_one_is_not_read() {
        let lab = Lab::new();
        let sources = lab.index(&standings());
        let other = Sources { boot: "another".to_owned(), ..sources.clone() };
        let good = postcard::to_allocvec(&(FORMAT, &sources, standings())).unwrap();
        let bad = [
            postcard::to_allocvec(&(FORMAT, &other, standings())).unwrap(),
            postcard::to_allocvec(&((FORMAT.0 + 1, FORMAT.1), &sources, standings())).unwrap(),
            postcard::to_allocvec(&((FORMAT.0, FORMAT.1 + 1), &sources, standings())).unwrap(),
            good[..good.len() - 1].to_vec(),
            Vec::new(),
        ];
        for bytes in bad.iter().chain([&good]) {
            std::fs::write(lab.paths.standings(), bytes).unwrap();
            lab.date_index(LATER);
            assert_eq!(lab.read().is_some(), *bytes == good);
        }
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 0xff;
            std::fs::write(lab.paths.standings(), damaged).unwrap();
            lab.date_index(LATER);
            // Whatever it says: it is read or not, and that is all.
            let _ = lab.read();
        }
    }

    #[test]
    fn files_that_changed_since_they_were_read_are_not_indexed() {
        let lab = Lab::new();
        let sources = Sources::look(&lab.paths).unwrap();
        std::fs::write(lab.paths.usage(), "{ }").unwrap();
        sources.write_index(&lab.lock, &lab.paths, &standings());
        assert!(!lab.paths.standings().exists());
    }

    #[test]
    fn where_the_clock_counts_seconds_more_of_them_must_pass() {
        for (written, changed, later) in [
            ((10, 200_000_001), (10, 100_000_000), true),
            ((10, 200_000_000), (10, 100_000_000), false),
            ((11, 50_000_002), (10, 950_000_001), true),
            ((12, 0), (10, 0), false),
            ((13, 0), (10, 0), true),
            ((9, 0), (10, 1), false),
            ((i64::MAX, 0), (i64::MIN, 0), true),
        ] {
            assert_eq!(clearly_later(written, changed), later, "{written:?} {changed:?}");
        }
    }

    #[test]
    fn small_pools_have_none() {
        let lab = Lab::new();
        let registry = File::options().write(true).open(lab.paths.registry()).unwrap();
        registry.set_len(WORTH_IT - 1).unwrap();
        assert_eq!(Sources::look(&lab.paths), None);
    }

    /// Fails when something is encoded differently: raise [`FORMAT`], and enter the new hash.
    #[test]
    fn the_format_is_known_by_its_number() {
        let stamp = Stamp { device: 1, inode: 2, size: 3, modified: (4, 5), changed: (6, 7) };
        let sources = Sources { boot: "boot".to_owned(), registry: stamp, usage: Some(stamp) };
        let bytes = postcard::to_allocvec(&(sources, standings())).unwrap();
        assert_eq!((FORMAT.0, crate::account::short_hash_text(&[&bytes])), (1, "tdoqliegqn".to_owned()));
    }
}
