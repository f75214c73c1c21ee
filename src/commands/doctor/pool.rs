//! The pool on disk: whether it exists, is private, readable and complete, is not locked for long, and is free of what
//! a crash left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use codex_pool_core::account::AccountId;
use codex_pool_core::files;
use codex_pool_core::homes::login_home;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::process::{self, Liveness, LockHolders, ProcessId};
use codex_pool_core::renewal;
use codex_pool_core::store::{Credentials, LostFound, Mark, MarkKind, State, parse_foreign_store};
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Error, ErrorKind};
use serde::de::DeserializeOwned;

use super::Check;
use super::facts::{Facts, PoolFacts};
use super::fix::{Cache, Fix};

/// A lock that is held for longer is reported. Launches hold it for milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// How long documents in `lost+found/`, and caches that were set aside, are kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Writing a file takes less than this.
const WRITTEN: Duration = Duration::from_secs(60);
/// A cache is smaller than this, bytes.
const MAX_CACHE: u64 = 64 << 20;

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "pool";
    let folder = match facts.folder() {
        Ok(folder) => folder,
        Err(error) => return vec![Check::error(ID, error.clone(), String::new())],
    };
    let root = folder.paths.root();
    match fs::metadata(root) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return vec![
                Check::fail(ID, format!("{} is not a directory", root.display())).advice("move it away"),
            ];
        }
        Err(_) => {
            return vec![
                Check::fail(ID, format!("there is no pool at {}", root.display()))
                    .advice("`codex-pool init`"),
            ];
        }
    }
    let mut checks = vec![Check::ok(ID, root.display().to_string())];
    checks.push(permissions(folder));
    checks.extend(registry(folder));
    checks.extend(locks(folder));
    checks.extend(unfinished(folder, facts.env.now));
    checks.push(leftovers(folder, facts.env.now));
    checks
}

/// Checks whose the files are, and who else may read them.
fn permissions(folder: &PoolFacts) -> Check {
    const ID: &str = "permissions";
    let root = folder.paths.root();
    let me = nix::unistd::geteuid().as_raw();
    let private = private_paths(folder);
    let foreign = private.iter().find(|path| {
        // Root can use the files of all users, and gives what it writes to the folder's owner.
        me != 0 && fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() != me)
    });
    if let Some(path) = foreign {
        return Check::fail(ID, format!("{} belongs to another user (a `sudo`?)", path.display()))
            .advice(format!("`sudo chown -R \"$(id -u)\" '{}'`", root.display()));
    }
    let open: Vec<PathBuf> = private
        .into_iter()
        .filter(|path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0))
        .collect();
    // In a private folder nothing can be reached.
    let reachable = open.iter().any(|path| path == root || !path.starts_with(root));
    if let Some(first) = open.first() {
        let more = match open.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let message = format!("other users may look into {}{more}", first.display());
        let check = if reachable { Check::fail(ID, message) } else { Check::warn(ID, message) };
        return check.fix(Fix::MakePrivate { paths: open });
    }
    let sealed = [root.to_owned(), folder.paths.auth_dir(), folder.paths.launches()]
        .into_iter()
        .find(|dir| dir.is_dir() && nix::unistd::access(dir.as_path(), writable()).is_err());
    match sealed {
        Some(dir) => Check::fail(ID, format!("{} cannot be written", dir.display())).advice(format!(
            "`chmod u+rwx '{}'`, or see whether its file system is read-only",
            dir.display()
        )),
        None => Check::ok(ID, "only you can read the pool"),
    }
}

fn writable() -> nix::unistd::AccessFlags {
    nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK
}

