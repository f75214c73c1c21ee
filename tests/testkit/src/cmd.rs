//! Running a program to its end, with a time limit and its output captured, or in the background.
//!
//! Output goes to files, not pipes: a background server that inherits them cannot make the test wait, and
//! what was written can be read while the program runs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long a program may take unless [`Cmd::timeout`] says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A program about to be run. It starts from an empty environment.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    timeout: Duration,
    stdin: Option<Vec<u8>>,
}

impl Cmd {
    /// Returns a command that runs that program, with an empty environment, no stdin, and [`DEFAULT_TIMEOUT`].
    pub fn new(program: impl AsRef<OsStr>) -> Cmd {
        let mut command = Command::new(program);
        command.env_clear();
        Cmd { command, timeout: DEFAULT_TIMEOUT, stdin: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Cmd {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Cmd {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Cmd {
        self.command.env(name, value);
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Cmd {
        self.command.env_remove(name);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Cmd {
        self.command.current_dir(dir);
        self
    }

    /// Gives it this on stdin.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Cmd {
        self.stdin = Some(text.into());
        self
    }

    /// Sets the time limit of [`Cmd::run`] and of waits on what [`Cmd::spawn`] gives.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Cmd {
        self.timeout = limit;
        self
    }

    /// Returns the command inside, for what this wrapper does not have. Standard streams and process group are
    /// set when it is started.
    pub fn inner(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Gives up the wrapper, for callers that start the program in their own way.
    pub fn into_inner(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started or takes too long (it is killed then, with its process group).
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts it, as the leader of a process group of its own.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(mut self) -> Running {
        let (stdout, stderr) = (scratch(), scratch());
        self.command.stdout(copy(&stdout)).stderr(copy(&stderr)).process_group(0);
        self.command.stdin(self.stdin.take().map_or_else(Stdio::null, |text| {
            let mut file = scratch();
            file.write_all(&text).and_then(|()| file.rewind()).expect("write the stdin file");
            file.into()
        }));
        let started = Instant::now();
        let child = self.command.spawn().unwrap_or_else(|e| panic!("cannot start {:?}: {e}", self.command));
        let program = describe(&self.command);
        Running { child, program, stdout, stderr, started, timeout: self.timeout, reaped: false }
    }
}

/// A program that runs. Dropping it kills its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    program: String,
    stdout: File,
    stderr: File,
    started: Instant,
    timeout: Duration,
    reaped: bool,
}

impl Running {
    /// Its process id, which is also its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal (to it alone).
    pub fn signal(&self, signal: Signal) {
        kill(self.raw(), signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.program));
    }

    /// Sends a signal to its process group, as a terminal's Ctrl-C does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.raw(), signal)
            .unwrap_or_else(|e| panic!("{signal} to the group of {}: {e}", self.program));
    }

    /// Returns whether it still runs.
    pub fn is_running(&mut self) -> bool {
        let running = self.child.try_wait().expect("wait for a child").is_none();
        self.reaped |= !running;
        running
    }

    /// Returns what it has written to stdout so far.
    pub fn stdout(&self) -> String {
        text(&read_all(&self.stdout))
    }

    /// Returns what it has written to stderr so far.
    pub fn stderr(&self) -> String {
        text(&read_all(&self.stderr))
    }

    /// Waits until stdout has `needle`, within the command's time limit.
    ///
    /// # Panics
    /// If that does not come in time, or the program ends without it.
    pub fn wait_for_stdout(&mut self, needle: &str) {
        let deadline = Instant::now() + self.timeout;
        loop {
            let ended = !self.is_running();
            if self.stdout().contains(needle) {
                return;
            }
            let in_time = Instant::now() < deadline && !ended;
            assert!(
                in_time,
                "{}: no {needle:?} on stdout:\n{}\n{}",
                self.program,
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it takes longer (since its start) than the command's time limit.
    pub fn wait(mut self) -> Output {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for a child") {
                self.reaped = true;
                break status;
            }
            if self.started.elapsed() > self.timeout {
                let (out, err) = (self.stdout(), self.stderr());
                panic!(
                    "{} did not end within {:?}\nstdout: {out}\nstderr: {err}",
                    self.program, self.timeout
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let stdout_bytes = read_all(&self.stdout);
        Output {
            program: self.program.clone(),
            status,
            stdout: text(&stdout_bytes),
            stdout_bytes,
            stderr: self.stderr(),
            took: self.started.elapsed(),
        }
    }

    fn raw(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            // Already dead is as good.
            let _ = killpg(self.raw(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// How a program ended and what it wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// Program and arguments, for messages.
    pub program: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its stdout, with replacement characters where it is not UTF-8.
    pub stdout: String,
    /// Its stdout as it is.
    pub stdout_bytes: Vec<u8>,
    /// Its stderr.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Output {
    /// Exit code, or `None` if a signal killed it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Returns the signal that killed it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Requires exit code 0.
    ///
    /// # Panics
    /// Otherwise, showing what it wrote.
    #[track_caller]
    pub fn ok(self) -> Output {
        self.expect(0)
    }

    /// Requires that exit code.
    ///
    /// # Panics
    /// Otherwise, showing what it wrote.
    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        assert!(self.code() == Some(code), "expected exit {code}: {self}");
        self
    }

    /// Requires `needle` on stdout.
    ///
    /// # Panics
    /// Otherwise, showing what it wrote.
    #[track_caller]
    pub fn says(self, needle: &str) -> Output {
        assert!(self.stdout.contains(needle), "expected {needle:?} on stdout: {self}");
        self
    }

    /// Stdout as JSON.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout_bytes).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { program, status, stdout, stderr, took, .. } = self;
        write!(f, "{program}: {status} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

fn scratch() -> File {
    tempfile::tempfile().expect("make a temporary file")
}

fn copy(file: &File) -> Stdio {
    file.try_clone().expect("duplicate a descriptor").into()
}

/// Reads a file whole without moving the offset that the writing program shares with us.
fn read_all(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; usize::try_from(file.metadata().expect("stat").len()).expect("fits")];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], read as u64).expect("read captured output") {
            0 => break,
            n => read += n,
        }
    }
    bytes.truncate(read);
    bytes
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_owned();
    let words: Vec<OsString> =
        std::iter::once(program).chain(command.get_args().map(OsStr::to_owned)).collect();
    words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
