//! The guard of a move: a process that starts the server again if the one that moves it ends before it is done. It learns
//! of that by the end of the pipe between them.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::server::Origin;
use super::{Home, finish};
use crate::error::{Error, Result};
use crate::homes::CodexHome;
use crate::paths::PoolPaths;

/// What the guard is told when the move is done.
const DONE: &[u8] = b"done\n";
/// No description of a server is longer, bytes.
const MAX: u64 = 8 << 20;
/// How long it waits for the right to end a move. A process that has it ends the move itself.
const RIGHT: Duration = Duration::from_secs(120);
/// How long it tries to end the move: a stop that goes on can take 17 s. Then the mark is left to the attendant.
const TRIES: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// A guard, seen from the process that moves the server.
pub(super) struct Guard {
    child: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Starts the guard of a move.
    pub(super) fn start(paths: &PoolPaths, home: &CodexHome, origin: &Origin) -> io::Result<Guard> {
        let mut command = Command::new(paths.admin_link());
        command.args(["move", "--guard"]).arg(home.dir());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = serde_json::to_vec(origin)?;
        line.push(b'\n');
        pipe.write_all(&line)?;
        Ok(Guard { child, pipe })
    }

    /// Tells it that a server runs. One that cannot be told waits for the right to end the move, and finds nothing to do.
    pub(super) fn done(mut self) {
        let told = self.pipe.write_all(DONE).is_ok();
        drop(self.pipe);
        if told {
            let _ = self.child.wait();
        }
    }
}

/// Is the guard of the move of a home's server, on the pipe that is its standard input.
///
/// # Errors
/// The pipe says nothing, or the server cannot be started.
pub fn keep(paths: &PoolPaths, dir: &Path) -> Result<()> {
    let mut pipe = io::stdin().lock();
    let (mut line, mut rest) = (Vec::new(), Vec::new());
    let read = pipe.by_ref().take(MAX).read_until(b'\n', &mut line);
    read.map_err(|e| Error::new(format!("cannot read about a move: {e}")))?;
    let origin: Option<Origin> = serde_json::from_slice(&line).ok();
    let _ = pipe.take(MAX).read_to_end(&mut rest);
    if rest == DONE {
        return Ok(());
    }
    let Some(home) = Home::new(paths, dir, RIGHT)? else { return Ok(()) };
    let start = Instant::now();
    loop {
        match finish::with(&home, origin.clone()) {
            Err(_) if start.elapsed() < TRIES => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}
