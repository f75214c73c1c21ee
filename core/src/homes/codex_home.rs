//! The type of a Codex home: its folder and its kind. Only reads the disk.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::account::AccountId;
use crate::env::{Env, names};
use crate::files;
use crate::hash::short_hash_text;
use crate::paths::PoolPaths;
use crate::process::ProcessId;

/// The file that names the main home, beside the homes over it.
pub(super) const MAIN_HOME_FILE: &str = ".base";
/// The first home without an account over a main home. Others have a number behind it.
const WITHOUT_ACCOUNT: &str = "empty";
/// The beginning of the name of a login home. Its process follows.
const LOGIN: &str = "login-";

/// A folder that serves as CODEX_HOME. Two homes are equal if their folders are.
#[derive(Debug, Clone)]
pub struct CodexHome {
    dir: PathBuf,
    kind: HomeKind,
}

impl PartialEq for CodexHome {
    fn eq(&self, other: &Self) -> bool {
        self.dir == other.dir
    }
}

impl Eq for CodexHome {}

/// What a Codex home is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeKind {
    /// The user's CODEX_HOME.
    Main,
    /// The home of one account over a main home.
    Own(AccountId),
    /// A home over a main home for one login. It is removed afterwards.
    Login,
    /// A home over a main home for sessions without an account.
    WithoutAccount,
}

/// The reason why there is no main home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoMainHome {
    /// Neither CODEX_HOME nor HOME is set.
    NoHome,
    /// CODEX_HOME names a folder that does not exist. Codex itself refuses to start.
    Absent(PathBuf),
}

impl CodexHome {
    /// Returns the main home at this folder.
    pub fn main(dir: PathBuf) -> CodexHome {
        CodexHome { dir, kind: HomeKind::Main }
    }

    /// Returns the main home of this environment. If CODEX_HOME is one of our homes, as inside a session, its main
    /// home counts.
    ///
    /// # Errors
    /// See [`NoMainHome`].
    pub fn main_of_env(env: &Env, paths: &PoolPaths) -> Result<CodexHome, NoMainHome> {
        let Some(given) = env.get(names::CODEX_HOME) else {
            let default = default_dir(env).ok_or(NoMainHome::NoHome)?;
            // Homes are remembered by their real path, also while the folder does not exist yet.
            return Ok(CodexHome::main(match fs::canonicalize(&default) {
                Ok(dir) => dir,
                Err(_) => canonical_parent(&default).unwrap_or(default),
            }));
        };
        let given = Path::new(given);
        let dir = env.absolute(given).and_then(|p| fs::canonicalize(p).ok()).filter(|p| p.is_dir());
        let dir = dir.ok_or_else(|| NoMainHome::Absent(given.to_owned()))?;
        Ok(CodexHome::main(main_home_of(paths, &dir).unwrap_or(dir)))
    }

    /// Returns the home at this folder. Its kind follows from the place.
    pub fn at(paths: &PoolPaths, dir: PathBuf) -> CodexHome {
        let kind = match dir.strip_prefix(paths.homes()) {
            Ok(inside) => kind_inside_pool(inside),
            Err(_) => HomeKind::Main,
        };
        CodexHome { dir, kind }
    }

    /// Returns the home whose `auth.json` is at this path, as the state and the ledger record it.
    pub fn of_auth_json(paths: &PoolPaths, auth_json: &Path) -> Option<CodexHome> {
        Some(CodexHome::at(paths, auth_json.parent()?.to_owned()))
    }

    /// Returns the own home of an account over this main home.
    pub fn own(&self, paths: &PoolPaths, id: &AccountId) -> CodexHome {
        self.over(paths, id.as_str(), HomeKind::Own(id.clone()))
    }

    /// Returns the n-th own home of an account over this main home, counted from 1. The others are for when another account
    /// has taken the first one: the server there moved on at its limit.
    pub fn own_nth(&self, paths: &PoolPaths, id: &AccountId, n: u32) -> CodexHome {
        let name = if n == 1 { id.to_string() } else { format!("{id}.{n}") };
        self.over(paths, &name, HomeKind::Own(id.clone()))
    }

