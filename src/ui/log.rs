//! Prints the log: a line per entry, in columns.

use super::style::{Span, Text, Tone, rendered};
use super::{block, coloured, printable};

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
    let width = |text: &str| unicode_width::UnicodeWidthStr::width(text);
    let longest = |text: &dyn Fn(&Line) -> usize| lines.iter().map(text).max().unwrap_or(0);
    let (times, events, accounts) = (
        longest(&|line| width(&line.time)),
        longest(&|line| width(&line.event)),
        longest(&|line| width(&account(line))),
    );
    let padded = |text: String, to: usize| {
        let pad = " ".repeat(to.saturating_sub(width(&text)) + 2);
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

/// Prints the lines.
pub(crate) fn lines(lines: &[Line]) {
    if lines.is_empty() {
        block("Nothing is in the log for that time.");
    }
    let colour = coloured();
    columns(lines).iter().for_each(|line| block(&rendered(line, colour)));
}
