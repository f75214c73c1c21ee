//! Codex homes for one login each. Codex revokes the login that it finds, so a login that must leave the others alone
//! takes place in one of these.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use codex_pool_core::auth_doc::MAX_BYTES;
use codex_pool_core::files::{self, Durability, PoolLock};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::process::{Liveness, ProcessId};
use codex_pool_core::store::{LostFound, Why};
use codex_pool_core::{Error, Result};

use super::{Context, Notice, Tell};

/// The user's file of environment variables in CODEX_HOME.
const ENV_FILE: &str = ".env";
/// A home whose maker cannot be told is left over after this long.
const LEFT_OVER: Duration = Duration::from_secs(86_400);

/// An empty Codex home for one login, named after this process. It goes with this value.
pub(super) struct LoginHome {
    dir: PathBuf,
    tell: Tell,
}

impl LoginHome {
    pub(super) fn make(ctx: &Context, config: &str) -> Result<LoginHome> {
        let me =
            ProcessId::of_self().map_or_else(|_| format!("pid-{}", std::process::id()), |me| me.to_string());
        let home = LoginHome { dir: ctx.paths.logins().join(me), tell: ctx.tell };
        files::create_private_dir(&home.dir).map_err(|e| Error::io("create", &home.dir, &e))?;
        let file = home.dir.join("config.toml");
        files::write_whole(&file, config.as_bytes(), Durability::Fast)
            .map_err(|e| Error::io("write", &file, &e))?;
        // Codex reads variables from there, such as a proxy's.
        let variables = ctx.main_home.dir().join(ENV_FILE);
        if variables.exists() {
            let link = home.dir.join(ENV_FILE);
            symlink(&variables, &link).map_err(|e| Error::io("link", &link, &e))?;
        }
        Ok(home)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for LoginHome {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            (self.tell)(&Notice::Warning(Error::io("remove", &self.dir, &e).to_string()));
        }
        // Only an empty one goes.
        let _ = self.dir.parent().map(fs::remove_dir);
    }
}

/// Removes private homes of logins that were killed. A login that was made there all the same is kept in
/// `lost+found/`: nobody was told that it had succeeded.
pub(super) fn sweep(lock: &PoolLock, paths: &PoolPaths, now: i64) {
    let Ok(homes) = fs::read_dir(paths.logins()) else { return };
    let me = ProcessId::of_self().ok();
    for home in homes.flatten() {
        let maker = home.file_name().to_str().and_then(ProcessId::parse);
        let left_over = match (maker, &me) {
            (Some(maker), Some(me)) if maker != *me => {
                maker.liveness(me) == Liveness::Dead || is_old(&home.path())
            }
            (Some(_), Some(_)) => true,
            _ => is_old(&home.path()),
        };
        if left_over && keep_login(lock, paths, &home.path(), now).is_ok() {
            // The next command tries again.
            let _ = fs::remove_dir_all(home.path());
        }
    }
    // Only an empty one goes.
    let _ = fs::remove_dir(paths.logins());
}

fn keep_login(lock: &PoolLock, paths: &PoolPaths, home: &Path, now: i64) -> Result<()> {
    let path = home.join("auth.json");
    let bytes = files::read_small(&path, MAX_BYTES).map_err(|e| Error::io("read", &path, &e))?;
    if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
        LostFound::new(paths).keep(lock, &bytes, Why::Unclaimed, None, now)?;
    }
    Ok(())
}

fn is_old(dir: &Path) -> bool {
    let modified = fs::metadata(dir).and_then(|m| m.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > LEFT_OVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().to_owned());
        let me = ProcessId::of_self().unwrap();
        let living = ProcessId { pid: std::os::unix::process::parent_id(), ..me.clone() };
        let ticks = codex_pool_core::process::stat(living.pid).unwrap().start_ticks;
        let living = ProcessId { start_ticks: ticks, ..living }.to_string();
        let dead = ProcessId { start_ticks: me.start_ticks + 1, ..me }.to_string();
        for name in [&living, &dead] {
            fs::create_dir_all(paths.logins().join(name).join("log")).unwrap();
        }
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        fs::write(paths.logins().join(&dead).join("auth.json"), "a login").unwrap();
        sweep(&lock, &paths, 7);
        let kept = LostFound::new(&paths).entries();
        assert_eq!(fs::read_to_string(&kept[0].1).unwrap(), "a login");
        assert!(paths.logins().join(living).exists() && !paths.logins().join(dead).exists());
    }
}
