//! Who is in a seat. A seat never changes hands while somebody is; what cannot be known counts as
//! somebody.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Base, Link, Seat, SeatFile};
use crate::account::AccountId;
use crate::env::{self, names};
use crate::files::{self, PoolLock};
use crate::launch::ledger::Ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{self, Life, LockHolders, ProcessId};
use crate::store::{Mark, MarkKind, path_key, path_of_key};

/// What kind of user a seat has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A launch of ours: what it runs (`codex exec`).
    Launch(String),
    /// Codex's background server.
    Server,
    /// `codex login` or `codex logout`.
    Login,
    /// A Codex that we did not launch: an editor, the desktop app, a full path.
    Foreign,
}

/// Somebody in a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    /// What it is.
    pub kind: Kind,
    /// Its process, if it can be told.
    pub pid: Option<u32>,
    /// As whom it works, if that is known.
    pub account: Option<AccountId>,
}

/// A seat that somebody is in.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Which.
    pub seat: Seat,
    /// The account that was last seen in it.
    pub account: Option<AccountId>,
    /// Who is in it; never empty.
    pub occupants: Vec<Occupant>,
}

impl Occupant {
    /// The terminal that it reads (`pts/3`).
    pub fn terminal(&self) -> Option<String> {
        self.pid.and_then(process::terminal)
    }

