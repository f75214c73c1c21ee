//! The process that waits for an `exec`: it starts Codex as a child, and is not to be noticed. Same process group and
//! terminal; signals to it alone are passed on, stopping and continuing too; on Linux the child ends with it, whatever
//! ends it. With a filter, the child's lines pass through it. Knows neither pool nor accounts.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::JsonStream;

#[cfg(test)]
mod tests;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an exit status.
    Exited(u8),
    /// By a signal.
    Killed(i32),
}

/// How long the child is looked at often, and how often.
const EARLY: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_millis(40);
const SELDOM: Duration = Duration::from_millis(500);
/// What a pipe takes at once, if it takes anything.
const PIECE: usize = 4096;
/// How long a run that has ended, and was asked to, waits for a reader.
const LAST_WAIT: Duration = Duration::from_secs(1);

static CHILD: AtomicI32 = AtomicI32::new(0);
static ASKED: AtomicI32 = AtomicI32::new(0);
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Signals that end a run that is waited for.
const ENDING: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// Others that are passed on. The terminal sends its own to the whole group.
const PASSED_ON: [libc::c_int; 13] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGWINCH,
    libc::SIGIO,
    libc::SIGURG,
    libc::SIGXCPU,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
];

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel's own structure.
    #[expect(unsafe_code, reason = "siginfo")]
    let by_a_process = BY_A_PROCESS.contains(unsafe { &(*info).si_code });
    if ENDING.contains(&signal) {
        ASKED.store(signal, Relaxed);
    }
    let child = CHILD.load(Relaxed);
    if child > 0 && signal != libc::SIGCHLD && by_a_process {
        // SAFETY: a system call that is allowed in handlers.
        #[expect(unsafe_code, reason = "kill")]
        unsafe {
            libc::kill(child, signal);
        }
    }
    // SAFETY: as above, on a constant.
    #[expect(unsafe_code, reason = "write")]
    unsafe {
        libc::write(WAKE.load(Relaxed), (&raw const WAKE).cast(), 1);
    }
    Errno::set_raw(errno);
}

/// What `si_code` says of a signal that a process sent.
#[cfg(target_os = "linux")]
const BY_A_PROCESS: [libc::c_int; 3] = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL];
/// The same on macOS, which says 0 of every signal but of faults, and not the `SI_USER` and `SI_QUEUE` of its
/// `sys/signal.h`. So the terminal's signals arrive twice: a process that ends or is stopped takes no second one.
#[cfg(not(target_os = "linux"))]
const BY_A_PROCESS: [libc::c_int; 3] = [0, 0x1_0001, 0x1_0002];

/// The signals of a process that waits, until they are given back.
#[derive(Debug)]
pub struct Signals {
    before: Vec<(libc::c_int, libc::sigaction)>,
    mask: libc::sigset_t,
    /// Has a byte when something has happened.
    woken: File,
    _wake: OwnedFd,
}

