//! The one layout of accounts, for `list` and `watch`: which columns there is room for, and what is in them. Pure: from
//! views and a width to rows of styled text.

use codex_pool_core::time::human_duration;
use codex_pool_core::usage::{FIVE_HOURS, Usage, WEEK, Window, longest, of_length};

use super::printable;
use super::style::{Span, Text, Tone, cut, width_of};
use crate::view::{AccountView, Clock, State};

/// Between two columns.
const GAP: usize = 2;
/// A label is shortened to no less than this, columns.
const SHORTEST_LABEL: usize = 16;
/// A plan is shortened to this, columns.
const LONGEST_PLAN: usize = 12;

/// What is shown of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    email: bool,
    /// The age of the data.
    age: bool,
    sessions: bool,
    plan: bool,
    /// The characters of a bar; 0: none.
    bar: usize,
    /// States in a word of at most nine letters.
    brief: bool,
    /// How long it is until a reset, beside the time of the reset.
    distance: bool,
    /// The windows are on a line below the account. When they reset is always shown.
    below: bool,
}

/// The richest first. What tells least goes first, and the resets stay.
const LAYOUTS: [Layout; 10] = {
    let all = Layout {
        email: true,
        age: true,
        sessions: true,
        plan: true,
        bar: 8,
        brief: false,
        distance: true,
        below: false,
    };
    let no_email = Layout { email: false, ..all };
    let short_bar = Layout { bar: 5, ..no_email };
    let no_age = Layout { age: false, ..short_bar };
    let no_sessions = Layout { sessions: false, ..no_age };
    let no_plan = Layout { plan: false, ..no_sessions };
    let no_bar = Layout { bar: 0, ..no_plan };
    let brief = Layout { brief: true, ..no_bar };
    let times = Layout { distance: false, ..brief };
    let below = Layout { below: true, ..times };
    [all, no_email, short_bar, no_age, no_sessions, no_plan, no_bar, brief, times, below]
};

/// Accounts in rows.
#[derive(Debug)]
pub(crate) struct Table {
    /// The names of the columns; `None` where accounts take two lines.
    pub(crate) titles: Option<Text>,
    /// One to two lines for each account, in the order of the views. A second line belongs two columns to the right.
    pub(crate) rows: Vec<Vec<Text>>,
    /// Whether there are bars, with a mark where an even pace would be.
    pub(crate) bars: bool,
}

/// Lays accounts out in so many columns. `now`: Unix seconds.
pub(crate) fn accounts(views: &[AccountView], now: i64, clock: &Clock, columns: usize) -> Table {
    let at = At { now, clock };
    let laid = |layout: &Layout| Laid::new(*layout, views, at);
    LAYOUTS[..LAYOUTS.len() - 1]
        .iter()
        .map(laid)
        .find(|laid| laid.fits(columns))
        .unwrap_or_else(|| laid(&LAYOUTS[LAYOUTS.len() - 1]))
        .table(columns)
}

/// The time, and the clock that shows it.
#[derive(Clone, Copy)]
struct At<'a> {
    now: i64,
    clock: &'a Clock,
}

/// The cells of a layout, before they have their widths.
struct Laid {
    layout: Layout,
    /// The title of each column.
    titles: Vec<&'static str>,
    rows: Vec<(Vec<Text>, Option<Text>)>,
    widths: Vec<usize>,
}

/// The column of the labels.
const LABEL: usize = 1;

impl Laid {
    fn new(layout: Layout, views: &[AccountView], at: At<'_>) -> Laid {
        let mut titles = vec!["", "account"];
        titles.extend(layout.plan.then_some("plan"));
        titles.push("state");
        if !layout.below {
            titles.extend(["5h left · resets", "week left · resets"]);
        }
        titles.extend(layout.sessions.then_some("sessions"));
        titles.extend(layout.age.then_some("age"));
        let rows: Vec<_> = views.iter().map(|view| row(layout, view, at)).collect();
        let content = |column: usize| {
            let widths = rows.iter().map(|(cells, _)| width_of(&cells[column]));
            widths.max().unwrap_or(0)
        };
        let title = |column: usize| if layout.below { 0 } else { width_of(&[Span::plain(titles[column])]) };
        let widths = (0..titles.len()).map(|column| content(column).max(title(column))).collect();
        Laid { layout, titles, rows, widths }
    }

    /// The width of everything but the labels.
    fn fixed(&self) -> usize {
        let columns: usize = self.widths.iter().sum();
        // The marks have one space behind them.
        columns - self.widths[LABEL] + (self.widths.len() - 1) * GAP - 1
    }

