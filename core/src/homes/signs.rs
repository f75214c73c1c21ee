//! Codex processes that were not started through codex-pool, by what they lock and have open in a Codex home, and by
//! what they execute. Only reads.

use std::path::{Path, PathBuf};

use super::in_use::{Processes, home_served_by, known_home};
use super::{CodexHome, known};
use crate::account::AccountId;
use crate::codex::{background_server, running, threads};
use crate::files;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{self, LockHolders, Openers};

impl Processes {
    /// Returns the Codex processes that use this home and belong neither to a launch there nor to a background server,
    /// by the cheap signs: SQLite's lock, an open database without one, and locks of threads. `databases`: the folder of
    /// the SQLite files of `main_home`. `None` in the list: a process that cannot be seen, which may use any home.
    pub(super) fn foreign_in(
        &self,
        paths: &PoolPaths,
        main_home: &CodexHome,
        home: &CodexHome,
        databases: &Path,
    ) -> Vec<Option<u32>> {
        let mut found = LockHolders::default();
        let files = state_files(main_home, databases);
        for shm in files.iter().filter(|file| is_shm(file)) {
            add(&mut found, process::sqlite_users(shm));
        }
        let unlocked: Vec<PathBuf> = files.into_iter().filter(|file| is_without_wal(file)).collect();
        match process::with_open_file(&unlocked) {
            Openers::Known(pids) => found.pids.extend(pids),
            Openers::Unknown => found.others = true,
        }
        add(&mut found, process::flock_holders(&threads::writer_lock_files(main_home.dir())));
        // Databases and locks of threads are those of all homes over the main home.
        let mut pids = self.strange_in(paths, main_home, std::slice::from_ref(home), found.pids);
        // An interface that starts the background server opens the databases only after it.
        let starting = process::flock_holders(&[background_server::start_lock(home.dir())]);
        let new = |pid: &u32| !self.belongs_to_launch(*pid, None) && !pids.contains(pid);
        let starting_pids: Vec<u32> = starting.pids.into_iter().filter(new).collect();
        pids.extend(starting_pids);
        let unseen = (found.others || starting.others).then_some(None);
        pids.into_iter().map(Some).chain(unseen).collect()
    }

    /// Returns those that use one of these homes, by what they execute alone. While it starts, Codex renews its tokens
    /// and gives none of the cheap signs.
    pub(super) fn starting_in(
        &self,
        paths: &PoolPaths,
        main_home: &CodexHome,
        homes: &[CodexHome],
    ) -> Vec<Option<u32>> {
        let Some(pids) = running::using_login() else { return vec![None] };
        self.strange_in(paths, main_home, homes, pids).into_iter().map(Some).collect()
    }

    /// Returns whether there is one in this home, or the system does not tell.
    pub fn is_starting_in(&self, paths: &PoolPaths, main_home: &CodexHome, home: &CodexHome) -> bool {
        !self.starting_in(paths, main_home, std::slice::from_ref(home)).is_empty()
    }

    /// Returns whether a Codex that was not started through codex-pool has started since then (Unix seconds) in a home with
    /// this account. One of a launch finds its tokens renewed.
    pub(crate) fn has_started_on(&self, pool: &Pool, id: &AccountId, since: i64) -> bool {
        let lately = |pid: &u32| process::started_at(*pid).is_some_and(|at| at >= since);
        let new: Vec<u32> = running::using_login().unwrap_or_default().into_iter().filter(lately).collect();
        let uses = |home: &CodexHome| {
            let main_home = home.main_home(&pool.paths);
            !self.strange_in(&pool.paths, &main_home, std::slice::from_ref(home), new.clone()).is_empty()
        };
        !new.is_empty() && known::last_seen_with(pool, id).iter().any(uses)
    }

    /// Returns the processes that connect clients with the background server of this home: they must not lose it, but
    /// they do not mind which login is in the home. `None`: the system does not tell.
    pub fn proxies_in(&self, paths: &PoolPaths, main_home: &CodexHome, home: &CodexHome) -> Option<Vec<u32>> {
        let mut pids = running::proxies()?;
        pids.retain(|pid| known_home(paths, *pid).as_ref().unwrap_or(main_home) == home);
        Some(pids)
    }

