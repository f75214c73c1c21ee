//! Who is in a home. A home never changes hands while somebody is; what cannot be known counts as
//! somebody.

use std::path::{Path, PathBuf};

use super::{AuthFile, CodexHome, Link};
use crate::account::AccountId;
use crate::codex::background_server::{self, BackgroundServer};
use crate::env::{self, names};
use crate::files::PoolLock;
use crate::ledger::{Ledger, RecordedLaunch};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{self, Liveness, LockHolders, ProcessId};
use crate::store::{Mark, MarkKind, path_key, path_of_key};

/// What kind of user a home has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserKind {
    /// A launch of ours: what it runs (`codex exec`).
    Launch(String),
    /// Codex's background server.
    BackgroundServer,
    /// `codex login` or `codex logout`.
    Login,
    /// A Codex that we did not launch: an editor, the desktop app, a full path.
    Foreign,
}

/// Somebody in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeUser {
    /// What it is.
    pub kind: UserKind,
    /// Its process, if it can be told.
    pub pid: Option<u32>,
    /// As whom it works, if that is known.
    pub account: Option<AccountId>,
}

/// A home that somebody is in.
#[derive(Debug, Clone)]
pub struct HomeInUse {
    /// Which.
    pub home: CodexHome,
    /// The account that was last seen in it.
    pub account: Option<AccountId>,
    /// Who is in it; never empty.
    pub users: Vec<HomeUser>,
}

impl HomeUser {
    /// The terminal that it reads (`pts/3`).
    pub fn terminal(&self) -> Option<String> {
        self.pid.and_then(process::terminal)
    }

    /// For messages: `codex exec (pid 12, pts/3)`.
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

/// A home's background server, if it is at work.
fn busy_server(pool: &Pool, codex_home: &CodexHome) -> Option<HomeUser> {
    let server = BackgroundServer::of_home(codex_home.dir()).filter(|s| s.holds_thread() != Some(false))?;
    Some(served_by(pool, codex_home, &server))
}

fn served_by(pool: &Pool, codex_home: &CodexHome, server: &BackgroundServer) -> HomeUser {
    let memory = pool.state().home(&codex_home.auth_json());
    let account = memory.and_then(|memory| super::server_account(memory, server));
    HomeUser { kind: UserKind::BackgroundServer, pid: Some(server.pid), account }
}

/// A look at everybody: the ledger, as seen from this process.
#[derive(Debug)]
pub struct Processes {
    /// The launches.
    pub ledger: Ledger,
    /// This process; `None` where the system does not tell, and then everything is in use.
    pub me: Option<ProcessId>,
}

impl Processes {
    /// Takes the census. With the lock, the ledger is tidied.
    pub fn read(lock: Option<&PoolLock>, paths: &PoolPaths, now: i64) -> Processes {
        match ProcessId::of_self() {
            Ok(me) => Processes { ledger: Ledger::read(lock, paths, &me, now), me: Some(me) },
            Err(_) => Processes { ledger: Ledger { unreadable: true, ..Ledger::default() }, me: None },
        }
    }

    /// Whether nobody can tell who sits where.
    pub fn blind(&self) -> bool {
        self.ledger.unreadable || self.ledger.launches.iter().any(|l| l.entry.is_none())
    }

    /// Launches in a home, other than this process itself.
    pub fn launches_in(&self, codex_home: &CodexHome) -> Vec<HomeUser> {
        let key = path_key(&codex_home.auth_json());
        let here = |l: &&RecordedLaunch| {
            self.me.as_ref() != Some(&l.process) && l.entry.as_ref().is_none_or(|e| e.home == key)
        };
        self.ledger
            .launches
            .iter()
            .filter(here)
            .map(|l| HomeUser {
                kind: match &l.entry {
                    Some(entry) if entry.command.ends_with("login") || entry.command.ends_with("logout") => {
                        UserKind::Login
                    }
                    Some(entry) => UserKind::Launch(entry.command.clone()),
                    None => UserKind::Launch("codex".to_owned()),
                },
                pid: (l.liveness == Liveness::Alive).then_some(l.process.pid),
                account: l.entry.as_ref().and_then(|entry| entry.account.clone()),
            })
            .collect()
    }

