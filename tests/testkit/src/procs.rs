//! Processes that belong to a sandbox: found by their environment, working folder or program, and ended.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

/// Restores the default actions of the terminal's signals. The programs under test inherit which signals are ignored,
/// and `nohup` or a start in the background makes some ignored. Every [`Sandbox`](crate::Sandbox) calls it; a test
/// without one calls it itself.
///
/// # Panics
/// If the system does not permit it.
pub fn heed_the_terminal() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for number in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: the default action runs no code of ours.
            #[expect(unsafe_code, reason = "signal dispositions")]
            unsafe { signal(number, SigHandler::SigDfl) }.expect("a signal's default action");
        }
    });
}

/// A process that has a sandbox's path in its environment or arguments, or runs in it or from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its arguments.
    pub argv: Vec<String>,
}

/// Processes of the sandbox at `root`, without the calling one.
#[cfg(target_os = "linux")]
pub(crate) fn processes(root: &Path) -> Vec<Process> {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;

    let needle = root.as_os_str().as_bytes();
    let in_root = |link: PathBuf| fs::read_link(link).is_ok_and(|to| to.starts_with(root));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| i64::from(*pid) != i64::from(std::process::id()))
        .filter(|pid| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let environ = fs::read(proc.join("environ")).unwrap_or_default();
            // `codex-pool` shows other users' processes, and even its own user's, its arguments alone.
            let cmdline = fs::read(proc.join("cmdline")).unwrap_or_default();
            [environ, cmdline].iter().any(|text| text.windows(needle.len()).any(|w| w == needle))
                || in_root(proc.join("cwd"))
                || in_root(proc.join("exe"))
        })
        .map(|pid| {
            let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let argv = cmdline.split(|b| *b == 0).filter(|a| !a.is_empty());
            Process { pid, argv: argv.map(|a| String::from_utf8_lossy(a).into_owned()).collect() }
        })
        .collect()
}

/// Processes of the sandbox at `root`, without the calling one. `ps -E` shows the environment of one's own.
#[cfg(not(target_os = "linux"))]
pub(crate) fn processes(root: &Path) -> Vec<Process> {
    let root = root.to_string_lossy();
    let output = std::process::Command::new("ps").args(["-axEwwo", "pid=,command="]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains(&*root))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            Some(Process { pid, argv: words.map(str::to_owned).collect() })
        })
        .filter(|p| i64::from(p.pid) != i64::from(std::process::id()))
        .collect()
}

/// The number of the user that owns nothing, for programs that are not to run as root.
pub const NOBODY: u32 = 65_534;

/// Returns whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Returns whether any thread of a process still works: its first one can be a zombie already while others hold files.
pub fn alive(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default())
        .any(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
}

/// Waits until a process is gone.
///
/// # Panics
/// If it stays.
#[track_caller]
pub fn wait_for_end(pid: u32) {
    crate::wait_until(&format!("the end of {pid}"), crate::SOON, || !alive(pid));
}

/// Returns the children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Kills what [`processes`] finds until there is nothing left, for at most ten seconds. Returns what remains.
pub(crate) fn end_all(root: &Path) -> Vec<Process> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes(root);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        for process in &left {
            // It may have ended since.
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
