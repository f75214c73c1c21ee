use std::sync::atomic::AtomicI32;
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;

use super::*;

static CODE: AtomicI32 = AtomicI32::new(i32::MIN);

extern "C" fn note(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's own structure.
    #[expect(unsafe_code, reason = "siginfo")]
    CODE.store(unsafe { (*info).si_code }, Relaxed);
}

#[test]
fn signal_of_a_process_is_known_as_one_on_this_system() {
    let action = SigAction::new(SigHandler::SigAction(note), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler only stores a number.
    #[expect(unsafe_code, reason = "sigaction")]
    let before = unsafe { sigaction(Signal::SIGUSR2, &action) }.unwrap();
    kill(Pid::this(), Signal::SIGUSR2).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while CODE.load(Relaxed) == i32::MIN {
        assert!(Instant::now() < until, "no signal");
        std::thread::yield_now();
    }
    // SAFETY: what was there before.
    #[expect(unsafe_code, reason = "sigaction")]
    unsafe { sigaction(Signal::SIGUSR2, &before) }.unwrap();
    assert!(BY_A_PROCESS.contains(&CODE.load(Relaxed)), "{}", CODE.load(Relaxed));
}
