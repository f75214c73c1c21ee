//! A chart in text: what is left of an account's windows over time. Pure, from data to lines.

use codex_pool_core::usage::window_words;
use jiff::{Timestamp, Zoned};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};
use unicode_width::UnicodeWidthStr;

use super::{drawn, is_long};
use crate::past::{AccountPast, Point};
use crate::ui::printable;
use crate::view::Clock;

/// A Braille pattern without dots.
const BLANK: &str = "\u{2800}";
/// Between two parts of a title, columns.
const GAP: usize = 3;
/// The labels of the height.
const PERCENTS: [&str; 3] = ["  0 %", " 50 %", "100 %"];
/// The narrowest and the widest chart, columns.
const WIDTHS: (usize, usize) = (24, 200);

/// Returns the chart of an account as lines, with a title. `span`: from when to when, Unix seconds; `size`: columns and
/// rows of the chart.
pub(crate) fn draw(past: &AccountPast, span: (i64, i64), size: (usize, usize), colour: bool) -> String {
    let (width, height) = (size.0.clamp(WIDTHS.0, WIDTHS.1), size.1.max(4));
    let mut buffer = Buffer::empty(Rect::new(0, 0, width as u16, height as u16));
    render(past, span, buffer.area, &mut buffer, colour);
    let mut lines = title(past, span.1, width, colour);
    for y in 0..buffer.area.height {
        lines.push(line_of(&buffer, y, colour));
    }
    lines.join("\n")
}

/// Draws the chart into a part of a buffer.
pub(crate) fn render(past: &AccountPast, span: (i64, i64), area: Rect, buffer: &mut Buffer, colour: bool) {
    let (from, to) = span;
    let shown = drawn(&past.windows());
    let series: Vec<(i64, Vec<(f64, f64)>)> =
        shown.iter().map(|seconds| (*seconds, stairs(&past.left_between(*seconds, span)))).collect();
    let paint = |seconds: i64| match colour {
        true => Style::new().fg(colour_of(seconds)),
        false => Style::new(),
    };
    let sets = series.iter().map(|(seconds, points)| {
        // Without colours, the marker tells the windows apart.
        let marker = if is_long(*seconds, &shown) { Marker::Dot } else { Marker::Braille };
        Dataset::default().marker(marker).graph_type(GraphType::Line).style(paint(*seconds)).data(points)
    });
    let dim = Style::new().add_modifier(Modifier::DIM);
    let chart = Chart::new(sets.rev().collect())
        .legend_position(None)
        // Empty labels: the axis is drawn, and the line below it is free.
        .x_axis(Axis::default().bounds([from as f64, to as f64]).labels(["", ""]).style(dim))
        .y_axis(Axis::default().bounds([0.0, 100.0]).labels(PERCENTS).style(dim));
    chart.render(area, buffer);
    label(span, area, buffer);
}

/// Writes the times below the axis, each in the middle of where it belongs, as far as that is inside.
fn label(span: (i64, i64), area: Rect, buffer: &mut Buffer) {
    let Some(row) = area.bottom().checked_sub(1).filter(|row| *row > area.top()) else { return };
    // The graph is beside the labels of its height, and their axis.
    let beside = PERCENTS[0].len() as u16 + 1;
    let labels = times(span.0, span.1, area.width);
    let (last, columns) = (labels.len() as u16 - 1, area.width.saturating_sub(beside + 1));
    for (n, text) in (0..).zip(labels) {
        let (at, width) = (beside + columns * n / last, text.len() as u16);
        let start = at.saturating_sub(width / 2).min(area.width.saturating_sub(width));
        buffer.set_string(area.left() + start, row, text, Style::new());
    }
}

/// The colour of a window's line, readable on light and dark.
fn colour_of(seconds: i64) -> Color {
    if seconds == codex_pool_core::usage::FIVE_HOURS { Color::Cyan } else { Color::Magenta }
}

/// Returns what each line of a chart is: its mark, the window, and its colour.
pub(crate) fn key(past: &AccountPast) -> Vec<(&'static str, String, Color)> {
    let shown = drawn(&past.windows());
    let key = |seconds: &i64| {
        let mark = if is_long(*seconds, &shown) { "•" } else { "⠤" };
        (mark, window_words(*seconds), colour_of(*seconds))
    };
    shown.iter().map(key).collect()
}

