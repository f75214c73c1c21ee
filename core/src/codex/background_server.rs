//! Codex's background server (from 0.159 on), controlled through Codex's own command.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::env::names;
use crate::homes::in_use::{self, Server};
use crate::process;

/// How long a server may take to end after `stop` has answered.
const ENDS: Duration = Duration::from_millis(400);
/// How long `stop` may take: launches wait 2 s for the pool, whose lock is held meanwhile.
const STOPS: Duration = Duration::from_millis(1500);

/// Stops the server of a CODEX_HOME, and waits for its end. Says whether it is gone.
pub fn stop(codex: &Path, dir: &Path, server: &Server) -> bool {
    let _ = call(codex, dir, "stop", STOPS);
    let start = Instant::now();
    while alive(server) {
        if start.elapsed() > ENDS {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Restarts the server of a CODEX_HOME. What is attached to it comes back by itself; work in flight is
/// interrupted. Gives the new one, which reads `auth.json` as it is now.
///
/// # Errors
/// Codex cannot be run, or there is no new server in time.
pub fn restart(codex: &Path, dir: &Path, limit: Duration) -> io::Result<Server> {
    let before = in_use::server(dir);
    let status = call(codex, dir, "restart", limit)?;
    match in_use::server(dir).filter(|now| Some(now) != before.as_ref()) {
        Some(server) if status.success() => Ok(server),
        _ => Err(io::Error::other(format!("`codex app-server daemon restart` did not do it ({status})"))),
    }
}

fn alive(server: &Server) -> bool {
    process::stat(server.pid).is_some_and(|stat| !stat.ended && stat.start_ticks == server.start_ticks)
}

/// Runs `codex app-server daemon <verb>`. A new server gets our environment, but nothing in it that
/// belongs to one launch.
fn call(codex: &Path, dir: &Path, verb: &str, limit: Duration) -> io::Result<ExitStatus> {
    let mut command = Command::new(codex);
    command.args(["app-server", "daemon", verb]).env(names::CODEX_HOME, dir);
    for name in
        [names::CODEX_POOL_LAUNCH, names::CODEX_POOL_ACCOUNT, names::CODEX_POOL_DEPTH, names::CODEX_THREAD_ID]
    {
        command.env_remove(name);
    }
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn()?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("`codex app-server daemon {verb}` did not end within {} s", limit.as_secs()),
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
