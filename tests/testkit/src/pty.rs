//! An interactive program in a pseudo terminal: what it shows, read from a terminal emulator's screen, and
//! what a person would type. Queries that programs send to the terminal (cursor position, device attributes,
//! colours, keyboard protocol) are answered, since Codex does not start without.

use std::fs::File;
use std::io::{Read as _, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::cmd::Cmd;

/// The Enter key.
pub const ENTER: &str = "\r";
/// The Escape key.
pub const ESCAPE: &str = "\x1b";
/// Ctrl-C.
pub const CTRL_C: &str = "\x03";
/// Ctrl-D.
pub const CTRL_D: &str = "\x04";
/// Cursor up.
pub const UP: &str = "\x1b[A";
/// Cursor down.
pub const DOWN: &str = "\x1b[B";

/// Between the last letter and Enter.
const PACE: Duration = Duration::from_millis(200);

/// A program in a pseudo terminal. Dropping it kills the program and its process group.
pub struct Pty {
    child: Child,
    status: Option<ExitStatus>,
    master: File,
    shared: Arc<Shared>,
}

struct Shared {
    terminal: Mutex<Terminal>,
    changed: Condvar,
}

struct Terminal {
    parser: vt100::Parser<Answers>,
    raw: Vec<u8>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Terminal> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pty {
    /// Starts the command as the leader of a session of its own, with the terminal as its controlling one.
    /// `TERM` is `xterm-256color` unless the command sets it.
    ///
    /// # Panics
    /// If that fails.
    pub fn spawn(cmd: Cmd, rows: u16, cols: u16) -> Pty {
        let pair = openpty(&winsize(rows, cols), None).expect("open a pseudo terminal");
        // Programs that other tests start meanwhile must not inherit it.
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("mark a descriptor");
        }
        let mut command = cmd.into_inner();
        if command.get_envs().all(|(name, _)| name != "TERM") {
            command.env("TERM", "xterm-256color");
        }
        let slave = || Stdio::from(pair.slave.try_clone().expect("duplicate the terminal"));
        command.stdin(slave()).stdout(slave()).stderr(slave());
        // SAFETY: between fork and exec only setsid and ioctl are called, which are async-signal-safe.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY as _, 0) {
                    -1 => Err(std::io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        drop(command);
        drop(pair.slave);
        let master = File::from(pair.master);
        let parser = vt100::Parser::new_with_callbacks(size(rows), size(cols), 10_000, Answers::default());
        let terminal = Mutex::new(Terminal { parser, raw: Vec::new(), closed: false });
        let shared = Arc::new(Shared { terminal, changed: Condvar::new() });
        let reading = (master.try_clone().expect("duplicate the terminal"), Arc::clone(&shared));
        std::thread::spawn(move || read(reading.0, &reading.1));
        Pty { child, status: None, master, shared }
    }

    /// Types.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// Types a line, waits until the screen shows it, and presses Enter at a person's pace: Codex takes an
    /// Enter that follows other keys within some milliseconds for part of a pasted text.
    ///
    /// # Panics
    /// If it does not show within ten seconds.
    pub fn send_line(&mut self, text: &str) {
        self.send(text);
        self.wait_for_text(text, Duration::from_secs(10));
        std::thread::sleep(PACE);
        self.send(ENTER);
    }

    /// Quits Codex's interface.
    ///
    /// # Panics
    /// If it does not end well.
    #[track_caller]
    pub fn quit_codex(&mut self) {
        self.send_line("/quit");
        assert!(self.wait(crate::SOON).success());
    }

    /// Returns the text on the screen now.
    pub fn screen(&self) -> String {
        self.shared.lock().parser.screen().contents()
    }

    /// Everything written to the terminal so far, escape sequences included.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().raw).into_owned()
    }

    /// Waits until the screen shows `needle`, and gives the screen.
    ///
    /// # Panics
    /// If it does not within `limit`, or the program ends without.
    #[track_caller]
    pub fn wait_for_text(&self, needle: &str, limit: Duration) -> String {
        self.wait_for(&format!("{needle:?} on the screen"), limit, |screen| screen.contains(needle))
    }

    /// Waits until Codex's interface takes input: while it says `loading`, 0.150 drops an Enter.
    ///
    /// # Panics
    /// If it does not within `limit`, or the program ends without.
    #[track_caller]
    pub fn wait_for_codex(&self, limit: Duration) -> String {
        let ready = |screen: &str| {
            screen.contains("OpenAI Codex") && screen.contains('›') && !screen.contains("loading")
        };
        self.wait_for("Codex's prompt", limit, ready)
    }

    /// Waits until the screen does not show `needle` any more, and gives the screen.
    ///
    /// # Panics
    /// If it still does after `limit`.
    #[track_caller]
    pub fn wait_gone(&self, needle: &str, limit: Duration) -> String {
        self.wait_for(&format!("no {needle:?} on the screen"), limit, |screen| !screen.contains(needle))
    }

    /// Waits until the screen satisfies `condition`, and gives it.
    ///
    /// # Panics
    /// If it does not within `limit`, or the program ends without.
    #[track_caller]
    pub fn wait_for(&self, what: &str, limit: Duration, condition: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + limit;
        let mut terminal = self.shared.lock();
        loop {
            let screen = terminal.parser.screen().contents();
            if condition(&screen) {
                return screen;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!terminal.closed, "{what}: the program ended; the screen was:\n{screen}");
            assert!(!left.is_zero(), "{what}: not within {limit:?}; the screen is:\n{screen}");
            terminal =
                self.shared.changed.wait_timeout(terminal, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Changes the terminal's size; the program gets SIGWINCH.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn resize(&mut self, rows: u16, cols: u16) {
        use std::os::fd::AsRawFd as _;
        self.shared.lock().parser.set_size(size(rows), size(cols));
        let winsize = winsize(rows, cols);
        // SAFETY: the descriptor is open, and TIOCSWINSZ reads one winsize.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const winsize) };
        assert!(result == 0, "resize the terminal: {}", std::io::Error::last_os_error());
    }

    /// Returns the program's process id; also its process group and session.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(self.raw_pid(), signal).unwrap_or_else(|e| panic!("{signal} to the program: {e}"));
    }

    /// Returns whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("wait for a child");
        }
        self.status.is_none()
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// If it does not come within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            assert!(
                Instant::now() < deadline,
                "still running after {limit:?}; the screen is:\n{}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.status.expect("it has ended")
    }

    /// Waits for the program's end and for the last of its output, and gives everything written to the terminal.
    ///
    /// # Panics
    /// If that does not come within `limit`.
    #[track_caller]
    pub fn finish(&mut self, limit: Duration) -> String {
        self.wait(limit);
        crate::wait_until("the end of the output", limit, || self.shared.lock().closed);
        self.raw()
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if self.is_running() {
            // Already dead is as good.
            let _ = killpg(self.raw_pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn read(mut master: File, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    // Linux says EIO when the last process has closed the terminal.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        let mut terminal = shared.lock();
        terminal.raw.extend_from_slice(&buffer[..read]);
        terminal.parser.process(&buffer[..read]);
        let answers = std::mem::take(&mut terminal.parser.callbacks_mut().0);
        drop(terminal);
        shared.changed.notify_all();
        if master.write_all(&answers).is_err() {
            break;
        }
    }
    shared.lock().closed = true;
    shared.changed.notify_all();
}

/// Collects the answers to a program's queries, as an xterm gives them.
#[derive(Default)]
struct Answers(Vec<u8>);

impl vt100::Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        i1: Option<u8>,
        _i2: Option<u8>,
        params: &[&[u16]],
        c: char,
    ) {
        let first = params.first().and_then(|p| p.first()).copied().unwrap_or(0);
        let (row, col) = screen.cursor_position();
        let answer = match (i1, c, first) {
            (None, 'n', 6) => format!("\x1b[{};{}R", row + 1, col + 1),
            (None, 'n', 5) => "\x1b[0n".to_owned(),
            (None, 'c', _) => "\x1b[?62;22c".to_owned(),
            (Some(b'>'), 'c', _) => "\x1b[>0;276;0c".to_owned(),
            (Some(b'?'), 'u', _) => "\x1b[?0u".to_owned(),
            (None, 't', 18) => format!("\x1b[8;{};{}t", screen.size().0, screen.size().1),
            _ => return,
        };
        self.0.extend(answer.bytes());
    }

    fn unhandled_osc(&mut self, _: &mut vt100::Screen, params: &[&[u8]]) {
        let answer = match params {
            [b"10", b"?"] => "\x1b]10;rgb:dddd/dddd/dddd\x1b\\",
            [b"11", b"?"] => "\x1b]11;rgb:1111/1111/1111\x1b\\",
            _ => return,
        };
        self.0.extend(answer.bytes());
    }
}

fn size(cells: u16) -> std::num::NonZeroU16 {
    std::num::NonZeroU16::new(cells).expect("a terminal has rows and columns")
}

fn winsize(rows: u16, cols: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}