/// Returns the points as a line that stays on its height until the next one.
fn stairs(points: &[Point]) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (at, left) in points {
        if let Some((_, before)) = line.last().copied() {
            line.push((*at as f64, before));
        }
        line.push((*at as f64, *left));
    }
    line
}

/// Returns the title: the account, what each line is, and the forecast, in as many lines as it takes.
fn title(past: &AccountPast, now: i64, width: usize, colour: bool) -> Vec<String> {
    let mut parts = vec![(printable(&past.account.label), None)];
    for (seconds, (mark, window, of)) in drawn(&past.windows()).into_iter().zip(key(past)) {
        let left = past.left(seconds, now).last().map_or(0.0, |(_, left)| *left);
        parts.push((format!("{mark} {window} {left:.0} % left"), Some(of)));
    }
    if let Some((window, forecast)) = past.forecast(now) {
        parts.push((format!("{}: {}", window.words(), forecast.words(now)), None));
    }
    let (mut lines, mut used) = (vec![String::new()], 0);
    for (text, of) in parts {
        let columns = text.width();
        if used > 0 && used + GAP + columns > width {
            lines.push(String::new());
            used = 0;
        }
        let gap = if used > 0 { GAP } else { 0 };
        used += gap + columns;
        let shown = of.filter(|_| colour).map_or_else(|| text.clone(), |of| coloured(&text, of));
        if let Some(line) = lines.last_mut() {
            line.push_str(&" ".repeat(gap));
            line.push_str(&shown);
        }
    }
    lines
}

/// Returns labels of times, the same span from one to the next: clock times for a day or less, else days.
fn times(from: i64, to: i64, width: u16) -> Vec<String> {
    // Days take more room than times of day.
    let count = match (width, to - from <= 2 * 86_400) {
        (120.., _) => 5,
        (60.., _) | (30.., true) => 3,
        _ => 2,
    };
    let zone = Clock::of_system().zone();
    let label = |n: i64| {
        let at = from + (to - from) * n / (count - 1);
        let at: Zoned = Timestamp::from_second(at).unwrap_or_default().to_zoned(zone.clone());
        let format = if to - from <= 2 * 86_400 {
            "%H:%M"
        } else if to - from <= 8 * 86_400 {
            "%a %H:%M"
        } else {
            "%b %d"
        };
        at.strftime(format).to_string()
    };
    (0..count).map(label).collect()
}

/// Returns a line of a buffer as text, without spaces at its end.
fn line_of(buffer: &Buffer, y: u16, colour: bool) -> String {
    let mut text = String::new();
    let mut shown = Style::new();
    let cells: Vec<_> = (0..buffer.area.width).filter_map(|x| buffer.cell((x, y))).collect();
    let end =
        cells.iter().rposition(|cell| cell.symbol() != " " && cell.symbol() != BLANK).map_or(0, |at| at + 1);
    for cell in &cells[..end] {
        let style = Style::new().fg(cell.fg).add_modifier(cell.modifier);
        if colour && style != shown {
            text.push_str(&escape(cell.fg, cell.modifier));
            shown = style;
        }
        text.push_str(if cell.symbol() == BLANK { " " } else { cell.symbol() });
    }
    if colour && shown != Style::new() {
        text.push_str("\x1b[0m");
    }
    text
}

fn escape(colour: Color, modifier: Modifier) -> String {
    let number = match colour {
        Color::Cyan => ";36",
        Color::Magenta => ";35",
        _ => "",
    };
    let dim = if modifier.contains(Modifier::DIM) { ";2" } else { "" };
    format!("\x1b[0{number}{dim}m")
}

