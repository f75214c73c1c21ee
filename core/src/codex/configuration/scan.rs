//! Reading a TOML file of Codex, and finding out without parsing it whether it sets anything of interest. Only reads.

use std::io::ErrorKind;
use std::path::PathBuf;

use toml::Table;

use crate::files;

/// Larger files of the user and the system are refused, bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The beginnings of the top-level keys of interest.
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
    /// Reads a file. `None`: it does not exist, or cannot be read and is now listed.
    pub(super) fn read(path: PathBuf, unreadable: &mut Vec<PathBuf>) -> Option<Self> {
        match File::read_up_to(path.clone(), MAX_BYTES) {
            Ok(file) => file,
            Err(_) => {
                unreadable.push(path);
                None
            }
        }
    }

    /// `Ok(None)` if there is none. `FileTooLarge` if it has more bytes than that.
    pub(super) fn read_up_to(path: PathBuf, limit: u64) -> std::io::Result<Option<Self>> {
        match files::read_small(&path, limit) {
            Ok(text) => Ok(text.map(|text| File { path, text })),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> u64 {
        self.text.len() as u64
    }

    /// Returns the parsed file if it may set a key of interest. Others are not parsed: if one is broken, Codex itself
    /// refuses it before it does anything.
    pub(super) fn table_of_interest(&self, unreadable: &mut Vec<PathBuf>) -> Option<Table> {
        if mentions_a_key(&self.text) { self.table(unreadable) } else { None }
    }

    /// Returns the parsed file. `None`: it is broken, and now listed.
    pub(super) fn table(&self, unreadable: &mut Vec<PathBuf>) -> Option<Table> {
        let table = std::str::from_utf8(&self.text).ok().and_then(|text| text.parse().ok());
        if table.is_none() && !unreadable.contains(&self.path) {
            unreadable.push(self.path.clone());
        }
        table
    }

    /// See [`mentions_a_key`].
    pub(super) fn is_of_interest(&self) -> bool {
        mentions_a_key(&self.text) || self.model().is_some()
    }

    /// Returns the `model` of a file that is not parsed. Nearly every file has one, on a line of its own.
    pub(super) fn model(&self) -> Option<String> {
        let text = self.text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.text);
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut top = lines.take_while(|line| !line.starts_with(b"["));
        top.find_map(|line| {
            let key =
                [&b"model"[..], b"\"model\"", b"'model'"].into_iter().find(|key| line.starts_with(key))?;
            if !line[key.len()..].trim_ascii_start().starts_with(b"=") {
                return None;
            }
            let table: Table = std::str::from_utf8(line).ok()?.parse().ok()?;
            Some(table.get("model")?.as_str()?.to_owned())
        })
    }
}

/// Returns whether this TOML may have one of [`KEYS`] at its top level. `false` is certain:
///
/// A top-level key, or the first part of a dotted one, begins its line, or follows the brackets of a table header:
/// inline tables cannot add to the top level, and keys cannot span lines. It is bare or quoted. In quotes, letters can
/// be escaped (`"h\u006foks"`, which Codex accepts), so that a line which begins with a quote and has a backslash
/// counts. What a line is part of, such as a list or a long string, is ignored. That can only give `true` too often,
/// and then the parser decides.
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
