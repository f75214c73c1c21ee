//! The rules that are compared: the program's own pick with its settings, and others.

use codex_pool_core::carry::{self, Next};
use codex_pool_core::config::{Policy, Settings};
use codex_pool_core::pick::{Candidate, pick};
use codex_pool_core::usage::Usage;

use crate::accounts::Served;

/// What a rule sees.
pub(crate) struct View<'a> {
    pub(crate) accounts: &'a [Served],
    /// What is known of their usage.
    pub(crate) usages: &'a [Usage],
    /// Their running sessions.
    pub(crate) sessions: &'a [usize],
    /// The one in the main home.
    pub(crate) live: usize,
    pub(crate) now: i64,
}

impl View<'_> {
    fn candidates(&self) -> Vec<Candidate<'_>> {
        let candidate = |at: usize| Candidate {
            sessions: self.sessions[at],
            live: self.live == at,
            ..Candidate::of(&self.accounts[at].account, Some(&self.usages[at]))
        };
        (0..self.accounts.len()).map(candidate).collect()
    }

    /// Percent left in the 5h window and in the week, as far as is known.
    fn left(&self, at: usize) -> (f64, f64) {
        let windows = &self.usages[at].windows;
        (windows[0].left_percent(self.now), windows[1].left_percent(self.now))
    }

    fn is_exhausted(&self, at: usize) -> bool {
        let (five_hours, week) = self.left(at);
        five_hours.min(week) <= 0.0
    }

    /// The account with the least of this, those that are known as exhausted last.
    fn least(&self, value: impl Fn(usize) -> f64) -> usize {
        let key = |at: &usize| (self.is_exhausted(*at), value(*at));
        let order = |a: &usize, b: &usize| {
            let ((a_full, a), (b_full, b)) = (key(a), key(b));
            a_full.cmp(&b_full).then(a.total_cmp(&b))
        };
        (0..self.accounts.len()).min_by(order).unwrap_or(0)
    }
}

type Choice = Box<dyn Fn(&View<'_>) -> usize>;

/// A rule.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) pick: Choice,
    /// The settings with which sessions are carried on.
    settings: Settings,
}

impl Rule {
    /// Returns the account that goes on at a limit.
    pub(crate) fn next(&self, view: &View<'_>, done: &[usize]) -> Option<usize> {
        let done: Vec<_> = done.iter().map(|at| view.accounts[*at].account.id.clone()).collect();
        match carry::next(&view.candidates(), &done, view.now, &self.settings) {
            Next::Account(id) => view.accounts.iter().position(|served| served.account.id == id),
            Next::None(_) => None,
        }
    }

    /// Returns the account on which the user begins again: the pick of the rule, else any other one with something left.
    pub(crate) fn again(&self, view: &View<'_>, done: &[usize]) -> Option<usize> {
        let usable = |at: &usize| !done.contains(at) && !view.is_exhausted(*at);
        let picked = (self.pick)(view);
        Some(picked).filter(usable).or_else(|| self.next(view, done))
    }

    fn new(name: &'static str, pick: impl Fn(&View<'_>) -> usize + 'static) -> Rule {
        Rule { name, pick: Box::new(pick), settings: Settings::default() }
    }

    /// The program's own pick.
    fn own(name: &'static str, settings: Settings) -> Rule {
        let with = settings.clone();
        let choose = move |view: &View<'_>| pick(&view.candidates(), view.now, &with)[0].index;
        Rule { name, pick: Box::new(choose), settings }
    }
}

/// The pick in a few lines, with what its settings do not reach.
#[derive(Clone, Copy)]
struct Model {
    /// Percent of a 5h window that each running session counts for.
    per_session: f64,
    /// How many 5h windows a week is taken to hold.
    windows_per_week: f64,
    /// Percent of a 5h window that make room.
    session_room: f64,
    /// Whether the live account keeps its place though another one's 5h window is still to be started.
    live_before_start: bool,
    /// Whether the window that is lost soonest counts for 5 hours, too, not only for the week.
    both_windows: bool,
    margin: f64,
}