    fn fits(&self, columns: usize) -> bool {
        let shortest = if self.layout.email { usize::MAX } else { SHORTEST_LABEL };
        self.fixed() + self.widths[LABEL].min(shortest) <= columns
    }

    fn table(mut self, columns: usize) -> Table {
        let room = columns.saturating_sub(self.fixed()).max(1);
        self.widths[LABEL] = self.widths[LABEL].min(room);
        let below = self.rows.iter().any(|(_, below)| below.is_some());
        let titles = self.titles.iter().map(|title| vec![Span::faint(*title)]).collect();
        let titles = (!below).then(|| self.line(titles));
        let rows = std::mem::take(&mut self.rows);
        let rows =
            rows.into_iter().map(|(cells, below)| std::iter::once(self.line(cells)).chain(below).collect());
        Table { titles, rows: rows.collect(), bars: self.layout.bar > 0 }
    }

    /// Puts cells side by side.
    fn line(&self, cells: Vec<Text>) -> Text {
        let last = cells.len() - 1;
        let mut line = Text::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = self.widths[column];
            let cell = if column == LABEL { cut(cell, width) } else { cell };
            let gap = if column == 0 { 1 } else { GAP };
            let pad = (width + gap).saturating_sub(width_of(&cell));
            line.extend(cell);
            if column < last {
                line.push(Span::plain(" ".repeat(pad)));
            }
        }
        line
    }
}

fn row(layout: Layout, view: &AccountView, at: At<'_>) -> (Vec<Text>, Option<Text>) {
    let usage = view.usage.as_ref();
    let short = usage.and_then(|u| of_length(&u.windows, FIVE_HOURS));
    let long = usage.and_then(long_window);
    let name = if layout.email { view.account.display() } else { view.account.label.clone() };
    let mut cells =
        vec![vec![Span::plain(marks(view))], vec![Span { bold: view.next, ..Span::plain(printable(&name)) }]];
    if layout.plan {
        let plan = view.account.plan.as_deref().map_or_else(|| "-".into(), printable);
        cells.push(cut(vec![Span::plain(plan)], LONGEST_PLAN));
    }
    let mut states = vec![state(view, layout.brief)];
    if let Some(left) = view.account.access_left(at.now).filter(|_| !layout.brief) {
        states.push(Span::plain(format!(", ends in {}", human_duration(left))));
    }
    cells.push(states);
    let below = layout.below.then(|| {
        let mut windows = vec![Span::faint(format!("{} ", short.map_or("5h".into(), short_name)))];
        windows.extend(window(short, layout, at));
        windows.push(Span::faint(format!("  {} ", long.map_or("wk".into(), short_name))));
        windows.extend(window(long, layout, at));
        windows
    });
    if below.is_none() {
        cells.push(window(short, layout, at));
        cells.push(window(long, layout, at));
    }
    if layout.sessions {
        cells.push(vec![Span::plain(if view.sessions == 0 {
            "-".into()
        } else {
            view.sessions.to_string()
        })]);
    }
    if layout.age {
        cells.push(vec![Span::plain(age(usage, at.now))]);
    }
    (cells, below)
}

/// Returns the week, or what a plan has instead, such as a month.
pub(crate) fn long_window(usage: &Usage) -> Option<&Window> {
    of_length(&usage.windows, WEEK)
        .or_else(|| longest(&usage.windows).filter(|w| w.window_seconds != FIVE_HOURS))
}

/// Returns `→●◆`: next, live, pinned.
pub(crate) fn marks(view: &AccountView) -> String {
    let mark = |on, mark| if on { mark } else { ' ' };
    [mark(view.next, '→'), mark(view.live, '●'), mark(view.pinned, '◆')].iter().collect()
}

/// Returns the state of an account in its colour.
pub(crate) fn state(view: &AccountView, brief: bool) -> Span {
    let tone = match view.state {
        State::Ready if view.low => Tone::Middling,
        State::Ready => Tone::Good,
        State::Unknown | State::Disabled | State::Expired => Tone::Middling,
        State::Exhausted
        | State::ReauthRequired
        | State::WorkspaceRemoved
        | State::Deactivated
        | State::Refused => Tone::Bad,
    };
    let words = match view.state {
        State::ReauthRequired if brief => "login",
        State::WorkspaceRemoved if brief => "removed",
        State::Deactivated if brief => "off",
        State::Ready if view.low => "low",
        state => state.words(),
    };
    Span { tone, ..Span::plain(words) }
}

/// Returns the colour of what is left, percent.
pub(crate) fn tone_of(left: f64) -> Tone {
    match left {
        left if left >= 40.0 => Tone::Good,
        left if left > 10.0 => Tone::Middling,
        _ => Tone::Bad,
    }
}

