//! `state.json`: the pin, what each home held when last seen, marks of unfinished operations, and
//! what the installed Codex supports. A cache: when it is corrupt it is set aside and rebuilt, and
//! everything it said can be found out again or is a preference.

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
use crate::paths::PoolPaths;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format version (1).
    #[serde(default)]
    pub version: u32,
    /// The account that every launch uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<AccountId>,
    /// By the path of the home's `auth.json` (see [`path_key`]).
    #[serde(default)]
    pub homes: BTreeMap<String, HomeRecord>,
    /// Operations that were begun and not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// Who launched in each folder (see [`path_key`]), the newest 200.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub folders: BTreeMap<String, FolderRecord>,
    /// What Codex supports, by the identity of its package and native binary.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codex: BTreeMap<String, Capabilities>,
}

/// What a home held when it was last written or read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeRecord {
    /// Whose document.
    pub account: AccountId,
    /// Its hash.
    pub hash: DocHash,
    /// Since when this account is there, Unix seconds.
    pub since: i64,
    /// When its access token runs out, Unix seconds by the issuer's clock: so that a launch need not read
    /// the document again to know that there is time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// The same by the clock of process starts (see [`crate::process::ticks_now`]), if we put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ticks: Option<u64>,
    /// A background server that was alive when the account changed, and the account it started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerRecord>,
    /// We are taking the document away: if it is gone, that is no logout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// Who launched in a folder: the last one, and before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FolderRecord {
    /// Who launched last.
    pub account: AccountId,
    /// When, Unix seconds (to the hour: it only decides what is forgotten first).
    pub at: i64,
    /// The first of the launches that were all this account's, Unix milliseconds.
    #[serde(default)]
    pub since_ms: i64,
    /// Others before it, the latest first, each with the first of its launches, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<(AccountId, i64)>,
    /// Who launched Codex's interface last: it goes on with sessions of its own kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<AccountId>,
}

/// How many changes of account are remembered of a folder.
const MOST_BEFORE: usize = 7;

impl FolderRecord {
    /// After the first launch in a folder.
    pub fn new(account: &AccountId, interactive: bool, now_ms: i64) -> FolderRecord {
        let interface = interactive.then(|| account.clone());
        let (at, since_ms) = (now_ms / 1000, now_ms);
        FolderRecord { account: account.clone(), at, since_ms, before: Vec::new(), interface }
    }

    /// Whether another launch would change nothing but the time.
    pub fn says(&self, account: &AccountId, interactive: bool) -> bool {
        self.account == *account && (!interactive || self.interface.as_ref() == Some(account))
    }

    /// After another launch.
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

    /// Who had launched last at that time (Unix milliseconds); `None` if nobody knows.
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
    /// The account that it read; `None` if nobody knows.
    pub account: Option<AccountId>,
}

/// What was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// `codex login`: the home's document was moved aside.
    Login,
    /// `codex logout`.
    Logout,
    /// A refresh token was sent; its answer is not stored yet.
    Renewal,
}

/// An unfinished operation. One whose process is gone was interrupted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// What was begun.
    pub kind: MarkKind,
    /// Whose credentials are concerned, if anybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The home concerned (see [`path_key`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Who began it: `<boot>-<pidns>-<pid>-<ticks>`.
    pub process: String,
    /// When, Unix seconds.
    pub at: i64,
}

impl State {
    /// Loads `state.json`; missing and corrupt are empty (a corrupt one is set aside under the lock).
    pub fn load(lock: Option<&PoolLock>, paths: &PoolPaths) -> State {
        super::load_cache(lock, &paths.state())
    }

    /// Writes `state.json`.
    ///
    /// # Errors
    /// If it cannot be written; the old one is then still there.
    pub fn save(&mut self, lock: &PoolLock, paths: &PoolPaths, durability: Durability) -> Result<()> {
        self.version = 1;
        super::save_json(lock, &paths.state(), self, durability)
    }

    /// What the home at this path held.
    pub fn home(&self, auth_json: &Path) -> Option<&HomeRecord> {
        self.homes.get(&path_key(auth_json))
    }

    /// Remembers what a home holds now. `hash`: of the bytes that are there, which are not the document's
    /// own where it had to be put right. If it is another account than before, it is there since `since`.
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

    /// Remembers exactly when we put the account there that a home holds now.
    pub fn changed_hands(&mut self, auth_json: &Path, ticks: Option<u64>) {
        if let Some(memory) = self.homes.get_mut(&path_key(auth_json)) {
            memory.since_ticks = memory.since_ticks.or(ticks);
        }
    }
}

/// A path as a JSON key: itself if it is UTF-8, else `hex:` and its bytes.
pub fn path_key(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with("hex:") => text.to_owned(),
        _ => {
            let bytes = path.as_os_str().as_bytes();
            bytes.iter().fold("hex:".to_owned(), |mut key, b| {
                use std::fmt::Write;
                let _ = write!(key, "{b:02x}");
                key
            })
        }
    }
}

/// The path of a key made by [`path_key`].
pub fn path_of_key(key: &str) -> PathBuf {
    let Some(hex) = key.strip_prefix("hex:") else { return PathBuf::from(key) };
    let digit = |i: usize| hex.get(i..i + 2).and_then(|h| u8::from_str_radix(h, 16).ok());
    OsString::from_vec((0..hex.len()).step_by(2).filter_map(digit).collect()).into()
}
