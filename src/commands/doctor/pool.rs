//! The pool on disk: there, private, readable, complete, not locked for good, and without what a crash
//! has left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use codex_pool_core::account::AccountId;
use codex_pool_core::files;
use codex_pool_core::homes::login_home;
use codex_pool_core::process::{self, Liveness, LockHolders, ProcessId};
use codex_pool_core::renewal;
use codex_pool_core::store::{Credentials, LostFound, Mark, MarkKind, State, parse_foreign_store};
use codex_pool_core::usage::UsageCache;
use serde::de::DeserializeOwned;

use super::Check;
use super::repair::Repair;
use super::scene::{Place, Scene, split};

/// A lock held for longer than this is worth a word. Launches hold it for milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// How long documents in `lost+found/` are kept, and caches that were set aside.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// No file takes this long to write.
const WRITTEN: Duration = Duration::from_secs(60);
/// Larger caches are none.
const MAX_CACHE: u64 = 64 << 20;

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    const ID: &str = "pool";
    let place = match &scene.place {
        Ok(place) => place,
        Err(error) => {
            let (what, fix) = split(error);
            return vec![Check::fail(ID, what).fix(fix.unwrap_or_default())];
        }
    };
    let root = place.paths.root();
    match fs::metadata(root) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return vec![Check::fail(ID, format!("{} is no folder", root.display())).fix("move it away")];
        }
        Err(_) => {
            return vec![
                Check::fail(ID, format!("there is no pool at {}", root.display())).fix("`codex-pool init`"),
            ];
        }
    }
    let mut checks = vec![Check::ok(ID, root.display().to_string())];
    checks.push(permissions(place));
    checks.extend(registry(place));
    checks.extend(locks(place));
    checks.extend(unfinished(place, scene.env.now));
    checks.push(leftovers(place, scene.env.now));
    checks
}

/// Whose the files are, and who else may read them.
fn permissions(place: &Place) -> Check {
    const ID: &str = "permissions";
    let root = place.paths.root();
    let me = nix::unistd::geteuid().as_raw();
    let private = private_paths(place);
    let foreign = private.iter().find(|(path, _)| {
        // Root may use everybody's files, and gives what it writes to the folder's owner.
        me != 0 && fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() != me)
    });
    if let Some((path, _)) = foreign {
        return Check::fail(ID, format!("{} belongs to another user (a `sudo`?)", path.display()))
            .fix(format!("`sudo chown -R \"$(id -u)\" '{}'`", root.display()));
    }
    let open: Vec<PathBuf> = private
        .into_iter()
        .filter(|(path, _)| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0))
        .map(|(path, _)| path)
        .collect();
    // Behind a private folder nobody gets at the rest.
    let reachable = open.iter().any(|path| path == root || !path.starts_with(root));
    if let Some(first) = open.first() {
        let more = match open.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let message = format!("other users may look into {}{more}", first.display());
        let check = if reachable { Check::fail(ID, message) } else { Check::warn(ID, message) };
        return check.mend(Repair::Private { paths: open });
    }
    let sealed = [root.to_owned(), place.paths.auth_dir(), place.paths.launches()]
        .into_iter()
        .find(|dir| dir.is_dir() && nix::unistd::access(dir.as_path(), writable()).is_err());
    match sealed {
        Some(dir) => Check::fail(ID, format!("{} cannot be written", dir.display()))
            .fix(format!("`chmod u+rwx '{}'`, or see whether its file system is read-only", dir.display())),
        None => Check::ok(ID, "nobody else may look into the pool"),
    }
}

fn writable() -> nix::unistd::AccessFlags {
    nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK
}