impl Signals {
    /// Takes the signals.
    ///
    /// # Errors
    /// What the system says.
    pub fn take() -> io::Result<Signals> {
        let (woken, wake) = pipe()?;
        for end in [woken.as_raw_fd(), wake.as_raw_fd()] {
            set_nonblocking(end)?;
        }
        ASKED.store(0, Relaxed);
        WAKE.store(wake.as_raw_fd(), Relaxed);
        // SAFETY: plain system calls on structures of ours.
        #[expect(unsafe_code, reason = "signals")]
        let (before, mask) = unsafe {
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = handle as *const () as libc::sighandler_t;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigemptyset(&mut new.sa_mask);
            let mut before = Vec::new();
            for signal in ENDING.into_iter().chain(PASSED_ON).chain([libc::SIGCHLD, libc::SIGPIPE]) {
                let mut old: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut old);
                let ignored = old.sa_sigaction == libc::SIG_IGN;
                // What the user ignores (nohup) stays ignored, by the child too.
                if ignored && signal != libc::SIGCHLD {
                    continue;
                }
                let mut action = new;
                if signal == libc::SIGPIPE {
                    action.sa_sigaction = libc::SIG_IGN;
                    action.sa_flags = 0;
                }
                if libc::sigaction(signal, &action, std::ptr::null_mut()) == 0 {
                    before.push((signal, old));
                }
            }
            let (mut child, mut mask) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&mut child);
            libc::sigaddset(&mut child, libc::SIGCHLD);
            libc::sigprocmask(libc::SIG_UNBLOCK, &child, &mut mask);
            (before, mask)
        };
        Ok(Signals { before, mask, woken: woken.into(), _wake: wake })
    }

    /// Gives the signals back. Returns the one that has asked this process to end, if one has. From here on, one that
    /// comes ends it at once.
    pub fn give_back(&self) -> Option<i32> {
        for (signal, old) in &self.before {
            // SAFETY: `old` is what sigaction gave us.
            #[expect(unsafe_code, reason = "sigaction")]
            unsafe {
                libc::sigaction(*signal, old, std::ptr::null_mut());
            }
        }
        set_mask(&self.mask);
        asked_to_end()
    }

    fn drain(&mut self) {
        let mut bytes = [0; 64];
        while self.woken.read(&mut bytes).is_ok_and(|n| n == bytes.len()) {}
    }
}

/// Returns the signal that has asked this process to end since it took the signals.
pub fn asked_to_end() -> Option<i32> {
    Some(ASKED.load(Relaxed)).filter(|signal| *signal != 0)
}

/// A child that is waited for.
#[derive(Debug)]
pub struct Child<'a> {
    pid: libc::pid_t,
    signals: &'a mut Signals,
    /// The end of the pipe that it writes its lines to.
    lines: Option<OwnedFd>,
    ended: Option<End>,
    started: Instant,
    /// Whether lines were given up, since nothing read them when it was asked to end.
    cut: bool,
}

