//! Draws a frame of the live view, for any size of terminal. Pure: from a snapshot to a frame.

use codex_pool_core::account::AccountId;
use codex_pool_core::time::{DAY, human_duration};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{HighlightSpacing, Paragraph, Row, Table, TableState, Wrap};

use super::state::{Mode, Sort, Ui};
use super::{Snapshot, panels};
use crate::ui::style::{Span as Styled, Tone, cut};
use crate::ui::table::EMPTY;
use crate::ui::{columns, glyphs, history, printable, wrap};
use crate::view::{AccountView, problem};

/// At the top.
const TITLE: &str = "codex-pool";
/// In front of the selected account.
const SELECTED: &str = "▸ ";
const KEYS: [&str; 4] = [
    "↑↓ select  enter details  u use  b best  d on/off  n rename  s sort  / filter  r refresh  ? help  q quit",
    "↑↓ select  u use  b best  r refresh  ? help  q quit",
    "u use  b best  ? help  q quit",
    "q quit",
];
/// The most sessions at a limit that are shown.
const MOVES: usize = 4;
/// A message has at most this many lines.
const MESSAGE_LINES: u16 = 3;
/// From this width on, the chart is beside the rest.
const WIDE: u16 = 110;
/// A chart has at least and at most this many lines.
const CHART: (u16, u16) = (7, 18);
/// With so many lines beside the rest, there is a chart of the last week, too.
const TWO_CHARTS: u16 = 24;

/// Draws the view. `at`: the index of the selected account.
pub(super) fn screen(frame: &mut Frame<'_>, snapshot: &Snapshot, ui: &Ui, at: Option<usize>, colour: bool) {
    let paint = Paint(colour);
    let area = frame.area();
    let foot = foot(snapshot, ui, area.width, paint);
    // Lines are not filled to their ends, so a long message gets one more.
    let lines = match foot.width().div_ceil(usize::from(area.width.max(1))) {
        0 | 1 => 1,
        _ if area.height < 8 => 1,
        many => u16::try_from(many + 1).unwrap_or(MESSAGE_LINES).min(MESSAGE_LINES),
    };
    let [title, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(lines)]).areas(area);
    wrapped(frame, bottom, vec![foot], true);
    frame.render_widget(title_line(snapshot, ui, area.width, paint), title);
    let selected = at.and_then(|at| snapshot.views.get(at));
    match (&ui.mode, selected) {
        (Mode::Help, _) => help(frame, body),
        (Mode::Details, Some(view)) => details(frame, body, snapshot, view, paint),
        _ => overview(frame, body, snapshot, ui, at, paint),
    }
    if glyphs::ascii() {
        for cell in &mut frame.buffer_mut().content {
            let plain: String = cell.symbol().chars().map(glyphs::plain).collect();
            cell.set_symbol(&plain);
        }
    }
}

