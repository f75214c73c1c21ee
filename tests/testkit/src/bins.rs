//! Where the programs under test and the kit's own helper programs are, built when missing or out of date.
//!
//! They are looked for beside the running test, example or benchmark, so that the profile and target fit.
//! `TESTKIT_BIN_DIR` names a folder of ready-made ones instead (say, a release build).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The workspace this kit was built from.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What is built, as arguments of `cargo build`.
const PACKAGES: [&str; 7] = ["--bins", "-p", "codex-shim", "-p", "codex-pool", "-p", "testkit"];

/// What the programs are made of, below the workspace.
const SOURCES: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "src", "core", "shim", "tests/testkit/src", "tests/testkit/Cargo.toml"];

/// Returns the admin program, `codex-pool`.
pub fn codex_pool() -> PathBuf {
    bin("codex-pool")
}

/// Returns the shim, whose file name is `codex`.
pub fn shim() -> PathBuf {
    bin("codex")
}

/// Returns the stand-in for the real Codex.
pub fn standin_codex() -> PathBuf {
    bin("standin-codex")
}

/// Returns the probe, which records what it was started with.
pub fn standin_probe() -> PathBuf {
    bin("standin-probe")
}

/// Returns the stand-in service as a program.
pub fn standin_backend() -> PathBuf {
    bin("standin-backend")
}

/// Returns any of the workspace's programs by file name.
///
/// # Panics
/// If it cannot be built or found.
pub fn bin(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let path = DIR.get_or_init(ready_dir).join(name);
    assert!(path.is_file(), "{} is not there", path.display());
    path
}

/// Returns the target folder of the running program, such as `target`.
pub fn target_dir() -> PathBuf {
    layout().target
}

/// Where things are for the running program.
struct Layout {
    /// `target`.
    target: PathBuf,
    /// The triple, when it was built with `--target`.
    triple: Option<String>,
    /// `debug`, `release`, or the name of another profile.
    profile: String,
}

impl Layout {
    fn bin_dir(&self) -> PathBuf {
        self.triple.iter().fold(self.target.clone(), |dir, triple| dir.join(triple)).join(&self.profile)
    }
}

/// Reads the layout off the path of the running program: `<target>/[<triple>/]<profile>/[deps|examples/]name`.
fn layout() -> Layout {
    let exe = std::env::current_exe().expect("the path of the running program");
    let mut dir = exe.parent().expect("a program is in a folder");
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir = dir.parent().expect("a folder above deps");
    }
    let name = |p: &Path| p.file_name().expect("a folder with a name").to_string_lossy().into_owned();
    let above = dir.parent().expect("a target folder");
    // Cargo marks the target folder itself; with --target the triple's folder is in between.
    let is_target = |p: &Path| p.join(".rustc_info.json").exists();
    let (target, triple) = match above.parent() {
        Some(target) if !is_target(above) && is_target(target) => (target, Some(name(above))),
        _ => (above, None),
    };
    Layout { target: target.to_owned(), triple, profile: name(dir) }
}

fn ready_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("TESTKIT_BIN_DIR") {
        return PathBuf::from(dir);
    }
    let layout = layout();
    let dir = layout.bin_dir();
    let lock = File::create(dir.join(".testkit.lock")).expect("make the build lock");
    lock.lock().expect("take the build lock");
    let stamp = dir.join(".testkit.stamp");
    let built = fs::metadata(&stamp).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let newest = SOURCES.iter().map(|s| newest(&Path::new(WORKSPACE).join(s))).max().expect("sources");
    let missing = ["codex", "codex-pool", "standin-codex", "standin-probe", "standin-backend"]
        .iter()
        .any(|name| !dir.join(name).exists());
    if missing || built <= newest {
        let began = SystemTime::now();
        build(&layout);
        // The stamp carries the time before the build: an edit during it is noticed.
        let file = File::create(&stamp).expect("make the build stamp");
        file.set_modified(began).expect("date the build stamp");
    }
    dir
}

fn build(layout: &Layout) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--target-dir"])
        .arg(&layout.target)
        .args(PACKAGES)
        .current_dir(WORKSPACE);
    if let Some(triple) = &layout.triple {
        command.args(["--target", triple]);
    }
    if layout.profile != "debug" {
        command.args(["--profile", &layout.profile]);
    }
    // What cargo sets for this very process would make the build believe that it is another package's.
    let inherited = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name.starts_with("CARGO_BIN_")
    });
    for name in inherited {
        command.env_remove(name);
    }
    let output = command.output().unwrap_or_else(|e| panic!("cannot run cargo: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the programs under test do not build:\n{said}");
}

/// Time of the last change in a file or below a folder.
fn newest(path: &Path) -> SystemTime {
    let own = fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| newest(&entry.path()));
    below.fold(own, SystemTime::max)
}
