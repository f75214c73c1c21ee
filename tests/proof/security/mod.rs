//! Secrets stay where they belong, and nobody who plants something in a folder gets anything for it.

mod hostile;
mod intruders;
mod secrets;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod swapped;

use std::path::{Path, PathBuf};

/// Every file below a folder, links not followed.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}