    /// Returns the home over this main home for a login that this process runs.
    pub(crate) fn login(&self, paths: &PoolPaths, process: &ProcessId) -> CodexHome {
        self.over(paths, &format!("{LOGIN}{process}"), HomeKind::Login)
    }

    /// Returns the process that made this login home.
    pub(crate) fn login_process(&self) -> Option<ProcessId> {
        ProcessId::parse(self.dir.file_name()?.to_str()?.strip_prefix(LOGIN)?)
    }

    /// Returns the n-th home without an account over this main home, counted from 1.
    pub(crate) fn without_account(&self, paths: &PoolPaths, n: u32) -> CodexHome {
        let name = if n == 1 { WITHOUT_ACCOUNT.to_owned() } else { format!("{WITHOUT_ACCOUNT}-{n}") };
        self.over(paths, &name, HomeKind::WithoutAccount)
    }

    fn over(&self, paths: &PoolPaths, name: &str, kind: HomeKind) -> CodexHome {
        CodexHome { dir: self.dir_of_homes(paths).join(name), kind }
    }

    /// Returns the main home that this home is over. A main home is its own.
    pub fn main_home(&self, paths: &PoolPaths) -> CodexHome {
        CodexHome::main(main_home_of(paths, &self.dir).unwrap_or_else(|| self.dir.clone()))
    }

    /// Returns the folder of the homes over this main home.
    pub fn dir_of_homes(&self, paths: &PoolPaths) -> PathBuf {
        paths.homes().join(short_hash_text(&[self.dir.as_os_str().as_bytes()]))
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of its `auth.json`.
    pub fn auth_json(&self) -> PathBuf {
        self.dir.join("auth.json")
    }

    /// Returns what it is for.
    pub fn kind(&self) -> &HomeKind {
        &self.kind
    }

    /// Returns whether it is an account's own home.
    pub fn is_own(&self) -> bool {
        matches!(self.kind, HomeKind::Own(_))
    }

    /// Returns whether Codex uses this home when CODEX_HOME is not set, however it is spelled.
    pub fn is_default(&self, env: &Env) -> bool {
        let inode = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        let default = default_dir(env).and_then(|dir| inode(&dir));
        default.is_some() && default == inode(&self.dir)
    }
}

/// Returns the kind of a home by its path below the folder of all homes, `<key>/<name>`.
fn kind_inside_pool(inside: &Path) -> HomeKind {
    let mut names = inside.components().skip(1);
    let (name, deeper) = (names.next(), names.next());
    let name = name.filter(|_| deeper.is_none()).and_then(|name| name.as_os_str().to_str()).unwrap_or("");
    match owner_of_name(name) {
        Some(id) => HomeKind::Own(id),
        None if name.starts_with(LOGIN) => HomeKind::Login,
        None => HomeKind::WithoutAccount,
    }
}

/// Returns the account whose own home has this name: `<id>` or `<id>.<n>`.
pub(super) fn owner_of_name(name: &str) -> Option<AccountId> {
    let (id, n) = name.split_once('.').map_or((name, None), |(id, n)| (id, Some(n)));
    let counted = n.is_none_or(|n| n.parse::<u32>().is_ok_and(|n| n > 1));
    AccountId::parse(id).filter(|_| counted)
}

/// Returns the main home that a folder of ours is over. `None`: the folder is not one of ours.
pub fn main_home_of(paths: &PoolPaths, dir: &Path) -> Option<PathBuf> {
    let homes = fs::canonicalize(paths.homes()).ok()?;
    let dir = fs::canonicalize(dir).ok()?;
    let inside = dir.strip_prefix(&homes).ok()?;
    let siblings = homes.join(inside.components().next()?);
    let bytes = files::read_small(&siblings.join(MAIN_HOME_FILE), 1 << 16).ok()??;
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

fn default_dir(env: &Env) -> Option<PathBuf> {
    Some(env.home()?.join(".codex"))
}

fn canonical_parent(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}
