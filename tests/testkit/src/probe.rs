//! What the probe (`standin-probe`) records about the way it was started.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A record of the probe. Byte strings are in hexadecimal, since they need not be UTF-8; see [`text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Arguments with `argv[0]`, in hexadecimal.
    pub argv: Vec<String>,
    /// Environment entries (`NAME=value`) in their order, in hexadecimal.
    pub env: Vec<String>,
    /// Working directory, in hexadecimal.
    pub cwd: String,
    /// File mode creation mask.
    pub umask: u32,
    /// Open descriptors below 1024, in order.
    pub descriptors: Vec<Descriptor>,
    /// Blocked signals, by number.
    pub blocked: Vec<i32>,
    /// Ignored signals, by number.
    pub ignored: Vec<i32>,
    /// Process id.
    pub pid: i32,
    /// Parent's process id.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Whether there is a controlling terminal.
    pub terminal: bool,
    /// Foreground process group of the terminal on descriptor 0; -1 if that is none.
    pub foreground: i32,
    /// Resource limits, soft and hard.
    pub limits: BTreeMap<String, (u64, u64)>,
}

/// An open descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// Status flags (`F_GETFL`).
    pub flags: i32,
    /// What it is open on, where `/proc` tells.
    pub target: String,
}

impl Record {
    /// Reads the record at `path`.
    ///
    /// # Panics
    /// If the probe did not write one there.
    pub fn read(path: &Path) -> Record {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("no record at {}: {e}", path.display()));
        serde_json::from_slice(&bytes).expect("a record of the probe")
    }

    /// Returns the arguments as text, where they are UTF-8.
    pub fn args(&self) -> Vec<String> {
        self.argv.iter().map(|a| text(a)).collect()
    }

    /// Returns the value of a variable as text, if it is set.
    pub fn var(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        self.env.iter().find_map(|entry| text(entry).strip_prefix(&prefix).map(str::to_owned))
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Returns the text behind hexadecimal, with replacement characters where it is not UTF-8.
///
/// # Panics
/// If it is not hexadecimal.
pub fn text(hex: &str) -> String {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).expect("hexadecimal") as u8).collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
