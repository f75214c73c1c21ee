//! Prints accounts, the ranking and the homes in use, for terminals of any width and for pipes.

use std::io::IsTerminal;

use super::columns::{self, Table};
use super::style::{Span, rendered, width_of};
use super::{block, colour, printable, wrapped};
use crate::view::moves::Moves;
use crate::view::{AccountView, Clock, HomeView, problem};

/// What is said of a pool without accounts.
pub(crate) const EMPTY: &str = "The pool has no accounts yet. `codex-pool add` logs in to one.";

/// Prints the table of `list`.
pub(crate) fn accounts(views: &[AccountView], now: i64, verbose: bool) {
    if views.is_empty() {
        block(EMPTY);
        return;
    }
    let clock = Clock::of_system();
    let table = columns::accounts(views, now, &clock, width());
    print(&table);
    for view in views {
        let label = &view.account.label;
        let mut lines: Vec<String> =
            problem(view, now).map(|problem| format!("{label}: {problem}")).into_iter().collect();
        if verbose {
            lines.extend(view.rules.iter().map(|rules| format!("{label}: {rules}")));
            for limit in view.usage.iter().flat_map(|u| &u.extra) {
                let windows: Vec<String> =
                    limit.windows.iter().map(|w| columns::limit(w, now, &clock)).collect();
                lines.push(format!("{label}: {} {}", limit.name, windows.join(", ")));
            }
        }
        notes(&lines);
    }
    block(if table.bars {
        "● live   ◆ pinned   → next   │ an even pace"
    } else {
        "● live   ◆ pinned   → next"
    });
}

/// Prints what follows from the table, in as many lines as it takes.
pub(crate) fn notes(lines: &[String]) {
    for line in lines {
        block(&wrapped(&printable(line), width().saturating_sub(2)).join("\n  "));
    }
}

/// Returns a line for each account, to choose from on a terminal.
pub(crate) fn choices(views: &[AccountView], now: i64) -> Vec<String> {
    // In front of each there is a mark of the question.
    let table = columns::accounts(views, now, &Clock::of_system(), width().saturating_sub(2));
    table
        .rows
        .iter()
        .map(|lines| lines.first().map_or_else(String::new, |line| rendered(line, false)))
        .collect()
}

fn print(table: &Table) {
    let colour = colour(&std::io::stdout());
    if let Some(titles) = &table.titles {
        block(&rendered(titles, colour));
    }
    for lines in &table.rows {
        for (at, line) in lines.iter().enumerate() {
            block(&format!("{}{}", if at == 0 { "" } else { "  " }, rendered(line, colour)));
        }
    }
}

/// Prints the homes in use, a line for each.
pub(crate) fn homes(homes: &[HomeView]) {
    for home in homes {
        block(&wrapped(&printable(&home.line()), width().saturating_sub(2)).join("\n  "));
    }
}

/// Prints what has become of sessions at a limit, a line for each.
pub(crate) fn moves(moves: &Moves) {
    for line in &moves.lines {
        block(&wrapped(&printable(line), width().saturating_sub(2)).join("\n  "));
    }
}

/// Prints the ranking of `why`: a place, an account, and the reason in as many lines as it takes.
pub(crate) fn ranking(views: &[AccountView], verbose: bool) {
    if views.is_empty() {
        block(EMPTY);
        return;
    }
    let colour = colour(&std::io::stdout());
    let name = |view: &AccountView| printable(&view.account.label);
    let columns = |text: String| width_of(&[Span::plain(text)]);
    let longest = views.iter().map(|view| columns(name(view))).max().unwrap_or(0);
    let beside = BEFORE_LABEL + longest + 2;
    let (indent, gap) = match width().saturating_sub(beside) {
        room if room >= NARROW => (beside, 2),
        // Below the account there is more room than beside it.
        _ => (BEFORE_LABEL, 0),
    };
    for view in views {
        let place = view.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        let account = Span { bold: view.next, ..Span::plain(name(view)) };
        let first = format!("{place:>2} {} {}", columns::marks(view), rendered(&[account], colour));
        let break_line = format!("\n{:indent$}", "");
        let reason = wrapped(&printable(&view.reason), width().saturating_sub(indent)).join(&break_line);
        match gap {
            0 => block(&format!("{first}{break_line}{reason}")),
            gap => block(&format!("{first}{:pad$}{reason}", "", pad = longest - columns(name(view)) + gap)),
        }
        if verbose {
            let text = wrapped(&numbers(view), width().saturating_sub(indent)).join(&break_line);
            block(&format!("{:indent$}{text}", ""));
        }
    }
    let rule = "Accounts with room come first; of these, the one whose quota is lost soonest.";
    block(&wrapped(rule, width()).join("\n"));
}

/// Returns the numbers by which the pick orders accounts.
fn numbers(view: &AccountView) -> String {
    let room = match view.ranked.room {
        Some(room) if room.is_infinite() => "unlimited".to_owned(),
        Some(room) => format!("{room:.0} %"),
        None => "unknown".to_owned(),
    };
    // The share of the longest window that must be used so that nothing is lost.
    let urgency = format!("{:.2} %/h", view.ranked.urgency * 360_000.0);
    let tier = view.ranked.tier.as_str().replace('_', " ");
    format!("tier {tier}, room {room}, urgency {urgency}")
}

/// Place and marks, each with a space behind it, columns.
const BEFORE_LABEL: usize = 7;
/// With fewer columns than this for text, it has lines of its own.
const NARROW: usize = 26;

/// Returns the columns of the terminal. A pipe is as wide as needed.
pub(crate) fn width() -> usize {
    if !std::io::stdout().is_terminal() {
        return usize::MAX;
    }
    columns()
}

/// Returns the columns of the terminal that is there.
pub(super) fn columns() -> usize {
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns))
}
