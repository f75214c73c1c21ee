//! The processes that use a Codex home. A home in use never changes hands, and what cannot be known counts as in use.
//! Only reads, but for tidying the ledger.

use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

use super::{AuthFile, CodexHome, Link, known};
use crate::account::AccountId;
use crate::codex::background_server::BackgroundServer;
use crate::env::{self, names};
use crate::files::PoolLock;
use crate::ledger::{LaunchKind, Ledger, RecordedLaunch};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{self, Liveness, ProcessId};
use crate::store::{HomeRecord, Mark, MarkKind, path_key, path_of_key};

/// The kind of a process that uses a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserKind {
    /// A launch of ours, with what it runs (`codex exec`).
    Launch(String),
    /// Codex's background server.
    BackgroundServer,
    /// `codex login` or `codex logout`.
    Login,
    /// A Codex that was not started through codex-pool: by an editor, the desktop app, or its full path.
    Foreign,
}

/// A process that uses a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeUser {
    /// What it is.
    pub kind: UserKind,
    /// Its pid. `None`: unknown.
    pub pid: Option<u32>,
    /// The account that it uses. `None`: unknown.
    pub account: Option<AccountId>,
}

/// A home in use.
#[derive(Debug, Clone)]
pub struct HomeInUse {
    /// The home.
    pub home: CodexHome,
    /// The account that it held when it was last seen.
    pub account: Option<AccountId>,
    /// The processes; never empty.
    pub users: Vec<HomeUser>,
}

impl HomeUser {
    /// Returns a Codex that was not started through codex-pool. `pid`: `None` if it cannot be seen.
    fn foreign(pid: Option<u32>) -> HomeUser {
        HomeUser { kind: UserKind::Foreign, pid, account: None }
    }

    /// Returns the terminal that it reads (`pts/3`).
    pub fn terminal(&self) -> Option<String> {
        self.pid.and_then(process::terminal)
    }

    /// Returns a description for messages: `codex exec (pid 12, pts/3)`.
    pub fn describe(&self) -> String {
        let what = match &self.kind {
            UserKind::Launch(command) => command.clone(),
            UserKind::BackgroundServer => "Codex's background server".to_owned(),
            UserKind::Login => "a login".to_owned(),
            UserKind::Foreign => match self.pid.and_then(process::program_name) {
                Some(name) => format!("{name} not started through codex-pool"),
                None => "a Codex not started through codex-pool".to_owned(),
            },
        };
        match (self.pid, self.terminal()) {
            (Some(pid), Some(terminal)) => format!("{what} (pid {pid}, {terminal})"),
            (Some(pid), None) => format!("{what} (pid {pid})"),
            (None, _) => what,
        }
    }
}

/// Returns the background server of a home, unless it holds no thread.
fn busy_server(pool: &Pool, home: &CodexHome) -> Option<HomeUser> {
    let server = BackgroundServer::of_home(home.dir()).filter(|s| s.holds_thread() != Some(false))?;
    Some(user_of_server(pool, home, &server))
}

fn user_of_server(pool: &Pool, home: &CodexHome, server: &BackgroundServer) -> HomeUser {
    let record = pool.state().home(&home.auth_json());
    let account = record.and_then(|record| account_of_server(record, server));
    HomeUser { kind: UserKind::BackgroundServer, pid: Some(server.pid), account }
}

/// The processes that may use a home: the ledger, as seen from this process.
#[derive(Debug)]
pub struct Processes {
    /// The launches.
    pub ledger: Ledger,
    /// This process. `None`: the system does not tell, and every home counts as in use.
    pub me: Option<ProcessId>,
}

impl Processes {
    /// Reads the ledger. With the lock, the entries of launches that ended are removed.
    pub fn read(lock: Option<&PoolLock>, paths: &PoolPaths, now: i64) -> Processes {
        match ProcessId::of_self() {
            Ok(me) => Processes { ledger: Ledger::read(lock, paths, &me, now), me: Some(me) },
            Err(_) => Processes { ledger: Ledger { unreadable: true, ..Ledger::default() }, me: None },
        }
    }

    /// Returns whether a launch may use any home, because the ledger or an entry cannot be read.
    pub fn incomplete(&self) -> bool {
        self.ledger.unreadable || self.ledger.launches.iter().any(|l| l.entry.is_none())
    }

