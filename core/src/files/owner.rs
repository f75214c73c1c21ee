//! The owner of a file. Writes nothing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::env::{Env, names};

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
}

/// Returns the owner of the pool, the main home or HOME if that is another user, and this process is root's: `sudo` with
/// a user's HOME. That user can lead root to any file with links there, at any moment.
pub fn another_user_of_root(env: &Env) -> Option<Owner> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let given = |name| env.get(name).and_then(|dir| env.absolute(Path::new(dir)));
    let pool = env.pool_home();
    let main_home = given(names::CODEX_HOME).or_else(|| Some(env.home()?.join(".codex")));
    let both_given = env.get(names::CODEX_POOL_HOME).is_some() && env.get(names::CODEX_HOME).is_some();
    let home = env.home().filter(|_| !both_given).map(Path::to_owned);
    [pool, main_home, home].into_iter().flatten().find_map(|dir| owner_besides_root(&dir))
}

/// Returns the owner of a folder, or of the nearest folder above it that exists, unless that is root.
fn owner_besides_root(dir: &Path) -> Option<Owner> {
    let there = dir.ancestors().find(|dir| dir.symlink_metadata().is_ok())?;
    let metas = [there.symlink_metadata(), there.metadata()].into_iter().filter_map(Result::ok);
    let mut owners = metas.map(|meta| Owner { uid: meta.uid(), gid: meta.gid() });
    owners.find(|owner| owner.uid != 0)
}

/// Returns whether a file or folder, or what it links to, belongs to a user other than this one and root. A file that
/// is not there does not.
pub fn is_of_another_user(path: &Path) -> bool {
    let others = |meta: std::io::Result<Metadata>| meta.is_ok_and(|meta| is_another_user(meta.uid()));
    others(path.symlink_metadata()) || others(path.metadata())
}

/// Returns whether a user is neither this one nor root.
pub(crate) fn is_another_user(uid: u32) -> bool {
    uid != 0 && uid != nix::unistd::geteuid().as_raw()
}
