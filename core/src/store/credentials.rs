//! `auth/<id>.json`: the durable copy of each account's document, byte for byte. An older document never replaces a
//! newer one, and what is replaced goes to `lost+found/`.

use std::path::PathBuf;

use super::lost_found::{LostFound, Why};
use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, MAX_BYTES};
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;

/// The stored documents.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    paths: &'a PoolPaths,
}

/// What adopting a document has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// The account is new.
    New,
    /// The account has other credentials now.
    Updated,
    /// The account had these credentials already.
    Unchanged,
    /// The pool's document is newer, and stays.
    KeptNewer,
}

/// The origin of a document that is adopted. It decides which one is kept, this one or the pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was found in a home, or in a file that the user names.
    Found,
    /// It was found where the pool's copy was before. Of two that were issued in the same second it is the newer.
    Successor,
    /// The issuer's answer to a renewal of the pool's copy.
    Answer,
    /// A login that the user made just now. It always wins.
    Login,
}

/// What the pool has of an account.
#[derive(Debug)]
pub(crate) enum Stored {
    /// No document.
    Nothing,
    /// The account's document.
    Document(Box<AuthDoc>),
    /// Bytes that are no document of the account.
    Broken(Vec<u8>),
}

impl Stored {
    /// Returns the document.
    pub(crate) fn document(&self) -> Option<&AuthDoc> {
        match self {
            Stored::Document(doc) => Some(doc),
            Stored::Nothing | Stored::Broken(_) => None,
        }
    }
}

/// Which of two documents is kept.
struct Verdict {
    /// The offered one is newer.
    newer: bool,
    /// If not, only the issuer can tell which one is good.
    certain: bool,
}

impl Verdict {
    /// Compares a document with the stored one.
    fn of(doc: &AuthDoc, stored: &AuthDoc, origin: Origin, now: i64) -> Verdict {
        if origin == Origin::Login {
            return Verdict { newer: true, certain: true };
        }
        // A login that can be renewed is worth more than the newest access token, which can be had with it.
        if doc.is_access_only() != stored.is_access_only() {
            return Verdict { newer: stored.is_access_only(), certain: true };
        }
        let from_the_future = (doc.is_from_the_future(now), stored.is_from_the_future(now));
        if origin != Origin::Answer && from_the_future.0 != from_the_future.1 {
            return Verdict { newer: from_the_future.1, certain: false };
        }
        let age = doc.compare_age(stored);
        let grew = origin != Origin::Found;
        // A tie is the same tokens in another layout, or a renewal within one second.
        let newer = age.is_ge() || grew && doc.issued_at() == stored.issued_at();
        Verdict { newer, certain: age.is_ne() || grew }
    }
}

impl<'a> Credentials<'a> {
    /// Returns the documents in this pool.
    pub fn new(paths: &'a PoolPaths) -> Self {
        Credentials { paths }
    }

    /// Returns the bytes of an account's document; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(&self, id: &AccountId) -> Result<Option<Vec<u8>>> {
        let path = self.paths.auth(id);
        files::read_small(&path, MAX_BYTES).map_err(|e| Error::io("read", &path, &e))
    }

    /// Returns an account's document; `None` if there is none.
    ///
    /// # Errors
    /// The document cannot be read, is not understood, or belongs to another account.
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

    /// Returns whether there is a document, good or not.
    pub fn has(&self, id: &AccountId) -> bool {
        self.paths.auth(id).exists()
    }

    /// Puts a document into the pool, durably, in place of the one that is there.
    ///
    /// # Errors
    /// The file cannot be written. The old one is still there then.
    pub fn put(&self, lock: &PoolLock, doc: &AuthDoc) -> Result<()> {
        let dir = self.paths.auth_dir();
        files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
        let path = self.paths.auth(doc.id());
        let _ = lock;
        files::write_whole(&path, doc.bytes(), Durability::Durable).map_err(|e| Error::io("write", &path, &e))
    }

    /// Returns what the pool has of an account.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn stored(&self, id: &AccountId) -> Result<Stored> {
        let Some(bytes) = self.bytes(id)? else { return Ok(Stored::Nothing) };
        Ok(match AuthDoc::parse(bytes.clone()) {
            Ok(doc) if doc.id() == id => Stored::Document(Box::new(doc)),
            _ => Stored::Broken(bytes),
        })
    }

    /// Puts a document into the pool unless the one that is there is newer. The older one goes to `lost+found/` if it
    /// has other credentials.
    ///
    /// # Errors
    /// The pool's copy cannot be read, or something could not be made durable.
    pub fn put_newer(&self, lock: &PoolLock, doc: &AuthDoc, origin: Origin, now: i64) -> Result<Adoption> {
        self.put_over(lock, self.stored(doc.id())?, doc, origin, now)
    }

    /// As [`Credentials::put_newer`], of what is `stored`.
    ///
    /// # Errors
    /// Something could not be made durable.
    pub(crate) fn put_over(
        &self,
        lock: &PoolLock,
        stored: Stored,
        doc: &AuthDoc,
        origin: Origin,
        now: i64,
    ) -> Result<Adoption> {
        let id = doc.id();
        let lost = LostFound::new(self.paths);
        let stored = match stored {
            Stored::Document(stored) => stored,
            Stored::Nothing => {
                self.put(lock, doc)?;
                return Ok(Adoption::New);
            }
            // A broken copy must not stand in the way of a good one.
            Stored::Broken(bytes) => {
                if !bytes.is_empty() {
                    lost.keep(lock, &bytes, Why::Broken, Some(id), now)?;
                }
                self.put(lock, doc)?;
                return Ok(Adoption::New);
            }
        };
        if stored.bytes() == doc.bytes() {
            return Ok(Adoption::Unchanged);
        }
        let Verdict { newer, certain } = Verdict::of(doc, &stored, origin, now);
        let same = stored.same_credentials(doc);
        if !same {
            let why = if certain { Why::Replaced } else { Why::Tie };
            let older = if newer { &*stored } else { doc };
            lost.keep(lock, older.bytes(), why, Some(id), now)?;
        }
        if !newer {
            return Ok(Adoption::KeptNewer);
        }
        self.put(lock, doc)?;
        Ok(if same && stored.plan() == doc.plan() { Adoption::Unchanged } else { Adoption::Updated })
    }

    /// Returns whether the pool has these credentials.
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub fn holds(&self, doc: &AuthDoc) -> Result<bool> {
        Ok(self.load(doc.id())?.is_some_and(|stored| stored.same_credentials(doc)))
    }

    /// Removes an account's document.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, lock: &PoolLock, id: &AccountId) -> Result<()> {
        let _ = lock;
        let path = self.paths.auth(id);
        files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))
    }

    /// Returns the path of an account's document.
    pub fn path(&self, id: &AccountId) -> PathBuf {
        self.paths.auth(id)
    }

    /// Returns the accounts that have a document.
    pub fn ids(&self) -> Vec<AccountId> {
        let Ok(entries) = std::fs::read_dir(self.paths.auth_dir()) else { return Vec::new() };
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.filter_map(|name| AccountId::parse(name.strip_suffix(".json")?)).collect()
    }
}

fn repair(id: &AccountId) -> String {
    format!("log in again with `codex-pool reauth {id}`")
}
