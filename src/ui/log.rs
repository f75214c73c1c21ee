//! Prints the log: a line per entry, in columns.

use super::style::{Span, Tone, rendered};
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

impl Line {
    /// Returns it without columns.
    pub(crate) fn text(&self) -> String {
        let account = self.account.as_deref().unwrap_or("-");
        let details = if self.details.is_empty() { String::new() } else { format!(": {}", self.details) };
        format!("{}  {account}  {}{details}", self.time, self.event)
    }
}

/// Prints the lines.
pub(crate) fn lines(lines: &[Line]) {
    if lines.is_empty() {
        block("Nothing is in the log for that time.");
        return;
    }
    let colour = coloured();
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
    for line in lines {
        let tone = if line.bad { Tone::Bad } else { Tone::Plain };
        let text = vec![
            Span::faint(padded(line.time.clone(), times)),
            Span { tone, ..Span::plain(padded(line.event.clone(), events)) },
            Span { bold: true, ..Span::plain(padded(account(line), accounts)) },
            Span::plain(printable(&line.details)),
        ];
        block(&rendered(&text, colour));
    }
}
