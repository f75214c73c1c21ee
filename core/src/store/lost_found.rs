//! `lost+found/`: documents that were replaced or not understood, mode 0600, kept for 30 days.

use std::path::PathBuf;

use crate::account::AccountId;
use crate::auth_doc::AuthDoc;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock, RenewalLock};
use crate::hash;
use crate::paths::PoolPaths;

/// How long a document is kept, seconds.
const KEPT: i64 = 30 * 86_400;

/// Why a document was kept. It is part of the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A newer one has its place.
    Replaced,
    /// It is as new as the one that has its place. Only a renewal can tell which one is good.
    Tie,
    /// It was not understood.
    Broken,
    /// It is the answer of a renewal that could not be stored.
    Renewed,
    /// It is a new login that could not be adopted.
    Login,
}

impl Why {
    const ALL: [Why; 5] = [Why::Replaced, Why::Tie, Why::Broken, Why::Renewed, Why::Login];

    fn as_str(self) -> &'static str {
        match self {
            Why::Replaced => "replaced",
            Why::Tie => "tie",
            Why::Broken => "broken",
            Why::Renewed => "renewed",
            Why::Login => "login",
        }
    }
}

/// A document in the folder. Its file is named `<time>-<account>-<why>-<hash>.json`, or without the hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// When it was kept, Unix seconds.
    pub at: i64,
    /// The file.
    pub path: PathBuf,
    /// Its account; `None` if it was not understood.
    pub account: Option<AccountId>,
    /// The name without the time.
    tail: String,
}

impl Kept {
    fn of(path: PathBuf) -> Option<Kept> {
        let (at, tail) = path.file_name()?.to_str()?.split_once('-')?;
        let account = tail.split('-').next().and_then(AccountId::parse);
        Some(Kept { at: at.parse().ok()?, account, tail: tail.to_owned(), path })
    }

    /// Returns why it was kept; `None` if another version of codex-pool kept it.
    pub fn why(&self) -> Option<Why> {
        let why = self.tail.strip_suffix(".json")?.split('-').nth(1)?;
        Why::ALL.into_iter().find(|known| known.as_str() == why)
    }
}

/// The folder.
#[derive(Debug)]
pub struct LostFound<'a> {
    paths: &'a PoolPaths,
}

impl<'a> LostFound<'a> {
    /// Returns the folder of this pool.
    pub fn new(paths: &'a PoolPaths) -> Self {
        LostFound { paths }
    }

    /// Keeps a copy, durably, and removes documents after 30 days. The same bytes are kept once. Returns the file.
    ///
    /// # Errors
    /// The copy cannot be written.
    pub fn keep(
        &self,
        _lock: &PoolLock,
        bytes: &[u8],
        why: Why,
        id: Option<&AccountId>,
        now: i64,
    ) -> Result<PathBuf> {
        let whose = id.map_or("unknown", AccountId::as_str);
        let tail = format!("{whose}-{}-{:.12}.json", why.as_str(), hash::sha256(bytes));
        if let Some(kept) = self.entries().into_iter().find(|kept| kept.tail == tail) {
            // Its 30 days begin again.
            let path = kept.path.with_file_name(format!("{now}-{tail}"));
            std::fs::rename(&kept.path, &path).map_err(|e| Error::io("rename", &kept.path, &e))?;
            return Ok(path);
        }
        let path = self.write(&tail, bytes, now)?;
        for old in self.entries().into_iter().filter(|kept| now.saturating_sub(kept.at) > KEPT) {
            let _ = files::remove_file(&old.path);
        }
        Ok(path)
    }

    fn write(&self, tail: &str, bytes: &[u8], now: i64) -> Result<PathBuf> {
        let dir = self.paths.lost_found();
        files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
        let path = dir.join(format!("{now}-{tail}"));
        files::write_whole(&path, bytes, Durability::Durable).map_err(|e| Error::io("write", &path, &e))?;
        Ok(path)
    }

    /// Returns the documents, the oldest first.
    pub fn entries(&self) -> Vec<Kept> {
        let entries = std::fs::read_dir(self.paths.lost_found()).into_iter().flatten().filter_map(Result::ok);
        let mut found: Vec<Kept> = entries.filter_map(|entry| Kept::of(entry.path())).collect();
        found.sort();
        found
    }

    /// Returns the newest document of an account that is as new as the pool's, for a renewal whose token was rejected.
    pub fn tie(&self, id: &AccountId) -> Option<PathBuf> {
        let is_tie = |kept: &Kept| kept.account.as_ref() == Some(id) && kept.why() == Some(Why::Tie);
        self.entries().into_iter().rfind(is_tie).map(|kept| kept.path)
    }

    /// Keeps a new login that could not be adopted. It needs no pool lock, since the name contains the account and the
    /// time. Returns the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_login(&self, doc: &AuthDoc, now: i64) -> Result<PathBuf> {
        self.write(&format!("{}-{}.json", doc.id(), Why::Login.as_str()), doc.bytes(), now)
    }

    /// Keeps the answer of a renewal that could not be stored. It needs no pool lock, since the name contains the
    /// account and one process renews at a time. Returns the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn rescue(&self, _lock: &RenewalLock, doc: &AuthDoc, now: i64) -> Result<PathBuf> {
        self.write(&format!("{}-{}.json", doc.id(), Why::Renewed.as_str()), doc.bytes(), now)
    }

    /// Returns the files of [`LostFound::rescue`] that were not stored since.
    pub fn rescued(&self) -> Vec<PathBuf> {
        let mut found = self.entries();
        found.retain(|kept| kept.why() == Some(Why::Renewed));
        found.into_iter().map(|kept| kept.path).collect()
    }
}
