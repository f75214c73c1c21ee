//! The real Codex of a given version, from npm.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bins;
use crate::needs::{missing, needs};

/// The version that the tests run unless they name another.
pub const PINNED: &str = "0.169.0";

/// Every version that is tried, oldest first.
pub const ALL: [&str; 5] = ["0.120.0", "0.140.0", "0.150.0", "0.159.3", PINNED];

/// An installed real Codex.
#[derive(Clone, Debug)]
pub struct RealCodex {
    /// The npm launcher, `node_modules/.bin/codex` (needs Node).
    pub launcher: PathBuf,
    /// The native program that the launcher starts.
    pub native: PathBuf,
    /// Its version.
    pub version: String,
}

/// Finds that version: in `$CODEX_POOL_TEST_CODEX_DIR/codex-<version>`, else in `target/codex/<version>`,
/// where npm installs it the first time. Without it (no Node, no npm, no network) the calling test is left out, and has
/// to return.
///
/// # Panics
/// If it is not there and `CODEX_POOL_TEST_ALL` is 1.
#[track_caller]
pub fn real_codex(version: &str) -> Option<RealCodex> {
    note_use();
    needs("node")?;
    match find(version) {
        Ok(codex) => Some(codex),
        Err(error) => {
            missing(&format!("no real Codex {version}: {error}"));
            None
        }
    }
}

fn find(version: &str) -> Result<RealCodex, String> {
    if let Some(dir) = std::env::var_os("CODEX_POOL_TEST_CODEX_DIR") {
        return look(&Path::new(&dir).join(format!("codex-{version}")), version);
    }
    let dir = bins::target_dir().join("codex");
    let prefix = dir.join(version);
    if let Ok(found) = look(&prefix, version) {
        return Ok(found);
    }
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let lock = File::create(dir.join(".lock")).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.map_err(|e| format!("lock in {}: {e}", dir.display()))?;
    look(&prefix, version).or_else(|_| {
        install(&dir, version, &format!("@openai/codex@{version}"), &[]).and_then(|()| look(&prefix, version))
    })
}

/// Returns the version of tests that run one alone: the last of [`versions`].
pub fn version() -> String {
    versions().pop().unwrap_or_else(|| PINNED.to_owned())
}

/// Returns every version named in `CODEX_POOL_TEST_VERSIONS` (separated by spaces or commas; `all` for [`ALL`]), else
/// [`PINNED`] alone.
pub fn versions() -> Vec<String> {
    let list = std::env::var("CODEX_POOL_TEST_VERSIONS").unwrap_or_default();
    if list == "all" {
        return ALL.map(str::to_owned).into();
    }
    let named: Vec<_> = list.split([' ', ',']).filter(|v| !v.is_empty()).map(str::to_owned).collect();
    if named.is_empty() { vec![PINNED.to_owned()] } else { named }
}

/// Returns whether this version has a background server, and its session logs say whose they are: from 0.159 on.
pub fn has_server(version: &str) -> bool {
    minor(version) >= 159
}

/// Returns whether this version revokes a login that it replaces or that is logged out: from 0.140 on.
pub fn revokes(version: &str) -> bool {
    minor(version) >= 140
}

/// Returns whether this version has `archive` and `unarchive`, and tells an editor which hooks there are: from 0.140
/// on.
pub fn archives(version: &str) -> bool {
    minor(version) >= 140
}

/// Those of [`versions`] whose threads can be carried from one account to another: from 0.140 on.
pub fn carried_versions() -> Vec<String> {
    versions().into_iter().filter(|version| minor(version) >= 140).collect()
}

/// Returns the second number of a version; all of them are 0.x.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

/// Notes in the file that `CODEX_POOL_TEST_USED` names, if any, that the running test uses the real Codex: what
/// `scripts/compatibility.sh` counts. A test's thread bears its name.
fn note_use() {
    let Some(file) = std::env::var_os("CODEX_POOL_TEST_USED") else { return };
    let thread = std::thread::current();
    let line = format!("{}\n", thread.name().unwrap_or_default());
    let opened = File::options().append(true).create(true).open(&file);
    let noted = opened.and_then(|mut notes| notes.write_all(line.as_bytes()));
    noted.unwrap_or_else(|e| panic!("{}: {e}", Path::new(&file).display()));
}

/// The version of the official TypeScript SDK that the tests use.
const SDK: &str = "0.163.0";

/// Returns the module of the official TypeScript SDK (`@openai/codex-sdk`), below `target/codex`, where npm installs it
/// the first time, without the Codex that it would bring. `None` as for [`real_codex`].
#[track_caller]
pub fn codex_sdk() -> Option<PathBuf> {
    needs("node")?;
    let dir = bins::target_dir().join("codex");
    let name = format!("sdk-{SDK}");
    let module = dir.join(&name).join("node_modules/@openai/codex-sdk/dist/index.js");
    let lock = fs::create_dir_all(&dir).and_then(|()| File::create(dir.join(".lock")));
    let lock = lock.and_then(|lock| lock.lock().map(|()| lock));
    let made = lock.map_err(|e| e.to_string()).and_then(|_lock| {
        if module.exists() {
            return Ok(());
        }
        let package = format!("@openai/codex-sdk@{SDK}");
        install(&dir, &name, &package, &["--omit=optional"])
    });
    if let Err(error) = made {
        missing(&format!("no Codex SDK {SDK}: {error}"));
        return None;
    }
    Some(module)
}

/// Installs under a temporary name, then renames: what is at `<dir>/<name>` is whole.
fn install(dir: &Path, name: &str, package: &str, options: &[&str]) -> Result<(), String> {
    let staged = dir.join(format!(".{name}.part"));
    let clean = || fs::remove_dir_all(&staged);
    // Left by an installation that was killed.
    let _ = clean();
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).args(options);
    npm.arg("--prefix").arg(&staged).arg(package).stdin(Stdio::null());
    let output = npm.output().map_err(|e| format!("npm does not run: {e}"))?;
    if !output.status.success() {
        let _ = clean();
        return Err(format!("npm install of {package}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    fs::rename(&staged, dir.join(name)).map_err(|e| format!("{}: {e}", staged.display()))
}

fn look(prefix: &Path, version: &str) -> Result<RealCodex, String> {
    let launcher = prefix.join("node_modules/.bin/codex");
    if !launcher.exists() {
        return Err(format!("no Codex {version} in {}", prefix.display()));
    }
    let native = native(&prefix.join("node_modules/@openai"));
    let native = native.ok_or_else(|| format!("no native Codex {version} in {}", prefix.display()))?;
    Ok(RealCodex { launcher, native, version: version.to_owned() })
}

/// Returns `<package>/vendor/<triple>/bin/codex`, or `…/codex/codex` in older packages.
fn native(packages: &Path) -> Option<PathBuf> {
    let folders = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    folders(packages)
        .flat_map(|package| folders(&package.join("vendor")).collect::<Vec<_>>())
        .flat_map(|triple| [triple.join("bin/codex"), triple.join("codex/codex")])
        .find(|path| path.is_file())
}
