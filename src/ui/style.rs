//! Styled text. The colours are the terminal theme's own eight, so that they can be read on light and on dark: the same
//! in tables, in the live view and in the doctor's findings.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing: the terminal's own colour.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Middling,
    /// A limit, or something wrong.
    Bad,
    /// What is read last.
    Faint,
}

impl Tone {
    /// Returns the code of the escape sequence (SGR); `None` for no colour.
    pub(crate) fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Middling => Some("33"),
            Tone::Bad => Some("31"),
            Tone::Faint => Some("2"),
        }
    }
}

/// Text in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) text: Cow<'static, str>,
    pub(crate) tone: Tone,
    pub(crate) bold: bool,
}

impl Span {
    pub(crate) fn plain(text: impl Into<Cow<'static, str>>) -> Span {
        Span { text: text.into(), tone: Tone::Plain, bold: false }
    }

    pub(crate) fn faint(text: impl Into<Cow<'static, str>>) -> Span {
        Span { tone: Tone::Faint, ..Span::plain(text) }
    }
}

/// A line.
pub(crate) type Text = Vec<Span>;

/// Returns how many columns a line takes.
pub(crate) fn width_of(text: &[Span]) -> usize {
    text.iter().map(|span| span.text.width()).sum()
}

/// Shortens a line to so many columns. What is missing is shown as `…`.
pub(crate) fn cut(text: Text, columns: usize) -> Text {
    if width_of(&text) <= columns {
        return text;
    }
    let mut room = columns.saturating_sub(1);
    let mut short = Text::new();
    for span in text {
        let fits = |c: &char| {
            let width = c.width().unwrap_or(0);
            let fits = width <= room;
            room = if fits { room - width } else { 0 };
            fits
        };
        let kept: String = span.text.chars().take_while(fits).collect();
        let whole = kept.len() == span.text.len();
        short.push(Span { text: if whole { span.text } else { format!("{kept}…").into() }, ..span });
        if !whole {
            break;
        }
    }
    short
}

/// Returns a line for a terminal, with escape sequences if it should have colours, and without spaces at its end.
pub(crate) fn rendered(text: &[Span], colour: bool) -> String {
    let plain: String = text.iter().map(|span| &*span.text).collect();
    if !colour {
        return plain.trim_end().to_owned();
    }
    let mut left = plain.trim_end().len();
    let mut out = String::new();
    for span in text {
        let shown = &span.text[..span.text.len().min(left)];
        left -= shown.len();
        let codes: Vec<&str> = span.bold.then_some("1").into_iter().chain(span.tone.code()).collect();
        if codes.is_empty() || shown.is_empty() {
            out.push_str(shown);
        } else {
            out.push_str(&format!("\x1b[{}m{shown}\x1b[0m", codes.join(";")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_by_columns_not_by_characters() {
        let text = |text: &'static str| vec![Span::plain(text)];
        assert_eq!(rendered(&cut(text("private"), 7), false), "private");
        assert_eq!(rendered(&cut(text("private"), 5), false), "priv…");
        assert_eq!(rendered(&cut(text("私用アカウント"), 6), false), "私用…");
        let two = vec![Span::plain("ab"), Span::faint("cdef")];
        assert_eq!(rendered(&cut(two, 4), true), "ab\x1b[2mc…\x1b[0m");
    }

    #[test]
    fn lines_end_without_spaces_in_colour_and_without() {
        let text = vec![Span { bold: true, ..Span::plain("a") }, Span::plain(" b  "), Span::faint("  ")];
        assert_eq!(rendered(&text, false), "a b");
        assert_eq!(rendered(&text, true), "\x1b[1ma\x1b[0m b");
    }
}
