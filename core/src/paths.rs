//! Every path of the pool, declared once. Reads and writes nothing.

use std::path::{Path, PathBuf};

use crate::account::AccountId;

/// The paths in the pool's folder (`~/.codex-pool`, mode 0700; files 0600).
#[derive(Debug, Clone)]
pub struct PoolPaths {
    root: PathBuf,
}

impl PoolPaths {
    /// Returns the paths of the pool in this folder.
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
    /// The version-1 registry that was migrated.
    pub fn registry_v1(&self) -> PathBuf {
        self.root.join("accounts.v1.json")
    }
    /// The folder of credentials.
    pub fn auth_dir(&self) -> PathBuf {
        self.root.join("auth")
    }
    /// The credentials of one account.
    pub fn auth(&self, id: &AccountId) -> PathBuf {
        self.root.join("auth").join(format!("{id}.json"))
    }
    /// Cached usage.
    pub fn usage(&self) -> PathBuf {
        self.root.join("usage.json")
    }
    /// The state: the pin, homes, marks.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }
    /// The folder of what the Node launchers of Codex start.
    pub fn native_dir(&self) -> PathBuf {
        self.root.join("native")
    }
    /// What one Node launcher starts.
    pub fn native_start(&self, key: &str) -> PathBuf {
        self.root.join("native").join(format!("{key}.json"))
    }
    /// The file that exists once a Node launcher was examined.
    pub fn native_tried(&self, key: &str) -> PathBuf {
        self.root.join("native").join(format!("{key}.tried"))
    }
    /// The folder of what was blanked in session logs, one file per thread.
    pub fn blanked(&self) -> PathBuf {
        self.root.join("blanked")
    }
    /// The folder of the accounts that ran threads last, one file per thread.
    pub fn threads(&self) -> PathBuf {
        self.root.join("threads")
    }
    /// The folder of the marks of homes that are moving to another account.
    pub fn moving(&self) -> PathBuf {
        self.root.join("moving")
    }
    /// The last moves.
    pub fn moves(&self) -> PathBuf {
        self.root.join("moves.json")
    }
    /// The launch ledger.
    pub fn launches(&self) -> PathBuf {
        self.root.join("launches")
    }
    /// The folder of documents that were replaced or not understood.
    pub fn lost_found(&self) -> PathBuf {
        self.root.join("lost+found")
    }
    /// The folder of past readings of usage, one file per month.
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }
    /// The log of what the pool did.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }
    /// What was in the log before, once it is full.
    pub fn older_log(&self) -> PathBuf {
        self.root.join("log.1.jsonl")
    }
    /// The settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }
    /// The keys of a pool that several machines share, and the address of its database.
    pub fn share(&self) -> PathBuf {
        self.root.join("share.toml")
    }
    /// What this machine has seen in that database.
    pub fn share_state(&self) -> PathBuf {
        self.root.join("share.json")
    }
    /// The lock of everything in the pool.
    pub fn pool_lock(&self) -> PathBuf {
        self.root.join("pool.lock")
    }
    /// The lock of token renewals.
    pub fn refresh_lock(&self) -> PathBuf {
        self.root.join("refresh.lock")
    }
    /// The lock of the attendant of this boot and pid namespace.
    pub fn attend_lock(&self, boot: &str, pid_namespace: u64) -> PathBuf {
        self.root.join(format!("attend-{boot}-{pid_namespace}.lock"))
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
    /// How codex-pool was installed, written by the installer.
    pub fn receipt(&self) -> PathBuf {
        self.root.join("receipt.json")
    }
    /// The installer's link to the admin command, which the shim starts for a refresh.
    pub fn admin_link(&self) -> PathBuf {
        self.root.join("bin/codex-pool")
    }
}