    /// Everybody in a home, or in another one that shares its file by a link of the user's. `databases`: where
    /// this main home's SQLite files are. A background server that holds no thread does not count.
    pub fn users_of_home(
        &self,
        pool: &Pool,
        main_home: &CodexHome,
        codex_home: &CodexHome,
        databases: &Path,
    ) -> Vec<HomeUser> {
        let mut found = self.in_home(pool, main_home, codex_home, databases);
        found.extend(busy_server(pool, codex_home));
        for other in self.sharers(pool, codex_home) {
            let over = other.main_home(&pool.paths);
            let databases = if over.dir() == main_home.dir() { databases } else { over.dir() };
            found.extend(self.in_home(pool, &over, &other, databases));
            // Nobody stops the server of a home that is not asked for, so an idle one counts.
            let server = BackgroundServer::of_home(other.dir());
            found.extend(server.map(|server| served_by(pool, &other, &server)));
        }
        found
    }

    /// Every home that somebody is in, for people: the shared one of this main home first. `databases`: where this main home's
    /// SQLite files are.
    pub fn homes_in_use(&self, pool: &Pool, main_home: &CodexHome, databases: &Path) -> Vec<HomeInUse> {
        let remembered = pool.state().homes.keys().map(|key| path_of_key(key));
        let launched = self.ledger.launches.iter().filter_map(|l| Some(path_of_key(&l.entry.as_ref()?.home)));
        let homes = std::fs::read_dir(main_home.dir_of_homes(&pool.paths)).into_iter().flatten().flatten();
        let homes = homes.map(|home| home.path()).filter(|home| home.is_dir());
        let mut paths: Vec<PathBuf> = remembered.chain(launched).collect();
        paths.extend(homes.map(|home| home.join("auth.json")));
        paths.sort_unstable();
        paths.dedup();
        let shared = main_home.clone();
        let codex_homes = paths.iter().filter_map(|path| CodexHome::of_auth_json(&pool.paths, path));
        let codex_homes =
            std::iter::once(shared.clone()).chain(codex_homes.filter(|codex_home| *codex_home != shared));
        let in_use = codex_homes.filter_map(|codex_home| {
            let over = codex_home.main_home(&pool.paths);
            let databases = if over.dir() == main_home.dir() { databases } else { over.dir() };
            let mut users = self.in_home(pool, &over, &codex_home, databases);
            // Somebody whom we cannot see may be in any home; to name one is enough.
            users.retain(|o| o.kind != UserKind::Foreign || o.pid.is_some() || codex_home == shared);
            users.extend(busy_server(pool, &codex_home));
            let account = pool.state().home(&codex_home.auth_json()).map(|memory| memory.account.clone());
            (!users.is_empty()).then_some(HomeInUse { home: codex_home, account, users })
        });
        in_use.collect()
    }

    fn in_home(
        &self,
        pool: &Pool,
        main_home: &CodexHome,
        codex_home: &CodexHome,
        databases: &Path,
    ) -> Vec<HomeUser> {
        let mut found = self.launches_in(codex_home);
        if self.ledger.unreadable {
            found.push(HomeUser { kind: UserKind::Launch("codex".to_owned()), pid: None, account: None });
        }
        found.extend(self.logins_in(pool, codex_home));
        let strangers = self.strangers_in(&pool.paths, main_home, codex_home, databases);
        found.extend(strangers.into_iter().map(|pid| HomeUser {
            kind: UserKind::Foreign,
            pid,
            account: None,
        }));
        found
    }

    /// Homes whose `auth.json` leads to the same file as this one's through a link of the user's.
    fn sharers(&self, pool: &Pool, codex_home: &CodexHome) -> Vec<CodexHome> {
        let find = |path: PathBuf| AuthFile::find(&pool.paths, path).ok();
        let Some(file) = find(codex_home.auth_json()).filter(|file| file.link != Link::Ours) else {
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

    /// Logins under way that are not in the ledger, or whose shim was killed while Codex goes on.
    fn logins_in(&self, pool: &Pool, codex_home: &CodexHome) -> Vec<HomeUser> {
        let key = path_key(&codex_home.auth_json());
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
                Liveness::Dead => Some(*orphans(&process).first()?),
            };
            Some(HomeUser { kind: UserKind::Login, pid, account: None })
        };
        here.filter_map(under_way).collect()
    }

