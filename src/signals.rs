//! Signals that would end this process, held back while something must not be left half done.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;

use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;

/// While this lives, Ctrl-C and the like wait. What came takes effect when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    before: Option<SigSet>,
}

/// Holds signals back, in this thread.
pub(crate) fn hold() -> Held {
    Held { before: deadly().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok() }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was the mask before, so it can be set.
            let _ = before.thread_set_mask();
        }
    }
}

fn deadly() -> SigSet {
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// A signal that came to end this process meanwhile.
    pub(crate) signal: Option<Signal>,
}

impl Held {
    /// Runs a command on this terminal and waits for its end. Signals of the terminal reach the child by themselves;
    /// those sent to this process alone are passed on. `input`: its stdin, instead of ours.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn run_child(&self, command: &mut Command, input: Option<&[u8]>) -> io::Result<Ended> {
        // Some parents leave SIGCHLD ignored. Then it would never come, and the exit status would be lost.
        let caught = signal_hook::flag::register(Signal::SIGCHLD as i32, Arc::new(AtomicBool::new(false)))?;
        let mut awaited = deadly();
        awaited.add(Signal::SIGCHLD);
        let before = awaited.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let childs = self.before.unwrap_or_else(SigSet::empty);
        // SAFETY: between fork and exec this only sets the signal mask, which is async-signal-safe.
        #[expect(unsafe_code, reason = "a child inherits its parent's mask")]
        unsafe {
            command.pre_exec(move || Ok(childs.thread_set_mask()?));
        }
        let ended = run(command, input, &awaited);
        before.thread_set_mask()?;
        signal_hook::low_level::unregister(caught);
        ended
    }
}

/// The thread that waits, for another thread to wake.
struct Waiting(Pthread);

// SAFETY: POSIX lets every thread of the process signal this one, as long as it lives. Only musl's `pthread_t` is a
// pointer, which is why the compiler has to be told.
#[expect(unsafe_code, reason = "a thread's id is a pointer in musl")]
unsafe impl Send for Waiting {}

impl Waiting {
    fn wake(&self) {
        // It is waiting for this very signal; there is nothing to do about a failure.
        let _ = pthread_kill(self.0, Signal::SIGCHLD);
    }
}

fn run(command: &mut Command, input: Option<&[u8]>, awaited: &SigSet) -> io::Result<Ended> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let (us, (sender, receiver), (children, started)) =
        (Waiting(pthread_self()), mpsc::channel(), mpsc::channel());
    // Before the child is started: a child without a waiting thread must not run.
    let waiter = thread::Builder::new().spawn(move || {
        let Ok(mut child): Result<Child, _> = started.recv() else { return };
        // The receiver waits for this.
        let _ = sender.send(child.wait());
        // SIGCHLD itself may have gone to any thread.
        us.wake();
    })?;
    let mut child = command.spawn()?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A child that does not read its input says what it wants.
        let _ = stdin.write_all(input);
    }
    let pid = Pid::from_raw(child.id().cast_signed());
    let _ = children.send(child);
    let mut signal = None;
    loop {
        let came = awaited.wait()?;
        if let Ok(status) = receiver.try_recv() {
            // That thread may still have to wake this one, and must not find it gone.
            let _ = waiter.join();
            // A signal that ended the child came to this process, too, and must not end it later.
            let last = (came != Signal::SIGCHLD).then_some(came);
            let signal = take_pending()?.or(last).or(signal);
            return Ok(Ended { status: status?, signal });
        }
        match came {
            Signal::SIGCHLD => {}
            Signal::SIGTERM | Signal::SIGHUP => {
                signal = Some(came);
                // It may have ended just now.
                let _ = kill(pid, came);
            }
            came => signal = Some(came),
        }
    }
}

/// Ends this process by a signal, so that its parent sees that.
pub(crate) fn end_by(signal: i32) -> ExitCode {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

/// Restores the default of SIGPIPE, which Rust's runtime ignores. A closed pipe then ends this process instead of
/// failing each write.
pub(crate) fn end_with_the_pipe() {
    // SAFETY: the default disposition, set before other threads exist.
    #[expect(unsafe_code, reason = "SIGPIPE")]
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
}

/// Takes the pending signals that would end this process, and returns one of them.
fn take_pending() -> io::Result<Option<Signal>> {
    let mut taken = None;
    loop {
        // SAFETY: zeroes are a valid set, which sigpending fills.
        #[expect(unsafe_code, reason = "sigpending")]
        let pending = unsafe {
            let mut set: nix::libc::sigset_t = std::mem::zeroed();
            nix::libc::sigpending(&mut set);
            SigSet::from_sigset_t_unchecked(set)
        };
        if !deadly().iter().any(|signal| pending.contains(signal)) {
            return Ok(taken);
        }
        taken = Some(deadly().wait()?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_child_gets_its_input_and_its_status_comes_back() {
        let held = hold();
        let ended = held.run_child(Command::new("sh").args(["-c", "read x; exit $x"]), Some(b"7\n")).unwrap();
        assert_eq!((ended.status.code(), ended.signal), (Some(7), None));
    }

    #[test]
    fn a_signal_to_end_this_process_is_passed_on_to_the_child() {
        let held = hold();
        // To this thread alone, since others of the test program do not hold signals back.
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        let ended = held.run_child(Command::new("sleep").arg("60"), None).unwrap();
        assert_eq!((ended.status.signal(), ended.signal), (Some(15), Some(Signal::SIGTERM)));
    }

    #[test]
    fn a_signal_that_ended_the_child_does_not_end_this_process_later() {
        let held = hold();
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            pthread_kill(pthread_self(), signal).unwrap();
        }
        assert!(take_pending().unwrap().is_some());
        // Either of them would end the test program here.
        drop(held);
    }
}