/// Returns what must be private: the pool's folder, what is directly in it, and every file with credentials, but no
/// links.
fn private_paths(folder: &PoolFacts) -> Vec<PathBuf> {
    let paths = &folder.paths;
    let mut found = vec![paths.root().to_owned()];
    let not_secret = [paths.bin(), paths.config(), paths.root().join("env"), paths.root().join("env.fish")];
    for dir in [paths.root().to_owned(), paths.auth_dir(), paths.lost_found(), paths.launches()] {
        found.extend(entries(&dir).into_iter().filter(|path| !not_secret.contains(path)));
    }
    for over in entries(&paths.homes()) {
        for home in entries(&over).into_iter().filter(|home| is_folder(home)) {
            found.push(home.join("auth.json"));
            found.push(home);
        }
    }
    if let Ok(main_home) = &folder.main_home {
        // Codex makes it 0600.
        found.push(main_home.ctx.main_home.auth_json());
    }
    found.retain(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file() || meta.is_dir()));
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Returns whether a path is a folder, and not a link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// Checks the registry, and that it has an account for each document.
fn registry(folder: &PoolFacts) -> Vec<Check> {
    const ID: &str = "registry";
    let file = folder.paths.registry();
    let credentials = Credentials::new(&folder.paths);
    let pool = match &folder.pool {
        Ok(pool) => pool,
        Err(error) => return vec![unusable(ID, &file, error.clone())],
    };
    let accounts = &pool.registry().accounts;
    let mut checks = Vec::new();
    let stored = credentials.ids();
    let unknown: Vec<AccountId> =
        stored.iter().filter(|id| pool.registry().get(id).is_none()).cloned().collect();
    let (lost, broken): (Vec<_>, Vec<_>) =
        unknown.into_iter().partition(|id| credentials.load(id).is_ok_and(|doc| doc.is_some()));
    if !lost.is_empty() {
        let what = if file.exists() { "has lost" } else { "is missing, and with it" };
        checks.push(
            Check::fail(
                ID,
                format!("{} {what} {} whose credentials are in auth/", file.display(), count(lost.len())),
            )
            .fix(Fix::Register { ids: lost }),
        );
    }
    for id in broken {
        let path = credentials.path(&id);
        checks.push(
            Check::warn(ID, format!("{} is no auth.json, and no account of the registry", path.display()))
                .advice(format!("`rm '{}'` if you do not miss an account", path.display())),
        );
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, format!("{} in {}", count(accounts.len()), file.display())));
    }
    checks
}

/// Returns the problem of a registry that cannot be used.
fn unusable(id: &'static str, file: &Path, error: Error) -> Check {
    let bytes = files::read_small(file, MAX_CACHE).ok().flatten();
    if bytes.as_deref().is_some_and(|bytes| parse_foreign_store(bytes).is_some()) {
        return Check::warn(id, error.message)
            .advice("`codex-pool list` brings it up to date; the old file is kept");
    }
    let path = file.display();
    if error.kind == ErrorKind::Corrupt {
        return Check::fail(id, error.message).advice(format!(
            "repair it, or `mv '{path}' '{path}.broken' && codex-pool doctor --fix`, which makes a new one from auth/"
        ));
    }
    Check::error(id, error, format!("see `ls -l '{path}'`"))
}

fn count(accounts: usize) -> String {
    if accounts == 1 { "1 account".to_owned() } else { format!("{accounts} accounts") }
}

/// Checks that no process holds a lock for long. A lock cannot be stale, since the system releases it with its process,
/// but a process can hang.
fn locks(folder: &PoolFacts) -> Vec<Check> {
    const ID: &str = "lock";
    let mut checks = Vec::new();
    for (file, effect) in [
        (folder.paths.pool_lock(), "launches go on without the pool"),
        (folder.paths.refresh_lock(), "no token is renewed meanwhile"),
    ] {
        let Some(holders) = held_for_long(&file) else { continue };
        let name = |pid: &u32| match process::program_name(*pid) {
            Some(name) => format!("{name} (pid {pid})"),
            None => format!("pid {pid}"),
        };
        let who: Vec<String> = holders.pids.iter().map(name).collect();
        let (who, fix) = match holders.pids.first() {
            Some(pid) => (who.join(", "), format!("if it hangs, end it: `kill {pid}`")),
            None => {
                ("a process that cannot be seen from here".to_owned(), format!("`lsof '{}'`", file.display()))
            }
        };
        checks.push(Check::warn(ID, format!("{} is held by {who}; {effect}", file.display())).advice(fix));
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, "the pool's locks are free"));
    }
    checks
}