    /// For messages: `codex exec (pid 12, pts/3)`.
    pub fn describe(&self) -> String {
        let what = match &self.kind {
            Kind::Launch(command) => command.clone(),
            Kind::Server => "Codex's background server".to_owned(),
            Kind::Login => "a login".to_owned(),
            Kind::Foreign => match self.pid.and_then(process::program_name) {
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

/// A living background server of a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its process.
    pub pid: u32,
    /// Its start, in clock ticks since boot.
    pub start_ticks: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PidFile {
    pid: u32,
    process_identity: Option<PidFileIdentity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PidFileIdentity {
    boot_id: Option<String>,
    start_ticks: Option<u64>,
}

/// The background server that lives on a seat, from `app-server-daemon/daemon.pid`.
pub fn server(dir: &Path) -> Option<Server> {
    let bytes = files::read_small(&dir.join("app-server-daemon/daemon.pid"), 1 << 16).ok()??;
    let file: PidFile = serde_json::from_slice(&bytes).ok()?;
    let stat = process::stat(file.pid).filter(|stat| !stat.ended)?;
    if let Some(identity) = &file.process_identity {
        let me = ProcessId::of_self().ok()?;
        let same_boot = identity.boot_id.as_ref().is_none_or(|b| b.replace('-', "") == me.boot);
        if !same_boot || identity.start_ticks.is_some_and(|t| t != stat.start_ticks) {
            return None;
        }
    }
    Some(Server { pid: file.pid, start_ticks: stat.start_ticks })
}

/// Whether a server holds a thread; `None` if that cannot be told.
pub fn holds_thread(server: &Server, dir: &Path) -> Option<bool> {
    process::holds_flock_in(server.pid, &dir.join("thread-writer-locks"))
}

/// A seat's background server, if it is at work.
fn busy_server(pool: &Pool, seat: &Seat) -> Option<Occupant> {
    let server = server(seat.dir()).filter(|server| holds_thread(server, seat.dir()) != Some(false))?;
    Some(served_by(pool, seat, &server))
}

fn served_by(pool: &Pool, seat: &Seat, server: &Server) -> Occupant {
    let memory = pool.state().seat(&seat.auth_json());
    let account = memory.and_then(|memory| super::server_account(memory, server));
    Occupant { kind: Kind::Server, pid: Some(server.pid), account }
}

/// A look at everybody: the ledger, as seen from this process.
#[derive(Debug)]
pub struct Census {
    /// The launches.
    pub ledger: Ledger,
    /// This process; `None` where the system does not tell, and then everything is in use.
    pub me: Option<ProcessId>,
}

impl Census {
    /// Takes the census. With the lock, the ledger is tidied.
    pub fn take(lock: Option<&PoolLock>, paths: &PoolPaths, now: i64) -> Census {
        match ProcessId::of_self() {
            Ok(me) => Census { ledger: Ledger::read(lock, paths, &me, now), me: Some(me) },
            Err(_) => Census { ledger: Ledger { unreadable: true, ..Ledger::default() }, me: None },
        }
    }

    /// Whether nobody can tell who sits where.
    pub fn blind(&self) -> bool {
        self.ledger.unreadable || self.ledger.launches.iter().any(|l| l.entry.is_none())
    }

    /// Launches in a seat, other than this process itself.
    pub fn launches_in(&self, seat: &Seat) -> Vec<Occupant> {
        let key = path_key(&seat.auth_json());
        let here = |l: &&crate::launch::ledger::Launch| {
            self.me.as_ref() != Some(&l.process) && l.entry.as_ref().is_none_or(|e| e.seat == key)
        };
        self.ledger
            .launches
            .iter()
            .filter(here)
            .map(|l| Occupant {
                kind: match &l.entry {
                    Some(entry) if entry.command.ends_with("login") || entry.command.ends_with("logout") => {
                        Kind::Login
                    }
                    Some(entry) => Kind::Launch(entry.command.clone()),
                    None => Kind::Launch("codex".to_owned()),
                },
                pid: (l.life == Life::Alive).then_some(l.process.pid),
                account: l.entry.as_ref().and_then(|entry| entry.account.clone()),
            })
            .collect()
    }

    /// Everybody in a seat, or in another one that shares its file by a link of the user's. `databases`: where
    /// this base's SQLite files are. A background server that holds no thread does not count.
    pub fn occupants(&self, pool: &Pool, base: &Base, seat: &Seat, databases: &Path) -> Vec<Occupant> {
        let mut found = self.in_seat(pool, base, seat, databases);
        found.extend(busy_server(pool, seat));
        for other in self.sharers(pool, seat) {
            let over = Base::under(&pool.paths, &other);
            let databases = if over.dir() == base.dir() { databases } else { over.dir() };
            found.extend(self.in_seat(pool, &over, &other, databases));
            // Nobody stops the server of a seat that is not asked for, so an idle one counts.
            let server = server(other.dir());
            found.extend(server.map(|server| served_by(pool, &other, &server)));
        }
        found
    }

    /// Every seat that somebody is in, for people: the shared one of this base first. `databases`: where this base's
    /// SQLite files are.
    pub fn taken(&self, pool: &Pool, base: &Base, databases: &Path) -> Vec<Taken> {
        let remembered = pool.state().seats.keys().map(|key| path_of_key(key));
        let launched = self.ledger.launches.iter().filter_map(|l| Some(path_of_key(&l.entry.as_ref()?.seat)));
        let homes = std::fs::read_dir(pool.paths.homes().join(base.key())).into_iter().flatten().flatten();
        let homes = homes.map(|home| home.path()).filter(|home| home.is_dir());
        let mut paths: Vec<PathBuf> = remembered.chain(launched).collect();
        paths.extend(homes.map(|home| home.join("auth.json")));
        paths.sort_unstable();
        paths.dedup();
        let shared = base.shared();
        let seats = paths.iter().filter_map(|path| Seat::of_auth_json(&pool.paths, path));
        let seats = std::iter::once(shared.clone()).chain(seats.filter(|seat| *seat != shared));
        let taken = seats.filter_map(|seat| {
            let over = Base::under(&pool.paths, &seat);
            let databases = if over.dir() == base.dir() { databases } else { over.dir() };
            let mut occupants = self.in_seat(pool, &over, &seat, databases);
            // Somebody whom we cannot see may be in any seat; to name one is enough.
            occupants.retain(|o| o.kind != Kind::Foreign || o.pid.is_some() || seat == shared);
            occupants.extend(busy_server(pool, &seat));
            let account = pool.state().seat(&seat.auth_json()).map(|memory| memory.account.clone());
            (!occupants.is_empty()).then_some(Taken { seat, account, occupants })
        });
        taken.collect()
    }

    fn in_seat(&self, pool: &Pool, base: &Base, seat: &Seat, databases: &Path) -> Vec<Occupant> {
        let mut found = self.launches_in(seat);
        if self.ledger.unreadable {
            found.push(Occupant { kind: Kind::Launch("codex".to_owned()), pid: None, account: None });
        }
        found.extend(self.logins_in(pool, seat));
        let strangers = self.strangers_in(&pool.paths, base, seat, databases);
        found.extend(strangers.into_iter().map(|pid| Occupant { kind: Kind::Foreign, pid, account: None }));
        found
    }

    /// Seats whose `auth.json` leads to the same file as this one's through a link of the user's.
    fn sharers(&self, pool: &Pool, seat: &Seat) -> Vec<Seat> {
        let find = |path: PathBuf| SeatFile::find(&pool.paths, path).ok();
        let Some(file) = find(seat.auth_json()).filter(|file| file.link != Link::Ours) else {
            return Vec::new();
        };
        let mut others: Vec<PathBuf> = pool.state().seats.keys().map(|key| path_of_key(key)).collect();
        others.extend(self.ledger.launches.iter().filter_map(|l| Some(path_of_key(&l.entry.as_ref()?.seat))));
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
        others.iter().filter_map(|path| Seat::of_auth_json(&pool.paths, path)).collect()
    }

    /// Logins under way that are not in the ledger, or whose shim was killed while Codex goes on.
    fn logins_in(&self, pool: &Pool, seat: &Seat) -> Vec<Occupant> {
        let key = path_key(&seat.auth_json());
        let marks = pool.state().marks.iter();
        let here = marks.filter(|m| m.kind != MarkKind::Refresh && m.seat.as_ref() == Some(&key));
        let under_way = |mark: &Mark| {
            let process = ProcessId::parse(&mark.process)?;
            let me = self.me.as_ref()?;
            let known = process == *me || self.ledger.launches.iter().any(|l| l.process == process);
            if known {
                return None;
            }
            let pid = match process.life(me) {
                Life::Alive => Some(process.pid),
                Life::Unknown => None,
                Life::Dead => Some(*orphans(&process).first()?),
            };
            Some(Occupant { kind: Kind::Login, pid, account: None })
        };
        here.filter_map(under_way).collect()
    }

    /// Codex processes that read this seat's file and are none of our launches there, their children, or
    /// a background server. `None`: somebody whom we cannot see, in whatever seat.
    fn strangers_in(
        &self,
        paths: &PoolPaths,
        base: &Base,
        seat: &Seat,
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
            let known = known_seat(paths, *pid);
            !self.accounts_for(*pid, known.as_ref())
                && known.unwrap_or_else(|| base.shared()) == *seat
                && server_dir(paths, base, *pid).is_none()
        });
        // An interface that starts the background server opens the databases only after it.
        let starting = process::flock_holders(&seat.dir().join("app-server-daemon/daemon.lock"));
        let new = |pid: &u32| !self.accounts_for(*pid, None) && !holders.pids.contains(pid);
        let starting_pids: Vec<u32> = starting.pids.into_iter().filter(new).collect();
        let unseen = (holders.others || starting.others).then_some(None);
        holders.pids.into_iter().chain(starting_pids).map(Some).chain(unseen).collect()
    }

    /// Whether this process is a launch of the ledger, or below one and in the same seat. Of one that we
    /// cannot look into we know only whose child it is.
    fn accounts_for(&self, pid: u32, seat: Option<&Seat>) -> bool {
        let launch =
            |pid| self.ledger.launches.iter().find(|l| l.life == Life::Alive && l.process.pid == pid);
        process::ancestors(pid).find_map(launch).is_some_and(|launch| match (&launch.entry, seat) {
            (Some(entry), Some(seat)) => entry.seat == path_key(&seat.auth_json()),
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

/// The seat that a process reads, by its environment: a native Codex whose Node launcher was killed
/// is no child of our launch any more, yet still sits in its home. `None` if that cannot be told.
fn known_seat(paths: &PoolPaths, pid: u32) -> Option<Seat> {
    let dir = codex_home_of(pid)?;
    let homes = std::fs::canonicalize(paths.homes()).ok();
    // As we write it ourselves, whatever links lead to the pool.
    let home = homes.and_then(|homes| Some(paths.homes().join(dir.strip_prefix(homes).ok()?)));
    Seat::of_auth_json(paths, &home.unwrap_or(dir).join("auth.json"))
}

/// The same; where it cannot be told, the shared seat.
pub fn seat_of(paths: &PoolPaths, base: &Base, pid: u32) -> Seat {
    known_seat(paths, pid).unwrap_or_else(|| base.shared())
}

/// The seat whose background server this process is.
pub fn server_dir(paths: &PoolPaths, base: &Base, pid: u32) -> Option<PathBuf> {
    let serves = |dir: &Path| server(dir).is_some_and(|s| s.pid == pid);
    if serves(base.dir()) {
        return Some(base.dir().to_owned());
    }
    let homes = std::fs::read_dir(paths.homes().join(base.key())).ok()?;
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