fn coloured(text: &str, colour: Color) -> String {
    format!("{}{text}\x1b[0m", escape(colour, Modifier::empty()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ui::glyphs::plain;
    use codex_pool_core::account::{Account, AccountId};
    use codex_pool_core::usage::history::Reading;
    use codex_pool_core::usage::{FIVE_HOURS, WEEK, Window};
    use serde_json::json;

    const END: i64 = 1_800_000_000;

    /// Two days of an account that is used half of the time.
    pub(crate) fn example() -> AccountPast {
        let id = AccountId::of_api_key("a");
        let account: Account = serde_json::from_value(json!({
            "id": id, "label": "work", "kind": "chatgpt", "enabled": true, "added_at": 0, "updated_at": 0,
        }))
        .unwrap();
        let window = |window_seconds, used_percent, resets_at| Window {
            window_seconds,
            used_percent,
            resets_at: Some(resets_at),
        };
        let reading = |n: i64| {
            let at = END - 2 * 86_400 + n * 600;
            let into = at.rem_euclid(36_000).min(18_000);
            let windows = vec![
                window(FIVE_HOURS, into as f64 / 200.0, at.div_euclid(36_000) * 36_000 + 18_000),
                window(WEEK, n as f64 / 4.0, END + 86_400),
            ];
            Reading { account: id.clone(), at, windows, limit_reached: false }
        };
        AccountPast { account, readings: (0..288).map(reading).collect(), usage: None }
    }

    fn width(line: &str) -> usize {
        line.width()
    }

    #[test]
    fn times_are_below_what_they_name() {
        for (columns, count) in [(52, 3), (127, 5), (200, 5)] {
            let chart = draw(&example(), (END - 86_400, END), (columns, 10), false);
            let (axis, times) = chart.rsplit_once('\n').unwrap();
            let axis = axis.lines().last().unwrap();
            let begin = axis.chars().position(|c| c == '└').unwrap() + 1;
            assert_eq!((begin, width(axis)), (6, columns), "the axis is beside its labels\n{chart}");
            let labels: Vec<&str> = times.split_whitespace().collect();
            assert_eq!(labels.len(), count, "{chart}");
            for (n, label) in labels.iter().enumerate() {
                let at = (begin + (columns - begin - 1) * n / (count - 1)) as isize;
                let middle =
                    (times.match_indices(label).nth(n / (count - 1)).unwrap().0 + label.len() / 2) as isize;
                // The last one ends with the axis.
                assert!(
                    (at - middle).abs() <= if n + 1 == count { 2 } else { 1 },
                    "{label}: {at} {middle}\n{chart}"
                );
            }
        }
    }

    #[test]
    fn every_width_is_kept_and_both_lines_are_there() {
        for columns in [24, 40, 80, 120, 200] {
            for ascii in [false, true] {
                let mut chart = draw(&example(), (END - 2 * 86_400, END), (columns, 10), false);
                if ascii {
                    chart = chart.chars().map(plain).collect();
                }
                let titles = chart.lines().count() - 10;
                assert_eq!(titles, if columns < 40 { 2 } else { 1 }, "{chart}");
                assert!(chart.lines().all(|line| width(line) <= columns), "{columns}\n{chart}");
                let lines: Vec<&str> = chart.lines().skip(titles).collect();
                assert!(lines.iter().all(|line| width(line) <= columns), "{columns}\n{chart}");
                assert!(chart.contains("100 %") && chart.contains("work"), "{chart}");
                assert_eq!(chart.is_ascii(), ascii, "{chart}");
                let week = if ascii { 'o' } else { '•' };
                assert!(lines.iter().any(|line| line.contains(week)), "{chart}");
                let five_hours = |c: char| if ascii { c == '*' } else { ('⠁'..='⣿').contains(&c) };
                assert!(lines.iter().any(|line| line.contains(five_hours)), "{chart}");
            }
        }
    }

    #[test]
    fn colours_are_there_only_if_asked_for_and_end() {
        let of = |colour| draw(&example(), (END - 86_400, END), (80, 10), colour);
        assert!(!of(false).contains('\x1b'));
        let coloured = of(true);
        assert!(coloured.contains("\x1b[0;36m") && coloured.contains("\x1b[0;35m"));
        assert!(
            coloured
                .lines()
                .all(|line| !line.contains('\x1b') || line.ends_with("\x1b[0m") || line.contains("left"))
        );
    }
}
