//! Tables of accounts, for terminals of any width and for pipes.

use std::io::IsTerminal;

use codex_pool_core::time::human_duration;
use codex_pool_core::usage::{FIVE_HOURS, Usage, WEEK, Window};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::{block, colour, printable};
use crate::view::{AccountView, problem};

/// The table of `list`.
pub(crate) fn accounts(views: &[AccountView], now: i64, verbose: bool) {
    if views.is_empty() {
        block("The pool has no accounts yet. `codex-pool add` logs in to one.");
        return;
    }
    let wide = width() >= 90;
    let mut table = new_table();
    table.set_header(if wide {
        vec!["", "account", "plan", "state", "5h left", "week left", "sessions", "age"]
    } else {
        vec!["", "account", "state", "5h", "week"]
    });
    for view in views {
        let mut row = vec![Cell::new(marks(view)), account_cell(view, wide)];
        if wide {
            row.push(Cell::new(view.account.plan.as_deref().map_or_else(|| "-".into(), printable)));
        }
        row.push(state_cell(view));
        row.push(window_cell(view.usage.as_ref(), FIVE_HOURS, now, wide));
        row.push(window_cell(view.usage.as_ref(), WEEK, now, wide));
        if wide {
            row.push(Cell::new(if view.sessions == 0 { "-".into() } else { view.sessions.to_string() }));
            row.push(Cell::new(age(view.usage.as_ref(), now)));
        }
        table.add_row(row);
    }
    block(&table.to_string());
    for view in views {
        if let Some(problem) = problem(view) {
            block(&format!("{}: {}", printable(&view.account.label), printable(&problem)));
        }
        if verbose {
            for limit in view.usage.iter().flat_map(|u| &u.extra) {
                let windows: Vec<String> = limit.windows.iter().map(|w| text_of(w, now)).collect();
                block(&format!(
                    "{}: {} {}",
                    printable(&view.account.label),
                    printable(&limit.name),
                    windows.join(", ")
                ));
            }
        }
    }
    block("● live   ◆ pinned");
}

/// The table of `why`.
pub(crate) fn ranking(views: &[AccountView]) {
    if views.is_empty() {
        block("The pool has no accounts yet. `codex-pool add` logs in to one.");
        return;
    }
    let mut table = new_table();
    table.set_header(vec!["", "", "account", "tier", "room", "urgency", "why"]);
    for view in views {
        let number = |n: Option<f64>| match n {
            Some(n) if n.is_infinite() => "∞".to_owned(),
            Some(n) => format!("{n:.0} %"),
            None => "-".to_owned(),
        };
        // Per hour: the share of the longest window that should be used up to lose nothing.
        let urgency = if view.ranked.urgency > 0.0 {
            format!("{:.2} %/h", view.ranked.urgency * 360_000.0)
        } else {
            "-".into()
        };
        table.add_row(vec![
            Cell::new(view.rank.map_or_else(|| "-".to_owned(), |r| r.to_string())),
            Cell::new(marks(view)),
            account_cell(view, false),
            Cell::new(view.ranked.tier.as_str().replace('_', " ")),
            Cell::new(number(view.ranked.room)),
            Cell::new(urgency),
            Cell::new(printable(&view.reason)),
        ]);
    }
    block(&table.to_string());
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if std::io::stdout().is_terminal() {
        table.set_width(u16::try_from(width()).unwrap_or(u16::MAX));
    } else {
        table.force_no_tty();
    }
    if colour(&std::io::stdout()) {
        table.enforce_styling();
    }
    table
}

/// Columns of the terminal; a pipe is as wide as needed.
fn width() -> usize {
    if !std::io::stdout().is_terminal() {
        return 120;
    }
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns))
}

fn marks(view: &AccountView) -> String {
    let mark = |on, mark| if on { mark } else { ' ' };
    [mark(view.live, '●'), mark(view.pinned, '◆')].iter().collect()
}

fn account_cell(view: &AccountView, wide: bool) -> Cell {
    let text = if wide { view.account.display() } else { view.account.label.clone() };
    let cell = Cell::new(printable(&text));
    if view.rank == Some(1) { cell.add_attribute(Attribute::Bold) } else { cell }
}

fn state_cell(view: &AccountView) -> Cell {
    let colour = match view.state {
        "ready" => Color::Green,
        "unknown" | "disabled" | "expired" => Color::Yellow,
        _ => Color::Red,
    };
    Cell::new(view.state.replace('_', " ")).fg(colour)
}

fn window_cell(usage: Option<&Usage>, seconds: i64, now: i64, wide: bool) -> Cell {
    let Some(window) = usage.and_then(|u| u.window(seconds)) else { return Cell::new("-") };
    let left = window.left_percent(now);
    let colour = if left >= 40.0 {
        Color::Green
    } else if left > 10.0 {
        Color::Yellow
    } else {
        Color::Red
    };
    let text =
        if wide { format!("{} {}", bar(left, 8), text_of(window, now)) } else { format!("{left:.0} %") };
    Cell::new(text).fg(colour)
}

/// `70 % (1h 3m)`: what is left, and when it resets.
fn text_of(window: &Window, now: i64) -> String {
    let left = window.left_percent(now);
    match window.resets_at.filter(|at| *at > now) {
        Some(at) => format!("{left:.0} % ({})", human_duration(at - now)),
        None => format!("{left:.0} %"),
    }
}

/// A bar of `cells` characters for a percentage.
pub(crate) fn bar(percent: f64, cells: usize) -> String {
    let eighths = (percent.clamp(0.0, 100.0) / 100.0 * cells as f64 * 8.0).round() as usize;
    let part = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8];
    let full = "█".repeat(eighths / 8);
    let rest = cells - eighths / 8;
    if rest == 0 { full } else { format!("{full}{part}{}", " ".repeat(rest - 1)) }
}

fn age(usage: Option<&Usage>, now: i64) -> String {
    usage.map_or_else(|| "never".to_owned(), |u| human_duration(now - u.fetched_at))
}
