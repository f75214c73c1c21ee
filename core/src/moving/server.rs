//! Stopping a background server and starting its successor, with what the old one had from the window that started it:
//! environment, folder, file mode mask and limits. The tools of its sessions inherit them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use crate::codex::background_server::BackgroundServer;
use crate::codex::{find, probe};
use crate::config::Settings;
use crate::env::Env;
use crate::process::{self, Inherited};
use crate::store::{path_key, path_of_key};

/// How long one call of Codex may take.
const CALL: Duration = Duration::from_secs(30);
/// How long a start is tried.
const START: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// The clock of process starts goes on within this time, unless somebody has set it.
const TICK: Duration = Duration::from_millis(100);

/// What a server was started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The entries of the environment (see [`path_key`]).
    entries: Vec<String>,
    inherited: Inherited,
    /// The program that it runs.
    program: Option<PathBuf>,
}

impl Origin {
    /// Reads what this process was started with.
    pub(super) fn of(pid: u32) -> Option<Origin> {
        let entries = process::environ(pid)?.iter().map(|entry| path_key(Path::new(entry))).collect();
        let program = process::program(pid).filter(|program| program.is_file());
        Some(Origin { entries, inherited: process::inherited(pid), program })
    }

    pub(super) fn env(&self) -> Env {
        let entries: Vec<OsString> =
            self.entries.iter().map(|entry| path_of_key(entry).into_os_string()).collect();
        Env::of_other(entries, self.inherited.folder.clone())
    }

    /// Returns the Codex to call: the server's own program, which needs no launcher, else the installed one.
    pub(super) fn codex(&self, settings: &Settings) -> Option<PathBuf> {
        let own = self.program.clone().filter(|program| program.is_file());
        own.filter(|program| program.file_name().is_some_and(|name| name == "codex"))
            .or_else(|| find::find(&self.env(), settings, None).ok())
    }

