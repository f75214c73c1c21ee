//! Hashes as text, by which documents, tokens and paths are known again without being kept. Pure functions.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The SHA-256 of a document as 64 hexadecimal characters, by which the state remembers what a home had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DocHash(String);

impl DocHash {
    /// Returns the hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        DocHash(sha256(bytes))
    }
}

/// Returns the SHA-256 of bytes as 64 hexadecimal characters.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns bytes as hexadecimal characters in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns 10 lower-case base32 characters (50 bits) of SHA-256 over the parts.
pub(crate) fn short_hash_text(parts: &[&[u8]]) -> String {
    short_hash(parts).iter().map(|&b| char::from(b)).collect()
}

pub(crate) fn short_hash(parts: &[&[u8]]) -> [u8; 10] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let top = digest.iter().take(8).fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    std::array::from_fn(|i| b"abcdefghijklmnopqrstuvwxyz234567"[(top >> (59 - 5 * i) & 31) as usize])
}
