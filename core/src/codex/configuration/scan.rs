//! Reading a TOML file of Codex, and telling without parsing it whether it says anything of interest.
//! Only reads.

use std::io::ErrorKind;
use std::path::PathBuf;

use toml::Table;

use crate::files;

/// Larger ones are refused: Codex looks into folders of strangers, too.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// Beginnings of the top-level keys that this module is about.
const KEYS: [&[u8]; 8] = [
    b"cli_auth_credentials_store",
    b"forced_chatgpt_workspace_id",
    b"forced_login_method",
    b"chatgpt_base_url",
    b"sqlite_home",
    b"hooks",
    b"allowed_chatgpt_workspaces",
    b"allowed_login_methods",
];

/// A file that exists.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    text: Vec<u8>,
}

impl File {
    /// `None` if there is none; one that cannot be read is noted.
    pub(super) fn read(path: PathBuf, unreadable: &mut Vec<PathBuf>) -> Option<Self> {
        match files::read_small(&path, MAX_BYTES) {
            Ok(text) => Some(File { path, text: text? }),
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                    unreadable.push(path);
                }
                None
            }
        }
    }

    /// The parsed file if it may have one of our keys. A file that has none is not parsed: Codex refuses a
    /// broken one before it does anything.
    pub(super) fn table_of_interest(&self, unreadable: &mut Vec<PathBuf>) -> Option<Table> {
        if mentions_a_key(&self.text) { self.table(unreadable) } else { None }
    }

    /// The parsed file; a broken one is noted.
    pub(super) fn table(&self, unreadable: &mut Vec<PathBuf>) -> Option<Table> {
        let table = std::str::from_utf8(&self.text).ok().and_then(|text| text.parse().ok());
        if table.is_none() && !unreadable.contains(&self.path) {
            unreadable.push(self.path.clone());
        }
        table
    }

    /// See [`mentions_a_key`].
    pub(super) fn is_of_interest(&self) -> bool {
        mentions_a_key(&self.text)
    }
}

/// May this TOML have one of [`KEYS`] at its top level? Never says no wrongly:
///
/// A top-level key (or the first part of a dotted one) is the first thing on its line, or comes after the
/// brackets of a table header, since inline tables cannot add to the top level and keys cannot span lines.
/// It is written bare or in quotes; in quotes some letters can hide behind escapes (`"h\u006foks"`, which
/// Codex honours), so a quoted line start with a backslash behind it counts. What a line is part of (a
/// list, a long string) is not looked at: that can only say yes too often, and then the parser decides.
fn mentions_a_key(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|byte| *byte == b'\n').any(|line| {
        let Some(start) = line.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'[')) else {
            return false;
        };
        let mut key = &line[start..];
        if matches!(key[0], b'"' | b'\'') {
            key = &key[1..];
            if key.contains(&b'\\') {
                return true;
            }
        }
        KEYS.iter().any(|name| key.starts_with(name))
    })
}

#[cfg(test)]
mod tests {
    use super::mentions_a_key;

    #[test]
    fn every_spelling_of_a_key_is_noticed() {
        for text in [
            "sqlite_home = 'x'",
            "model = 'x'\n  \tforced_login_method='api'",
            "\u{feff}sqlite_home = 'x'",
            "a = 1\r\nsqlite_home = 'x'\r\n",
            "\"forced_login_method\" = 'api'",
            "'forced_login_method' = 'api'",
            "\"forced\\u005flogin_method\" = 'api'",
            "\"\\U00000066orced_login_method\" = 'api'",
            "[hooks.state.\"/a:b\"]",
            "[ hooks . state ]",
            "[\"hooks\".state]",
            "[[hooks.Stop]]",
            "[ 'hooks' ]",
            "hooks.state = {}",
            "hooks = { state = {} }",
            "text = '''\n[x]\n'''\nsqlite_home = 'x'",
        ] {
            assert!(mentions_a_key(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_usual_file_needs_no_parser() {
        let text =
            "model = \"o3\"\n# sqlite_home = 1\n\n[projects.\"/home/u/w\"]\ntrust_level = \"trusted\"\n[";
        assert!(!mentions_a_key(text.as_bytes()));
        assert!(!mentions_a_key(b""));
    }
}
