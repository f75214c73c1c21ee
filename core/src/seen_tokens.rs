//! The refresh tokens that were seen under an account, as hashes. A refresh token belongs to one account: a document with
//! another account's token is a loan, whose access token may be used and which is never renewed with. Pure.

use serde::{Deserialize, Serialize};

use crate::doc_hash::DocHash;

/// How many are remembered.
const MOST: usize = 64;

/// A refresh token that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenToken {
    hash: DocHash,
    /// It was sent and answered, or a session rotated it. It is never sent again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    used: bool,
    /// A document that did not grow from its document took its place, so that it may still be good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    displaced: bool,
}

/// The tokens of one account, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeenTokens(Vec<SeenToken>);

impl SeenTokens {
    fn get(&self, hash: &DocHash) -> Option<&SeenToken> {
        self.0.iter().find(|token| token.hash == *hash)
    }

    fn get_mut(&mut self, hash: &DocHash) -> Option<&mut SeenToken> {
        self.0.iter_mut().find(|token| token.hash == *hash)
    }

    /// Returns whether this token was seen.
    pub fn has(&self, hash: &DocHash) -> bool {
        self.get(hash).is_some()
    }

    /// Returns whether this token was used.
    pub fn is_used(&self, hash: &DocHash) -> bool {
        self.get(hash).is_some_and(|token| token.used)
    }

    /// Returns whether a document with this token made room for one of another origin, and may still be good.
    pub fn is_displaced(&self, hash: &DocHash) -> bool {
        self.get(hash).is_some_and(|token| token.displaced && !token.used)
    }

    /// Enters a token. Returns whether that is news.
    pub fn see(&mut self, hash: DocHash) -> bool {
        if self.has(&hash) {
            return false;
        }
        self.0.push(SeenToken { hash, used: false, displaced: false });
        if self.0.len() > MOST {
            self.0.remove(0);
        }
        true
    }

    /// Notes that a token was used.
    pub fn mark_used(&mut self, hash: &DocHash) {
        self.see(hash.clone());
        if let Some(token) = self.get_mut(hash) {
            token.used = true;
        }
    }

    /// Notes that a document of another origin took the place of this token's.
    pub fn mark_displaced(&mut self, hash: &DocHash) {
        if let Some(token) = self.get_mut(hash) {
            token.displaced = true;
        }
    }

    /// Forgets a token: it belongs to another account.
    pub fn forget(&mut self, hash: &DocHash) {
        self.0.retain(|token| token.hash != *hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixty_four_are_known_and_a_used_one_stays_used() {
        let hash = |n: usize| DocHash::of(format!("token {n}").as_bytes());
        let mut seen = SeenTokens::default();
        for n in 0..MOST {
            assert!(seen.see(hash(n)) && !seen.see(hash(n)));
        }
        seen.mark_used(&hash(1));
        seen.mark_displaced(&hash(2));
        assert!(seen.has(&hash(0)));
        seen.see(hash(MOST));
        assert!(!seen.has(&hash(0)) && seen.is_used(&hash(1)) && !seen.is_used(&hash(2)));
        assert!(seen.is_displaced(&hash(2)) && !seen.is_displaced(&hash(3)));
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<SeenTokens>(&text).unwrap(), seen);
        assert!(!text.contains("token 1"));
        seen.forget(&hash(1));
        assert!(!seen.has(&hash(1)));
    }
}