fn held_for_long(file: &Path) -> Option<LockHolders> {
    let start = Instant::now();
    loop {
        let holders = process::write_lock_holders(file);
        if holders == LockHolders::default() {
            return None;
        }
        if start.elapsed() >= LOCK_PATIENCE {
            return Some(holders);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Checks that no operation was interrupted.
fn unfinished(folder: &PoolFacts, now: i64) -> Vec<Check> {
    const ID: &str = "unfinished";
    let mut checks = Vec::new();
    let Ok(pool) = &folder.pool else { return checks };
    let me = folder.processes.me.as_ref();
    let dead = |mark: &&Mark| {
        ProcessId::parse(&mark.process)
            .zip(me)
            .is_none_or(|(process, me)| process.liveness(me) == Liveness::Dead)
    };
    let marks = &pool.state().marks;
    for mark in marks.iter().filter(|mark| mark.kind != MarkKind::Renewal).filter(dead) {
        let what = if mark.kind == MarkKind::Login { "login" } else { "logout" };
        let whose =
            mark.account.as_ref().map_or_else(String::new, |id| format!(" ({} was live)", folder.label(id)));
        checks.push(
            Check::warn(
                ID,
                format!("a `codex {what}` was killed before its end{whose}; the next launch tidies up"),
            )
            .fix(Fix::UndoLogin),
        );
    }
    for account in folder.accounts().iter().filter(|a| renewal::is_interrupted(pool, &a.id, now)) {
        let word = account.shell_ref();
        checks.push(
            Check::warn(
                ID,
                format!("a token renewal of {} was interrupted; its login may be used up", account.display()),
            )
            .advice(format!(
                "`codex-pool refresh {word}` finds out; if it fails, `codex-pool reauth {word}`"
            )),
        );
    }
    if !LostFound::new(&folder.paths).rescued().is_empty() {
        checks.push(
            Check::warn(ID, "the answer of a token renewal waits in lost+found/ to be put in its place")
                .fix(Fix::StoreRenewed),
        );
    }
    if folder.processes.incomplete() {
        checks.push(
            Check::fail(ID, "the launch ledger cannot be read, so no account is switched")
                .advice(format!("see `ls -l '{}'`", folder.paths.launches().display())),
        );
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no login, logout or renewal was interrupted"));
    }
    checks
}

/// Checks for what is of no more use: caches that cannot be read, files and homes that a crash left, documents that
/// were kept long enough.
fn leftovers(folder: &PoolFacts, now: i64) -> Check {
    const ID: &str = "leftovers";
    let paths = &folder.paths;
    let mut found: Vec<Fix> = Vec::new();
    for cache in [Cache::Usage, Cache::State] {
        let path = cache.path(paths);
        let before = path.with_extension("json.corrupt");
        let good = match cache {
            Cache::Usage => is_good::<UsageCache>(&path),
            Cache::State => is_good::<State>(&path),
        };
        if !good {
            found.push(Fix::SetAside { cache });
        } else if age(&before).is_some_and(|age| age > KEPT) {
            found.push(Fix::Remove { file: before });
        }
    }
    for dir in [paths.root().to_owned(), paths.auth_dir(), paths.lost_found()] {
        let left = entries(&dir).into_iter().filter(|path| is_old_temporary(path));
        found.extend(left.map(|file| Fix::Remove { file }));
    }
    let old =
        LostFound::new(paths).entries().into_iter().filter(|kept| now - kept.at > KEPT.as_secs() as i64);
    found.extend(old.map(|kept| Fix::Remove { file: kept.path }));
    let marks = folder.pool.as_ref().map_or(&[][..], |pool| &pool.state().marks);
    let homes = login_home::abandoned(paths, marks, &folder.processes);
    found.extend(homes.into_iter().map(|home| Fix::ClearLoginHome { home }));
    if found.is_empty() {
        return Check::ok(ID, "nothing is left over from a crash");
    }
    let what: Vec<String> = found.iter().map(|fix| left_over(paths, fix)).collect();
    Check::warn(ID, what.join("; ")).fix(Fix::Several(found))
}

/// Returns what a fix is for, in a few words.
fn left_over(paths: &PoolPaths, fix: &Fix) -> String {
    match fix {
        Fix::SetAside { cache } => format!("the cache {} is damaged", cache.path(paths).display()),
        Fix::Remove { file } => format!("{} is of no more use", file.display()),
        Fix::ClearLoginHome { home } => format!("{} is left from a login", home.dir().display()),
        other => format!("{other:?}"),
    }
}

/// Returns whether a cache can be read, or does not exist.
fn is_good<T: DeserializeOwned>(cache: &Path) -> bool {
    match files::read_small(cache, MAX_CACHE) {
        Ok(Some(bytes)) => serde_json::from_slice::<T>(&bytes).is_ok(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Returns whether a file is a temporary one of ours that is no longer being written.
fn is_old_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name.ends_with(".codex-pool.tmp") && age(path).is_some_and(|age| age > WRITTEN)
}

/// Returns the time since a file changed. `None`: it does not exist, or is from the future.
fn age(path: &Path) -> Option<Duration> {
    path.symlink_metadata().ok()?.modified().ok()?.elapsed().ok()
}