/// Draws the accounts, and below them what there is room for.
fn overview(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    ui: &Ui,
    at: Option<usize>,
    paint: Paint,
) {
    let Some(view) = at.and_then(|at| snapshot.views.get(at)) else {
        let text = match ui.filter.is_empty() {
            true => EMPTY.to_owned(),
            false => format!("No account matches `{}`; esc shows all.", printable(&ui.filter)),
        };
        wrapped(frame, area, vec![Line::raw(text)], true);
        return;
    };
    let laid = laid(snapshot, area.width);
    let table = u16::try_from(laid.rows.iter().map(Vec::len).sum::<usize>()).unwrap_or(u16::MAX);
    let table = table.saturating_add(u16::from(laid.titles.is_some()));
    // The selected account is explained wherever there is room for three more lines, and where lines are short, for
    // some more.
    let wide = area.width >= WIDE;
    let about = about(view, snapshot, if wide { area.width / 2 - 1 } else { area.width }, paint);
    let about_lines = match area.height {
        0..8 => 0,
        height => u16::try_from(about.len()).unwrap_or(u16::MAX).clamp(3, (height / 4).max(3)),
    };
    let mut room = Room(area.height.saturating_sub(about_lines).saturating_sub(table.max(1)));
    let pool = room.take(usize::from(snapshot.pool.is_some()), 1);
    let moves = room.take(snapshot.moves.len().min(MOVES), 6);
    let moves = if moves == 0 { room.take(snapshot.moves.len().min(1), 2) } else { moves };
    let axis = panels::timeline(snapshot, area.width);
    let axis_lines = room.take(axis.len(), 5);
    let all = panels::sessions(snapshot, area.width, usize::MAX).len();
    let (sessions, chart, events) = if wide {
        // The chart is beside the explanation, the sessions and what happened.
        let beside = room.0;
        let sessions = room.take(all, 1);
        (sessions, (beside + about_lines).min(2 * CHART.1), room.take(snapshot.events.len() + 1, 3))
    } else {
        let sessions = room.take(all.min(5), 2);
        let chart = room.take(usize::from(CHART.1), CHART.0 + 1);
        (sessions, chart, room.take(snapshot.events.len() + 1, 3))
    };
    let below = about_lines + sessions + events + if wide { 0 } else { chart };
    let below = if wide { below.max(chart) } else { below };
    // What is left over is below, so that the accounts and what belongs to them stay together.
    let fits = table + pool + moves + below + axis_lines <= area.height;
    let [body, pooled, moved, lower, _, bottom] = Layout::vertical([
        if fits { Constraint::Length(table) } else { Constraint::Min(1) },
        Constraint::Length(pool),
        Constraint::Length(moves),
        Constraint::Length(below),
        Constraint::Length(if fits { area.height - table - pool - moves - below - axis_lines } else { 0 }),
        Constraint::Length(axis_lines),
    ])
    .areas(area);
    accounts(frame, body, laid, at, paint);
    let texts = snapshot.pool.iter().map(|text| Line::raw(panels::short(printable(text), area.width)));
    frame.render_widget(Paragraph::new(texts.collect::<Vec<_>>()), pooled);
    let lines: Vec<Line<'static>> =
        snapshot.moves.iter().take(usize::from(moves)).map(|text| Line::raw(printable(text))).collect();
    frame.render_widget(Paragraph::new(lines), moved);
    frame.render_widget(Paragraph::new(axis), bottom);
    let (left, right) = match wide && chart >= CHART.0 {
        true => {
            let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)])
                .spacing(2)
                .areas(lower);
            (left, Some(right))
        }
        false => (lower, None),
    };
    let stacked = if right.is_some() { 0 } else { chart };
    let [about_area, chart_area, sessions_area, events_area] = Layout::vertical([
        Constraint::Length(about_lines),
        Constraint::Length(stacked),
        Constraint::Length(sessions),
        Constraint::Length(events),
    ])
    .areas(left);
    wrapped(frame, about_area, about, false);
    let all = panels::sessions(snapshot, left.width, usize::from(sessions));
    frame.render_widget(Paragraph::new(all), sessions_area);
    happened(frame, events_area, snapshot, paint);
    let chart_area = right.unwrap_or(chart_area);
    if chart_area.height >= TWO_CHARTS {
        let [day, week] =
            Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(chart_area);
        draw_chart(frame, day, snapshot, view, DAY, paint);
        draw_chart(frame, week, snapshot, view, 7 * DAY, paint);
    } else if chart_area.height >= CHART.0 {
        let area = Rect { height: chart_area.height.min(CHART.1), ..chart_area };
        draw_chart(frame, area, snapshot, view, DAY, paint);
    }
}

/// Lines that are left to give.
struct Room(u16);

impl Room {
    /// Takes as many lines as wanted, if there are so many at least.
    fn take(&mut self, wanted: usize, if_room: u16) -> u16 {
        let wanted = u16::try_from(wanted).unwrap_or(u16::MAX);
        let taken = if self.0 >= if_room { wanted.min(self.0) } else { 0 };
        self.0 -= taken;
        taken
    }
}

/// Draws lines, broken between words; a number and its percent sign are one. `trim`: a new line has no indent.
fn wrapped(frame: &mut Frame<'_>, area: Rect, mut lines: Vec<Line<'static>>, trim: bool) {
    const NO_BREAK: &str = "\u{a0}";
    for span in lines.iter_mut().flat_map(|line| &mut line.spans) {
        span.content = span.content.replace(" %", &format!("{NO_BREAK}%")).into();
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim }), area);
    // Terminals get plain spaces.
    for at in area.intersection(frame.area()).positions() {
        let cell = &mut frame.buffer_mut()[at];
        if cell.symbol() == NO_BREAK {
            cell.set_symbol(" ");
        }
    }
}

/// Draws what happened last, below a heading.
fn happened(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, paint: Paint) {
    if area.height < 2 || snapshot.events.is_empty() {
        return;
    }
    let mut lines = vec![panels::heading("last".to_owned())];
    let events = snapshot.events.iter().take(usize::from(area.height) - 1);
    lines.extend(events.map(|text| paint.line(cut(text.clone(), usize::from(area.width)))));
    frame.render_widget(Paragraph::new(lines), area);
}

