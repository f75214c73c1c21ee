//! Bringing what a seat holds into the pool before anything else happens to it: invariants 1 and 2.
//! Never writes a seat, but for moving a broken document out of a free one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::{Seat, SeatFile};
use crate::account::{AccountId, AuthState, AuthStatus};
use crate::auth_doc::{AuthDoc, DocError, DocHash, MAX_BYTES};
use crate::error::{Error, Result};
use crate::files::{self, PoolLock};
use crate::launch::ledger::Ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::store::{LostFound, Settled, Why, path_key, path_of_key};

/// How often, and how long apart, a document is read that is not whole: Codex writes it in one go.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

/// How long a document must stay broken before it counts as abandoned rather than being written.
const BROKEN_AFTER: Duration = Duration::from_secs(2);

/// What a seat holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    Empty,
    /// An account of the pool. `stale`: the pool knows newer credentials than the seat has.
    Account {
        /// Whose.
        id: AccountId,
        /// Whether the seat must be written again before somebody starts on it.
        stale: bool,
    },
    /// A kind of login that we never overwrite.
    Unmanaged(&'static str),
    /// Not a whole document. `settled`: for so long that nobody is writing it any more.
    Broken {
        /// For longer than [`BROKEN_AFTER`].
        settled: bool,
    },
    /// It cannot be read; the text says why.
    Unreadable(String),
}

impl Holding {
    /// The account, if it is one.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Holding::Account { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// What a seat holds, without changing anything: for `list` and for waiting while Codex writes.
pub fn look(paths: &PoolPaths, seat: &Seat) -> Holding {
    let file = match SeatFile::find(paths, seat.auth_json()) {
        Ok(file) => file,
        Err(e) => return Holding::Unreadable(crate::error::os_text(&e)),
    };
    let bytes = match file.read() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Holding::Empty,
        Err(e) => return Holding::Unreadable(crate::error::os_text(&e)),
    };
    match AuthDoc::parse(bytes) {
        Ok(doc) => Holding::Account { id: doc.id().clone(), stale: false },
        Err(e) => misfit(e, &file.real),
    }
}

/// Waits while Codex is writing the document: a moment later it is whole, or abandoned. Without the lock, so that
/// nobody need wait for us.
pub fn wait_until_whole(paths: &PoolPaths, seat: &Seat) {
    let start = Instant::now();
    while start.elapsed() < BROKEN_AFTER && look(paths, seat) == (Holding::Broken { settled: false }) {
        std::thread::sleep(PAUSE);
    }
}

fn misfit(error: DocError, real: &Path) -> Holding {
    match error {
        DocError::Unmanaged(kind) => Holding::Unmanaged(kind),
        _ => {
            let modified = std::fs::metadata(real).and_then(|m| m.modified());
            // A time far in the future is no sign of writing either.
            let age = modified.map(|at| match SystemTime::now().duration_since(at) {
                Ok(age) => age,
                Err(ahead) => ahead.duration(),
            });
            Holding::Broken { settled: age.is_ok_and(|age| age >= BROKEN_AFTER) }
        }
    }
}

/// Takes what the seat holds into the pool and remembers it.
///
/// # Errors
/// If something could not be made durable: the seat must then not be touched.
pub fn reconcile(lock: &PoolLock, pool: &mut Pool, seat: &Seat, now: i64) -> Result<Holding> {
    let path = seat.auth_json();
    let file = match SeatFile::find(&pool.paths, path.clone()) {
        Ok(file) => file,
        Err(e) => return Ok(Holding::Unreadable(crate::error::os_text(&e))),
    };
    let bytes = match file.read() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            vanished(pool, seat, now);
            return Ok(Holding::Empty);
        }
        Err(e) => return Ok(Holding::Unreadable(crate::error::os_text(&e))),
    };
    if pool.state().seat(&path).is_some_and(|memory| memory.leaving)
        && let Some(memory) = pool.state_mut().seats.get_mut(&path_key(&path))
    {
        // Whoever was about to take it away was killed before.
        memory.leaving = false;
    }
    let remembered = pool.state().seat(&path).map(|m| (m.account.clone(), m.hash.clone()));
    let stored = match &remembered {
        Some((id, _)) => pool.credentials().bytes(id)?,
        None => None,
    };
    if let Some((id, _)) = &remembered
        && stored.as_deref() == Some(bytes.as_slice())
        && pool.standings().get(id).is_some()
    {
        return Ok(Holding::Account { id: id.clone(), stale: false });
    }
    let hash = DocHash::of(&bytes);
    let doc = match AuthDoc::parse(bytes) {
        Ok(doc) => doc,
        Err(e) => return Ok(misfit(e, &file.real)),
    };
    let as_written = hash.clone();
    let doc = doc.corrected();
    let id = doc.id().clone();
    let ours = remembered.filter(|(account, _)| *account == id).map(|(_, hash)| hash);
    if ours.as_ref() == Some(&hash) && pool.standings().get(&id).is_some() {
        // The seat is as we left it, so the pool's copy is what changed: to something newer, unless somebody
        // damaged it, or put a backup there. Within one second that is a renewal, whatever else it says.
        let stored = stored.clone().and_then(|bytes| AuthDoc::parse(bytes).ok());
        if stored.is_some_and(|stored| stored.id() == doc.id() && stored.issued_at() >= doc.issued_at()) {
            return Ok(Holding::Account { id, stale: true });
        }
    }
    let stored_unchanged = ours.is_some() && ours == stored.as_deref().map(DocHash::of);
    let settled = pool.adopt(lock, &doc, None, stored_unchanged, now)?;
    // It is there since somebody wrote it, which no one can date back.
    let since = std::fs::metadata(&file.real).map_or(now, |meta| meta.ctime().min(now));
    pool.state_mut().remember(&path, &doc, hash, since);
    let stale = settled == Settled::Kept || as_written != doc.hash();
    Ok(Holding::Account { id, stale })
}

