//! Taking what a home holds into the pool, before anything else happens to the home (invariants 1 and 2). Writes no
//! home, but removes a broken document from a free one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::exchange::{New, exchange, take_in_leftovers};
use super::{AuthFile, CodexHome, known};
use crate::account::{AccountId, AuthReason, AuthState};
use crate::auth_doc::{AuthDoc, DocError, DocHash, MAX_BYTES};
use crate::error::{Error, Result, os_text};
use crate::files::{self, PoolLock};
use crate::ledger::Ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::store::{LostFound, Origin, Why, path_key};

/// How often a document that is not whole is read, and how long apart. Codex writes it in one go.
const READS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

/// A document that is not whole for so long is abandoned: Codex is not writing it any more.
const BROKEN_AFTER: Duration = Duration::from_secs(2);

/// What a home holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeContent {
    /// No document.
    Empty,
    /// The document of an account in the pool.
    Account {
        /// The account.
        id: AccountId,
        /// The pool has newer credentials: they must be written here before a Codex starts on them.
        stale: bool,
    },
    /// A kind of login that is never overwritten.
    Unmanaged(&'static str),
    /// Another program's login (see [`super::is_foreign`]). It is not even taken in.
    Foreign,
    /// Not a whole document, and changed less than 2 seconds ago: Codex may be writing it.
    BeingWritten,
    /// Not a whole document, and not changed for 2 seconds.
    Broken,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

impl HomeContent {
    /// Returns what a home holds, without changing anything.
    pub fn read(paths: &PoolPaths, home: &CodexHome) -> HomeContent {
        let file = match AuthFile::find(paths, home.auth_json()) {
            Ok(file) => file,
            Err(e) => return HomeContent::Unreadable(os_text(&e)),
        };
        let bytes = match file.read() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return HomeContent::Empty,
            Err(e) => return HomeContent::Unreadable(os_text(&e)),
        };
        match AuthDoc::parse(bytes) {
            Ok(doc) => HomeContent::Account { id: doc.id().clone(), stale: false },
            Err(e) => HomeContent::of_error(e, &file.real),
        }
    }

    /// Returns the account.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            HomeContent::Account { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Returns whether it is a document that is not whole.
    pub fn is_partial(&self) -> bool {
        matches!(self, HomeContent::BeingWritten | HomeContent::Broken)
    }

    fn of_error(error: DocError, file: &Path) -> HomeContent {
        if let DocError::Unmanaged(kind) = error {
            return HomeContent::Unmanaged(kind);
        }
        if is_abandoned(file) { HomeContent::Broken } else { HomeContent::BeingWritten }
    }
}

/// Returns whether a file has not been written for so long that no Codex is writing it.
pub(super) fn is_abandoned(file: &Path) -> bool {
    let modified = std::fs::metadata(file).and_then(|m| m.modified());
    // A time far in the future does not mean that the file is being written either.
    let age = modified.map(|at| match SystemTime::now().duration_since(at) {
        Ok(age) => age,
        Err(ahead) => ahead.duration(),
    });
    age.is_ok_and(|age| age >= BROKEN_AFTER)
}

/// Waits while Codex is writing the document: until it is whole, or abandoned. The caller does not hold the lock.
pub fn wait_until_whole(paths: &PoolPaths, home: &CodexHome) {
    let start = Instant::now();
    while start.elapsed() < BROKEN_AFTER && HomeContent::read(paths, home) == HomeContent::BeingWritten {
        std::thread::sleep(PAUSE);
    }
}

