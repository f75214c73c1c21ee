//! The panels below the accounts: sessions, the resets to come, the chart of an account, what happened last, and the keys.
//! Pure.

use codex_pool_core::time::{DAY, human_duration};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::Snapshot;
use crate::ui::printable;
use crate::ui::style::{Span as Styled, cut};

/// What the keys do, in the help.
pub(super) const HELP: [(&str, &str); 13] = [
    ("↑ ↓ Home End", "select an account (also k and j)"),
    ("enter", "all about the account"),
    ("u", "use it: pinned, until `codex-pool use --auto`"),
    ("b", "use the best one, without a pin"),
    ("d", "disable it, or enable it again"),
    ("n", "rename it"),
    ("r", "fetch usage now"),
    ("s", "sort: next first, by label, least of 5h, least of the week"),
    ("/", "show only accounts that match; esc shows all"),
    ("?", "this help"),
    ("q", "quit"),
    ("→ ● ◆", "next, live, pinned"),
    ("│", "in a bar: where an even pace would be"),
];

/// Returns a heading.
pub(super) fn heading(text: String) -> Line<'static> {
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

/// Shortens text to so many columns.
pub(super) fn short(text: String, columns: u16) -> String {
    let text = cut(vec![Styled::plain(text)], usize::from(columns));
    text.into_iter().map(|span| span.text).collect()
}

/// Returns the sessions, below the home that they are in, in at most `most` lines.
pub(super) fn sessions(snapshot: &Snapshot, columns: u16, most: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut home = None;
    for session in &snapshot.sessions {
        if home != Some(&session.home) {
            lines.push(heading(short(printable(&session.home), columns)));
            home = Some(&session.home);
        }
        let age = human_duration(snapshot.now - session.started_at);
        let folder = session.folder.as_deref().map_or_else(String::new, |folder| format!(" · {folder}"));
        let text = format!("  {}{folder} · {age}", session.command);
        lines.push(Line::raw(short(printable(&text), columns)));
    }
    if lines.len() > most {
        lines.truncate(most.saturating_sub(1));
        let shown = lines.iter().filter(|line| line.to_string().starts_with("  ")).count();
        if most > 0 {
            lines.push(heading(format!("  and {} more", snapshot.sessions.len() - shown)));
        }
    }
    lines
}

/// Returns the resets to come as a line of time, with its labels below. The nearer ones have more room.
pub(super) fn timeline(snapshot: &Snapshot, columns: u16) -> Vec<Line<'static>> {
    let columns = usize::from(columns);
    let mut resets: Vec<(i64, String)> = Vec::new();
    for view in &snapshot.views {
        for window in view.usage.iter().flat_map(|usage| &usage.windows) {
            if let Some(at) = window.resets_at.filter(|_| window.running(snapshot.now)) {
                resets.push((at, format!("{} {}", printable(&view.account.label), window.words())));
            }
        }
    }
    resets.sort();
    let Some(end) = resets.iter().map(|(at, _)| at - snapshot.now).max() else { return Vec::new() };
    let lead = "resets ";
    let Some(room) = columns.checked_sub(lead.len() + 1).filter(|room| *room >= 20) else {
        return Vec::new();
    };
    let scale = |distance: i64| (1.0 + distance as f64 / 3_600.0).ln();
    let place = |at: i64| (scale(at - snapshot.now) / scale(end.max(DAY / 4)) * (room - 1) as f64) as usize;
    let mut axis = vec!['─'; room];
    let (mut labels, mut below) = (String::new(), Vec::new());
    for (at, what) in &resets {
        let place = place(*at).min(room - 1);
        axis[place] = '┬';
        let label = format!("{} {what}", snapshot.clock.time(*at, snapshot.now));
        let begin = if labels.is_empty() { 0 } else { labels.width() + 2 };
        if place >= begin && place + label.width() <= room {
            labels.push_str(&" ".repeat(place - labels.width()));
            labels.push_str(&label);
        } else {
            below.push(label);
        }
    }
    let axis: String = axis.into_iter().collect();
    let mut lines = vec![
        Line::from(vec![Span::styled(lead, Style::new().add_modifier(Modifier::DIM)), Span::raw(axis)]),
        Line::raw(format!("{:pad$}{labels}", "", pad = lead.len())),
    ];
    if !below.is_empty() {
        let more = short(below.join("  "), u16::try_from(room).unwrap_or(u16::MAX));
        lines.push(Line::styled(
            format!("{:pad$}{more}", "", pad = lead.len()),
            Style::new().add_modifier(Modifier::DIM),
        ));
    }
    lines
}