/// What must be private: the pool's folder, what is directly in it, and every file with credentials.
/// Links are left out: what they lead to is somebody else's matter. With each whether it is a folder.
fn private_paths(place: &Place) -> Vec<(PathBuf, bool)> {
    let paths = &place.paths;
    let mut found = vec![(paths.root().to_owned(), true)];
    let not_secret = [paths.bin(), paths.config(), paths.root().join("env"), paths.root().join("env.fish")];
    for dir in [paths.root().to_owned(), paths.auth_dir(), paths.lost_found(), paths.launches()] {
        found.extend(entries(&dir).into_iter().filter(|(path, _)| !not_secret.contains(path)));
    }
    for (base, _) in entries(&paths.homes()) {
        for (home, _) in entries(&base).into_iter().filter(|(_, is_dir)| *is_dir) {
            found.push((home.join("auth.json"), false));
            found.push((home, true));
        }
    }
    if let Ok(home) = &place.codex_home {
        // Codex's own file; it makes it 0600.
        found.push((home.ctx.main_home.auth_json(), false));
    }
    found.retain(|(path, _)| path.symlink_metadata().is_ok_and(|meta| meta.is_file() || meta.is_dir()));
    found
}

fn entries(dir: &Path) -> Vec<(PathBuf, bool)> {
    let Ok(read) = fs::read_dir(dir) else { return Vec::new() };
    read.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.path(), entry.file_type().ok()?.is_dir()))
    })
    .collect()
}

/// The registry, and the documents that belong to it.
fn registry(place: &Place) -> Vec<Check> {
    const ID: &str = "registry";
    let file = place.paths.registry();
    let credentials = Credentials::new(&place.paths);
    let pool = match &place.pool {
        Ok(pool) => pool,
        Err(error) => return vec![unusable(ID, &file, error)],
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
            .mend(Repair::Enter { ids: lost }),
        );
    }
    for id in broken {
        let path = credentials.path(&id);
        checks.push(
            Check::warn(ID, format!("{} is no auth.json, and no account of the registry", path.display()))
                .fix(format!("`rm '{}'` if you do not miss an account", path.display())),
        );
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, format!("{} in {}", count(accounts.len()), file.display())));
    }
    checks
}

fn unusable(id: &'static str, file: &Path, error: &codex_pool_core::Error) -> Check {
    let (what, hint) = split(error);
    let bytes = files::read_small(file, MAX_CACHE).ok().flatten();
    if bytes.as_deref().is_some_and(|bytes| parse_foreign_store(bytes).is_some()) {
        return Check::warn(id, what).fix("`codex-pool list` brings it up to date; the old file is kept");
    }
    let check = Check::fail(id, what.clone());
    if what.contains("corrupt") {
        let quoted = format!("'{}'", file.display());
        return check.fix(format!(
            "repair it, or `mv {quoted} '{}.broken' && codex-pool doctor --fix`, which makes a new one from auth/",
            file.display()
        ));
    }
    match hint {
        Some(hint) => check.fix(hint),
        None => check.fix(format!("see `ls -l '{}'`", file.display())),
    }
}

fn count(accounts: usize) -> String {
    if accounts == 1 { "1 account".to_owned() } else { format!("{accounts} accounts") }
}

/// Locks cannot be stale, since the system releases them with their process, but a process can hang.
fn locks(place: &Place) -> Vec<Check> {
    const ID: &str = "lock";
    let mut checks = Vec::new();
    for (file, who_waits) in [
        (place.paths.pool_lock(), "launches go on without the pool"),
        (place.paths.refresh_lock(), "no token is refreshed meanwhile"),
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
        checks.push(Check::warn(ID, format!("{} is held by {who}; {who_waits}", file.display())).fix(fix));
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, "nobody holds the pool's locks"));
    }
    checks
}