/// Returns `██▌░░ 52 % · 20:28 (1h 5m)`: what is left, and when it resets. A window of another length than the title
/// says has its length, too.
fn window(window: Option<&Window>, layout: Layout, at: At<'_>) -> Text {
    let Some(window) = window else { return vec![Span::plain("-")] };
    let left = window.left_percent(at.now);
    let mut text = format!("{left:>3.0} %");
    if layout.bar > 0 {
        text = format!("{} {text}", bar(left, layout.bar, pace_mark(window, at.now)));
    }
    let mut spans = vec![Span { tone: tone_of(left), ..Span::plain(text) }];
    if !layout.below && !matches!(window.window_seconds, FIVE_HOURS | WEEK) {
        spans.push(Span::plain(format!(" of {}", window.words())));
    }
    if !window.running(at.now) && left >= 100.0 {
        // Its clock starts with the first use.
        spans.extend(layout.distance.then(|| Span::faint(" · not started")));
    } else if let Some(resets_at) = window.resets_at.filter(|resets_at| *resets_at > at.now) {
        let time = match layout.distance {
            true => at.clock.time_and_distance(resets_at, at.now),
            false => at.clock.time(resets_at, at.now),
        };
        spans.push(Span::plain(format!(" · {time}")));
    }
    spans
}

/// Returns the length of a window in three or four characters: `5h`, `wk`, `30d`.
fn short_name(window: &Window) -> String {
    match window.window_seconds {
        WEEK => "wk".to_owned(),
        s if s > 0 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        _ => window.name(),
    }
}

/// Returns a line for one limit: `70 % · 20:28 (1h 5m)`.
pub(crate) fn limit(of: &Window, now: i64, clock: &Clock) -> String {
    let layout = LAYOUTS[5];
    let spans = window(Some(of), Layout { bar: 0, ..layout }, At { now, clock });
    spans.iter().map(|span| &*span.text).collect::<String>().trim().to_owned()
}

/// Returns what would be left of a window if it were used evenly until its reset, percent: where the clock stands.
pub(crate) fn pace_mark(window: &Window, now: i64) -> Option<f64> {
    let until_reset = window.resets_at.filter(|_| window.running(now))?.saturating_sub(now);
    (window.window_seconds > 0).then(|| 100.0 * until_reset as f64 / window.window_seconds as f64)
}

/// Returns a bar of `cells` characters for a percentage. `mark`: a percentage that gets a mark: a bar that ends to the
/// left of it is used faster than the clock runs.
pub(crate) fn bar(percent: f64, cells: usize, mark: Option<f64>) -> String {
    let eighths = (percent.clamp(0.0, 100.0) / 100.0 * cells as f64 * 8.0).round() as usize;
    let marked = mark.map(|mark| ((mark.clamp(0.0, 100.0) / 100.0 * cells as f64) as usize).min(cells - 1));
    let cell = |at: usize| match eighths.saturating_sub(at * 8) {
        _ if marked == Some(at) => '│',
        8.. => '█',
        part if part > 0 => ['▏', '▎', '▍', '▌', '▋', '▊', '▉'][part - 1],
        _ => '░',
    };
    (0..cells).map(cell).collect()
}

/// Returns how old the data is.
fn age(usage: Option<&Usage>, now: i64) -> String {
    usage.map_or_else(|| "never".to_owned(), |u| human_duration(now - u.fetched_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_eighths_and_where_the_clock_stands() {
        let of = |percent, mark| bar(percent, 8, mark);
        assert_eq!(of(0.0, None), "░░░░░░░░");
        assert_eq!(of(100.0, None), "████████");
        assert_eq!(of(52.0, None), "████▏░░░");
        assert_eq!(of(70.0, Some(25.0)), "██│██▋░░", "slower than the clock");
        assert_eq!(of(20.0, Some(90.0)), "█▋░░░░░│", "faster");
        assert_eq!(
            (of(50.0, Some(100.0)).chars().last(), of(50.0, Some(0.0)).chars().next()),
            (Some('│'), Some('│'))
        );
    }

    #[test]
    fn window_that_is_not_running_has_no_clock() {
        let window = |used_percent, resets_at| Window { window_seconds: FIVE_HOURS, used_percent, resets_at };
        assert_eq!(pace_mark(&window(10.0, Some(1_900)), 1_000), Some(5.0));
        assert_eq!(pace_mark(&window(0.0, Some(1_900)), 1_000), None);
        assert_eq!(pace_mark(&window(10.0, Some(900)), 1_000), None);
        let clock = Clock::of_system();
        assert_eq!(limit(&window(0.0, Some(1_900)), 1_000, &clock), "100 % · not started");
        assert_eq!(limit(&window(10.0, None), 1_000, &clock), "90 %");
    }
}
