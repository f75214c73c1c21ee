//! The programs that are measured, built as they are installed, and the C programs that they are compared with.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::pool::Pool;

/// What a measurement needs.
pub(crate) struct Programs {
    dir: TempDir,
    /// A program in Codex's place that ends at once.
    pub(crate) target: PathBuf,
    /// A program that only execs the target.
    pub(crate) exec: PathBuf,
    peak: PathBuf,
    pub(crate) shim: PathBuf,
    pub(crate) codex_pool: PathBuf,
    ten: OnceCell<Pool>,
    thousand: OnceCell<Pool>,
}

impl Programs {
    /// Builds all programs.
    pub(crate) fn build() -> Programs {
        let target_dir = testkit::bins::target_dir();
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&target_dir).expect("a folder");
        let target = compile(dir.path(), "target.c", None);
        let exec = compile(dir.path(), "exec.c", Some(&target));
        let peak = compile(dir.path(), "peak.c", None);
        let out = target_dir.join("bench-bin");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/build.sh");
        let status = Command::new("sh")
            .arg(script)
            .arg(&out)
            .env("CARGO_TARGET_DIR", target_dir)
            .status()
            .expect("sh");
        assert!(status.success(), "scripts/build.sh: {status}");
        let (shim, codex_pool) = (out.join("codex"), out.join("codex-pool"));
        let (ten, thousand) = (OnceCell::new(), OnceCell::new());
        Programs { dir, target, exec, peak, shim, codex_pool, ten, thousand }
    }

    /// Returns a new pool.
    pub(crate) fn pool(&self, name: &str, accounts: usize) -> Pool {
        Pool::new(&self.dir.path().join(name), accounts, self)
    }

    /// Returns a pool of ten accounts, the same each time.
    pub(crate) fn ten(&self) -> &Pool {
        self.ten.get_or_init(|| self.pool("ten", 10))
    }

    /// Returns a pool of a thousand accounts, the same each time.
    pub(crate) fn thousand(&self) -> &Pool {
        self.thousand.get_or_init(|| self.pool("thousand", 1000))
    }

    /// Runs a command to its end, in an environment of what it sets alone. Returns its time, its peak memory in MB
    /// (10^6 bytes) and its output.
    pub(crate) fn peak(&self, command: &Command) -> (Duration, f64, Vec<u8>) {
        let file = self.dir.path().join("peak.kib");
        let mut measured = Command::new(&self.peak);
        measured.arg(&file).arg(command.get_program()).args(command.get_args()).env_clear();
        measured.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        measured.current_dir(command.get_current_dir().expect("a folder to run in"));
        let start = Instant::now();
        let output = measured.stdin(Stdio::null()).stderr(Stdio::null()).output().expect("it starts");
        let took = start.elapsed();
        assert!(output.status.success(), "{command:?}: {}", output.status);
        let kib = std::fs::read_to_string(&file).expect("the peak");
        (took, kib.trim().parse::<f64>().expect("a number") * 1024.0 / 1e6, output.stdout)
    }

    /// Returns the peak memory of some runs in MB.
    pub(crate) fn peaks(&self, runs: usize, mut command: impl FnMut() -> Command) -> Vec<f64> {
        (0..runs).map(|_| self.peak(&command()).1).collect()
    }
}

/// Runs a command to its end, without its output, and requires that it succeeds. Returns the time that it took.
pub(crate) fn time(command: &mut Command) -> Duration {
    let (took, status) = timed(command);
    assert!(status.success(), "{command:?}: {status}");
    took
}

/// Runs a command to its end, without its output. Returns the time that it took, and its status.
pub(crate) fn timed(command: &mut Command) -> (Duration, ExitStatus) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().expect("it starts");
    (start.elapsed(), status)
}

/// Compiles a C program of the suite as a static one.
fn compile(dir: &Path, source: &str, target: Option<&Path>) -> PathBuf {
    let out = dir.join(source.trim_end_matches(".c"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-o"]).arg(&out);
    if let Some(target) = target {
        cc.arg(format!("-DTARGET=\"{}\"", target.display()));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/suite").join(source);
    assert!(cc.arg(source).status().expect("a C compiler").success());
    out
}
