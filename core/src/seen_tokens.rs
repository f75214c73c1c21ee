//! The refresh tokens that were seen under an account, as hashes. A refresh token belongs to one account: a document with
//! another account's token is a loan, whose access token may be used and which is never renewed with. Pure functions.

use serde::{Deserialize, Serialize};

use crate::hash;

/// How many are remembered.
const MOST: usize = 64;
/// Behind the hash of a token that was sent and answered, or that a session rotated. It is never sent again.
const USED: char = '!';
/// Behind the hash of a token whose document made room for one that did not grow from it, so that it may still be good.
const DISPLACED: char = '?';

/// The hash of a refresh token: half of its SHA-256, as 32 hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHash(String);

impl TokenHash {
    const LENGTH: usize = 32;

    /// Returns the hash of a refresh token.
    pub fn of(token: &str) -> TokenHash {
        let mut hash = hash::sha256(token.as_bytes());
        hash.truncate(Self::LENGTH);
        TokenHash(hash)
    }

    /// Returns the hash as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The tokens of one account, the newest last. They are one text, hashes with their marks between spaces, since a launch
/// reads those of all accounts and mostly asks for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeenTokens(String);

impl SeenTokens {
    /// The hashes, each with its marks.
    fn tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split_ascii_whitespace().filter_map(|token| token.split_at_checked(TokenHash::LENGTH))
    }

    /// The marks of a token that was seen.
    fn marks(&self, hash: &TokenHash) -> Option<&str> {
        self.tokens().find(|(seen, _)| *seen == hash.0).map(|(_, marks)| marks)
    }

    /// Returns whether this token was seen.
    pub fn has(&self, hash: &TokenHash) -> bool {
        self.marks(hash).is_some()
    }

    /// Returns whether this token was used.
    pub fn is_used(&self, hash: &TokenHash) -> bool {
        self.marks(hash).is_some_and(|marks| marks.contains(USED))
    }

    /// Returns whether a document with this token made room for one of another origin, and may still be good.
    pub fn is_displaced(&self, hash: &TokenHash) -> bool {
        self.marks(hash).is_some_and(|marks| marks.contains(DISPLACED) && !marks.contains(USED))
    }

    /// Enters a token. Returns whether that is news.
    pub fn see(&mut self, hash: &TokenHash) -> bool {
        if self.has(hash) {
            return false;
        }
        let first = (self.tokens().count() + 1).saturating_sub(MOST);
        let kept = self.tokens().skip(first).chain([(hash.0.as_str(), "")]);
        self.0 = Self::text(kept);
        true
    }

    fn text<'a>(tokens: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        tokens.map(|(hash, marks)| format!("{hash}{marks}")).collect::<Vec<_>>().join(" ")
    }

    /// Adds a mark to a token that was seen and does not have it.
    fn mark(&mut self, hash: &TokenHash, mark: char) {
        if self.marks(hash).is_some_and(|marks| !marks.contains(mark)) {
            self.0 = self.0.replace(&hash.0, &format!("{}{mark}", hash.0));
        }
    }

    /// Notes that a token was used.
    pub fn mark_used(&mut self, hash: &TokenHash) {
        self.see(hash);
        self.mark(hash, USED);
    }

    /// Notes that a document of another origin took the place of this token's.
    pub fn mark_displaced(&mut self, hash: &TokenHash) {
        self.mark(hash, DISPLACED);
    }

    /// Forgets a token, since it belongs to another account.
    pub fn forget(&mut self, hash: &TokenHash) {
        self.0 = Self::text(self.tokens().filter(|(seen, _)| *seen != hash.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixty_four_are_known_and_a_used_one_stays_used() {
        let hash = |n: usize| TokenHash::of(&format!("token {n}"));
        let mut seen = SeenTokens::default();
        for n in 0..MOST {
            assert!(seen.see(&hash(n)) && !seen.see(&hash(n)));
        }
        seen.mark_used(&hash(1));
        seen.mark_displaced(&hash(2));
        assert!(seen.has(&hash(0)));
        seen.see(&hash(MOST));
        assert!(!seen.has(&hash(0)) && seen.is_used(&hash(1)) && !seen.is_used(&hash(2)));
        assert!(seen.is_displaced(&hash(2)) && !seen.is_displaced(&hash(3)));
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<SeenTokens>(&text).unwrap(), seen);
        assert!(!text.contains("token 1") && text.len() < 64 * 34);
        seen.mark_used(&hash(2));
        seen.mark_used(&hash(2));
        assert!(seen.is_used(&hash(2)) && !seen.is_displaced(&hash(2)) && seen.tokens().count() == MOST);
        seen.forget(&hash(1));
        assert!(!seen.has(&hash(1)));
    }
}
