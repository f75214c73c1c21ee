//! Draws a frame of the live view, for any size of terminal. Pure: from a snapshot to a frame.

use codex_pool_core::env;
use codex_pool_core::time::human_duration;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{HighlightSpacing, Paragraph, Row, Table, TableState, Wrap};

use super::Snapshot;
use crate::ui::style::{Span as Styled, Tone};
use crate::ui::{columns, printable};
use crate::view::{AccountView, problem};

/// In front of the selected account.
const SELECTED: &str = "▸ ";
const KEYS: [&str; 3] =
    ["↑↓ select   u use   b best   r refresh   q quit", "↑↓  u use  b best  r refresh  q quit", "q quit"];
/// The most sessions at a limit that are shown.
const MOVES: usize = 4;
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
    // Where there is room, the sessions at a limit have some of it.
    let moves = match area.height {
        24.. => snapshot.moves.len().min(MOVES),
        16.. => snapshot.moves.len().min(1),
        _ => 0,
    };
    let [title, body, moved, detail, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(u16::try_from(moves).unwrap_or(0)),
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
    let lines: Vec<Line<'static>> =
        snapshot.moves.iter().take(moves).map(|text| Line::raw(printable(text))).collect();
    frame.render_widget(Paragraph::new(lines), moved);
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

    fn line(self, spans: Vec<Styled>) -> Line<'static> {
        let span = |span: Styled| {
            let style = match span.tone {
                Tone::Plain => Style::new(),
                Tone::Good => self.style(Color::Green),
                Tone::Middling => self.style(Color::Yellow),
                Tone::Bad => self.style(Color::Red),
                Tone::Faint => Style::new().add_modifier(Modifier::DIM),
            };
            let bold = if span.bold { Modifier::BOLD } else { Modifier::empty() };
            Span::styled(span.text, style.add_modifier(bold))
        };
        Line::from(spans.into_iter().map(span).collect::<Vec<_>>())
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
    let columns = usize::from(area.width).saturating_sub(Span::raw(SELECTED).width());
    let laid = columns::accounts(&snapshot.views, snapshot.now, &snapshot.clock, columns);
    let rows = laid.rows.into_iter().map(|lines| {
        let height = u16::try_from(lines.len()).unwrap_or(1);
        let lines: Vec<Line<'static>> = lines.into_iter().map(|line| paint.line(line)).collect();
        Row::new([Text::from(lines)]).height(height)
    });
    let mut table = Table::new(rows, [Constraint::Fill(1)])
        .highlight_symbol(SELECTED)
        .highlight_spacing(HighlightSpacing::Always);
    if let Some(titles) = laid.titles {
        table = table.header(Row::new([paint.line(titles)]));
    }
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn full_name(view: &AccountView) -> String {
    printable(&view.account.display())
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
    if let Some(problem) = problem(view, env::clock()) {
        lines.push(Line::styled(printable(&problem), paint.style(Color::Yellow)));
    }
    lines
}
