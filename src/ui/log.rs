//! Prints the log: a line per entry, in columns.

use super::style::{Span, Text, Tone, rendered, width_of};
use super::table::width;
use super::{block, coloured, printable, wrapped};

/// The last column is broken if it has so many columns at least.
const LEAST: usize = 12;

/// An entry as people read it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) time: String,
    pub(crate) event: String,
    pub(crate) account: Option<String>,
    pub(crate) details: String,
    /// Whether it is something that went wrong.
    pub(crate) bad: bool,
}

/// Returns the lines in columns.
pub(crate) fn columns(lines: &[Line]) -> Vec<Text> {
    let account = |line: &Line| line.account.as_deref().map_or_else(|| "-".to_owned(), printable);
    let wide = |text: &str| unicode_width::UnicodeWidthStr::width(text);
    let longest = |text: &dyn Fn(&Line) -> usize| lines.iter().map(text).max().unwrap_or(0);
    let (times, events, accounts) = (
        longest(&|line| wide(&line.time)),
        longest(&|line| wide(&line.event)),
        longest(&|line| wide(&account(line))),
    );
    let padded = |text: String, to: usize| {
        let pad = " ".repeat(to.saturating_sub(wide(&text)) + 2);
        text + &pad
    };
    let row = |line: &Line| {
        let tone = if line.bad { Tone::Bad } else { Tone::Plain };
        vec![
            Span::faint(padded(line.time.clone(), times)),
            Span { tone, ..Span::plain(padded(line.event.clone(), events)) },
            Span { bold: true, ..Span::plain(padded(account(line), accounts)) },
            Span::plain(printable(&line.details)),
        ]
    };
    lines.iter().map(row).collect()
}

/// Prints the lines. What does not fit into the last column goes on below it.
pub(crate) fn lines(lines: &[Line]) {
    if lines.is_empty() {
        block("Nothing is in the log for that time.");
    }
    let (colour, columns_there) = (coloured(), width());
    for line in columns(lines) {
        for part in broken(line, columns_there) {
            block(&rendered(&part, colour));
        }
    }
}

/// Breaks the last column of a line where the terminal has so many columns.
fn broken(mut line: Text, columns: usize) -> Vec<Text> {
    let Some(details) = line.pop() else { return vec![line] };
    let before = width_of(&line);
    let (first, indent) = match columns.checked_sub(before) {
        Some(room) if room >= LEAST => (room, before),
        // They have lines of their own.
        _ => (0, 2),
    };
    let mut parts = wrapped(&details.text, if first > 0 { first } else { columns.saturating_sub(indent) });
    if first > 0 || details.text.is_empty() {
        line.push(Span { text: parts.remove(0).into(), ..details });
    }
    let pad = " ".repeat(indent);
    std::iter::once(line)
        .chain(parts.into_iter().map(|part| vec![Span::plain(format!("{pad}{part}"))]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_go_on_below_their_column_or_have_lines_of_their_own() {
        let line = |details: &str| vec![Span::faint("07:36  ".to_owned()), Span::plain(details.to_owned())];
        let of = |details: &str, columns| -> Vec<String> {
            broken(line(details), columns).iter().map(|line| rendered(line, false)).collect()
        };
        assert_eq!(of("asked for by name", usize::MAX), ["07:36  asked for by name"]);
        assert_eq!(of("asked for by name", 20), ["07:36  asked for by", "       name"]);
        assert_eq!(of("asked for by name", 16), ["07:36", "  asked for by", "  name"]);
        assert_eq!(of("", 16), ["07:36"]);
    }
}
