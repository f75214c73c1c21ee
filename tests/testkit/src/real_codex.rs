//! The real Codex of a given version, from npm.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bins;

/// The version that the tests run unless they name another.
pub const PINNED: &str = "0.169.0";

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
/// where npm installs it the first time.
///
/// # Errors
/// In words, when there is no Node or npm, or no network, or the variable's folder does not have it.
pub fn real_codex(version: &str) -> Result<RealCodex, String> {
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
    look(&prefix, version).or_else(|_| install(&dir, version).and_then(|()| look(&prefix, version)))
}

/// Every version named in `CODEX_POOL_TEST_VERSIONS` (separated by spaces or commas), else [`PINNED`] alone.
pub fn versions() -> Vec<String> {
    let list = std::env::var("CODEX_POOL_TEST_VERSIONS").unwrap_or_default();
    let named: Vec<_> = list.split([' ', ',']).filter(|v| !v.is_empty()).map(str::to_owned).collect();
    if named.is_empty() { vec![PINNED.to_owned()] } else { named }
}

/// Installs under a temporary name, then renames: what is at `<dir>/<version>` is whole.
fn install(dir: &Path, version: &str) -> Result<(), String> {
    let staged = dir.join(format!(".{version}.part"));
    let clean = || fs::remove_dir_all(&staged);
    // Left by an installation that was killed.
    let _ = clean();
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(&staged);
    npm.arg(format!("@openai/codex@{version}")).stdin(Stdio::null());
    let output = npm.output().map_err(|e| format!("cannot run npm: {e}"))?;
    if !output.status.success() {
        let _ = clean();
        return Err(format!("npm install of Codex {version}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    fs::rename(&staged, dir.join(version)).map_err(|e| format!("{}: {e}", staged.display()))
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

/// `<package>/vendor/<triple>/bin/codex`, or `…/codex/codex` in older packages.
fn native(packages: &Path) -> Option<PathBuf> {
    let folders = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    folders(packages)
        .flat_map(|package| folders(&package.join("vendor")).collect::<Vec<_>>())
        .flat_map(|triple| [triple.join("bin/codex"), triple.join("codex/codex")])
        .find(|path| path.is_file())
}
