//! Bringing what a home holds into the pool before anything else happens to it: invariants 1 and 2.
//! Never writes a home, but for moving a broken document out of a free one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::{AuthFile, CodexHome, HomeKind};
use crate::account::{AccountId, AuthState, AuthStatus};
use crate::auth_doc::{AuthDoc, DocError, DocHash, MAX_BYTES};
use crate::error::{Error, Result};
use crate::files::{self, PoolLock};
use crate::ledger::Ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::store::{LostFound, Settled, Why, path_key, path_of_key};

/// How often, and how long apart, a document is read that is not whole: Codex writes it in one go.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

/// How long a document must stay broken before it counts as abandoned rather than being written.
const BROKEN_AFTER: Duration = Duration::from_secs(2);

/// What a home holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeContent {
    /// Nothing.
    Empty,
    /// An account of the pool. `stale`: the pool knows newer credentials than the home has.
    Account {
        /// Whose.
        id: AccountId,
        /// Whether the home must be written again before somebody starts on it.
        stale: bool,
    },
    /// A kind of login that we never overwrite.
    Unmanaged(&'static str),
    /// Not a whole document yet: it changed less than 2 seconds ago, so that Codex may be writing it.
    BeingWritten,
    /// Not a whole document, and not changed for 2 seconds.
    Broken,
    /// It cannot be read; the text says why.
    Unreadable(String),
}

impl HomeContent {
    /// Returns what a home holds, without changing anything.
    pub fn read(paths: &PoolPaths, codex_home: &CodexHome) -> HomeContent {
        let file = match AuthFile::find(paths, codex_home.auth_json()) {
            Ok(file) => file,
            Err(e) => return HomeContent::Unreadable(crate::error::os_text(&e)),
        };
        let bytes = match file.read() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return HomeContent::Empty,
            Err(e) => return HomeContent::Unreadable(crate::error::os_text(&e)),
        };
        match AuthDoc::parse(bytes) {
            Ok(doc) => HomeContent::Account { id: doc.id().clone(), stale: false },
            Err(e) => misfit(e, &file.real),
        }
    }

    /// The account, if it is one.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            HomeContent::Account { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// Waits while Codex is writing the document: a moment later it is whole, or abandoned. Without the lock, so that
/// nobody need wait for us.
pub fn wait_until_whole(paths: &PoolPaths, codex_home: &CodexHome) {
    let start = Instant::now();
    while start.elapsed() < BROKEN_AFTER && HomeContent::read(paths, codex_home) == HomeContent::BeingWritten
    {
        std::thread::sleep(PAUSE);
    }
}

fn misfit(error: DocError, real: &Path) -> HomeContent {
    match error {
        DocError::Unmanaged(kind) => HomeContent::Unmanaged(kind),
        _ => {
            let modified = std::fs::metadata(real).and_then(|m| m.modified());
            // A time far in the future is no sign of writing either.
            let age = modified.map(|at| match SystemTime::now().duration_since(at) {
                Ok(age) => age,
                Err(ahead) => ahead.duration(),
            });
            match age {
                Ok(age) if age >= BROKEN_AFTER => HomeContent::Broken,
                _ => HomeContent::BeingWritten,
            }
        }
    }
}

/// Takes what the home holds into the pool and remembers it.
///
/// # Errors
/// If something could not be made durable: the home must then not be touched.
pub fn reconcile(lock: &PoolLock, pool: &mut Pool, codex_home: &CodexHome, now: i64) -> Result<HomeContent> {
    let path = codex_home.auth_json();
    let file = match AuthFile::find(&pool.paths, path.clone()) {
        Ok(file) => file,
        Err(e) => return Ok(HomeContent::Unreadable(crate::error::os_text(&e))),
    };
    let bytes = match file.read() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            vanished(pool, codex_home, now);
            return Ok(HomeContent::Empty);
        }
        Err(e) => return Ok(HomeContent::Unreadable(crate::error::os_text(&e))),
    };
    if pool.state().home(&path).is_some_and(|memory| memory.leaving)
        && let Some(memory) = pool.state_mut().homes.get_mut(&path_key(&path))
    {
        // Whoever was about to take it away was killed before.
        memory.leaving = false;
    }
    let remembered = pool.state().home(&path).map(|m| (m.account.clone(), m.hash.clone()));
    let stored = match &remembered {
        Some((id, _)) => pool.credentials().bytes(id)?,
        None => None,
    };
    if let Some((id, _)) = &remembered
        && stored.as_deref() == Some(bytes.as_slice())
        && pool.standings().get(id).is_some()
    {
        return Ok(HomeContent::Account { id: id.clone(), stale: false });
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
        // The home is as we left it, so the pool's copy is what changed: to something newer, unless somebody
        // damaged it, or put a backup there. Within one second that is a renewal, whatever else it says.
        let stored = stored.clone().and_then(|bytes| AuthDoc::parse(bytes).ok());
        if stored.is_some_and(|stored| stored.id() == doc.id() && stored.issued_at() >= doc.issued_at()) {
            return Ok(HomeContent::Account { id, stale: true });
        }
    }
    let stored_unchanged = ours.is_some() && ours == stored.as_deref().map(DocHash::of);
    let settled = pool.adopt(lock, &doc, None, stored_unchanged, now)?;
    // It is there since somebody wrote it, which no one can date back.
    let since = std::fs::metadata(&file.real).map_or(now, |meta| meta.ctime().min(now));
    pool.state_mut().remember(&path, &doc, hash, since);
    let stale = settled == Settled::Kept || as_written != doc.hash();
    Ok(HomeContent::Account { id, stale })
}

