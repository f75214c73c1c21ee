//! The hash by which a document or a token is known again without being kept. Pure.

use std::fmt;

use sha2::{Digest, Sha256};

/// The SHA-256 of a document as 64 hexadecimal characters, by which the state remembers what a home had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DocHash(String);

impl DocHash {
    /// Returns the hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        DocHash(hex(&Sha256::digest(bytes)))
    }

    /// Returns the first 12 characters, for a file name.
    pub(crate) fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Returns bytes as hexadecimal characters in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}