    /// Returns the launches in a home, without this process.
    pub fn launches_in(&self, home: &CodexHome) -> Vec<HomeUser> {
        let key = path_key(&home.auth_json());
        let here = |launch: &&RecordedLaunch| {
            self.me.as_ref() != Some(&launch.process)
                && launch.entry.as_ref().is_none_or(|entry| entry.home == key)
        };
        let user = |launch: &RecordedLaunch| HomeUser {
            kind: match &launch.entry {
                Some(entry) if entry.kind != LaunchKind::Session => UserKind::Login,
                Some(entry) => UserKind::Launch(entry.command.clone()),
                None => UserKind::Launch("codex".to_owned()),
            },
            pid: (launch.liveness == Liveness::Alive).then_some(launch.process.pid),
            account: launch.entry.as_ref().and_then(|entry| entry.account.clone()),
        };
        self.ledger.launches.iter().filter(here).map(user).collect()
    }

    /// Returns the processes that use a home, or another home that shares its file through a link of the user's.
    /// `databases`: the folder of the SQLite files of `main_home`. A background server that holds no thread does not
    /// count.
    pub fn users_of_home(
        &self,
        pool: &Pool,
        main_home: &CodexHome,
        home: &CodexHome,
        databases: &Path,
    ) -> Vec<HomeUser> {
        let mut users = self.users_without_server(pool, main_home, home, databases);
        users.extend(busy_server(pool, home));
        for other in self.homes_sharing_file(pool, home) {
            let over = other.main_home(&pool.paths);
            let databases = if over.dir() == main_home.dir() { databases } else { over.dir() };
            users.extend(self.users_without_server(pool, &over, &other, databases));
            // An idle server counts there: only the server of the home that is asked for is stopped.
            let server = BackgroundServer::of_home(other.dir());
            users.extend(server.map(|server| user_of_server(pool, &other, &server)));
        }
        users
    }

    /// Returns the processes that use a home which is about to change hands, as [`Processes::users_of_home`]. Only if
    /// there is none, all processes are looked at for a Codex that is just starting: that takes longer, and only a home
    /// that would change hands is worth it.
    pub fn users_before_change(
        &self,
        pool: &Pool,
        main_home: &CodexHome,
        home: &CodexHome,
        databases: &Path,
    ) -> Vec<HomeUser> {
        let mut users = self.users_of_home(pool, main_home, home, databases);
        if users.is_empty() {
            let mut homes = self.homes_sharing_file(pool, home);
            homes.push(home.clone());
            users.extend(self.starting_in(&pool.paths, main_home, &homes).into_iter().map(HomeUser::foreign));
        }
        users
    }

    /// Returns the homes in use, for people: this main home first. `databases`: the folder of its SQLite files.
    pub fn homes_in_use(&self, pool: &Pool, main_home: &CodexHome, databases: &Path) -> Vec<HomeInUse> {
        let remembered = pool.state().homes.keys().map(|key| path_of_key(key));
        let launched = self.ledger.launches.iter().filter_map(|l| Some(path_of_key(&l.entry.as_ref()?.home)));
        let over = std::fs::read_dir(main_home.dir_of_homes(&pool.paths)).into_iter().flatten().flatten();
        let over = over.map(|home| home.path()).filter(|home| home.is_dir());
        let mut paths: Vec<PathBuf> = remembered.chain(launched).collect();
        paths.extend(over.map(|home| home.join("auth.json")));
        paths.sort_unstable();
        paths.dedup();
        let others = paths.iter().filter_map(|path| CodexHome::of_auth_json(&pool.paths, path));
        let others = others.filter(|home| home != main_home);
        let in_use = std::iter::once(main_home.clone()).chain(others).filter_map(|home| {
            let over = home.main_home(&pool.paths);
            let databases = if over.dir() == main_home.dir() { databases } else { over.dir() };
            let mut users = self.users_without_server(pool, &over, &home, databases);
            // A process that cannot be seen may use any home. It is shown once.
            users.retain(|user| user.kind != UserKind::Foreign || user.pid.is_some() || home == *main_home);
            users.extend(busy_server(pool, &home));
            let account = pool.state().home(&home.auth_json()).map(|record| record.account.clone());
            (!users.is_empty()).then_some(HomeInUse { home, account, users })
        });
        in_use.collect()
    }

    /// Returns the processes that use a home which holds this account. The caller has reconciled the homes.
    pub fn users_of_account(&self, pool: &Pool, id: &AccountId) -> Vec<HomeUser> {
        let homes = known::last_seen_with(pool, id);
        self.users_of_homes(pool, &homes, |main_home, home| {
            self.users_of_home(pool, main_home, home, main_home.dir())
        })
    }

    /// Returns the processes that use a home which holds this account, and those that use one of its own homes with any
    /// account, before all of these homes lose it.
    pub fn users_of_account_and_own_homes(&self, pool: &Pool, id: &AccountId) -> Vec<HomeUser> {
        let homes = known::of_account(pool, id);
        self.users_of_homes(pool, &homes, |main_home, home| {
            self.users_before_change(pool, main_home, home, main_home.dir())
        })
    }