/// Takes the document of a home into the pool and remembers it.
///
/// # Errors
/// If something could not be made durable. The home must not be changed then.
pub fn reconcile(lock: &PoolLock, pool: &mut Pool, home: &CodexHome, now: i64) -> Result<HomeContent> {
    let path = home.auth_json();
    let file = match AuthFile::find(&pool.paths, path.clone()) {
        Ok(file) => file,
        Err(e) => return Ok(HomeContent::Unreadable(os_text(&e))),
    };
    take_in_leftovers(lock, pool, home, &file, now)?;
    let bytes = match file.read() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            vanished(pool, home, now);
            return Ok(HomeContent::Empty);
        }
        Err(e) => return Ok(HomeContent::Unreadable(os_text(&e))),
    };
    if pool.state().home(&path).is_some_and(|record| record.leaving)
        && let Some(record) = pool.state_mut().homes.get_mut(&path_key(&path))
    {
        // The process that was about to remove the document was killed before.
        record.leaving = false;
    }
    let remembered = pool.state().home(&path).map(|record| (record.account.clone(), record.hash.clone()));
    let stored = match &remembered {
        Some((id, _)) => expected(pool, id)?,
        None => None,
    };
    if let Some((id, _)) = &remembered
        && stored.as_deref() == Some(bytes.as_slice())
        && pool.registry().get(id).is_some()
    {
        return Ok(HomeContent::Account { id: id.clone(), stale: false });
    }
    let hash = DocHash::of(&bytes);
    let doc = match AuthDoc::parse(bytes) {
        Ok(doc) => doc,
        Err(e) => return Ok(HomeContent::of_error(e, &file.real)),
    };
    let as_written = hash.clone();
    if pool.is_unwanted(&doc) {
        return Ok(HomeContent::Unmanaged(
            "a login of its own, which a runner of a shared pool cannot take in",
        ));
    }
    let doc = doc.corrected();
    let id = doc.id().clone();
    let ours = remembered.filter(|(account, _)| *account == id).map(|(_, hash)| hash);
    if ours.as_ref() == Some(&hash) && pool.registry().get(&id).is_some() {
        // The home is as we left it, so the pool's copy has changed: to a newer one, unless it was damaged or replaced
        // by a backup. One of the same second is a renewal, whatever else it says.
        let stored = stored.clone().and_then(|bytes| AuthDoc::parse(bytes).ok());
        if stored.is_some_and(|stored| stored.id() == doc.id() && stored.issued_at() >= doc.issued_at()) {
            return Ok(HomeContent::Account { id, stale: true });
        }
    }
    let stored_unchanged = ours.is_some() && ours == stored.as_deref().map(DocHash::of);
    let origin = if stored_unchanged { Origin::Successor } else { Origin::Found };
    pool.adopt(lock, &doc, None, origin, now)?;
    // The time of the last change of the file; unlike the time of modification, it cannot be set.
    let since = std::fs::metadata(&file.real).map_or(now, |meta| meta.ctime().min(now));
    pool.state_mut().remember(&path, &doc, hash, since);
    let stale = expected(pool, &id)?.as_deref().map(DocHash::of) != Some(as_written);
    Ok(HomeContent::Account { id, stale })
}

/// Returns the bytes that a home of this account has if nothing has changed.
fn expected(pool: &Pool, id: &AccountId) -> Result<Option<Vec<u8>>> {
    let stored = pool.credentials().bytes(id)?;
    if pool.shared().is_none() {
        return Ok(stored);
    }
    Ok(stored.map(|bytes| match AuthDoc::parse(bytes.clone()) {
        Ok(doc) => pool.for_home(doc).bytes().to_vec(),
        Err(_) => bytes,
    }))
}

/// Does as [`reconcile`], and waits a moment if Codex is writing the document. It writes in one go, in far less time.
///
/// # Errors
/// As [`reconcile`].
pub(crate) fn reconcile_whole(
    lock: &PoolLock,
    pool: &mut Pool,
    home: &CodexHome,
    now: i64,
) -> Result<HomeContent> {
    let mut reads = 0;
    loop {
        let content = reconcile(lock, pool, home, now)?;
        if content != HomeContent::BeingWritten || reads == READS {
            return Ok(content);
        }
        reads += 1;
        std::thread::sleep(PAUSE);
    }
}

