//! Draws the past of the accounts: charts for a terminal of any width, and a picture (`svg`).

mod chart;
mod svg;

use codex_pool_core::usage::FIVE_HOURS;

pub(crate) use chart::{draw, key, render};
pub(crate) use svg::picture;

use crate::past::Past;
use crate::ui::table::{EMPTY, width};
use crate::ui::{block, printable};

/// What is drawn of an account: the 5h window and the longest one.
fn drawn(windows: &[i64]) -> Vec<i64> {
    let mut drawn: Vec<i64> = windows.iter().copied().filter(|seconds| *seconds == FIVE_HOURS).collect();
    drawn.extend(windows.last().filter(|seconds| **seconds != FIVE_HOURS));
    drawn
}

/// Returns whether a window is the longer one of two that are drawn.
fn is_long(seconds: i64, drawn: &[i64]) -> bool {
    drawn.len() > 1 && drawn.last() == Some(&seconds)
}

/// Prints the charts of all accounts. `span`: from when to when, Unix seconds.
pub(crate) fn charts(past: &Past, span: (i64, i64), colour: bool) {
    let width = match width() {
        // A pipe has none.
        usize::MAX => 120,
        columns => columns,
    };
    if past.accounts.is_empty() {
        block(EMPTY);
    }
    for (n, account) in past.accounts.iter().enumerate() {
        if n > 0 {
            block("");
        }
        if account.readings.is_empty() {
            block(&format!(
                "{}: no readings yet; each fetch of its usage adds one",
                printable(&account.account.label)
            ));
            continue;
        }
        block(&draw(account, span, (width, 10), colour));
    }
}

/// Prints readings since a time (Unix seconds) as comma-separated values.
pub(crate) fn csv(past: &Past, from: i64) {
    block("at,account,window,used_percent,resets_at");
    for account in &past.accounts {
        for reading in account.since(from) {
            for window in &reading.windows {
                let resets_at = window.resets_at.map_or_else(String::new, |at| at.to_string());
                block(&format!(
                    "{},{},{},{},{resets_at}",
                    reading.at,
                    field(&account.account.label),
                    window.name(),
                    window.used_percent
                ));
            }
        }
    }
}

/// Returns a field of a table, in quotes if it needs them.
fn field(text: &str) -> String {
    let text = printable(text).replace('\n', " ");
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_pool_core::usage::WEEK;

    #[test]
    fn fields_with_commas_and_quotes_stay_one_field() {
        assert_eq!(field("work"), "work");
        assert_eq!(field("a, \"b\"\n"), "\"a, \"\"b\"\" \"");
    }

    #[test]
    fn five_hours_and_the_longest_window_are_drawn() {
        assert_eq!(drawn(&[FIVE_HOURS, 86_400, WEEK]), [FIVE_HOURS, WEEK]);
        assert_eq!(drawn(&[WEEK]), [WEEK]);
        assert_eq!(drawn(&[FIVE_HOURS]), [FIVE_HOURS]);
        assert!(drawn(&[]).is_empty());
    }
}
