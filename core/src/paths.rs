//! Every path of the pool, declared once. Touches nothing on disk.

use std::path::{Path, PathBuf};

use crate::account::AccountId;

/// The pool's folder and what is in it (`~/.codex-pool`, mode 0700; files 0600).
#[derive(Debug, Clone)]
pub struct PoolPaths {
    root: PathBuf,
}

impl PoolPaths {
    /// Paths under this folder.
    pub fn new(root: PathBuf) -> Self {
        PoolPaths { root }
    }
    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The registry: accounts without their secrets.
    pub fn registry(&self) -> PathBuf {
        self.root.join("accounts.json")
    }
    /// What a version-1 registry was kept as.
    pub fn registry_v1(&self) -> PathBuf {
        self.root.join("accounts.v1.json")
    }
    /// The folder of credentials.
    pub fn auth_dir(&self) -> PathBuf {
        self.root.join("auth")
    }
    /// One account's `auth.json`.
    pub fn auth(&self, id: &AccountId) -> PathBuf {
        self.root.join("auth").join(format!("{id}.json"))
    }
    /// Cached usage.
    pub fn usage(&self) -> PathBuf {
        self.root.join("usage.json")
    }
    /// Pin, homes, marks.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }
    /// What the launchers of installed Codexes start.
    pub fn native_dir(&self) -> PathBuf {
        self.root.join("native")
    }
    /// What one of them starts.
    pub fn native_start(&self, key: &str) -> PathBuf {
        self.root.join("native").join(format!("{key}.json"))
    }
    /// That one of them was looked at.
    pub fn native_tried(&self, key: &str) -> PathBuf {
        self.root.join("native").join(format!("{key}.tried"))
    }
    /// What was blanked in the logs of threads, a file for each.
    pub fn blanked(&self) -> PathBuf {
        self.root.join("blanked")
    }
    /// Who ran each thread last, a file for each.
    pub fn threads(&self) -> PathBuf {
        self.root.join("threads")
    }
    /// The launch ledger.
    pub fn launches(&self) -> PathBuf {
        self.root.join("launches")
    }
    /// Documents that were replaced or could not be understood.
    pub fn lost_found(&self) -> PathBuf {
        self.root.join("lost+found")
    }
    /// Settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }
    /// Lock of everything on disk.
    pub fn pool_lock(&self) -> PathBuf {
        self.root.join("pool.lock")
    }
    /// Lock of token refreshes.
    pub fn refresh_lock(&self) -> PathBuf {
        self.root.join("refresh.lock")
    }
    /// The accounts' own homes.
    pub fn homes(&self) -> PathBuf {
        self.root.join("homes")
    }
    /// The folder of the shim, first on PATH.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }
    /// The installed shim.
    pub fn shim(&self) -> PathBuf {
        self.root.join("bin/codex")
    }
    /// How codex-pool was installed (written by the installer).
    pub fn receipt(&self) -> PathBuf {
        self.root.join("receipt.json")
    }
    /// A link to the admin command, made at install: what the shim starts for a refresh.
    pub fn admin_link(&self) -> PathBuf {
        self.root.join("bin/codex-pool")
    }
}
