//! One line about the accounts for prompts and status bars, by a format of the user. Pure: from values to text.

use std::collections::BTreeMap;

use super::printable;
use super::style::Tone;
use crate::cli::Markup;

/// What a format can show, by its name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values(BTreeMap<String, (String, Tone)>);

impl Values {
    /// Sets what is shown for a name.
    pub(crate) fn set(&mut self, name: impl Into<String>, text: impl Into<String>, tone: Tone) {
        self.0.insert(name.into(), (text.into(), tone));
    }

    fn get(&self, name: &str) -> Option<&(String, Tone)> {
        self.0.get(name)
    }
}

/// How a placeholder is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Padding {
    /// `<`, `>` or `^`
    side: char,
    columns: usize,
}

/// The widest padding, columns.
const WIDEST: usize = 200;

/// Returns the line that a format describes: `{name}` is replaced by its value, `{name:>5}` is padded to 5 columns (`<`
/// at its end, `^` on both sides), `{{` is a brace. What is no placeholder stays as it is, and a value that is not known
/// is `-`: a prompt must not fail.
pub(crate) fn line(format: &str, values: &Values, markup: Option<Markup>) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&escaped(&rest[..at], markup));
        let found = &rest[at..];
        if let Some(after) = found.strip_prefix("{{").or_else(|| found.strip_prefix("}}")) {
            out.push_str(&found[..1]);
            rest = after;
            continue;
        }
        let end = found.find('}').filter(|_| found.starts_with('{'));
        match end.and_then(|end| Some((end, value(&found[1..end], values, markup)?))) {
            Some((end, text)) => {
                out.push_str(&text);
                rest = &found[end + 1..];
            }
            None => {
                out.push_str(&found[..1]);
                rest = &found[1..];
            }
        }
    }
    out.push_str(&escaped(rest, markup));
    out
}

/// Returns the value of what is between two braces.
fn value(inside: &str, values: &Values, markup: Option<Markup>) -> Option<String> {
    let (name, padding) = match inside.split_once(':') {
        Some((name, spec)) => (name, Some(padding(spec)?)),
        None => (inside, None),
    };
    let window = |name: &str| {
        let length = name.trim_end_matches(|c: char| c.is_ascii_lowercase());
        !length.is_empty() && length.len() < name.len() && length.chars().all(|c| c.is_ascii_digit())
    };
    let unknown = ("-".to_owned(), Tone::Plain);
    let (text, tone) = match values.get(name) {
        Some(value) => value,
        // A window that this account does not have.
        None if window(name.trim_end_matches("_reset").trim_end_matches("_in")) => &unknown,
        None => return None,
    };
    let text = printable(text).replace('\n', " ");
    let padded = padding.map_or_else(|| text.clone(), |padding| pad(&text, padding));
    Some(painted(&escaped(&padded, markup), *tone, markup))
}

fn padding(spec: &str) -> Option<Padding> {
    let side = spec.chars().next().filter(|c| "<>^".contains(*c));
    let columns = spec[side.map_or(0, char::len_utf8)..].parse().ok().filter(|columns| *columns <= WIDEST)?;
    Some(Padding { side: side.unwrap_or('<'), columns })
}

fn pad(text: &str, padding: Padding) -> String {
    let missing = padding.columns.saturating_sub(unicode_width::UnicodeWidthStr::width(text));
    let before = match padding.side {
        '>' => missing,
        '^' => missing / 2,
        _ => 0,
    };
    format!("{}{text}{}", " ".repeat(before), " ".repeat(missing - before))
}

/// Returns text as the program that gets it must read it, so that nothing in a label is a command to it.
fn escaped(text: &str, markup: Option<Markup>) -> String {
    match markup {
        Some(Markup::Tmux) => text.replace('#', "##"),
        Some(Markup::Zsh) => text.replace('%', "%%"),
        Some(Markup::Pango) => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        Some(Markup::Ansi | Markup::Bash) | None => text.to_owned(),
    }
}

fn painted(text: &str, tone: Tone, markup: Option<Markup>) -> String {
    let (Some(markup), Some(code)) = (markup, tone.code()) else { return text.to_owned() };
    let name = match tone {
        Tone::Good => "green",
        Tone::Middling => "yellow",
        Tone::Bad => "red",
        Tone::Plain | Tone::Faint => "default",
    };
    match markup {
        Markup::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        // What readline does not count as columns.
        Markup::Bash => format!("\x01\x1b[{code}m\x02{text}\x01\x1b[0m\x02"),
        Markup::Tmux => format!("#[fg={name}]{text}#[fg=default]"),
        Markup::Zsh => format!("%F{{{name}}}{text}%f"),
        Markup::Pango => format!("<span foreground=\"{}\">{text}</span>", pango(tone)),
    }
}

/// The colours that bars have no names for, readable on light and dark.
fn pango(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "#3fa34d",
        Tone::Middling => "#c08a00",
        Tone::Bad => "#e5484d",
        Tone::Plain | Tone::Faint => "#888888",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.set("label", "wörk#1 50%<b>", Tone::Plain);
        values.set("5h", "70", Tone::Good);
        values.set("5h_reset", "20:28", Tone::Plain);
        values.set("1week", "4", Tone::Bad);
        values
    }

    #[test]
    fn placeholders_are_replaced_and_padded() {
        let of = |format: &str| line(format, &values(), None);
        assert_eq!(of("{5h}% {5h_reset}"), "70% 20:28");
        assert_eq!(of("[{5h:>4}][{1week:<3}][{5h:^5}][{5h:4}]"), "[  70][4  ][ 70  ][70  ]");
        assert_eq!(of("{label:>14}|"), " wörk#1 50%<b>|");
        assert_eq!(of("{1day}/{30day_reset}/{90m_in}"), "-/-/-", "windows that the account does not have");
    }

    #[test]
    fn what_is_no_placeholder_stays() {
        let of = |format: &str| line(format, &values(), None);
        for format in ["{", "}", "{}", "{nothing}", "{5h", "{5h:x}", "{5h:>9999}", "a {b} {c:>3}", "é{ü}"] {
            assert_eq!(of(format), format);
        }
        assert_eq!(of("{{5h}} {5h}"), "{5h} 70");
    }

    #[test]
    fn every_program_gets_its_own_colours_and_no_commands() {
        let of = |markup| line("{label} {5h}%", &values(), Some(markup));
        assert_eq!(of(Markup::Ansi), "wörk#1 50%<b> \x1b[32m70\x1b[0m%");
        assert_eq!(of(Markup::Tmux), "wörk##1 50%<b> #[fg=green]70#[fg=default]%");
        assert_eq!(of(Markup::Zsh), "wörk#1 50%%<b> %F{green}70%f%%");
        assert!(of(Markup::Pango).starts_with("wörk#1 50%&lt;b&gt; <span foreground=\"#"));
        assert!(of(Markup::Bash).contains("\x01\x1b[32m\x0270\x01\x1b[0m\x02"));
    }
}
