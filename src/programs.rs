//! The installed programs: the shim, and the link through which it finds this command. For `init` and `doctor`.
//! `update` and the installer bring new ones.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use codex_pool_core::codex::find::is_shim;
use codex_pool_core::codex::probe;
use codex_pool_core::env::names::CODEX_POOL_SHIM_VERSION;
use codex_pool_core::files::{self, PoolLock};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::{Error, Result};

/// The version of this program and of its shim.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The time limit for one of our programs to say its version.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// Returns the file of this program, without links. `None`: the system does not say.
pub(crate) fn own_file() -> Option<PathBuf> {
    std::env::current_exe().ok()?.canonicalize().ok()
}

/// Returns a shim of this version to put in place: the one beside this program, as in an unpacked release or a build.
pub(crate) fn shim_source() -> Option<PathBuf> {
    let beside = own_file()?.with_file_name("codex");
    is_shim(&beside).then_some(beside)
}

/// Returns the version that a shim says. It runs with an empty environment, since a program that is no shim must not
/// find a Codex to start.
pub(crate) fn version_of_shim(file: &Path) -> Option<String> {
    let text = probe::answer(Command::new(file).env_clear().env(CODEX_POOL_SHIM_VERSION, "1"), ANSWER)?;
    Some(text.trim_end().strip_prefix("codex-shim ")?.to_owned())
}

/// Puts the shim in its place, by rename.
///
/// # Errors
/// Another program is there, which stays, or the shim cannot be written.
pub(crate) fn put_shim(_lock: &PoolLock, paths: &PoolPaths, source: &Path) -> Result<()> {
    let (shim, dir) = (paths.shim(), paths.bin());
    if shim.symlink_metadata().is_ok() && !is_shim(&shim) {
        return Err(Error::new(format!("{} is not codex-pool's shim, so it stays", shim.display()))
            .hint("move it away, then try again"));
    }
    let staged = dir.join(".codex.codex-pool.tmp");
    let put = || {
        files::create_private_dir(&dir)?;
        files::remove_file(&staged)?;
        files::copy_new(source, &staged)?;
        fs::set_permissions(&staged, fs::Permissions::from_mode(0o755))?;
        fs::rename(&staged, &shim)
    };
    put().map_err(|e| Error::io("write", &shim, &e))
}

/// Makes the link through which the shim finds `codex-pool`, by rename.
///
/// # Errors
/// A file is there instead of a link, which stays, or it cannot be made.
pub(crate) fn link_admin(_lock: &PoolLock, paths: &PoolPaths, target: &Path) -> Result<()> {
    let (link, dir) = (paths.admin_link(), paths.bin());
    if fs::symlink_metadata(&link).is_ok_and(|meta| !meta.is_symlink()) {
        return Err(Error::new(format!("{} is no link, so it stays", link.display()))
            .hint("move it away, then try again"));
    }
    let staged = dir.join(".codex-pool.codex-pool.tmp");
    let put = || {
        files::create_private_dir(&dir)?;
        files::remove_file(&staged)?;
        symlink(target, &staged)?;
        fs::rename(&staged, &link)
    };
    put().map_err(|e| Error::io("link", &link, &e))
}
