//! Secrets stay where they belong, and files that others plant in a folder have no effect.

mod future;
mod hostile;
mod intruders;
mod locks;
mod neighbour;
mod pipes;
mod places;
mod projects;
mod root;
pub(crate) mod secrets;
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
