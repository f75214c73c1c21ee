//! `state.json`: the pin, what each home had when last seen, marks of unfinished operations, and what the installed
//! Codex supports. It is a cache: a corrupt one is set aside, and what it said is a preference or can be found out
//! again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocHash};
use crate::codex::probe::Capabilities;
use crate::error::Result;
use crate::files::{Durability, PoolLock};
use crate::hash::hex;
use crate::notices::Told;
use crate::paths::PoolPaths;

/// The contents of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the format (1; 0 if there was no file).
    #[serde(default)]
    pub version: u32,
    /// The account that every launch uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<AccountId>,
    /// The homes, by the path of their `auth.json` (see [`path_key`]).
    #[serde(default)]
    pub homes: BTreeMap<String, HomeRecord>,
    /// The operations that were begun and have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// The last launches in each folder (see [`path_key`]), of the newest 200 folders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub folders: BTreeMap<String, FolderRecord>,
    /// What the user was told (see [`crate::notices`]).
    #[serde(default, skip_serializing_if = "Told::is_empty")]
    pub told: Told,
    /// What Codex supports, by the identity of its package and native binary.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codex: BTreeMap<String, Capabilities>,
    /// When it was last looked which threads are gone (see [`crate::thread_record::gone`]), Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_seen: Option<i64>,
}

/// What a home had when it was last written or read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeRecord {
    /// The account of its document.
    pub account: AccountId,
    /// The hash of its document.
    pub hash: DocHash,
    /// Since when the account is there, Unix seconds.
    pub since: i64,
    /// When the access token expires, Unix seconds by the issuer's clock. A launch need not read the document for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// The same by the clock of process starts (see [`crate::process::ticks_now`]), if codex-pool put the account
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ticks: Option<u64>,
    /// A background server that ran when the account changed, and the account that it started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerRecord>,
    /// codex-pool is removing the document, so its absence is no logout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// The accounts of the launches in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FolderRecord {
    /// The account of the last launch.
    pub account: AccountId,
    /// When that was, Unix seconds, exact to the hour. It decides which folder is forgotten first.
    pub at: i64,
    /// The first of the launches since which all were of this account, Unix milliseconds.
    #[serde(default)]
    pub since_ms: i64,
    /// The accounts before it, the latest first, each with its first launch, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<(AccountId, i64)>,
    /// The account of the last launch of Codex's interface, which goes on with sessions of its own kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<AccountId>,
}

/// The most changes of account that are remembered of a folder.
const MOST_BEFORE: usize = 7;

impl FolderRecord {
    /// Returns the record of a first launch.
    pub fn new(account: &AccountId, interactive: bool, now_ms: i64) -> FolderRecord {
        let interface = interactive.then(|| account.clone());
        let (at, since_ms) = (now_ms / 1000, now_ms);
        FolderRecord { account: account.clone(), at, since_ms, before: Vec::new(), interface }
    }

    /// Returns whether another launch changes nothing but the time.
    pub fn says(&self, account: &AccountId, interactive: bool) -> bool {
        self.account == *account && (!interactive || self.interface.as_ref() == Some(account))
    }

    /// Records another launch.
    pub fn launched(&mut self, account: &AccountId, interactive: bool, now_ms: i64) {
        self.at = now_ms / 1000;
        if interactive {
            self.interface = Some(account.clone());
        }
        if self.account != *account {
            let last = std::mem::replace(&mut self.account, account.clone());
            self.before.insert(0, (last, self.since_ms));
            self.before.truncate(MOST_BEFORE);
            self.since_ms = now_ms;
        }
    }

    /// Returns the account of the last launch before that time (Unix milliseconds); `None` if it is not known.
    pub fn account_at(&self, time_ms: i64) -> Option<&AccountId> {
        let last = (&self.account, self.since_ms);
        let all = std::iter::once(last).chain(self.before.iter().map(|(account, since)| (account, *since)));
        all.into_iter().find(|(_, since)| *since <= time_ms).map(|(account, _)| account)
    }
}

/// A background server that outlived a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// Its process.
    pub pid: u32,
    /// Its start, in clock ticks since boot.
    pub start_ticks: u64,
    /// The account that it has read; `None` if not known.
    pub account: Option<AccountId>,
}

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// `codex login`, before which the home's document was moved aside.
    Login,
    /// `codex logout`.
    Logout,
    /// A refresh token was sent, and its answer is not stored yet.
    Renewal,
}

/// An unfinished operation. If its process has ended, it was interrupted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Its kind.
    pub kind: MarkKind,
    /// The account concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The home concerned (see [`path_key`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The process that began it: `<boot>-<pidns>-<pid>-<ticks>`.
    pub process: String,
    /// When it was begun, Unix seconds.
    pub at: i64,
}

impl State {
    /// Loads `state.json`. A missing or corrupt one is empty; a corrupt one is set aside if the lock is held.
    pub fn load(lock: Option<&PoolLock>, paths: &PoolPaths) -> State {
        super::load_cache(lock, &paths.state())
    }

    /// Writes `state.json`.
    ///
    /// # Errors
    /// The file cannot be written. The old one is still there then.
    pub fn save(&mut self, lock: &PoolLock, paths: &PoolPaths, durability: Durability) -> Result<()> {
        self.version = 1;
        super::save_json(lock, &paths.state(), self, durability)
    }

    /// Returns the record of the home with this `auth.json`.
    pub fn home(&self, auth_json: &Path) -> Option<&HomeRecord> {
        self.homes.get(&path_key(auth_json))
    }

    /// Records what a home has. `hash` is that of the bytes in the home, which differ from the document's if that had
    /// to be corrected. `since`: when the account came there, if it is another one than before.
    pub fn remember(&mut self, auth_json: &Path, doc: &AuthDoc, hash: DocHash, since: i64) {
        let key = path_key(auth_json);
        let (expires_at, account) = (doc.expires_at(), doc.id());
        let memory = match self.homes.remove(&key) {
            Some(old) if old.account == *account => HomeRecord { hash, expires_at, leaving: false, ..old },
            old => HomeRecord {
                account: account.clone(),
                hash,
                since,
                since_ticks: None,
                expires_at,
                server: old.and_then(|old| old.server),
                leaving: false,
            },
        };
        self.homes.insert(key, memory);
    }

    /// Records when codex-pool put the account of a home there.
    pub fn changed_hands(&mut self, auth_json: &Path, ticks: Option<u64>) {
        if let Some(memory) = self.homes.get_mut(&path_key(auth_json)) {
            memory.since_ticks = memory.since_ticks.or(ticks);
        }
    }
}

/// Returns a path as a JSON key: the path itself if it is UTF-8, else `hex:` and its bytes.
pub fn path_key(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with("hex:") => text.to_owned(),
        _ => format!("hex:{}", hex(path.as_os_str().as_bytes())),
    }
}

/// Returns the path of a key that [`path_key`] made.
pub fn path_of_key(key: &str) -> PathBuf {
    let Some(hex) = key.strip_prefix("hex:") else { return PathBuf::from(key) };
    let digit = |i: usize| hex.get(i..i + 2).and_then(|h| u8::from_str_radix(h, 16).ok());
    OsString::from_vec((0..hex.len()).step_by(2).filter_map(digit).collect()).into()
}