/// Draws what an account had left over the last `seconds`.
fn draw_chart(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    view: &AccountView,
    seconds: i64,
    paint: Paint,
) {
    let Some(past) = snapshot.past.accounts.iter().find(|past| past.account.id == view.account.id) else {
        return;
    };
    let [title, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let span = (snapshot.now - seconds, snapshot.now);
    let what = match (seconds / DAY, past.readings.is_empty()) {
        (_, true) => "no readings yet",
        (1, _) => "left over the last day:",
        _ => "left over the last 7 days:",
    };
    let mut line = Line::from(Span::styled(what, Style::new().add_modifier(Modifier::DIM)));
    if !past.readings.is_empty() {
        for (mark, window, colour) in history::key(past) {
            line.push_span(Span::raw("  "));
            line.push_span(Span::styled(format!("{mark} {window}"), paint.style(colour)));
        }
    }
    frame.render_widget(line, title);
    if !past.readings.is_empty() && body.width >= 24 {
        history::render(past, span, body, frame.buffer_mut(), paint.0);
    }
}

/// Draws what the keys do.
fn help(frame: &mut Frame<'_>, area: Rect) {
    let widest = panels::HELP.iter().map(|(keys, _)| Span::raw(*keys).width()).max().unwrap_or(0);
    let room = usize::from(area.width).saturating_sub(widest + 2);
    let lines = |(keys, what): &(&'static str, &'static str)| -> Vec<Line<'static>> {
        let line = |(n, text): (usize, String)| {
            let keys = if n == 0 { *keys } else { "" };
            let pad = " ".repeat(widest + 2 - Span::raw(keys).width());
            let keys = Span::styled(keys, Style::new().add_modifier(Modifier::BOLD));
            Line::from(vec![keys, Span::raw(pad), Span::raw(text)])
        };
        wrap::wrapped(what, room).into_iter().enumerate().map(line).collect()
    };
    let lines: Vec<Line<'static>> = panels::HELP.iter().flat_map(lines).collect();
    wrapped(frame, area, lines, false);
}

/// Draws all about one account.
fn details(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &AccountView, paint: Paint) {
    let mut lines = about(view, snapshot, area.width, paint);
    lines.push(paint.line(vec![columns::state(view, false)]));
    for window in view.usage.iter().flat_map(|usage| &usage.windows) {
        let tone = columns::tone_of(window.left_percent(snapshot.now));
        let limit = columns::limit(window, snapshot.now, &snapshot.clock);
        let name = format!("{:>8} ", window.words());
        // The bar has what the text leaves.
        let text = Span::raw(name.as_str()).width() + Span::raw(limit.as_str()).width() + 1;
        let cells = usize::from(area.width).saturating_sub(text).clamp(1, 20);
        let mark = columns::pace_mark(window, snapshot.now);
        let bar = columns::bar(window.left_percent(snapshot.now), cells, mark);
        lines.push(paint.line(vec![
            Styled::plain(name),
            Styled { tone, ..Styled::plain(bar) },
            Styled::plain(format!(" {limit}")),
        ]));
    }
    for limit in view.usage.iter().flat_map(|usage| &usage.extra) {
        let windows: Vec<String> =
            limit.windows.iter().map(|w| columns::limit(w, snapshot.now, &snapshot.clock)).collect();
        lines.push(Line::raw(format!("{}: {}", printable(&limit.name), windows.join(", "))));
    }
    lines.extend(view.rules.iter().map(|rules| Line::raw(printable(rules))));
    let own = Snapshot {
        sessions: snapshot
            .sessions
            .iter()
            .filter(|s| s.account.as_ref() == Some(&view.account.id))
            .cloned()
            .collect(),
        ..Snapshot::empty(snapshot.now, snapshot.clock.clone())
    };
    lines.extend(panels::sessions(&own, area.width, 8));
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height);
    let [text, chart] = Layout::vertical([Constraint::Length(height + 1), Constraint::Min(0)]).areas(area);
    wrapped(frame, text, lines, false);
    if chart.height >= CHART.0 {
        draw_chart(frame, chart, snapshot, view, 7 * DAY, paint);
    }
}

/// Returns the last message, or the keys.
fn foot(snapshot: &Snapshot, ui: &Ui, width: u16, paint: Paint) -> Line<'static> {
    let typed = |what: &str, text: &str| {
        Line::from(vec![
            Span::styled(format!("{what}: "), paint.style(Color::Cyan)),
            Span::raw(printable(text)),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
        ])
    };
    match &ui.mode {
        Mode::Filter => return typed("show", &ui.filter),
        Mode::Rename(_, label) => return typed("new label", label),
        Mode::Switch(id) => return Line::styled(switch(snapshot, id), paint.style(Color::Yellow)),
        Mode::Help | Mode::Details => {
            return Line::styled("esc back", Style::new().add_modifier(Modifier::DIM));
        }
        Mode::Table => {}
    }
    let text = match &snapshot.message {
        Some(message) => Span::styled(printable(message), paint.style(Color::Cyan)),
        None => {
            let fits = KEYS.iter().find(|keys| Span::raw(**keys).width() <= usize::from(width));
            Span::styled(*fits.unwrap_or(&KEYS[3]), Style::new().add_modifier(Modifier::DIM))
        }
    };
    Line::from(text)
}

