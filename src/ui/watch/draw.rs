//! Draws a frame of the live view, for any size of terminal. Pure: from a snapshot to a frame.

use codex_pool_core::time::human_duration;
use codex_pool_core::usage::{FIVE_HOURS, Usage, WEEK, Window, of_length};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use super::Snapshot;
use crate::ui::printable;
use crate::ui::table::{age, bar, long_window, marks};
use crate::view::{AccountView, State, problem};

/// From this width on there is room for emails, plans, sessions and ages.
const WIDE: u16 = 108;
/// Below this width an account takes two lines.
const NARROW: u16 = 72;
const KEYS: [&str; 3] =
    ["↑↓ select   u use   b best   r refresh   q quit", "↑↓  u use  b best  r refresh  q quit", "q quit"];
/// A message has at most this many lines.
const MESSAGE_LINES: u16 = 3;

/// Draws the view. `selected`: the index of an account.
pub(super) fn screen(frame: &mut Frame<'_>, snapshot: &Snapshot, selected: Option<usize>, colour: bool) {
    let paint = Paint(colour);
    let area = frame.area();
    let foot = foot(snapshot, area.width, paint);
    // Lines are not filled to their ends, so a long message gets one more.
    let lines = match foot.width().div_ceil(usize::from(area.width.max(1))) {
        0 | 1 => 1,
        _ if area.height < 8 => 1,
        many => u16::try_from(many + 1).unwrap_or(MESSAGE_LINES).min(MESSAGE_LINES),
    };
    let details = if area.height >= 10 { 3 } else { 0 };
    let [title, body, detail, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(details),
        Constraint::Length(lines),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(foot).wrap(Wrap { trim: true }), bottom);
    frame.render_widget(title_line(snapshot, paint), title);
    if snapshot.views.is_empty() {
        let text = "The pool has no accounts yet. `codex-pool add` logs in to one.";
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), body);
    } else {
        accounts(frame, body, snapshot, selected, paint);
    }
    if let Some(view) = selected.and_then(|at| snapshot.views.get(at)) {
        frame.render_widget(Paragraph::new(about(view, paint)).wrap(Wrap { trim: true }), detail);
    }
}

/// Returns the last message, or the keys.
fn foot(snapshot: &Snapshot, width: u16, paint: Paint) -> Line<'static> {
    let text = match &snapshot.message {
        Some(message) => Span::styled(printable(message), paint.style(Color::Cyan)),
        None => {
            let fits = KEYS.iter().find(|keys| Span::raw(**keys).width() <= usize::from(width));
            Span::styled(*fits.unwrap_or(&KEYS[2]), Style::new().add_modifier(Modifier::DIM))
        }
    };
    Line::from(text)
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn style(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn left(self, percent: f64) -> Style {
        self.style(match percent {
            left if left >= 40.0 => Color::Green,
            left if left > 10.0 => Color::Yellow,
            _ => Color::Red,
        })
    }

    fn state(self, state: State) -> Style {
        self.style(match state {
            State::Ready => Color::Green,
            State::Unknown | State::Disabled | State::Expired => Color::Yellow,
            State::Exhausted
            | State::ReauthRequired
            | State::WorkspaceRemoved
            | State::Deactivated
            | State::Refused => Color::Red,
        })
    }
}

fn title_line(snapshot: &Snapshot, paint: Paint) -> Line<'static> {
    let sessions: usize = snapshot.views.iter().map(|v| v.sessions).sum();
    let mut parts = Vec::new();
    if sessions > 0 {
        parts.push(format!("{sessions} session{}", if sessions == 1 { "" } else { "s" }));
    }
    match snapshot.next_poll {
        _ if snapshot.busy => parts.push("fetching…".to_owned()),
        Some(at) if at > snapshot.now => {
            parts.push(format!("next poll in {}", human_duration(at - snapshot.now)))
        }
        _ => {}
    }
    let name = Span::styled("codex-pool", paint.style(Color::Cyan).add_modifier(Modifier::BOLD));
    Line::from(vec![name, Span::raw("  "), Span::raw(parts.join(" · "))])
}