/// Notes a logout if a document is gone that was there: `/logout` in the interface revokes the login and removes it.
fn vanished(pool: &mut Pool, home: &CodexHome, now: i64) {
    let key = path_key(&home.auth_json());
    if !pool.state().homes.contains_key(&key) {
        return;
    }
    let Some(record) = pool.state_mut().homes.remove(&key) else { return };
    // Our own removal is no logout, and neither is that of a whole folder.
    // In a shared pool, the login is that of other machines, too: the next launch puts it back.
    if !record.leaving && home.dir().is_dir() && pool.shared().is_none() {
        note_logout(pool, &record.account, now);
    }
}

/// Notes that an account was logged out.
pub(crate) fn note_logout(pool: &mut Pool, id: &AccountId, now: i64) {
    pool.set_auth(id, AuthState::ReauthRequired, Some(AuthReason::LoggedOut), now);
}

/// Removes a document that is not whole from a free home, and keeps it in `lost+found/`.
///
/// # Errors
/// If it could not be kept. It is still in the home then.
pub fn clear_broken(lock: &PoolLock, pool: &mut Pool, home: &CodexHome, now: i64) -> Result<()> {
    let path = home.auth_json();
    let file = AuthFile::find(&pool.paths, path.clone()).map_err(|e| Error::io("read", &path, &e))?;
    let Some(bytes) = file.read().map_err(|e| Error::io("read", &path, &e))? else { return Ok(()) };
    if !bytes.is_empty() {
        LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now)?;
    }
    let out = exchange(lock, home, &file, &file.real, New::Nothing, None)?;
    out.map_or(Ok(()), |out| out.adopt(lock, pool, Some(&DocHash::of(&bytes)), now))
}

/// Adopts what was written into a file that is replaced or removed by now. Codex writes in place: it may have done so
/// since the file was reconciled (`seen`: its content then), or be doing so.
pub(super) fn adopt_late_write(
    lock: &PoolLock,
    pool: &mut Pool,
    old: Option<File>,
    seen: Option<&DocHash>,
    now: i64,
) -> Result<()> {
    let Some(old) = old else { return Ok(()) };
    let mut reads = 0;
    loop {
        let Ok(bytes) = files::read_open(&old, MAX_BYTES) else { return Ok(()) };
        if seen == Some(&DocHash::of(&bytes)) {
            return Ok(());
        }
        match AuthDoc::parse(bytes.clone()) {
            Ok(doc) => return pool.adopt(lock, &doc.corrected(), None, Origin::Found, now).map(|_| ()),
            Err(DocError::NotJson) if reads < READS => {
                reads += 1;
                std::thread::sleep(PAUSE);
            }
            Err(_) if bytes.is_empty() => return Ok(()),
            Err(_) => {
                return LostFound::new(&pool.paths).keep(lock, &bytes, Why::Broken, None, now).map(|_| ());
            }
        }
    }
}

/// Reconciles every home that is known or in the ledger: for commands that need the whole truth.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_all(lock: &PoolLock, pool: &mut Pool, ledger: &Ledger, now: i64) -> Result<()> {
    reconcile_all_but(lock, pool, ledger, None, now)
}

/// Does the same, but for one home, which was reconciled just now.
///
/// # Errors
/// As [`reconcile`].
pub(crate) fn reconcile_all_but(
    lock: &PoolLock,
    pool: &mut Pool,
    ledger: &Ledger,
    done: Option<&CodexHome>,
    now: i64,
) -> Result<()> {
    let mut homes = known::known(pool);
    homes.extend(known::in_ledger(&pool.paths, ledger));
    let homes = known::each_once(homes);
    let mut homes = homes.iter().filter(|home| Some(*home) != done);
    homes.try_for_each(|home| reconcile(lock, pool, home, now).map(drop))
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

/// Reconciles every home on disk if the state, which remembers the homes, was lost. A document there may be newer than
/// the pool's.
///
/// # Errors
/// As [`reconcile`].
fn rediscover_lost(lock: &PoolLock, pool: &mut Pool, now: i64) -> Result<()> {
    // A state that was saved has a version.
    if pool.state().version > 0 {
        return Ok(());
    }
    known::on_disk(&pool.paths).iter().try_for_each(|home| reconcile(lock, pool, home, now).map(drop))
}