/// The same, once Codex has written what it is writing: it does so in one go, in far less than the time that this
/// waits.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_whole(lock: &PoolLock, pool: &mut Pool, seat: &Seat, now: i64) -> Result<Holding> {
    let mut looks = 0;
    loop {
        let held = reconcile(lock, pool, seat, now)?;
        if held != (Holding::Broken { settled: false }) || looks == LOOKS {
            return Ok(held);
        }
        looks += 1;
        std::thread::sleep(PAUSE);
    }
}

/// A document that was there is gone without our doing: the user logged out in the UI, which revokes it.
fn vanished(pool: &mut Pool, seat: &Seat, now: i64) {
    let key = path_key(&seat.auth_json());
    if !pool.state().seats.contains_key(&key) {
        return;
    }
    let Some(memory) = pool.state_mut().seats.remove(&key) else { return };
    // Our own doing is no logout, and neither is a whole folder that is gone.
    if memory.leaving || !seat.dir().is_dir() {
        return;
    }
    if let Some(account) = pool.registry_mut().get_mut(&memory.account) {
        account.auth = AuthStatus {
            state: AuthState::ReauthRequired,
            reason: Some("logged_out".to_owned()),
            since: Some(now),
        };
    }
}

/// Moves a document that stays broken out of a free seat.
///
/// # Errors
/// If it could not be kept in `lost+found/`; it is then still where it was.
pub fn clear_broken(lock: &PoolLock, pool: &mut Pool, seat: &Seat, now: i64) -> Result<()> {
    let path = seat.auth_json();
    let file = SeatFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("read", &path, &e))?;
    let old = file.open().map_err(|e| Error::io("read", &path, &e))?;
    let Some(bytes) = file.read().map_err(|e| Error::io("read", &path, &e))? else { return Ok(()) };
    if !bytes.is_empty() {
        LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now)?;
    }
    files::remove_file(&file.real).map_err(|e| Error::io("remove", &path, &e))?;
    adopt_late_write(lock, pool, old, Some(&DocHash::of(&bytes)), now)
}

/// Codex writes in place: somebody may have written into the file since it was reconciled (`seen`:
/// what was there then), or be writing just now.
pub(super) fn adopt_late_write(
    lock: &PoolLock,
    pool: &mut Pool,
    old: Option<File>,
    seen: Option<&DocHash>,
    now: i64,
) -> Result<()> {
    let Some(old) = old else { return Ok(()) };
    let mut looks = 0;
    loop {
        let Ok(bytes) = files::read_open(&old, MAX_BYTES) else { return Ok(()) };
        if seen == Some(&DocHash::of(&bytes)) {
            return Ok(());
        }
        match AuthDoc::parse(bytes.clone()) {
            Ok(doc) => return pool.adopt(lock, &doc.corrected(), None, false, now).map(|_| ()),
            Err(DocError::NotJson) if looks < LOOKS => {
                looks += 1;
                std::thread::sleep(PAUSE);
            }
            Err(_) if bytes.is_empty() => return Ok(()),
            Err(_) => {
                return LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now).map(|_| ());
            }
        }
    }
}

/// Reconciles every seat that we know of or that is in the ledger: for commands that need the whole truth.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_all(lock: &PoolLock, pool: &mut Pool, ledger: &Ledger, now: i64) -> Result<()> {
    let mut seats = known(pool);
    seats.extend(ledger.seats(&pool.paths));
    seats.sort_unstable_by_key(Seat::auth_json);
    seats.dedup();
    seats.iter().try_for_each(|seat| reconcile(lock, pool, seat, now).map(drop))
}

/// The seats that we remember, and the accounts' homes that hold something: what was remembered can be lost, or not
/// have been written down by a launch that was killed.
pub fn known(pool: &Pool) -> Vec<Seat> {
    let remembered = pool.state().seats.keys().map(|key| path_of_key(key));
    let mut seats: Vec<Seat> = remembered.filter_map(|path| Seat::of_auth_json(&pool.paths, &path)).collect();
    let homes = discover(&pool.paths).into_iter().filter(Seat::is_home);
    seats.extend(homes.filter(|home| home.auth_json().symlink_metadata().is_ok()));
    seats.sort_unstable_by_key(Seat::auth_json);
    seats.dedup();
    seats
}

/// Finds the seats again after what was remembered of them is lost: every home, and every base that has one.
/// What is there may be newer than what the pool has.
///
/// # Errors
/// As [`reconcile`].
pub fn rediscover(lock: &PoolLock, pool: &mut Pool, now: i64) -> Result<()> {
    discover(&pool.paths).iter().try_for_each(|seat| reconcile(lock, pool, seat, now).map(drop))
}

/// Every home, and every base that has one.
fn discover(paths: &PoolPaths) -> Vec<Seat> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let dirs = entries(&paths.homes()).flat_map(|over| {
        let homes = entries(&over).filter(|dir| dir.is_dir());
        super::home::base_of(paths, &over).into_iter().chain(homes).collect::<Vec<_>>()
    });
    dirs.filter_map(|dir| Seat::of_auth_json(paths, &dir.join("auth.json"))).collect()
}