    fn users_of_homes(
        &self,
        pool: &Pool,
        homes: &[CodexHome],
        users: impl Fn(&CodexHome, &CodexHome) -> Vec<HomeUser>,
    ) -> Vec<HomeUser> {
        homes.iter().flat_map(|home| users(&home.main_home(&pool.paths), home)).collect()
    }

    /// Returns whether the file of an own home must stay. An idle background server counts, too: it is not stopped, and
    /// goes on reading and writing that file.
    pub(super) fn need_file_of(&self, pool: &Pool, home: &CodexHome) -> bool {
        let main_home = home.main_home(&pool.paths);
        BackgroundServer::of_home(home.dir()).is_some()
            || !self.users_before_change(pool, &main_home, home, main_home.dir()).is_empty()
    }

    fn users_without_server(
        &self,
        pool: &Pool,
        main_home: &CodexHome,
        home: &CodexHome,
        databases: &Path,
    ) -> Vec<HomeUser> {
        let mut users = self.launches_in(home);
        if self.ledger.unreadable {
            let kind = UserKind::Launch("codex".to_owned());
            users.push(HomeUser { kind, pid: None, account: None });
        }
        users.extend(self.logins_in(pool, home));
        let foreign = self.foreign_in(&pool.paths, main_home, home, databases);
        users.extend(foreign.into_iter().map(HomeUser::foreign));
        users
    }

    /// Returns the other homes whose `auth.json` leads to the same file through a link of the user's.
    fn homes_sharing_file(&self, pool: &Pool, home: &CodexHome) -> Vec<CodexHome> {
        let find = |path: PathBuf| AuthFile::find(&pool.paths, path).ok();
        let Some(file) = find(home.auth_json()).filter(|file| file.link != Link::Ours) else {
            return Vec::new();
        };
        let mut others: Vec<PathBuf> = pool.state().homes.keys().map(|key| path_of_key(key)).collect();
        others.extend(self.ledger.launches.iter().filter_map(|l| Some(path_of_key(&l.entry.as_ref()?.home))));
        others.retain(|path| {
            path.is_symlink()
                && find(path.clone()).is_some_and(|f| f.link == Link::Users && f.real == file.real)
        });
        if file.link == Link::Users && file.real.file_name() == file.path.file_name() {
            others.push(file.real);
        }
        others.sort_unstable();
        others.dedup();
        others.retain(|path| *path != file.path);
        others.iter().filter_map(|path| CodexHome::of_auth_json(&pool.paths, path)).collect()
    }

    /// Returns the logins under way that are not in the ledger, and those whose shim was killed while Codex goes on.
    fn logins_in(&self, pool: &Pool, home: &CodexHome) -> Vec<HomeUser> {
        let key = path_key(&home.auth_json());
        let marks = pool.state().marks.iter();
        let here = marks.filter(|m| m.kind != MarkKind::Renewal && m.home.as_ref() == Some(&key));
        let under_way = |mark: &Mark| {
            let process = ProcessId::parse(&mark.process)?;
            let me = self.me.as_ref()?;
            let known = process == *me || self.ledger.launches.iter().any(|l| l.process == process);
            if known {
                return None;
            }
            let pid = match process.liveness(me) {
                Liveness::Alive => Some(process.pid),
                Liveness::Unknown => None,
                Liveness::Dead => Some(*auth_commands_of(&process).first()?),
            };
            Some(HomeUser { kind: UserKind::Login, pid, account: None })
        };
        here.filter_map(under_way).collect()
    }

    /// Returns whether this process is a launch of the ledger, or a descendant of one in the same home. `home`: its
    /// home; if that is unknown, descent decides alone.
    pub(super) fn belongs_to_launch(&self, pid: u32, home: Option<&CodexHome>) -> bool {
        let launch =
            |pid| self.ledger.launches.iter().find(|l| l.liveness == Liveness::Alive && l.process.pid == pid);
        process::ancestors(pid).find_map(launch).is_some_and(|launch| match (&launch.entry, home) {
            (Some(entry), Some(home)) => entry.home == path_key(&home.auth_json()),
            _ => true,
        })
    }
}

/// Returns the account that a background server read when it started. `None`: unknown. `record`: of its home.
pub fn account_of_server(record: &HomeRecord, server: &BackgroundServer) -> Option<AccountId> {
    if let Some(note) = &record.server
        && note.pid == server.pid
        && note.start_ticks == server.start_ticks
    {
        return note.account.clone();
    }
    // A server that started after this account came has read this account. Seconds tell, but for neighbouring ones;
    // those are of the same boot, so that ticks tell.
    let ahead = process::started_at(server.pid)? - record.since;
    let after = match record.since_ticks {
        Some(ticks) if ahead.abs() <= 2 => server.start_ticks > ticks,
        _ => ahead > 1,
    };
    after.then(|| record.account.clone())
}

