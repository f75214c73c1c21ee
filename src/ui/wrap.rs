//! Breaks text into lines.

use unicode_width::UnicodeWidthStr;

/// Returns the text in lines of at most `room` columns, broken between words. What is between backticks is one word, so
/// that a command can be copied whole, and so is a number with its `%`. A longer word has a line of its own.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(text) {
        let length = lines.last().map_or(0, |line| line.width());
        if length > 0 && length + 1 + word.width() > room {
            lines.push(word.to_owned());
        } else if let Some(line) = lines.last_mut() {
            line.push_str(if length > 0 { " " } else { "" });
            line.push_str(word);
        }
    }
    lines
}

/// Returns text for a terminal of so many columns: each of its lines broken between words, and what is left of it
/// indented by two more.
pub(crate) fn fitted(text: &str, columns: usize) -> String {
    let fit = |line: &str| {
        if line.width() <= columns {
            return line.to_owned();
        }
        let indent = line.len() - line.trim_start_matches(' ').len();
        let lines = wrapped(line.trim_start_matches(' '), columns.saturating_sub(indent + 2));
        format!("{:indent$}{}", "", lines.join(&format!("\n{:indent$}  ", "")))
    };
    text.split('\n').map(fit).collect::<Vec<_>>().join("\n")
}

/// Returns the words of a text. Spaces between backticks separate none, nor does one before a percent sign.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '`' => quoted = !quoted && text[at + 1..].contains('`'),
            ' ' if !quoted && !text[at + 1..].starts_with('%') => {
                words.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&text[start..]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_only() {
        let text = "one two three four five six seven";
        assert_eq!(wrapped(text, usize::MAX), [text]);
        assert_eq!(wrapped(text, 27), ["one two three four five six", "seven"]);
        let path = "x".repeat(40);
        assert_eq!(wrapped(&format!("see {path} now"), 30), ["see", &path, "now"]);
    }

    #[test]
    fn commands_stay_whole_and_a_lone_backtick_is_no_quote() {
        assert_eq!(
            wrapped("then `codex-pool use work --now` or", 20),
            ["then", "`codex-pool use work --now`", "or"]
        );
        assert_eq!(wrapped("a `b c d", 4), ["a `b", "c d"]);
    }

    #[test]
    fn percent_signs_stay_with_their_numbers() {
        assert_eq!(wrapped("5h: 910 % an hour", 7), ["5h:", "910 %", "an hour"]);
        assert_eq!(wrapped("5h: 910 % an hour", 8), ["5h:", "910 % an", "hour"]);
        assert_eq!(wrapped("0.08 %/h", 5), ["0.08 %/h"]);
    }

    #[test]
    fn lines_that_fit_stay_as_they_are_and_others_hang() {
        let text = "  codex-pool list    who has how much left\nshort";
        assert_eq!(fitted(text, 60), text);
        assert_eq!(fitted("one two three", 9), "one two\n  three");
        assert_eq!(fitted("  one two three", 11), "  one two\n    three");
    }
}
