//! Sealing: XChaCha20-Poly1305 with a random nonce, over text that is padded so that its length says little.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// The bytes of a nonce.
pub(crate) const NONCE: usize = 24;
/// The bytes of the tag.
const TAG: usize = 16;

/// Seals a text. `associated`: what it is bound to without being in it. `block`: it is padded to a multiple of that.
pub(crate) fn seal(
    key: &[u8; 32],
    nonce: [u8; NONCE],
    associated: &[u8],
    text: &[u8],
    block: usize,
) -> Vec<u8> {
    let mut padded = Zeroizing::new(Vec::with_capacity((text.len() / block + 1) * block));
    padded.extend(text);
    // One byte that is set, then zeros: the padding is never empty, and its beginning is found from the end.
    padded.push(0x80);
    let length = padded.len().div_ceil(block) * block;
    padded.resize(length, 0);
    let payload = Payload { msg: &padded, aad: associated };
    let sealed = XChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a text that fits into memory can be sealed");
    [&nonce[..], &sealed].concat()
}

/// Opens what [`seal`] made with this key and the same `associated`; `None` if it was anything else.
pub(crate) fn open(key: &[u8; 32], associated: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    if sealed.len() < TAG {
        return None;
    }
    let payload = Payload { msg: sealed, aad: associated };
    let mut text = Zeroizing::new(
        XChaCha20Poly1305::new(&Key::from(*key)).decrypt(&XNonce::from(*nonce), payload).ok()?,
    );
    let end = text.iter().rposition(|&byte| byte != 0).filter(|&end| text[end] == 0x80)?;
    text.truncate(end);
    Some(text)
}
