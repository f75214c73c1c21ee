//! Homes: the places where a running Codex reads and rewrites an `auth.json`. The main home is the
//! user's own CODEX_HOME (the *main home*); each account can have a home of its own over it.

mod file;
pub mod home;
pub mod in_use;
pub(crate) mod mcp_logins;
mod place;
mod reconcile;

pub use file::{AuthFile, Link};
pub(crate) use place::take_away;
pub use place::{
    being_written, clear_homes, homes_of, place, remove_account, renew, server_account, users_of,
    users_of_homes_and_homes, vacate,
};
pub use reconcile::{
    HomeContent, clear_broken, known, look, reconcile, reconcile_all, reconcile_whole, rediscover,
    wait_until_whole,
};

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::account::{AccountId, short_hash_text};
use crate::env::{Env, names};
use crate::paths::PoolPaths;

/// One home: a folder that is some Codex's CODEX_HOME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodexHome {
    dir: PathBuf,
    home_of: Option<AccountId>,
}

impl CodexHome {
    /// The folder: CODEX_HOME of whoever sits here.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Its `auth.json`.
    pub fn auth_json(&self) -> PathBuf {
        self.dir.join("auth.json")
    }
    /// Whether it is an account's own home.
    pub fn is_home(&self) -> bool {
        self.home_of.is_some()
    }
    /// The home whose `auth.json` is at this path, as state and ledger remember it.
    pub fn of_auth_json(paths: &PoolPaths, auth_json: &Path) -> Option<CodexHome> {
        let dir = auth_json.parent()?.to_owned();
        let home_of = dir.strip_prefix(paths.homes()).ok().and_then(|rest| {
            let mut parts = rest.components().skip(1);
            let id = AccountId::parse(parts.next()?.as_os_str().to_str()?)?;
            parts.next().is_none().then_some(id)
        });
        Some(CodexHome { dir, home_of })
    }
}

/// The user's own CODEX_HOME, over which homes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MainHome {
    dir: PathBuf,
    /// Whether it is not the default, so that CODEX_HOME must say it.
    explicit: bool,
}

/// Why there is no main home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoMainHome {
    /// Neither CODEX_HOME nor HOME is set.
    NoHome,
    /// CODEX_HOME names a folder that is not there: Codex itself refuses to start.
    Absent(PathBuf),
}

impl MainHome {
    /// The main home of this environment. A CODEX_HOME inherited from one of our homes means the main home of that home.
    ///
    /// # Errors
    /// See [`NoBase`].
    pub fn of_env(env: &Env, paths: &PoolPaths) -> Result<MainHome, NoMainHome> {
        let default = env.home().map(|home| home.join(".codex"));
        let Some(given) = env.get(names::CODEX_HOME) else {
            let default = default.ok_or(NoMainHome::NoHome)?;
            // It may not exist yet; its real path is what homes and homes are remembered by.
            let dir = match std::fs::canonicalize(&default) {
                Ok(dir) => dir,
                Err(_) => canonical_parent(&default).unwrap_or(default),
            };
            return Ok(MainHome { dir, explicit: false });
        };
        let given = Path::new(given);
        let dir = env.absolute(given).and_then(|p| std::fs::canonicalize(p).ok()).filter(|p| p.is_dir());
        let dir = dir.ok_or_else(|| NoMainHome::Absent(given.to_owned()))?;
        let dir = home::main_home_of(paths, &dir).unwrap_or(dir);
        let explicit = default.and_then(|d| std::fs::canonicalize(d).ok()).is_none_or(|d| d != dir);
        Ok(MainHome { dir, explicit })
    }

    /// The main home that a home is in: the one under a home, or the home's own folder.
    pub(crate) fn under(paths: &PoolPaths, codex_home: &CodexHome) -> MainHome {
        let dir = home::main_home_of(paths, codex_home.dir()).unwrap_or_else(|| codex_home.dir().to_owned());
        MainHome { dir, explicit: true }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Whether CODEX_HOME must be set for it.
    pub fn explicit(&self) -> bool {
        self.explicit
    }
    /// The main home.
    pub fn shared(&self) -> CodexHome {
        CodexHome { dir: self.dir.clone(), home_of: None }
    }
    /// Short hash of its path: the folder of its homes.
    pub fn key(&self) -> String {
        short_hash_text(&[self.dir.as_os_str().as_bytes()])
    }
    /// An account's own home over it.
    pub fn home(&self, paths: &PoolPaths, id: &AccountId) -> CodexHome {
        let dir = paths.homes().join(self.key()).join(id.as_str());
        CodexHome { dir, home_of: Some(id.clone()) }
    }
    /// A home of no account over it: for one login, or without any.
    pub(crate) fn special(&self, paths: &PoolPaths, name: &str) -> CodexHome {
        CodexHome { dir: paths.homes().join(self.key()).join(name), home_of: None }
    }
}

fn canonical_parent(path: &Path) -> Option<PathBuf> {
    Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests;