    /// Codex processes that read this home's file and are none of our launches there, their children, or
    /// a background server. `None`: somebody whom we cannot see, in whatever home.
    fn strangers_in(
        &self,
        paths: &PoolPaths,
        main_home: &CodexHome,
        codex_home: &CodexHome,
        databases: &Path,
    ) -> Vec<Option<u32>> {
        let mut holders = LockHolders::default();
        for shm in state_shm_files(databases) {
            let more = process::sqlite_users(&shm);
            holders.others |= more.others;
            holders.pids.extend(more.pids);
        }
        holders.pids.sort_unstable();
        holders.pids.dedup();
        let me = self.me.as_ref().map(|me| me.pid);
        holders.pids.retain(|pid| {
            if Some(*pid) == me {
                return false;
            }
            let known = known_home(paths, *pid);
            !self.accounts_for(*pid, known.as_ref())
                && known.unwrap_or_else(|| main_home.clone()) == *codex_home
                && server_dir(paths, main_home, *pid).is_none()
        });
        // An interface that starts the background server opens the databases only after it.
        let starting = process::flock_holders(&background_server::start_lock(codex_home.dir()));
        let new = |pid: &u32| !self.accounts_for(*pid, None) && !holders.pids.contains(pid);
        let starting_pids: Vec<u32> = starting.pids.into_iter().filter(new).collect();
        let unseen = (holders.others || starting.others).then_some(None);
        holders.pids.into_iter().chain(starting_pids).map(Some).chain(unseen).collect()
    }

    /// Whether this process is a launch of the ledger, or below one and in the same home. Of one that we
    /// cannot look into we know only whose child it is.
    fn accounts_for(&self, pid: u32, codex_home: Option<&CodexHome>) -> bool {
        let launch =
            |pid| self.ledger.launches.iter().find(|l| l.liveness == Liveness::Alive && l.process.pid == pid);
        process::ancestors(pid).find_map(launch).is_some_and(|launch| match (&launch.entry, codex_home) {
            (Some(entry), Some(codex_home)) => entry.home == path_key(&codex_home.auth_json()),
            _ => true,
        })
    }
}

/// Processes of a login or logout whose shim was killed.
pub fn orphans(process: &ProcessId) -> Vec<u32> {
    process::of_launch(process, &["login", "logout"])
}

/// CODEX_HOME as a process was started with, without links; `None` if that cannot be told.
fn codex_home_of(pid: u32) -> Option<PathBuf> {
    let environ = process::environ(pid)?;
    let var =
        |name: &str| environ.iter().find_map(|entry| env::value_of(entry, name)).filter(|v| !v.is_empty());
    let dir = match var(names::CODEX_HOME) {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(var("HOME")?).join(".codex"),
    };
    dir.is_absolute().then(|| std::fs::canonicalize(dir).ok()).flatten()
}

/// The home that a process reads, by its environment: a native Codex whose Node launcher was killed
/// is no child of our launch any more, yet still sits in its home. `None` if that cannot be told.
fn known_home(paths: &PoolPaths, pid: u32) -> Option<CodexHome> {
    let dir = codex_home_of(pid)?;
    let homes = std::fs::canonicalize(paths.homes()).ok();
    // As we write it ourselves, whatever links lead to the pool.
    let home = homes.and_then(|homes| Some(paths.homes().join(dir.strip_prefix(homes).ok()?)));
    CodexHome::of_auth_json(paths, &home.unwrap_or(dir).join("auth.json"))
}

/// The same; where it cannot be told, the main home.
pub fn home_of(paths: &PoolPaths, main_home: &CodexHome, pid: u32) -> CodexHome {
    known_home(paths, pid).unwrap_or_else(|| main_home.clone())
}

/// The home whose background server this process is.
pub fn server_dir(paths: &PoolPaths, main_home: &CodexHome, pid: u32) -> Option<PathBuf> {
    let serves = |dir: &Path| BackgroundServer::of_home(dir).is_some_and(|s| s.pid == pid);
    if serves(main_home.dir()) {
        return Some(main_home.dir().to_owned());
    }
    let homes = std::fs::read_dir(main_home.dir_of_homes(paths)).ok()?;
    homes.filter_map(|home| Some(home.ok()?.path())).find(|home| serves(home))
}

fn state_shm_files(databases: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(databases) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|e| {
            e.file_name().to_str().is_some_and(|n| n.starts_with("state_") && n.ends_with(".sqlite-shm"))
        })
        .map(|e| e.path())
        .collect()
}
