//! Learning what a launcher starts: it runs under Node with a preload that reports instead of starting, twice, with
//! different arguments and environments. Runs in a process of its own, which nobody waits for. Starts Node and
//! nothing else; what is kept holds no variable's value but those that the launcher itself sets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::identity::Stamp;
use super::interpreter::{self, Script};
use super::observed::{Observed, Run, Variables, conclude};
use super::{Change, NativeStart, Record, Tried, VERSION, key, load_tried, save};
use crate::codex::{find, probe};
use crate::config::Settings;
use crate::env::Env;
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;

const PRELOAD: &str = include_str!("preload.js");
/// How long Node may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the pool's lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// A file that changed a moment ago may change again without a trace; this long after it cannot.
const SETTLED: Duration = Duration::from_secs(1);
/// More files than any package of Codex has beside its native program.
const MOST_FILES: usize = 100;
/// Files about launchers that are kept.
const MOST_KEPT: usize = 64;
/// What Node, or a wrapper of it, may need. Nothing here is a secret.
const PASSED_ON: [&str; 16] = [
    "HOME",
    "PATH",
    "TMPDIR",
    "LANG",
    "USER",
    "LOGNAME",
    "SHELL",
    "NVM_DIR",
    "NVM_BIN",
    "VOLTA_HOME",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "FNM_DIR",
    "FNM_MULTISHELL_PATH",
    "NODENV_ROOT",
    "N_PREFIX",
];
/// Harmless, even if they reached Codex.
const ARGS: [&[&str]; 2] = [&["--version"], &["--help", "", "--"]];
/// What variables are set to in the second run.
const PROBE: &str = "codex-pool-probe";

/// Learns what this launcher starts, and keeps it.
///
/// # Errors
/// In words, why nothing was learnt; that is kept, too.
pub fn learn(env: &Env, paths: &PoolPaths, launcher: &Path) -> Result<(), String> {
    if !super::is_ours(paths.root()) {
        return Err("the pool is another user's".to_owned());
    }
    let settings = Settings::load(&paths.config()).0;
    if !settings.native_start {
        return Err("native_start is off".to_owned());
    }
    let script = Script::of(launcher, env).ok_or("the launcher is no script for Node")?;
    let key = key(launcher, &script.node);
    let learnt = look(env, paths, launcher, &script);
    let lock = PoolLock::acquire(paths, LOCK_WAIT).map_err(|e| e.to_string())?.ok_or("the pool is locked")?;
    let kept = learnt.and_then(|record| save(&paths.native_start(&key), &record).map_err(|e| e.to_string()));
    if let Err(why) = &kept {
        let path = paths.native_tried(&key);
        let tried = load_tried(&path).unwrap_or(Tried { identity: String::new(), at: env.now, error: None });
        let _ = save(&path, &Tried { error: Some(why.clone()), ..tried });
    }
    forget(&lock, paths);
    kept
}