/// Returns the question before a switch under sessions.
fn switch(snapshot: &Snapshot, id: &AccountId) -> String {
    let of = |label: Option<&String>, other: &str| {
        label.map_or_else(|| other.to_owned(), |label| format!("`{}`", printable(label)))
    };
    let wanted = snapshot.views.iter().find(|view| view.account.id == *id);
    let (wanted, live) =
        (of(wanted.map(|view| &view.account.label), "it"), of(snapshot.live.as_ref(), "the live login"));
    let who = match snapshot.in_main_home {
        1 => "1 session uses".to_owned(),
        many => format!("{many} sessions use"),
    };
    format!("{who} {live}. Switch to {wanted} under it? y yes  n only new launches  esc leave it")
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

fn title_line(snapshot: &Snapshot, ui: &Ui, columns: u16, paint: Paint) -> Line<'static> {
    let sessions: usize = snapshot.views.iter().map(|v| v.sessions).sum();
    let mut parts = Vec::new();
    if ui.sort != Sort::Ranking {
        parts.push(ui.sort.words().to_owned());
    }
    if !ui.filter.is_empty() && ui.mode != Mode::Filter {
        parts.push(format!("only `{}`", printable(&ui.filter)));
    }
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
    // What does not fit is left out whole.
    let room = usize::from(columns).saturating_sub(TITLE.len() + 2);
    while parts.len() > 1 && Span::raw(parts.join(" · ")).width() > room {
        parts.pop();
    }
    let name = Span::styled(TITLE, paint.style(Color::Cyan).add_modifier(Modifier::BOLD));
    Line::from(vec![name, Span::raw("  "), Span::raw(parts.join(" · "))])
}

fn laid(snapshot: &Snapshot, width: u16) -> columns::Table {
    let columns = usize::from(width).saturating_sub(Span::raw(SELECTED).width());
    columns::accounts(&snapshot.views, snapshot.now, &snapshot.clock, columns)
}

fn accounts(frame: &mut Frame<'_>, area: Rect, laid: columns::Table, selected: Option<usize>, paint: Paint) {
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

/// Returns details of the selected account, in lines of so many columns.
fn about(view: &AccountView, snapshot: &Snapshot, columns: u16, paint: Paint) -> Vec<Line<'static>> {
    let mut name = full_name(view);
    if let Some(plan) = &view.account.plan {
        name = format!("{name}, {}", printable(plan));
    }
    let rank = match view.rank {
        Some(rank) => format!("{rank}. {}", printable(&view.reason)),
        None => printable(&view.reason),
    };
    let mut texts = vec![(name, Style::new()), (rank, Style::new())];
    if let Some(problem) = problem(view, snapshot.now) {
        texts.push((printable(&problem), paint.style(Color::Yellow)));
    } else if let Some(forecast) = forecast(view, snapshot) {
        texts.push((forecast, Style::new()));
    }
    let fitted = |(text, style): &(String, Style)| -> Vec<Line<'static>> {
        let text = wrap::fitted(text, columns.into());
        text.lines().map(|line| Line::styled(line.to_owned(), *style)).collect()
    };
    texts.iter().flat_map(fitted).collect()
}

/// Returns what the account comes to at its pace.
fn forecast(view: &AccountView, snapshot: &Snapshot) -> Option<String> {
    let past = snapshot.past.accounts.iter().find(|past| past.account.id == view.account.id)?;
    let (window, forecast) = past.forecast(snapshot.now)?;
    let (name, words) = (window.words(), forecast.words(snapshot.now));
    Some(format!("{name}: {:.0} % an hour; {words}", forecast.pace))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn percent_signs_stay_with_their_numbers() {
        let text = "5h: 910 % an hour; used up at 20:28 (5m), 52 % of it by one session";
        for columns in 10..=60 {
            let mut terminal = Terminal::new(TestBackend::new(columns, 12)).unwrap();
            terminal.draw(|frame| wrapped(frame, frame.area(), vec![Line::raw(text)], true)).unwrap();
            let cells = &terminal.backend().buffer().content;
            let rows = cells.chunks(columns.into());
            let rows: Vec<String> = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect()).collect();
            let found = |part| rows.iter().any(|row| row.contains(part));
            assert!(found("910 %") && found("52 %"), "{rows:#?}");
        }
    }
}