impl<'a> Child<'a> {
    /// Starts a program as a child. `become_it` is called there and returns only if that fails. `filtered`: its standard
    /// output is read here. This process gives up its standard input.
    ///
    /// # Errors
    /// There can be no child.
    pub fn start(
        signals: &'a mut Signals,
        filtered: bool,
        become_it: impl FnOnce() -> io::Error,
    ) -> io::Result<Child<'a>> {
        let pipe = if filtered { Some(pipe()?) } else { None };
        // SAFETY: these have no preconditions.
        #[expect(unsafe_code, reason = "getpid")]
        let parent = unsafe { libc::getpid() };
        // A signal waits until it is known whom it is passed on to; in the child, until its dispositions are there.
        let mask = block_all();
        // SAFETY: this program has one thread.
        #[expect(unsafe_code, reason = "fork")]
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => {
                let error = io::Error::last_os_error();
                set_mask(&mask);
                return Err(error);
            }
            0 => {
                if let Some((_, write)) = &pipe {
                    // SAFETY: two open descriptors.
                    #[expect(unsafe_code, reason = "dup2")]
                    unsafe {
                        libc::dup2(write.as_raw_fd(), 1);
                    }
                }
                signals.give_back();
                end_with(parent);
                let error = become_it();
                let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
                // SAFETY: ends the process without running what belongs to the parent.
                #[expect(unsafe_code, reason = "_exit")]
                unsafe {
                    libc::_exit(status)
                }
            }
            _ => {}
        }
        CHILD.store(pid, Relaxed);
        set_mask(&mask);
        if let Some(signal) = asked_to_end() {
            // It came before there was a child to pass it on to.
            // SAFETY: a child of ours.
            #[expect(unsafe_code, reason = "kill")]
            unsafe {
                libc::kill(pid, signal);
            }
        }
        let lines = pipe.map(|(read, _)| read);
        if let Some(lines) = &lines {
            set_nonblocking(lines.as_raw_fd())?;
        }
        give_up_stdin();
        Ok(Child { pid, signals, lines, ended: None, started: Instant::now(), cut: false })
    }

    /// Returns its pid.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Waits for its end. `look` is called from time to time until it returns true.
    ///
    /// # Errors
    /// Its end is not known.
    pub fn wait(&mut self, stream: &mut JsonStream, mut look: impl FnMut(u32) -> bool) -> io::Result<End> {
        let (mut seen, mut out) = (false, Vec::new());
        loop {
            self.signals.drain();
            self.reap()?;
            if self.ended.is_none() && !seen {
                seen = look(self.pid());
            }
            let more = self.read(stream, &mut out);
            stream.pass_overdue(self.millis(), &mut out);
            self.pass_on(&mut out)?;
            if let Some(end) = self.ended.filter(|_| !more) {
                return Ok(end);
            }
            if !more {
                self.sleep(stream, seen)?;
            }
        }
    }

    /// Passes on what was held back, after the child's end.
    ///
    /// # Errors
    /// What the system says of waiting.
    pub fn finish(&mut self, stream: &mut JsonStream) -> io::Result<()> {
        self.pass_on(&mut stream.take_held())
    }

    /// Returns whether lines were given up: it had ended and was asked to end, and nothing read them. Without this
    /// process, Codex would have died by that signal while it wrote.
    pub fn was_cut(&self) -> bool {
        self.cut
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads what there is of its lines. Returns whether there may be more.
    fn read(&mut self, stream: &mut JsonStream, out: &mut Vec<u8>) -> bool {
        let Some(lines) = &self.lines else { return false };
        let mut bytes = [0; PIECE];
        match nix::unistd::read(lines, &mut bytes) {
            Ok(0) => self.lines = None,
            Ok(n) => {
                stream.push(&bytes[..n], self.millis(), out);
                return true;
            }
            Err(Errno::EINTR) => return true,
            Err(Errno::EAGAIN) => {}
            Err(_) => self.lines = None,
        }
        false
    }

    /// Writes to standard output, as much at once as it takes without waiting: signals are heeded meanwhile.
    fn pass_on(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let mut fds = [wanted(1, libc::POLLOUT), wanted(self.signals.woken.as_raw_fd(), libc::POLLIN)];
            let last = self.ended.is_some() && asked_to_end().is_some();
            poll(&mut fds, last.then_some(LAST_WAIT))?;
            if fds[1].revents != 0 {
                self.signals.drain();
                self.reap()?;
            } else if last && fds[0].revents == 0 {
                (self.lines, self.cut) = (None, true);
                break;
            }
            if fds[0].revents == 0 {
                continue;
            }
            // SAFETY: bytes of ours.
            #[expect(unsafe_code, reason = "write")]
            let written = unsafe { libc::write(1, rest.as_ptr().cast(), rest.len().min(PIECE)) };
            match usize::try_from(written) {
                Ok(written) => rest = &rest[written..],
                Err(_) if matches!(Errno::last(), Errno::EAGAIN | Errno::EINTR) => {}
                // Nobody reads any more: the child finds that out as it would have without us.
                Err(_) => {
                    self.lines = None;
                    break;
                }
            }
        }
        out.clear();
        Ok(())
    }

    /// Waits until something happens.
    fn sleep(&self, stream: &JsonStream, seen: bool) -> io::Result<()> {
        let look = match seen {
            true => None,
            false if self.started.elapsed() < EARLY => Some(OFTEN),
            false => Some(SELDOM),
        };
        let held = stream.patience(self.millis()).map(Duration::from_millis);
        let limit = [look, held].into_iter().flatten().min();
        let mut fds = [wanted(self.signals.woken.as_raw_fd(), libc::POLLIN); 2];
        if let Some(lines) = &self.lines {
            fds[1] = wanted(lines.as_raw_fd(), libc::POLLIN);
        }
        let count = 1 + usize::from(self.lines.is_some());
        poll(&mut fds[..count], limit)
    }

    /// Takes note of its end. If it was stopped, this process stops, too, so that the shell sees it.
    fn reap(&mut self) -> io::Result<()> {
        while self.ended.is_none() {
            let mut status = 0;
            // SAFETY: `status` is ours. Not by nix, which knows no real-time signals.
            #[expect(unsafe_code, reason = "waitpid")]
            let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG | libc::WUNTRACED) };
            match pid {
                0 => return Ok(()),
                -1 if Errno::last() == Errno::EINTR => {}
                -1 => return Err(io::Error::last_os_error()),
                _ if libc::WIFSTOPPED(status) => self.stop(libc::WSTOPSIG(status)),
                _ => {
                    CHILD.store(0, Relaxed);
                    self.ended = Some(match libc::WIFSIGNALED(status) {
                        true => End::Killed(libc::WTERMSIG(status)),
                        false => End::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(1)),
                    });
                }
            }
        }
        Ok(())
    }

    /// Stops this process by that signal, until it is continued.
    fn stop(&self, signal: libc::c_int) {
        // SAFETY: plain system calls on structures of ours.
        #[expect(unsafe_code, reason = "stop")]
        unsafe {
            let mut status = 0;
            // It may have been continued by now, together with this process.
            if libc::waitpid(self.pid, &mut status, libc::WNOHANG | libc::WCONTINUED) == self.pid
                && libc::WIFCONTINUED(status)
            {
                return;
            }
            let (mut default, mut ours): (libc::sigaction, libc::sigaction) =
                (std::mem::zeroed(), std::mem::zeroed());
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &default, &mut ours);
            libc::raise(signal);
            libc::sigaction(signal, &ours, std::ptr::null_mut());
            // Whoever has continued this process meant the child.
            libc::kill(self.pid, libc::SIGCONT);
        }
    }
}

