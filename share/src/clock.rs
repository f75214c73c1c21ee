//! The clock for deadlines: it goes on while the machine sleeps, and nobody can set it.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Returns the time since the machine was started, with the time that it slept.
pub fn now() -> Duration {
    // macOS counts sleep in its monotonic clock, which Linux does not.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = ClockId::CLOCK_MONOTONIC;
    // A clock that cannot be read is past every deadline, so that nothing is sent.
    clock_gettime(id).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_goes_forward() {
        let before = now();
        assert!(before > Duration::ZERO && before < Duration::MAX);
        assert!(now() >= before);
    }
}