fn held_for_long(file: &Path) -> Option<LockHolders> {
    let start = Instant::now();
    loop {
        let holders = process::flock_holders(file);
        if holders == LockHolders::default() {
            return None;
        }
        if start.elapsed() >= LOCK_PATIENCE {
            return Some(holders);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What was begun and not ended.
fn unfinished(place: &Place, now: i64) -> Vec<Check> {
    const ID: &str = "unfinished";
    let mut checks = Vec::new();
    let Ok(pool) = &place.pool else { return checks };
    let me = place.processes.me.as_ref();
    let dead = |mark: &&Mark| {
        ProcessId::parse(&mark.process)
            .zip(me)
            .is_none_or(|(process, me)| process.liveness(me) == Liveness::Dead)
    };
    let marks = &pool.state().marks;
    for mark in marks.iter().filter(|mark| mark.kind != MarkKind::Renewal).filter(dead) {
        let what = if mark.kind == MarkKind::Login { "login" } else { "logout" };
        let whose =
            mark.account.as_ref().map_or_else(String::new, |id| format!(" ({} was live)", place.label(id)));
        checks.push(
            Check::warn(
                ID,
                format!("a `codex {what}` was killed before its end{whose}; the next launch tidies up"),
            )
            .mend(Repair::Undo),
        );
    }
    for account in place.accounts().iter().filter(|a| renewal::interrupted(pool, &a.id, now)) {
        let word = account.word();
        checks.push(
            Check::warn(
                ID,
                format!("a token renewal of {} was interrupted; its login may be used up", account.display()),
            )
            .fix(format!("`codex-pool refresh {word}` finds out; if it fails, `codex-pool reauth {word}`")),
        );
    }
    if !LostFound::new(&place.paths).rescued().is_empty() {
        checks.push(
            Check::warn(ID, "the answer of a token renewal waits in lost+found/ to be put in its place")
                .mend(Repair::Settle),
        );
    }
    if place.processes.incomplete() {
        checks.push(
            Check::fail(ID, "the launch ledger cannot be read, so no account is switched")
                .fix(format!("see `ls -l '{}'`", place.paths.launches().display())),
        );
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, "no login, logout or refresh was interrupted"));
    }
    checks
}

/// What is of no more use: caches that cannot be read, files and homes that a crash left, documents
/// whose time is over.
fn leftovers(place: &Place, now: i64) -> Check {
    const ID: &str = "leftovers";
    let paths = &place.paths;
    let mut found: Vec<Repair> = Vec::new();
    let (usage, state) = (paths.usage(), paths.state());
    for (cache, good) in [(usage, is_good::<UsageCache> as fn(&Path) -> bool), (state, is_good::<State>)] {
        let before = cache.with_extension("json.corrupt");
        if !good(&cache) {
            found.push(Repair::SetAside { cache });
        } else if age(&before).is_some_and(|age| age > KEPT) {
            found.push(Repair::Remove { file: before });
        }
    }
    for dir in [paths.root().to_owned(), paths.auth_dir(), paths.lost_found()] {
        let left = entries(&dir).into_iter().map(|(path, _)| path).filter(|path| is_old_temporary(path));
        found.extend(left.map(|file| Repair::Remove { file }));
    }
    let old = LostFound::new(paths).entries().into_iter().filter(|(at, _)| now - at > KEPT.as_secs() as i64);
    found.extend(old.map(|(_, file)| Repair::Remove { file }));
    let marks = place.pool.as_ref().map_or(&[][..], |pool| &pool.state().marks);
    let homes = login_home::abandoned(paths, marks, &place.processes);
    found.extend(homes.into_iter().map(|home| Repair::LoginHome { home }));
    if found.is_empty() {
        return Check::ok(ID, "nothing is left over from a crash");
    }
    let what: Vec<String> = found.iter().map(Repair::describe).collect();
    Check::warn(ID, what.join("; ")).mend(Repair::Several(found))
}

/// Whether a cache can be read; one that is not there can.
fn is_good<T: DeserializeOwned>(cache: &Path) -> bool {
    match files::read_small(cache, MAX_CACHE) {
        Ok(Some(bytes)) => serde_json::from_slice::<T>(&bytes).is_ok(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// A temporary file of ours that nobody can be writing any more.
fn is_old_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name.ends_with(".codex-pool.tmp") && age(path).is_some_and(|age| age > WRITTEN)
}

/// Since when a file is as it is; `None` if it is not there, or from the future.
fn age(path: &Path) -> Option<Duration> {
    path.symlink_metadata().ok()?.modified().ok()?.elapsed().ok()
}
