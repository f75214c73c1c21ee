//! Text from outside, made safe to show and to store.

use crate::auth_doc::Secret;

/// The longest text that is kept, characters.
const MAX_CHARS: usize = 160;
/// A run of this many characters that tokens consist of counts as a credential.
const LONG_RUN: usize = 32;

/// Returns text as one line of at most 160 characters, without deceptive characters, without any of `secrets`, and
/// without what looks like a credential.
pub fn clean(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().map(|s| s.expose()).filter(|s| !s.is_empty()) {
        text = text.replace(secret, "…");
    }
    let mut out = String::new();
    for word in text.split(|c: char| c.is_whitespace() || is_deceptive(c)).filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        let longest = word.split(|c| !token_char(c)).map(str::len).max().unwrap_or(0);
        out.push_str(if longest >= LONG_RUN { "…" } else { word });
        if out.chars().count() > MAX_CHARS {
            return out.chars().take(MAX_CHARS).chain(['…']).collect();
        }
    }
    out
}

fn token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_+=~".contains(c)
}

/// Returns whether a character makes a terminal show something else than the text: control characters, invisible
/// characters, and those that change the direction of text.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_direction_marks_are_gone() {
        assert_eq!(clean("a\u{1b}]0;x\u{7}b\u{202e}c\r\nd\u{9b}31m", &[]), "a ]0;x b c d 31m");
    }

    #[test]
    fn credentials_are_gone_known_or_not() {
        let known = Secret::new("rt-short");
        let jwt = format!("bearer {}.{}.{}", "eyJhbGciOiJ", "x".repeat(40), "sig");
        assert_eq!(clean("token=rt-short!", &[&known]), "token=…!");
        assert_eq!(clean(&jwt, &[]), "bearer …");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(clean(&"word ".repeat(1000), &[]).chars().count(), MAX_CHARS + 1);
    }
}
