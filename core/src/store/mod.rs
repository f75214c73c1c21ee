//! What the pool has on disk: the registry, each account's credentials, the caches, and what was replaced. It knows
//! documents and files, and nothing of homes or launches.

mod credentials;
mod erase;
mod lost_found;
mod registry;
mod state;
mod v1;

pub(crate) use credentials::Stored;
pub use credentials::{Adoption, Credentials, Origin};
pub use erase::erase;
pub use lost_found::{Kept, LostFound, Why};
pub use registry::{REGISTRY_VERSION, Registry};
pub use state::{FolderRecord, HomeRecord, Mark, MarkKind, ServerRecord, State, path_key, path_of_key};
pub use v1::{ForeignAccount, Migration, is_registry, migrate_if_v1, parse_foreign_store};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::usage::UsageCache;

/// The size of the largest registry or cache, bytes.
pub(crate) const MAX_JSON: u64 = 64 << 20;

/// Loads a cache. A missing or corrupt one is empty. One that is corrupt or cannot be read is set aside
/// (`<name>.corrupt`) if the lock is held: an empty one takes its place at the next write.
fn load_cache<T: DeserializeOwned + Default>(lock: Option<&PoolLock>, path: &std::path::Path) -> T {
    let read = || files::read_small(path, MAX_JSON);
    // What fails once may work a moment later.
    let value = match read().or_else(|_| read()) {
        Ok(None) => return T::default(),
        Ok(Some(bytes)) => from_json(&bytes).ok(),
        Err(_) => None,
    };
    if value.is_none() && lock.is_some() {
        let _ = std::fs::rename(path, path.with_extension("json.corrupt"));
    }
    value.unwrap_or_default()
}

/// Reads JSON. The text is checked to be UTF-8 once, not string by string.
fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, serde_json::Error> {
    let text = std::str::from_utf8(bytes).map_err(serde::de::Error::custom)?;
    serde_json::from_str(text)
}

fn save_json<T: Serialize>(
    _lock: &PoolLock,
    path: &std::path::Path,
    value: &T,
    durability: Durability,
) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::new(format!("cannot encode JSON: {e}")))?;
    files::write_whole(path, &bytes, durability).map_err(|e| Error::io("write", path, &e))
}

impl UsageCache {
    /// Loads `usage.json`. A missing or corrupt one is empty; a corrupt one is set aside if the lock is held.
    pub fn load(lock: Option<&PoolLock>, paths: &PoolPaths) -> UsageCache {
        load_cache(lock, &paths.usage())
    }

    /// Writes `usage.json`.
    ///
    /// # Errors
    /// The file cannot be written. The old one is still there then.
    pub fn save(&mut self, lock: &PoolLock, paths: &PoolPaths) -> Result<()> {
        self.version = 1;
        save_json(lock, &paths.usage(), self, Durability::Fast)
    }
}

#[cfg(test)]
mod tests;
