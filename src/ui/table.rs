//! Tables of accounts, for terminals of any width and for pipes.

use std::io::IsTerminal;

use codex_pool_core::time::human_duration;
use codex_pool_core::usage::{FIVE_HOURS, Usage, WEEK, Window, longest, of_length};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::{block, colour, printable, wrapped};
use crate::view::{AccountView, HomeView, State, problem};

/// What is shown of an account. A narrow terminal gets less.
#[derive(Clone, Copy)]
struct Layout {
    email: bool,
    bars: bool,
    /// When windows reset, plan, sessions, age of the data.
    details: bool,
    /// States in a word of at most nine letters, so that no column breaks words.
    brief: bool,
}

/// The richest first.
const LAYOUTS: [Layout; 5] = [
    Layout { email: true, bars: true, details: true, brief: false },
    Layout { email: false, bars: true, details: true, brief: false },
    Layout { email: false, bars: false, details: true, brief: false },
    Layout { email: false, bars: false, details: false, brief: false },
    Layout { email: false, bars: false, details: false, brief: true },
];

/// Prints the table of `list`.
pub(crate) fn accounts(views: &[AccountView], now: i64, verbose: bool) {
    if views.is_empty() {
        block("The pool has no accounts yet. `codex-pool add` logs in to one.");
        return;
    }
    let fits = |table: &Table| {
        // Each column has a space on both sides.
        table.column_max_content_widths().iter().map(|w| usize::from(*w) + 2).sum::<usize>() <= width()
    };
    let tables = LAYOUTS.map(|layout| accounts_in(layout, views, now));
    let table = tables.iter().find(|table| fits(table)).unwrap_or(&tables[LAYOUTS.len() - 1]);
    block(&trimmed(table));
    for view in views {
        if let Some(problem) = problem(view) {
            let text = format!("{}: {}", printable(&view.account.label), printable(&problem));
            block(&wrapped(&text, width().saturating_sub(2)).join("\n  "));
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
    block("● live   ◆ pinned   → next");
}

/// Prints the homes in use, a line for each.
pub(crate) fn homes(homes: &[HomeView]) {
    for home in homes {
        block(&wrapped(&printable(&home.line()), width().saturating_sub(2)).join("\n  "));
    }
}

fn accounts_in(layout: Layout, views: &[AccountView], now: i64) -> Table {
    let mut table = new_table();
    table.set_header(if layout.details {
        vec!["", "account", "plan", "state", "5h left (resets)", "week left (resets)", "sessions", "age"]
    } else {
        vec!["", "account", "state", "5h", "week"]
    });
    for view in views {
        let usage = view.usage.as_ref();
        let mut row = vec![Cell::new(marks(view)), account_cell(view, layout.email)];
        if layout.details {
            row.push(Cell::new(view.account.plan.as_deref().map_or_else(|| "-".into(), printable)));
        }
        row.push(state_cell(view, layout.brief));
        row.push(window_cell(usage.and_then(|u| of_length(&u.windows, FIVE_HOURS)), now, layout));
        row.push(window_cell(usage.and_then(long_window), now, layout));
        if layout.details {
            row.push(Cell::new(if view.sessions == 0 { "-".into() } else { view.sessions.to_string() }));
            row.push(Cell::new(age(usage, now)));
        }
        table.add_row(row);
    }
    if layout.brief {
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 1));
        });
    }
    table
}

/// Returns the week, or what a plan has instead, such as a month.
pub(super) fn long_window(usage: &Usage) -> Option<&Window> {
    of_length(&usage.windows, WEEK)
        .or_else(|| longest(&usage.windows).filter(|w| w.window_seconds != FIVE_HOURS))
}

/// Returns the table without spaces at the ends of its lines.
fn trimmed(table: &Table) -> String {
    table.trim_fmt()
}

/// Prints the table of `why`.
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
        // Percent per hour: the share of the longest window that must be used so that nothing is lost.
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
    block(&trimmed(&table));
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

/// Returns the columns of the terminal. A pipe is as wide as needed.
pub(super) fn width() -> usize {
    if !std::io::stdout().is_terminal() {
        return usize::MAX;
    }
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns))
}

pub(super) fn marks(view: &AccountView) -> String {
    let mark = |on, mark| if on { mark } else { ' ' };
    [mark(view.next, '→'), mark(view.live, '●'), mark(view.pinned, '◆')].iter().collect()
}

fn account_cell(view: &AccountView, email: bool) -> Cell {
    let text = if email { view.account.display() } else { view.account.label.clone() };
    let cell = Cell::new(printable(&text));
    if view.next { cell.add_attribute(Attribute::Bold) } else { cell }
}

fn state_cell(view: &AccountView, brief: bool) -> Cell {
    let colour = match view.state {
        State::Ready => Color::Green,
        State::Unknown | State::Disabled | State::Expired => Color::Yellow,
        State::Exhausted
        | State::ReauthRequired
        | State::WorkspaceRemoved
        | State::Deactivated
        | State::Refused => Color::Red,
    };
    let words = match view.state {
        State::ReauthRequired if brief => "login".to_owned(),
        State::WorkspaceRemoved if brief => "removed".to_owned(),
        State::Deactivated if brief => "off".to_owned(),
        state => state.words(),
    };
    Cell::new(words).fg(colour)
}

fn window_cell(window: Option<&Window>, now: i64, layout: Layout) -> Cell {
    let Some(window) = window else { return Cell::new("-") };
    let left = window.left_percent(now);
    let colour = if left >= 40.0 {
        Color::Green
    } else if left > 10.0 {
        Color::Yellow
    } else {
        Color::Red
    };
    let mut text = if layout.details { text_of(window, now) } else { format!("{left:.0}%") };
    if layout.bars {
        text = format!("{} {text}", bar(left, 8));
    }
    if !matches!(window.window_seconds, FIVE_HOURS | WEEK) {
        text = format!("{text}{} {}", if layout.brief { "" } else { " of" }, window.name());
    }
    Cell::new(text).fg(colour)
}

/// Returns `70 % (1h 3m)`: what is left, and when it resets.
fn text_of(window: &Window, now: i64) -> String {
    let left = window.left_percent(now);
    match window.resets_at.filter(|at| *at > now) {
        Some(at) => format!("{left:>3.0} % ({})", human_duration(at - now)),
        None => format!("{left:>3.0} %"),
    }
}

/// Returns a bar of `cells` characters for a percentage.
pub(crate) fn bar(percent: f64, cells: usize) -> String {
    let eighths = (percent.clamp(0.0, 100.0) / 100.0 * cells as f64 * 8.0).round() as usize;
    let part = ['░', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8];
    let full = "█".repeat(eighths / 8);
    let rest = cells - eighths / 8;
    if rest == 0 { full } else { format!("{full}{part}{}", "░".repeat(rest - 1)) }
}

pub(super) fn age(usage: Option<&Usage>, now: i64) -> String {
    usage.map_or_else(|| "never".to_owned(), |u| human_duration(now - u.fetched_at))
}
