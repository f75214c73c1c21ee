//! `auth/<id>.json`: the durable copy of each account's document, byte for byte. Only forward: an
//! older document never replaces a newer one, and what is replaced goes to `lost+found/`.

use std::cmp::Ordering;
use std::path::PathBuf;

use super::lost_found::{LostFound, Why};
use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, MAX_BYTES};
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;

/// The store of documents.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    paths: &'a PoolPaths,
}

/// Which of two documents the pool holds after [`Credentials::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The offered document.
    Offered,
    /// The one that was there, which is newer.
    Kept,
}

impl<'a> Credentials<'a> {
    /// The store under these paths.
    pub fn new(paths: &'a PoolPaths) -> Self {
        Credentials { paths }
    }

    /// The raw bytes of an account's document; `None` if there is none, or a link to what is somebody else's.
    pub fn bytes(&self, id: &AccountId) -> Result<Option<Vec<u8>>> {
        let path = self.paths.auth(id);
        if files::refuse_leading_root_astray(&path).is_err() {
            return Ok(None);
        }
        files::read_small(&path, MAX_BYTES).map_err(|e| Error::io("read", &path, &e))
    }

    /// An account's document; `None` if there is none.
    ///
    /// # Errors
    /// Unreadable, not understood, or another account's.
    pub fn load(&self, id: &AccountId) -> Result<Option<AuthDoc>> {
        let path = self.paths.auth(id);
        let Some(bytes) = self.bytes(id)? else { return Ok(None) };
        let doc = AuthDoc::parse(bytes)
            .map_err(|e| Error::new(format!("cannot use {}: {e}", path.display())).hint(repair(id)))?;
        if doc.id() != id {
            return Err(
                Error::new(format!("{} holds another account's login", path.display())).hint(repair(id))
            );
        }
        Ok(Some(doc))
    }

    /// Whether there is a document (not whether it is good).
    pub fn has(&self, id: &AccountId) -> bool {
        self.paths.auth(id).exists()
    }

    /// Puts a document into the pool, durably, in place of any older one.
    pub fn put(&self, lock: &PoolLock, doc: &AuthDoc) -> Result<()> {
        let dir = self.paths.auth_dir();
        files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
        let path = self.paths.auth(doc.id());
        let _ = lock;
        files::write_whole(&path, doc.bytes(), Durability::Durable).map_err(|e| Error::io("write", &path, &e))
    }

    /// Decides between the pool's document and another one of the same account, and keeps the loser
    /// in `lost+found/`. `stored_unchanged` says that the pool's copy is what the other one grew
    /// from: then the other one wins unless the issuer's clock says that it is older.
    pub fn settle(
        &self,
        lock: &PoolLock,
        offered: &AuthDoc,
        stored_unchanged: bool,
        now: i64,
    ) -> Result<Settled> {
        let stored = match self.load(offered.id()) {
            Ok(stored) => stored,
            // A broken copy in the pool must not stand in the way of a good one.
            Err(_) => {
                if let Some(bytes) = self.bytes(offered.id())?.filter(|bytes| !bytes.is_empty()) {
                    LostFound::new(self.paths).keep(lock, &bytes, Why::Broken, Some(offered.id()), now)?;
                }
                None
            }
        };
        let Some(stored) = stored else {
            self.put(lock, offered)?;
            return Ok(Settled::Offered);
        };
        if stored.bytes() == offered.bytes() {
            return Ok(Settled::Offered);
        }
        let newer = match offered.compare_age(&stored) {
            // Rewritten by Codex (another layout, the same tokens), or rotated within one second.
            Ordering::Equal => true,
            Ordering::Greater => true,
            Ordering::Less => stored_unchanged && offered.issued_at() == stored.issued_at(),
        };
        let loser = if newer { &stored } else { offered };
        if !stored.same_credentials(offered) {
            let tie = offered.compare_age(&stored) == Ordering::Equal && !stored_unchanged;
            let why = if tie { Why::Tie } else { Why::Replaced };
            LostFound::new(self.paths).keep(lock, loser.bytes(), why, Some(offered.id()), now)?;
        }
        if newer {
            self.put(lock, offered)?;
            return Ok(Settled::Offered);
        }
        Ok(Settled::Kept)
    }

    /// Removes an account's document for good.
    pub fn remove(&self, lock: &PoolLock, id: &AccountId) -> Result<()> {
        let _ = lock;
        let path = self.paths.auth(id);
        files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))
    }

    /// Where an account's document is.
    pub fn path(&self, id: &AccountId) -> PathBuf {
        self.paths.auth(id)
    }

    /// Every account that has a document.
    pub fn ids(&self) -> Vec<AccountId> {
        let Ok(entries) = std::fs::read_dir(self.paths.auth_dir()) else { return Vec::new() };
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.filter_map(|name| AccountId::parse(name.strip_suffix(".json")?)).collect()
    }
}

fn repair(id: &AccountId) -> String {
    format!("log in again with `codex-pool reauth {id}`")
}
