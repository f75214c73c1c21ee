//! The receipt: which installer put the programs where. `install.sh` writes it, and `update` keeps it up to date.

use std::path::{Path, PathBuf};

use codex_pool_core::files::{self, Durability, PoolLock};
use codex_pool_core::{Error, Result};
use serde_json::{Map, Value};

/// The installer whose files `update` may replace.
const OURS: &str = "install.sh";
/// A receipt is smaller than this, bytes. It has some hundred.
const LIMIT: u64 = 64 << 10;

/// A receipt. Unknown keys stay in it.
#[derive(Debug)]
pub(crate) struct Receipt(Map<String, Value>);

impl Receipt {
    /// Reads the receipt. `None`: there is none.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub(crate) fn load(path: &Path) -> Result<Option<Receipt>> {
        let bytes = files::read_small(path, LIMIT).map_err(|e| Error::io("read", path, &e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        serde_json::from_slice(&bytes).map(|map| Some(Receipt(map))).map_err(|_| {
            Error::new(format!("{} is damaged", path.display()))
                .hint("run install.sh again; it writes a new one")
        })
    }

    /// Returns the name of the installer, if it is not ours.
    pub(crate) fn other_installer(&self) -> Option<&str> {
        self.text("installer").filter(|name| *name != OURS)
    }

    /// Returns where `codex-pool` was put.
    pub(crate) fn binary(&self) -> Option<PathBuf> {
        self.text("binary").map(PathBuf::from)
    }

    /// Returns a folder in which it put files.
    pub(crate) fn folder(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// Records that a release is installed now. `now`: Unix seconds.
    pub(crate) fn updated(&mut self, version: &str, releases: &str, now: i64) {
        self.0.insert("method".into(), "release".into());
        self.0.insert("version".into(), version.into());
        self.0.insert("releases".into(), releases.into());
        self.0.insert("installed_at".into(), now.into());
    }

    /// Writes the receipt in the form that `install.sh` reads: one key per line.
    ///
    /// # Errors
    /// It cannot be written. The old one is still there then.
    pub(crate) fn save(&self, _lock: &PoolLock, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(&self.0).map_err(|e| Error::new(e.to_string()))?;
        text.push('\n');
        files::write_whole(path, text.as_bytes(), Durability::Durable)
            .map_err(|e| Error::io("write", path, &e))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }
}