/// Runs the launcher twice and draws the conclusion.
fn look(env: &Env, paths: &PoolPaths, launcher: &Path, script: &Script) -> Result<Record, String> {
    let real = std::fs::canonicalize(launcher).map_err(|e| e.to_string())?;
    let package = Package::of(&script.path)?;
    let preload = preload(paths)?;

    let mut first: Variables =
        PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), env.text(name)?.to_owned()))).collect();
    if let Some(node_path) = &script.node_path {
        first.insert("NODE_PATH".to_owned(), node_path.clone());
    }
    let run = |args: &'static [&'static str], env: &Variables| -> Result<Observed, String> {
        let mut node = Command::new(&script.node);
        node.arg("--require").arg(&preload).arg(&script.path).args(args);
        node.env_clear().envs(env).current_dir("/");
        let printed = probe::answer(&mut node, ANSWER).ok_or("Node did not answer")?;
        Observed::parse(&printed)
    };
    let observed = run(ARGS[0], &first)?;
    // What the launcher names or has changed is set in the second run, to see what becomes of it.
    let mut second = first.clone();
    for name in package.names.iter().cloned().chain(observed.changed()) {
        second.entry(name).or_insert_with(|| PROBE.to_owned());
    }
    second.entry("PATH".to_owned()).and_modify(|path| path.push_str(&format!(":/{PROBE}")));

    let stamps = |observed: &Observed| -> Result<Vec<(PathBuf, Stamp)>, String> {
        let own = [launcher, &script.path, &script.node, &observed.program];
        let files = observed.files.iter().chain(&package.files).map(PathBuf::as_path).chain(own);
        let files = files.collect::<BTreeSet<_>>().into_iter().map(|path| (path, Stamp::take(path)));
        let folders = observed.folders.iter().map(|path| (path.as_path(), Stamp::of_entries(path)));
        let unknown = |path: &Path| format!("what is at {} cannot be told", path.display());
        let all = files.chain(folders);
        all.map(|(path, stamp)| Ok((path.to_owned(), stamp.ok_or_else(|| unknown(path))?))).collect()
    };
    wait_until_settled(&stamps(&observed)?);
    let files = stamps(&observed)?;
    let one = Run { args: ARGS[0], env: &first, observed: run(ARGS[0], &first)? };
    let two = Run { args: ARGS[1], env: &second, observed: run(ARGS[1], &second)? };
    if [&one, &two].iter().any(|run| stamps(&run.observed).as_ref() != Ok(&files)) {
        return Err("the installation changed meanwhile, or what is looked at depends on more".to_owned());
    }
    let (mut start, unset) = conclude([&one, &two])?;
    if let Some(node_path) = &script.node_path {
        start.env.push(("NODE_PATH".to_owned(), Change::Set(node_path.clone())));
    }
    check(&start)?;
    let (launcher, node) = (launcher.to_owned(), script.node.clone());
    Ok(Record { version: VERSION, launcher, node, real, files, unset, start })
}

/// The package that a launcher belongs to.
struct Package {
    /// Its own files, without what it has inside for the platform.
    files: Vec<PathBuf>,
    /// What may be the name of a variable in its scripts.
    names: BTreeSet<String>,
}

impl Package {
    /// Codex's own package, and no other.
    fn of(script: &Path) -> Result<Package, String> {
        let real = std::fs::canonicalize(script).map_err(|e| format!("{}: {e}", script.display()))?;
        if !is_javascript(&real) {
            return Err(format!("{} is no JavaScript", real.display()));
        }
        let root = interpreter::package_of(&real).ok_or("the launcher belongs to no package")?;
        let about = root.join("package.json");
        let about = files::read_small(&about, 1 << 20).ok().flatten().unwrap_or_default();
        let about: serde_json::Value =
            serde_json::from_slice(&about).map_err(|e| format!("package.json: {e}"))?;
        if about["name"] != "@openai/codex" {
            return Err(format!("{} is not the package @openai/codex", root.display()));
        }
        // They could be anywhere, and do anything.
        if about["dependencies"].as_object().is_some_and(|all| !all.is_empty()) {
            return Err("the package has dependencies".to_owned());
        }
        let mut files = Vec::new();
        list(&root, &mut files);
        if files.len() > MOST_FILES {
            return Err("the package has too many files".to_owned());
        }
        let scripts = files.iter().filter(|path| is_javascript(path));
        let texts = scripts.filter_map(|path| files::read_small(path, 1 << 20).ok().flatten());
        let names = texts.flat_map(|text| names(&String::from_utf8_lossy(&text))).collect();
        Ok(Package { files, names })
    }
}

fn is_javascript(path: &Path) -> bool {
    path.extension().is_some_and(|ext| ["js", "mjs", "cjs"].iter().any(|known| ext == *known))
}

/// The files of a package, up to a few more than are allowed.
fn list(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if found.len() > MOST_FILES {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                if !["node_modules", "vendor"].iter().any(|other| entry.file_name() == *other) {
                    list(&entry.path(), found);
                }
            }
            _ => found.push(entry.path()),
        }
    }
}