    /// Returns which of these processes use one of these homes, and are neither of a launch there, nor a background
    /// server, nor a program of the pool. A process whose environment cannot be read uses the main home.
    fn strange_in(
        &self,
        paths: &PoolPaths,
        main_home: &CodexHome,
        homes: &[CodexHome],
        mut pids: Vec<u32>,
    ) -> Vec<u32> {
        pids.sort_unstable();
        pids.dedup();
        let me = self.me.as_ref().map(|me| me.pid);
        pids.retain(|pid| {
            let known = known_home(paths, *pid);
            Some(*pid) != me
                && (known.is_some() || process::can_act(*pid))
                && homes.contains(known.as_ref().unwrap_or(main_home))
                && !self.belongs_to_launch(*pid, known.as_ref())
                && home_served_by(paths, main_home, *pid).is_none()
                && !running::is_of_pool(*pid)
        });
        pids
    }
}

fn add(all: &mut LockHolders, more: LockHolders) {
    all.pids.extend(more.pids);
    all.others |= more.others;
    all.strangers |= more.strangers;
}

/// Returns whether a process of another user, who is not root, holds a lock that would count if it were ours.
/// `databases`: the folder of the SQLite files of the home.
pub fn strangers_lock(home: &CodexHome, databases: &Path) -> bool {
    let mut locks = threads::writer_lock_files(home.dir());
    locks.push(background_server::start_lock(home.dir()));
    process::flock_holders(&locks).strangers
        || state_files(home, databases)
            .iter()
            .any(|file| is_shm(file) && process::sqlite_users(file).strangers)
}

/// Returns Codex's databases `state_*`, with the files beside them, wherever a Codex of this main home may have them: its
/// settings or its environment name a folder, which is `sqlite` in the desktop app's.
fn state_files(main_home: &CodexHome, databases: &Path) -> Vec<PathBuf> {
    let in_home = main_home.dir();
    let mut folders = vec![in_home.to_owned(), in_home.join("sqlite")];
    if !folders.iter().any(|folder| folder == databases) {
        folders.push(databases.to_owned());
    }
    let entries = folders.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    let is_one = |name: &[u8]| name.starts_with(b"state_");
    entries.filter(|entry| is_one(entry.file_name().as_encoded_bytes())).map(|entry| entry.path()).collect()
}

fn is_shm(file: &Path) -> bool {
    file.as_os_str().as_encoded_bytes().ends_with(b".sqlite-shm")
}

/// Returns whether a file is an SQLite database without a write-ahead log, by its header. With one it has a `-shm` file,
/// on which whoever uses it has a lock. A database that cannot be read counts as without.
fn is_without_wal(file: &Path) -> bool {
    let mut header = [0; 20];
    file.as_os_str().as_encoded_bytes().ends_with(b".sqlite")
        && !(files::read_head(file, &mut header).is_ok_and(|read| read == 20) && header[18..] == [2, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_mode_is_read_from_the_header() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (versions, without) in [([2, 2], false), ([1, 1], true), ([0, 0], true)] {
            let header = [&b"SQLite format 3\0\x10\0"[..], &versions, b"rest"].concat();
            for name in ["state_5.sqlite", "state_5.sqlite-journal"] {
                std::fs::write(at(name), &header).unwrap();
            }
            assert_eq!(is_without_wal(&at("state_5.sqlite")), without, "{versions:?}");
            assert!(!is_without_wal(&at("state_5.sqlite-journal")), "no database");
        }
        std::fs::write(at("state_5.sqlite"), "SQLite").unwrap();
        assert!(is_without_wal(&at("state_5.sqlite")));
    }

    #[test]
    fn databases_are_looked_for_in_three_places() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let names = ["home/state_5.sqlite", "home/sqlite/state_5.sqlite-shm", "db/state_6.sqlite"];
        for name in names.iter().chain(&["home/logs_2.sqlite"]) {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        let home = CodexHome::main(at("home"));
        assert_eq!(state_files(&home, &at("db")), names.map(at));
        assert_eq!(state_files(&home, &at("home/sqlite")), names.map(at)[..2]);
    }
}