    /// Returns a call of Codex with all of it. `folder`: where it runs.
    pub(super) fn command(&self, codex: &Path) -> Command {
        let env = self.env();
        let mut command = Command::new(codex);
        command.env_clear().envs(env.vars());
        let folder = self.inherited.folder.as_deref().filter(|folder| folder.is_dir());
        command.current_dir(folder.or(env.home()).unwrap_or(Path::new("/")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Lets the server end, which waits for what its threads do. `meanwhile` is called all the time. Returns whether it has
/// ended.
pub(super) fn stop(
    origin: &Origin,
    codex: &Path,
    server: &BackgroundServer,
    mut meanwhile: impl FnMut(),
) -> bool {
    let mut stop: Option<Child> = origin.command(codex).args(["app-server", "daemon", "stop"]).spawn().ok();
    let start = Instant::now();
    while server.is_alive() && start.elapsed() < CALL {
        // It says no: the server goes on.
        if let Some(child) = &mut stop
            && matches!(child.try_wait(), Ok(Some(status)) if !status.success())
        {
            break;
        }
        meanwhile();
        std::thread::sleep(PAUSE);
    }
    if let Some(mut child) = stop {
        // It removes what names the server.
        let _ = probe::wait_within(&mut child, CALL.saturating_sub(start.elapsed()));
    }
    !server.is_alive()
}

/// Tells a thread to go on. Returns whether the message may have been left: only what is known to have failed is tried
/// again.
pub(super) fn tell(origin: &Origin, codex: &Path, thread: &str) -> bool {
    let mut queue = origin.command(codex);
    queue.args(["queue", "--thread", thread, "--message", "continue"]);
    let Ok(mut queue) = queue.spawn() else { return false };
    !matches!(probe::wait_within(&mut queue, CALL), Ok(Some(status)) if !status.success())
}

/// Starts a server, unless one runs. `after`: the start that it must be younger than, in clock ticks. Returns the one that
/// runs then.
pub(super) fn start(
    origin: &Origin,
    codex: &Path,
    home: &Path,
    after: Option<u64>,
) -> Option<BackgroundServer> {
    let begin = Instant::now();
    let mut pause = PAUSE;
    // Of a server that starts in the same tick it is not known which login it has read.
    let same_tick = || after.is_some_and(|ticks| process::ticks_now().is_some_and(|now| now <= ticks));
    while same_tick() && begin.elapsed() < TICK {
        std::thread::sleep(PAUSE);
    }
    loop {
        let mut command = origin.command(codex);
        command.args(["app-server", "daemon", "start"]);
        let answer = with_its_limits(&origin.inherited, || probe::answer(&mut command, CALL));
        let runs = answer.is_some_and(|text| says_running(&text));
        match BackgroundServer::of_home(home).filter(|_| runs) {
            Some(server) if after.is_none_or(|ticks| server.start_ticks >= ticks) => return Some(server),
            // It has read the login that was there before.
            Some(_) => return None,
            None if begin.elapsed() > START => return None,
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

fn says_running(answer: &str) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        status: String,
    }
    answer
        .lines()
        .filter_map(|line| serde_json::from_str::<Answer>(line).ok())
        .any(|answer| ["started", "alreadyRunning"].contains(&answer.status.as_str()))
}

/// Calls `spawn` with the file mode mask and the limits of another process.
fn with_its_limits<T>(inherited: &Inherited, spawn: impl FnOnce() -> T) -> T {
    for (name, soft, hard) in &inherited.limits {
        let Some(resource) = resource(name) else { continue };
        // What this process may not raise stays.
        let _ = setrlimit(resource, soft.unwrap_or(RLIM_INFINITY), hard.unwrap_or(RLIM_INFINITY));
    }
    let before = inherited.umask.map(|mask| umask(Mode::from_bits_truncate(mask as libc::mode_t)));
    let result = spawn();
    before.map(umask);
    result
}

/// Returns a limit by its name in `/proc/<pid>/limits`.
#[cfg(target_os = "linux")]
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "Max cpu time" => Resource::RLIMIT_CPU,
        "Max file size" => Resource::RLIMIT_FSIZE,
        "Max data size" => Resource::RLIMIT_DATA,
        "Max stack size" => Resource::RLIMIT_STACK,
        "Max core file size" => Resource::RLIMIT_CORE,
        "Max open files" => Resource::RLIMIT_NOFILE,
        "Max address space" => Resource::RLIMIT_AS,
        #[cfg(target_os = "linux")]
        "Max processes" => Resource::RLIMIT_NPROC,
        #[cfg(target_os = "linux")]
        "Max locked memory" => Resource::RLIMIT_MEMLOCK,
        _ => return None,
    })
}

/// Elsewhere no limits of another process are known.
#[cfg(not(target_os = "linux"))]
fn resource(_name: &str) -> Option<Resource> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_of_a_start_is_understood() {
        assert!(says_running("{\"status\":\"started\",\"pid\":1}\n"));
        assert!(says_running("note\n{\"status\":\"alreadyRunning\"}"));
        assert!(!says_running("{\"status\":\"stopped\"}") && !says_running(""));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn server_is_younger_than_the_login_it_reads() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        std::fs::create_dir(home.join("app-server-daemon")).unwrap();
        // It is fast: in most runs it starts a server within a hundredth of a second.
        let codex = home.join("codex");
        let script = "#!/bin/sh\ncd \"${0%/*}\"\nsleep 60 >/dev/null 2>&1 &\n\
             echo \"{\\\"pid\\\":$!}\" > app-server-daemon/daemon.pid\necho '{\"status\":\"started\"}'\n";
        std::fs::write(&codex, script).unwrap();
        std::fs::set_permissions(&codex, std::fs::Permissions::from_mode(0o700)).unwrap();
        let origin = Origin::of(std::process::id()).unwrap();
        for _ in 0..8 {
            let came = process::ticks_now().unwrap();
            let server = start(&origin, &codex, home, Some(came)).unwrap();
            let pid = nix::unistd::Pid::from_raw(i32::try_from(server.pid).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            assert!(server.start_ticks > came, "{} {came}", server.start_ticks);
        }
    }

    #[test]
    fn what_a_process_was_started_with_survives_text() {
        let origin = Origin::of(std::process::id()).unwrap();
        let text = serde_json::to_string(&origin).unwrap();
        let read: Origin = serde_json::from_str(&text).unwrap();
        assert_eq!(read.env().entries(), origin.env().entries());
        assert_eq!(read.inherited, origin.inherited);
        #[cfg(target_os = "linux")]
        {
            assert_eq!(read.inherited.folder, std::env::current_dir().ok());
            assert!(read.inherited.umask.is_some());
            let (soft, _) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let known = read
                .inherited
                .limits
                .iter()
                .find(|(name, ..)| resource(name) == Some(Resource::RLIMIT_NOFILE));
            assert_eq!(known.unwrap().1, Some(soft));
        }
    }
}