/// The same, once Codex has written what it is writing: it does so in one go, in far less than the time that this
/// waits.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_whole(
    lock: &PoolLock,
    pool: &mut Pool,
    codex_home: &CodexHome,
    now: i64,
) -> Result<HomeContent> {
    let mut looks = 0;
    loop {
        let held = reconcile(lock, pool, codex_home, now)?;
        if held != HomeContent::BeingWritten || looks == LOOKS {
            return Ok(held);
        }
        looks += 1;
        std::thread::sleep(PAUSE);
    }
}

/// A document that was there is gone without our doing: the user logged out in the UI, which revokes it.
fn vanished(pool: &mut Pool, codex_home: &CodexHome, now: i64) {
    let key = path_key(&codex_home.auth_json());
    if !pool.state().homes.contains_key(&key) {
        return;
    }
    let Some(memory) = pool.state_mut().homes.remove(&key) else { return };
    // Our own doing is no logout, and neither is a whole folder that is gone.
    if memory.leaving || !codex_home.dir().is_dir() {
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

/// Moves a document that stays broken out of a free home.
///
/// # Errors
/// If it could not be kept in `lost+found/`; it is then still where it was.
pub fn clear_broken(lock: &PoolLock, pool: &mut Pool, codex_home: &CodexHome, now: i64) -> Result<()> {
    let path = codex_home.auth_json();
    let file = AuthFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("read", &path, &e))?;
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

/// Reconciles every home that we know of or that is in the ledger: for commands that need the whole truth.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_all(lock: &PoolLock, pool: &mut Pool, ledger: &Ledger, now: i64) -> Result<()> {
    let mut codex_homes = known(pool);
    codex_homes.extend(in_ledger(&pool.paths, ledger));
    codex_homes.sort_unstable_by_key(CodexHome::auth_json);
    codex_homes.dedup();
    codex_homes.iter().try_for_each(|codex_home| reconcile(lock, pool, codex_home, now).map(drop))
}

/// Returns the homes that a launch is in, or was in until just now.
pub fn in_ledger(paths: &PoolPaths, ledger: &Ledger) -> Vec<CodexHome> {
    ledger.auth_jsons().iter().filter_map(|path| CodexHome::of_auth_json(paths, path)).collect()
}

/// The homes that we remember, and the accounts' homes that hold something: what was remembered can be lost, or not
/// have been written down by a launch that was killed.
pub fn known(pool: &Pool) -> Vec<CodexHome> {
    let remembered = pool.state().homes.keys().map(|key| path_of_key(key));
    let mut codex_homes: Vec<CodexHome> =
        remembered.filter_map(|path| CodexHome::of_auth_json(&pool.paths, &path)).collect();
    let homes = discover(&pool.paths).into_iter().filter(CodexHome::is_own);
    codex_homes.extend(homes.filter(|home| home.auth_json().symlink_metadata().is_ok()));
    codex_homes.sort_unstable_by_key(CodexHome::auth_json);
    codex_homes.dedup();
    codex_homes
}

/// Opens the pool to change it.
///
/// # Errors
/// As [`Pool::open`] and [`reconcile`].
pub fn open_pool(lock: &PoolLock, paths: &PoolPaths, now: i64) -> Result<Pool> {
    let mut pool = Pool::open(lock, paths, now)?;
    rediscover_lost(lock, &mut pool, now)?;
    Ok(pool)
}

/// Reconciles every own home and its main home if the state, which remembers the homes, was lost. A document there
/// may be newer than the pool's.
///
/// # Errors
/// As [`reconcile`].
pub(crate) fn rediscover_lost(lock: &PoolLock, pool: &mut Pool, now: i64) -> Result<()> {
    // A state that was saved has a version.
    if pool.state().version > 0 {
        return Ok(());
    }
    discover(&pool.paths).iter().try_for_each(|home| reconcile(lock, pool, home, now).map(drop))
}

/// Every home, and every main home that has one. A login home is left to the login, or to who clears it.
fn discover(paths: &PoolPaths) -> Vec<CodexHome> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let dirs = entries(&paths.homes()).flat_map(|over| {
        let homes = entries(&over).filter(|dir| dir.is_dir());
        super::main_home_of(paths, &over).into_iter().chain(homes).collect::<Vec<_>>()
    });
    dirs.map(|dir| CodexHome::at(paths, dir)).filter(|home| *home.kind() != HomeKind::Login).collect()
}