fn accounts(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, selected: Option<usize>, paint: Paint) {
    let width = area.width;
    let longest = |text: fn(&AccountView) -> String| {
        let widths = snapshot.views.iter().map(|v| Span::raw(text(v)).width());
        u16::try_from(widths.max().unwrap_or(0)).unwrap_or(u16::MAX)
    };
    let now = snapshot.now;
    let header = Style::new().add_modifier(Modifier::DIM);
    let table = if width >= WIDE {
        let name = longest(full_name).min(width - 84).max(7);
        let rows = snapshot.views.iter().map(|v| {
            Row::new([
                Line::raw(marks(v)),
                Line::styled(full_name(v), bold_if_next(v)),
                Line::raw(v.account.plan.as_deref().map_or_else(|| "-".to_owned(), printable)),
                Line::styled(v.state.words(), paint.state(v.state)),
                window(five_hours(v), 8, now, paint),
                window(v.usage.as_ref().and_then(long_window), 8, now, paint),
                Line::raw(if v.sessions == 0 { "-".to_owned() } else { v.sessions.to_string() }),
                Line::raw(age(v.usage.as_ref(), now)),
            ])
        });
        let columns = [3, name, 7, 17, 21, 21, 2, 7].map(Constraint::Length);
        let titles = ["", "account", "plan", "state", "5h left", "week left", "#", "age"];
        Table::new(rows, columns).header(Row::new(titles).style(header))
    } else if width >= NARROW {
        let name = longest(label).clamp(7, width - 64);
        let rows = snapshot.views.iter().map(|v| {
            Row::new([
                Line::raw(marks(v)),
                Line::styled(label(v), bold_if_next(v)),
                Line::styled(v.state.words(), paint.state(v.state)),
                window(five_hours(v), 5, now, paint),
                window(v.usage.as_ref().and_then(long_window), 5, now, paint),
            ])
        });
        let columns = [3, name, 17, 18, 18].map(Constraint::Length);
        Table::new(rows, columns)
            .header(Row::new(["", "account", "state", "5h left", "week left"]).style(header))
    } else {
        let rows = snapshot.views.iter().map(|v| Row::new([two_lines(v, now, paint)]).height(2));
        Table::new(rows, [Constraint::Fill(1)])
    };
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

/// Returns an account in two lines: its name and state, then its windows.
fn two_lines(view: &AccountView, now: i64, paint: Paint) -> ratatui::text::Text<'static> {
    let mut windows = vec![Span::raw(" ")];
    for (name, found) in [("5h", five_hours(view)), ("wk", view.usage.as_ref().and_then(long_window))] {
        let named = found.filter(|w| !usual(w)).map(Window::name);
        let cells = if named.is_some() { 0 } else { 3 };
        let shown = window(found, cells, now, paint);
        windows.push(Span::raw(format!(" {} ", named.as_deref().unwrap_or(name))));
        windows.push(Span::styled(format!("{:<15}", shown.to_string()), shown.style));
    }
    let first = Line::from(vec![
        Span::raw(format!("{} ", marks(view))),
        Span::styled(label(view), bold_if_next(view)),
        Span::raw("  "),
        Span::styled(view.state.words(), paint.state(view.state)),
    ]);
    ratatui::text::Text::from(vec![first, Line::from(windows)])
}

/// Returns a bar of `cells` (0: none), what is left, and when it resets. A window of an unusual length has its name
/// instead of the bar.
fn window(window: Option<&Window>, cells: usize, now: i64, paint: Paint) -> Line<'static> {
    let Some(window) = window else { return Line::raw("-") };
    let left = window.left_percent(now);
    let reset = window.resets_at.filter(|at| *at > now).map(|at| human_duration(at - now));
    let lead = match cells {
        0 => String::new(),
        _ if usual(window) => format!("{} ", bar(left, cells)),
        _ => format!("{:<cells$} ", window.name()),
    };
    Line::styled(format!("{lead}{left:>3.0}% {}", reset.unwrap_or_default()), paint.left(left))
}

/// Returns whether the titles name windows of this length.
fn usual(window: &Window) -> bool {
    matches!(window.window_seconds, FIVE_HOURS | WEEK)
}

fn five_hours(view: &AccountView) -> Option<&Window> {
    view.usage.as_ref().and_then(|usage: &Usage| of_length(&usage.windows, FIVE_HOURS))
}

fn full_name(view: &AccountView) -> String {
    printable(&view.account.display())
}

fn label(view: &AccountView) -> String {
    printable(&view.account.label)
}

fn bold_if_next(view: &AccountView) -> Style {
    if view.rank == Some(1) { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() }
}

/// Returns details of the selected account.
fn about(view: &AccountView, paint: Paint) -> Vec<Line<'static>> {
    let mut name = full_name(view);
    if let Some(plan) = &view.account.plan {
        name = format!("{name}, {}", printable(plan));
    }
    let rank = match view.rank {
        Some(rank) => format!("{rank}. {}", printable(&view.reason)),
        None => printable(&view.reason),
    };
    let mut lines = vec![Line::raw(name), Line::raw(rank)];
    if let Some(problem) = problem(view) {
        lines.push(Line::styled(printable(&problem), paint.style(Color::Yellow)));
    }
    lines
}