impl Model {
    const PICK: Model = Model {
        per_session: 10.0,
        windows_per_week: 6.0,
        session_room: 40.0,
        live_before_start: false,
        both_windows: false,
        margin: 1.1,
    };

    fn rule(self, name: &'static str) -> Rule {
        Rule::new(name, move |view| {
            let order = |a: &usize, b: &usize| {
                let (a, b) = (self.place(view, *a), self.place(view, *b));
                a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))
            };
            let best = (0..view.accounts.len()).min_by(order).unwrap_or(0);
            let (class, value) = self.place(view, view.live);
            let has_room = class < 2;
            let (best_class, best_value) = self.place(view, best);
            let starts = best_class < class && !self.live_before_start;
            let value = if class == best_class || self.live_before_start { value } else { 0.0 };
            if has_room && !starts && best_value <= value * self.margin { view.live } else { best }
        })
    }

    /// The class, the best first, and what decides inside it, the most first.
    fn place(self, view: &View<'_>, at: usize) -> (u8, f64) {
        let (five_hours, week) = view.left(at);
        let room = five_hours.min(self.windows_per_week * week) * view.accounts[at].weight
            - self.per_session * view.sessions[at] as f64;
        let per_time = |window: usize, left: f64| {
            let window = &view.usages[at].windows[window];
            let until = window.resets_at.map_or(0, |at| at - view.now);
            let until = if until > 0 { until } else { window.window_seconds };
            left / until.max(600) as f64
        };
        let urgency = per_time(1, week) * if self.both_windows { per_time(0, five_hours) } else { 1.0 };
        match () {
            () if view.is_exhausted(at) => (3, 0.0),
            () if room < self.session_room => (2, room),
            () if five_hours >= 100.0 => (0, urgency),
            () => (1, urgency),
        }
    }
}

/// The names of the rules that the tests compare.
pub(crate) const PICK: &str = "the pick";
pub(crate) const MODEL: &str = "a model of the pick";
pub(crate) const BEFORE: &str =
    "as before: the live account also keeps its place while windows are to be started";
pub(crate) const BEST: &str = "best found: `session_room` 20, and urgency of both windows";

/// All rules.
pub(crate) fn rules() -> Vec<Rule> {
    let own = Settings::default();
    let margin = |switch_margin| Settings { switch_margin, ..own.clone() };
    let room = |session_room| Settings { session_room, ..own.clone() };
    let model = Model::PICK;
    vec![
        Rule::own(PICK, own.clone()),
        Rule::own("`switch_margin` 1", margin(1.0)),
        Rule::own("`switch_margin` 1.5", margin(1.5)),
        Rule::own("`switch_margin` 2", margin(2.0)),
        Rule::own("`session_room` 0", room(0.0)),
        Rule::own("`session_room` 20", room(20.0)),
        Rule::own("`session_room` 60", room(60.0)),
        model.rule(MODEL),
        Model { per_session: 0.0, ..model }.rule("the model, with 0 for each running session"),
        Model { per_session: 20.0, ..model }.rule("the model, with 20 for each running session"),
        Model { windows_per_week: 4.0, ..model }.rule("the model, taking a week for 4 windows"),
        Model { windows_per_week: 9.0, ..model }.rule("the model, taking a week for 9 windows"),
        Model { live_before_start: true, ..model }.rule(BEFORE),
        Model { session_room: 20.0, both_windows: true, margin: 1.0, ..model }.rule(BEST),
        Rule::own("`policy = \"balanced\"`", Settings { policy: Policy::Balanced, ..own }),
        Rule::new("most left in the week, then in 5h, at limits, too", |view| {
            let order = |a: &usize, b: &usize| {
                let ((a_five, a_week), (b_five, b_week)) = (view.left(*a), view.left(*b));
                a_week.total_cmp(&b_week).then(a_five.total_cmp(&b_five))
            };
            (0..view.accounts.len()).max_by(order).unwrap_or(0)
        }),
        Rule::new("the week that resets first", |view| {
            view.least(|at| view.usages[at].windows[1].resets_at.map_or(f64::INFINITY, |at| at as f64))
        }),
        Rule::new("the least used 5h window", |view| view.least(|at| -view.left(at).0)),
    ]
}
