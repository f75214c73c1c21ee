//! Marks, bars and lines in ASCII, for terminals and readers that have nothing else (`--ascii`). Names stay as they are.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

static ASCII: AtomicBool = AtomicBool::new(false);

/// Says whether output is in ASCII alone.
pub(crate) fn set_ascii(only: bool) {
    ASCII.store(only, Ordering::Relaxed);
}

/// Returns whether output is in ASCII alone.
pub(crate) fn ascii() -> bool {
    ASCII.load(Ordering::Relaxed)
}

/// Returns text as it is printed.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if ascii() { Cow::Owned(text.chars().map(plain).collect()) } else { Cow::Borrowed(text) }
}

/// Returns a character of ASCII for one of ours, of the same width.
pub(crate) fn plain(c: char) -> char {
    match c {
        '█' | '▉' | '▊' | '▋' | '▌' => '#',
        '▍' | '▎' | '▏' | '░' => '.',
        '●' | '•' => 'o',
        '◆' => '*',
        '→' | '▸' => '>',
        '·' | '–' | '—' | '─' | '−' => '-',
        '│' | '┊' => '|',
        '┬' | '┴' | '└' | '┌' | '┐' | '┘' | '├' | '┤' => '+',
        '…' => '~',
        '↑' => '^',
        '↓' => 'v',
        '×' => 'x',
        '\u{2800}' => ' ',
        '\u{2801}'..='\u{28ff}' => '*',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_characters_become_ascii_and_names_stay() {
        let plain = |text: &str| text.chars().map(plain).collect::<String>();
        assert_eq!(plain("→●◆ wörk ██│▌░ 52 % · 20:28 ×5"), ">o* wörk ##|#. 52 % - 20:28 x5");
    }
}
