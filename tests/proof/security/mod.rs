//! Secrets stay where they belong, and nobody who plants something in a folder gets anything for it.

mod hostile;
mod intruders;
mod neighbours;
mod secrets;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod swapped;

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends what runs beside a test, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
