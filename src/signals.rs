//! Signals that would end us: held back while something must not be left half done. Touches nothing else
//! of the process.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;

/// While this lives, Ctrl-C and the like wait; whatever came takes effect when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    before: Option<SigSet>,
}

/// Holds them back, in this thread.
pub(crate) fn hold() -> Held {
    Held { before: deadly().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok() }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was the mask a moment ago, so it is a good one.
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
    /// What was meant to end us meanwhile.
    pub(crate) signal: Option<Signal>,
}

impl Held {
    /// Runs a command on this terminal and waits for its end. What the terminal sends reaches the child by
    /// itself; what is sent to us alone is passed on. `input` is its stdin, else it has ours.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn attend(&self, command: &mut Command, input: Option<&[u8]>) -> io::Result<Ended> {
        // Ignored, as some parents leave it, SIGCHLD would never come, and the exit status be lost.
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

fn run(command: &mut Command, input: Option<&[u8]>, awaited: &SigSet) -> io::Result<Ended> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let (us, (sender, receiver), (children, started)) = (pthread_self(), mpsc::channel(), mpsc::channel());
    // Before the child: one that nobody waits for must not run.
    thread::Builder::new().spawn(move || {
        let Ok(mut child): Result<Child, _> = started.recv() else { return };
        // We are the only receiver, and wait for just this.
        let _ = sender.send(child.wait());
        // SIGCHLD itself may have gone to any thread.
        let _ = pthread_kill(us, Signal::SIGCHLD);
    })?;
    let mut child = command.spawn()?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A child that does not read it says itself what it wants.
        let _ = stdin.write_all(input);
    }
    let pid = Pid::from_raw(child.id().cast_signed());
    let _ = children.send(child);
    let mut signal = None;
    loop {
        let came = awaited.wait()?;
        if let Ok(status) = receiver.try_recv() {
            // What ended the child was meant for us, too, and is not to end us later, after all.
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

/// Ends this process as this signal would have: for whoever waits for us.
pub(crate) fn end_by(signal: i32) -> ExitCode {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

/// Gives SIGPIPE its default back, which Rust takes away: a closed pipe then ends us instead of failing each
/// write. What is ignored would also stay so in the program that we become.
pub(crate) fn end_with_the_pipe() {
    // SAFETY: the default disposition, set before other threads exist.
    #[expect(unsafe_code, reason = "SIGPIPE")]
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
}

/// Takes the signals that wait to end us; gives one of them.
fn take_pending() -> io::Result<Option<Signal>> {
    let mut taken = None;
    loop {
        // SAFETY: zeroes are a valid set, which sigpending fills.
        #[expect(unsafe_code, reason = "sigpending")]
        let pending = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigpending(&mut set);
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
        let ended = held.attend(Command::new("sh").args(["-c", "read x; exit $x"]), Some(b"7\n")).unwrap();
        assert_eq!((ended.status.code(), ended.signal), (Some(7), None));
    }

    #[test]
    fn what_would_end_us_is_passed_on_and_we_live() {
        let held = hold();
        // To this thread alone, since others of the test program do not hold signals back.
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        let ended = held.attend(Command::new("sleep").arg("60"), None).unwrap();
        assert_eq!((ended.status.signal(), ended.signal), (Some(15), Some(Signal::SIGTERM)));
    }

    #[test]
    fn what_ended_the_child_does_not_end_us_later() {
        let held = hold();
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            pthread_kill(pthread_self(), signal).unwrap();
        }
        assert!(take_pending().unwrap().is_some());
        // Either of them would end the test program here.
        drop(held);
    }
}