/// Words in capitals, but those by which Node and the system's libraries would be changed.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let capitals = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let harmful = ["NODE", "LD_", "DYLD_", "UV_", "SSL_", "OPENSSL", "MALLOC", "GLIBC"];
    words
        .filter(|word| {
            word.len() > 2 && word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(capitals)
        })
        .filter(|word| !harmful.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// Puts the preload where Node finds it.
fn preload(paths: &PoolPaths) -> Result<PathBuf, String> {
    let path = paths.native_dir().join("preload.js");
    let there = files::read_small(&path, 1 << 20).ok().flatten();
    if there.as_deref() != Some(PRELOAD.as_bytes()) {
        let _lock =
            PoolLock::acquire(paths, LOCK_WAIT).map_err(|e| e.to_string())?.ok_or("the pool is locked")?;
        files::create_private_dir(&paths.native_dir())
            .and_then(|()| files::write_whole(&path, PRELOAD.as_bytes(), Durability::Fast))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(path)
}

/// Waits until no file is so new that it could change again and look the same.
fn wait_until_settled(files: &[(PathBuf, Stamp)]) {
    let changed = files.iter().filter_map(|(path, _)| {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Duration::new(u64::try_from(meta.ctime()).ok()?, u32::try_from(meta.ctime_nsec()).ok()?))
    });
    let Some(newest) = changed.max() else { return };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // By another machine's clock it may lie ahead of us.
    std::thread::sleep((newest + SETTLED).saturating_sub(now).min(3 * SETTLED));
}

/// Whether that can be what Codex's launcher starts.
fn check(start: &NativeStart) -> Result<(), String> {
    let path = start.program();
    let meta = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    if !meta.is_file() {
        return Err(format!("{} is no program", path.display()));
    }
    if find::is_shim(path) {
        return Err(format!("{} is codex-pool's own shim", path.display()));
    }
    Ok(())
}

/// Removes what is known of launchers that are gone, and the oldest of too many: some version managers make folders of
/// their own for every terminal.
fn forget(_lock: &PoolLock, paths: &PoolPaths) {
    let launcher_is_gone = |path: &Path| {
        let record = files::read_small(path, super::LARGEST).ok().flatten();
        record
            .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
            .is_some_and(|r| !r.launcher.exists())
    };
    let entries = std::fs::read_dir(paths.native_dir()).into_iter().flatten().flatten();
    let mut known: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "json" || ext == "tried"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    known.sort_by(|a, b| b.cmp(a));
    for (i, (_, path)) in known.into_iter().enumerate() {
        if i >= MOST_KEPT || launcher_is_gone(&path) {
            let _ = files::remove_file(&path);
            let _ = files::remove_file(&path.with_extension("tried"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_changed_a_moment_ago_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let written = std::time::Instant::now();
        let files = [(path.clone(), Stamp::take(&path).unwrap())];
        wait_until_settled(&files);
        // The clock of files ticks in steps of a few milliseconds.
        assert!(written.elapsed() > SETTLED - Duration::from_millis(20));
        let settled = std::time::Instant::now();
        wait_until_settled(&files);
        assert!(settled.elapsed() < SETTLED);
    }

    #[test]
    fn of_too_many_launchers_the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        fs::create_dir_all(paths.native_dir()).unwrap();
        fs::write(paths.native_dir().join("preload.js"), "").unwrap();
        for i in 0..=MOST_KEPT {
            let file = fs::File::create(paths.native_tried(&format!("k{i}"))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(i as u64)).unwrap();
        }
        forget(&lock, &paths);
        let left = fs::read_dir(paths.native_dir()).unwrap().count();
        assert_eq!(left, MOST_KEPT + 1, "and the preload");
        assert!(!paths.native_tried("k0").exists() && paths.native_tried("k1").exists());
    }

    #[test]
    fn only_javascript_of_codexs_own_package_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("codex");
        let script = root.join("bin/codex.js");
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        fs::create_dir_all(root.join("vendor/x")).unwrap();
        fs::write(root.join("vendor/x/big"), "").unwrap();
        fs::write(&script, "env.CODEX_A = npm_b; NODE_OPTIONS; TzX; AB; delete env.CODEX_B9;").unwrap();
        let of = |about: &str| {
            fs::write(root.join("package.json"), about).unwrap();
            Package::of(&script)
        };
        let package = of(r#"{"name":"@openai/codex","dependencies":{}}"#).unwrap();
        assert_eq!(package.names, ["CODEX_A", "CODEX_B9"].map(str::to_owned).into());
        assert_eq!(package.files.len(), 2);
        for other in
            [r#"{"name":"codex"}"#, r#"{"name":"@openai/codex","dependencies":{"x":"1"}}"#, "{}", "no JSON"]
        {
            assert!(of(other).is_err(), "{other}");
        }
        let shell = root.join("bin/codex.sh");
        fs::write(&shell, "").unwrap();
        assert!(Package::of(&shell).is_err());
    }
}
