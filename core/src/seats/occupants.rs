//! Who is in a seat. A seat never changes hands while somebody is; what cannot be known counts as
//! somebody.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Base, Seat};
use crate::env::names;
use crate::files::{self, PoolLock};
use crate::launch::ledger::Ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{self, Life, ProcessId};
use crate::store::{MarkKind, path_key};

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
}

impl Occupant {
    /// For messages: `codex exec (pid 12, pts/3)`.
    pub fn describe(&self) -> String {
        let what = match &self.kind {
            Kind::Launch(command) => command.clone(),
            Kind::Server => "Codex's background server".to_owned(),
            Kind::Login => "a login".to_owned(),
            Kind::Foreign => match self.pid.and_then(process::program_name) {
                Some(name) => format!("{name}, not started through codex-pool"),
                None => "a Codex not started through codex-pool".to_owned(),
            },
        };
        match (self.pid, self.pid.and_then(process::terminal)) {
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
            })
            .collect()
    }

    /// Everybody in a seat. `databases`: where this base's SQLite files are. A background server that
    /// holds no thread does not count.
    pub fn occupants(&self, pool: &Pool, base: &Base, seat: &Seat, databases: &Path) -> Vec<Occupant> {
        let mut found = self.launches_in(seat);
        if self.ledger.unreadable {
            found.push(Occupant { kind: Kind::Launch("codex".to_owned()), pid: None });
        }
        if let Some(server) = server(seat.dir())
            && holds_thread(&server, seat.dir()) != Some(false)
        {
            found.push(Occupant { kind: Kind::Server, pid: Some(server.pid) });
        }
        found.extend(self.logins_in(pool, seat));
        for stranger in self.strangers(&pool.paths, base, databases) {
            if stranger.seat == *seat {
                found.push(Occupant { kind: Kind::Foreign, pid: stranger.pid });
            }
        }
        found
    }

    /// Whether somebody is in an account's own home.
    pub fn in_home(&self, pool: &Pool, base: &Base, home: &Seat, databases: &Path) -> bool {
        !self.occupants(pool, base, home, databases).is_empty()
    }

    fn logins_in(&self, pool: &Pool, seat: &Seat) -> Vec<Occupant> {
        let key = path_key(&seat.auth_json());
        let marks = pool.state().marks.iter();
        let here = marks.filter(|m| m.kind != MarkKind::Refresh && m.seat.as_ref() == Some(&key));
        here.filter_map(|mark| {
            let process = ProcessId::parse(&mark.process)?;
            let me = self.me.as_ref()?;
            (process != *me && process.life(me) != Life::Dead && !self.in_ledger(&process))
                .then_some(Occupant { kind: Kind::Login, pid: Some(process.pid) })
        })
        .collect()
    }

    fn in_ledger(&self, process: &ProcessId) -> bool {
        self.ledger.launches.iter().any(|l| l.process == *process)
    }

    /// Codex processes that hold this base's databases open and are none of our launches, their
    /// children, or a background server: each with the seat it reads.
    fn strangers(&self, paths: &PoolPaths, base: &Base, databases: &Path) -> Vec<Stranger> {
        let mut strangers = Vec::new();
        let mut unseen = false;
        for shm in state_shm_files(databases) {
            let holders = process::sqlite_users(&shm);
            unseen |= holders.others;
            for pid in holders.pids {
                if !self.is_ours(pid)
                    && server_dir(paths, base, pid).is_none()
                    && Some(pid) != self.me.as_ref().map(|m| m.pid)
                {
                    strangers.push(Stranger { pid: Some(pid), seat: seat_of(paths, base, pid) });
                }
            }
        }
        if unseen {
            strangers.push(Stranger { pid: None, seat: base.shared() });
        }
        strangers
    }

    fn is_ours(&self, pid: u32) -> bool {
        let mut alive = self.ledger.launches.iter().filter(|l| l.life == Life::Alive);
        alive.any(|l| process::descends_from(pid, l.process.pid))
    }
}

struct Stranger {
    pid: Option<u32>,
    seat: Seat,
}

/// The seat that a process reads, by its environment: a native Codex whose Node launcher was killed
/// is no child of our launch any more, yet still sits in its home.
pub fn seat_of(paths: &PoolPaths, base: &Base, pid: u32) -> Seat {
    let home = process::environ_var(pid, names::CODEX_HOME).flatten().map(PathBuf::from);
    let home = home.filter(|dir| dir.starts_with(paths.homes()));
    home.and_then(|dir| Seat::of_auth_json(paths, &dir.join("auth.json"))).unwrap_or_else(|| base.shared())
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
