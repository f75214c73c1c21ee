//! JSON in pieces: a line may be longer than what we want to keep in memory. Gives tokens with their places and keeps
//! only the beginnings of texts. It is no judge of grammar: what Codex itself could not read does no harm here.

use std::ops::Range;

/// How much of a string, number or word is given, bytes.
pub(super) const KEPT: usize = 96;

/// A piece of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `{`
    OpenObject,
    /// `[`
    OpenArray,
    /// `}`
    CloseObject,
    /// `]`
    CloseArray,
    /// `,`
    Comma,
    /// The name of a field, without quotes and with its escapes, cut after [`KEPT`] bytes.
    Key(&'a [u8]),
    /// A string as a value, likewise.
    Text(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Word(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Between,
    Text { escaped: bool },
    Word,
}

/// Reads one JSON value, fed piece by piece.
#[derive(Debug)]
pub(super) struct Lexer {
    /// Where the next byte is in the file.
    at: u64,
    mode: Mode,
    /// Where the text or word that is being read began.
    began: u64,
    kept: Vec<u8>,
    /// Whether each open container is an object.
    open: Vec<bool>,
    /// Whether the next string is the name of a field.
    key: bool,
    broken: bool,
}

/// Deeper nesting than Codex's reader takes is nothing that it wrote.
const DEPTH: usize = 128;

impl Lexer {
    /// A lexer for what begins at this place in the file.
    pub(super) fn new(at: u64) -> Lexer {
        Lexer {
            at,
            mode: Mode::Between,
            began: at,
            kept: Vec::with_capacity(KEPT),
            open: Vec::new(),
            key: false,
            broken: false,
        }
    }

    /// Whether what was fed so far is one whole value.
    pub(super) fn whole(&self) -> bool {
        !self.broken && self.open.is_empty() && self.mode == Mode::Between
    }

    /// Reads a piece and hands out what ends in it, with its place in the file.
    pub(super) fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(Token<'_>, Range<u64>)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            match self.mode {
                Mode::Text { escaped } => {
                    if escaped {
                        self.keep(&[byte]);
                        self.step(1);
                        (self.mode, rest) = (Mode::Text { escaped: false }, after);
                        continue;
                    }
                    let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    self.keep(&rest[..plain]);
                    self.step(plain);
                    rest = &rest[plain..];
                    match rest.split_first() {
                        Some((b'"', after)) => {
                            self.step(1);
                            rest = after;
                            self.mode = Mode::Between;
                            let token =
                                if self.key { Token::Key(&self.kept) } else { Token::Text(&self.kept) };
                            self.key = false;
                            sink(token, self.began..self.at);
                        }
                        Some((backslash, after)) => {
                            self.keep(&[*backslash]);
                            self.step(1);
                            (self.mode, rest) = (Mode::Text { escaped: true }, after);
                        }
                        None => {}
                    }
                }
                Mode::Word if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.') => {
                    self.keep(&[byte]);
                    self.step(1);
                    rest = after;
                }
                Mode::Word => {
                    self.mode = Mode::Between;
                    sink(Token::Word(&self.kept), self.began..self.at);
                }
                Mode::Between => {
                    self.between(byte, &mut sink);
                    rest = after;
                }
            }
        }
    }

    fn between(&mut self, byte: u8, sink: &mut impl FnMut(Token<'_>, Range<u64>)) {
        let place = self.at..self.at + 1;
        self.began = self.at;
        self.step(1);
        match byte {
            b'"' => {
                self.kept.clear();
                self.mode = Mode::Text { escaped: false };
            }
            b'{' | b'[' => {
                self.broken |= self.open.len() == DEPTH;
                let object = byte == b'{';
                self.open.push(object);
                self.key = object;
                sink(if object { Token::OpenObject } else { Token::OpenArray }, place);
            }
            b'}' | b']' => {
                let object = byte == b'}';
                self.broken |= self.open.pop() != Some(object);
                self.key = false;
                sink(if object { Token::CloseObject } else { Token::CloseArray }, place);
            }
            b',' => {
                self.key = self.open.last() == Some(&true);
                sink(Token::Comma, place);
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                self.kept.clear();
                self.keep(&[byte]);
                self.mode = Mode::Word;
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn step(&mut self, bytes: usize) {
        self.at += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn tokens(pieces: &[&[u8]]) -> (Vec<(String, Range<u64>)>, bool) {
        let mut lexer = Lexer::new(0);
        let mut found = Vec::new();
        for piece in pieces {
            lexer.feed(piece, |token, place| found.push((format!("{token:?}"), place)));
        }
        (found, lexer.whole())
    }

    #[test]
    fn tokens_have_their_places() {
        let json = br#"{"a\"b": ["x", -1.5e3, null], "c":{}}"#;
        let mut lexer = Lexer::new(100);
        let mut seen = Vec::new();
        lexer.feed(json, |token, place| {
            let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
            let said = match token {
                Token::Key(t) => format!("key {}", text(t)),
                Token::Text(t) => format!("text {}", text(t)),
                Token::Word(t) => format!("word {}", text(t)),
                other => format!("{other:?}"),
            };
            let place = (place.start - 100) as usize..(place.end - 100) as usize;
            seen.push((said, String::from_utf8_lossy(&json[place]).into_owned()));
        });
        let seen: Vec<_> = seen.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("OpenObject", "{"),
                (r#"key a\"b"#, r#""a\"b""#),
                ("OpenArray", "["),
                ("text x", r#""x""#),
                ("Comma", ","),
                ("word -1.5e3", "-1.5e3"),
                ("Comma", ","),
                ("word null", "null"),
                ("CloseArray", "]"),
                ("Comma", ","),
                ("key c", r#""c""#),
                ("OpenObject", "{"),
                ("CloseObject", "}"),
                ("CloseObject", "}"),
            ]
        );
        assert!(lexer.whole());
    }

    #[test]
    fn what_is_not_whole_is_not_taken_for_whole() {
        for json in [r#"{"a":1"#, r#"{"a":"x}"#, r#"{"a":[}"#, "}", r#"{"a":1}}"#, &"[".repeat(200)] {
            assert!(!tokens(&[json.as_bytes()]).1, "{json}");
        }
        let long = format!("{{\"k\":\"{}\"}}", "x".repeat(500));
        let (found, whole) = tokens(&[long.as_bytes()]);
        assert!(whole && found[2].1 == (5..507));
    }

    /// Any JSON value, with strings that need escapes.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z\"\\\\\n{}\\[\\],:é ]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c\"]{1,3}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// The value rebuilt from the places of its tokens.
    fn rebuilt(text: &[u8]) -> Value {
        let mut lexer = Lexer::new(0);
        let mut out = Vec::new();
        lexer.feed(text, |token, place| {
            out.extend_from_slice(&text[place.start as usize..place.end as usize]);
            if matches!(token, Token::Key(_)) {
                out.push(b':');
            }
        });
        serde_json::from_slice(&out).unwrap()
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_tokens_are_the_same(value in json(), cuts in prop::collection::vec(0usize..200, 0..6)) {
            // A line is an object; a bare number has no end of its own.
            let text = serde_json::to_string(&serde_json::json!({"v": value})).unwrap();
            let text = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(tokens(&pieces), tokens(&[text]));
            prop_assert!(tokens(&[text]).1);
            prop_assert_eq!(rebuilt(text), serde_json::json!({"v": value}));
        }
    }
}