/// Blocks all signals. Returns the mask that was.
fn block_all() -> libc::sigset_t {
    // SAFETY: structures of ours.
    #[expect(unsafe_code, reason = "sigprocmask")]
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, &mut before);
        before
    }
}

fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: a mask that sigprocmask gave us.
    #[expect(unsafe_code, reason = "sigprocmask")]
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut());
    }
}

/// Lets this process end by SIGKILL when its parent does. macOS has nothing of the kind.
fn end_with(parent: libc::pid_t) {
    #[cfg(target_os = "linux")]
    // SAFETY: system calls with constants.
    #[expect(unsafe_code, reason = "prctl")]
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != parent {
            libc::_exit(1);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
}

/// Replaces standard input by /dev/null: whoever writes to the child must see when it ends, and a run that goes on reads
/// nothing more.
fn give_up_stdin() {
    // SAFETY: a constant C string, and descriptors of ours.
    #[expect(unsafe_code, reason = "open")]
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if null > 0 {
            libc::dup2(null, 0);
            libc::close(null);
        }
    }
}

/// Makes a pipe that no other program inherits: its ends for reading and writing. They are above the standard ones.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: two numbers of ours; the descriptors are new, and owned from here on.
    #[expect(unsafe_code, reason = "pipe")]
    let ends = unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        for end in ends {
            libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        ends.map(|end| OwnedFd::from_raw_fd(end))
    };
    let [read, write] = ends;
    Ok((read, write))
}

fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: an open descriptor of ours.
    #[expect(unsafe_code, reason = "fcntl")]
    let result = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn wanted(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits for one of these. An interruption is something that happens, too.
fn poll(fds: &mut [libc::pollfd], limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_millis()).unwrap_or(i32::MAX));
    // SAFETY: structures of ours, as many as we say.
    #[expect(unsafe_code, reason = "poll")]
    let result = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, limit) };
    if result < 0 && Errno::last() != Errno::EINTR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns whether standard output was open when this process began: descriptors of ours are closed at exec.
pub fn stdout_is_open() -> bool {
    // SAFETY: any number may be asked about.
    #[expect(unsafe_code, reason = "fcntl")]
    let flags = unsafe { libc::fcntl(1, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}
