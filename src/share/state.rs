//! `share.json`: what this machine has seen in the database of a shared pool. Nothing in it is secret. Without it the
//! machine is as one that has just joined.

use std::collections::BTreeMap;

use codex_pool_core::files::{self, Durability, PoolLock};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::{Error, Result};
use codex_pool_share::Seen;
use codex_pool_share::keys::PoolId;
use codex_pool_share::login::{Age, Login};
use serde::{Deserialize, Serialize};

/// The largest file, bytes: a thousand accounts on a thousand machines that all run sessions.
const MOST: u64 = 256 << 20;

/// What was seen. It holds for one pool and one epoch of its keys.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ShareState {
    pool: String,
    epoch: u32,
    /// The newest state of every row.
    pub(crate) seen: Seen,
    /// The renewals of this machine that the database may know as sent: the id of each account's ticket.
    pub(crate) tickets: BTreeMap<String, String>,
    /// What was removed on any machine, and the age of the login that was removed with it.
    pub(crate) removals: BTreeMap<String, Age>,
    /// How many sessions of each account the other machines were told.
    pub(crate) told: BTreeMap<String, Told>,
}

/// A number of sessions that was told.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// How many.
    pub(crate) running: u32,
    /// When, Unix seconds.
    pub(crate) at: i64,
}

impl ShareState {
    /// Reads the file. One of another pool or epoch, or one that is corrupt, is as good as none.
    pub(crate) fn load(paths: &PoolPaths, pool: PoolId, epoch: u32) -> ShareState {
        let pool = format!("{pool:?}");
        let bytes = files::read_small(&paths.share_state(), MOST).ok().flatten();
        let state = bytes.and_then(|bytes| serde_json::from_slice::<ShareState>(&bytes).ok());
        let same = |state: &ShareState| state.pool == pool && state.epoch == epoch;
        state.filter(same).unwrap_or(ShareState { pool, epoch, ..ShareState::default() })
    }

    /// Returns whether a login was removed on any machine, or is older than one that was.
    pub(crate) fn is_removed(&self, login: &Login) -> bool {
        self.removals.get(&login.account).is_some_and(|age| login.age <= *age)
    }

    /// Writes the file durably: what was seen must not be forgotten.
    ///
    /// # Errors
    /// It cannot be written. The old one is still there then.
    pub(crate) fn save(&self, _lock: &PoolLock, paths: &PoolPaths) -> Result<()> {
        let path = paths.share_state();
        let bytes = serde_json::to_vec(self).map_err(|e| Error::new(format!("cannot encode JSON: {e}")))?;
        files::write_whole(&path, &bytes, Durability::Durable).map_err(|e| Error::io("write", &path, &e))
    }
}