/// Returns the processes of a login or logout whose shim, `process`, was killed.
pub(crate) fn auth_commands_of(process: &ProcessId) -> Vec<u32> {
    process::of_launch(process, &["login", "logout"])
}

/// Returns CODEX_HOME as a process was started with it, without links, whether or not it is there. `None`: unknown.
fn codex_home_of(pid: u32) -> Option<PathBuf> {
    let environ = process::environ(pid)?;
    let var =
        |name: &str| environ.iter().find_map(|entry| env::value_of(entry, name)).filter(|v| !v.is_empty());
    let dir = match var(names::CODEX_HOME) {
        Some(dir) => PathBuf::from(dir),
        None => {
            // Without HOME, Codex asks the system for the user's folder.
            let of_user = || User::from_uid(geteuid()).ok().flatten().map(|user| user.dir);
            var("HOME").map(PathBuf::from).or_else(of_user)?.join(".codex")
        }
    };
    if !dir.is_absolute() {
        // Codex may have gone to another folder since it read the variable.
        let dir = process::inherited(pid).folder?.join(dir);
        return std::fs::canonicalize(dir).ok().filter(|dir| dir.is_dir());
    }
    match std::fs::canonicalize(&dir) {
        // No folder is at this path, so that it is none of another name either.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Some(dir),
        real => real.ok(),
    }
}

/// Returns the home that a process uses, by its environment. `None`: unknown. The process tree is not enough: a native
/// Codex whose Node launcher was killed is no child of our launch any more, yet uses its home.
pub(super) fn known_home(paths: &PoolPaths, pid: u32) -> Option<CodexHome> {
    let dir = codex_home_of(pid)?;
    let homes = std::fs::canonicalize(paths.homes()).ok();
    // A home of ours in the spelling of the ledger, whatever links lead to the pool.
    let ours = homes.and_then(|homes| Some(paths.homes().join(dir.strip_prefix(homes).ok()?)));
    Some(CodexHome::at(paths, ours.unwrap_or(dir)))
}

/// Returns the home that a process uses. If that is unknown, it is the main home.
pub(crate) fn home_of(paths: &PoolPaths, main_home: &CodexHome, pid: u32) -> CodexHome {
    known_home(paths, pid).unwrap_or_else(|| main_home.clone())
}

/// Returns the home whose background server this process is, among this main home and those over it.
pub(crate) fn home_served_by(paths: &PoolPaths, main_home: &CodexHome, pid: u32) -> Option<CodexHome> {
    let serves = |dir: &Path| BackgroundServer::of_home(dir).is_some_and(|server| server.pid == pid);
    if serves(main_home.dir()) {
        return Some(main_home.clone());
    }
    let homes = std::fs::read_dir(main_home.dir_of_homes(paths)).ok()?;
    let dir = homes.flatten().map(|home| home.path()).find(|dir| serves(dir))?;
    Some(CodexHome::at(paths, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_of_a_process_is_known_by_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let home_with = |variables: &[(&str, PathBuf)]| {
            let mut command = std::process::Command::new("/bin/sleep");
            let mut child = command.arg("60").env_clear().envs(variables.iter().cloned()).spawn().unwrap();
            let home = codex_home_of(child.id());
            child.kill().and_then(|()| child.wait()).unwrap();
            home
        };
        for name in ["absent", "loop", "file/below"] {
            assert_eq!(home_with(&[(names::CODEX_HOME, at(name))]), Some(at(name)));
        }
        assert_eq!(home_with(&[("HOME", at("absent"))]), Some(at("absent/.codex")));
        let of_user = User::from_uid(geteuid()).unwrap().unwrap().dir.join(".codex");
        let of_user = std::fs::canonicalize(&of_user).unwrap_or(of_user);
        assert_eq!(home_with(&[("OTHER", at("absent"))]).as_ref(), Some(&of_user));
        #[cfg(target_os = "linux")]
        assert_eq!(home_with(&[]), Some(of_user), "an empty environment is known, too");
        assert_eq!(home_with(&[(names::CODEX_HOME, "absent".into())]), None);
        let here = std::fs::canonicalize("src").unwrap();
        let known = if cfg!(target_os = "linux") { Some(here) } else { None };
        assert_eq!(home_with(&[(names::CODEX_HOME, "src".into())]), known);
    }
}
