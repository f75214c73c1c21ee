//! What the user has chosen in the live view: the account, the order, the filter and what is open; and what keys mean.
//! Pure.

use std::cmp::Ordering;

use codex_pool_core::account::AccountId;
use codex_pool_core::usage::{FIVE_HOURS, of_length};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Request, Snapshot};
use crate::ui::columns::long_window;
use crate::view::AccountView;

/// The longest text that can be typed, characters.
const LONGEST_INPUT: usize = 100;

/// The order of the accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As launches would use them.
    #[default]
    Ranking,
    Label,
    /// The least left of 5 hours first.
    FiveHours,
    /// The least left of the week first.
    Week,
}

impl Sort {
    fn next(self) -> Sort {
        match self {
            Sort::Ranking => Sort::Label,
            Sort::Label => Sort::FiveHours,
            Sort::FiveHours => Sort::Week,
            Sort::Week => Sort::Ranking,
        }
    }

    /// Returns the order in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Sort::Ranking => "next first",
            Sort::Label => "by label",
            Sort::FiveHours => "least of 5h first",
            Sort::Week => "least of the week first",
        }
    }
}

/// What is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Table,
    /// The filter is being typed.
    Filter,
    /// The keys are explained.
    Help,
    /// One account alone.
    Details,
    /// A new label is being typed.
    Rename(AccountId, String),
    /// Whether to make an account live at once, under the sessions that use the main home.
    Switch(AccountId),
}

/// What the user has chosen.
#[derive(Debug, Clone, Default)]
pub(super) struct Ui {
    pub(super) selected: Option<AccountId>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) mode: Mode,
}

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// Something looks different now.
    Redraw,
    Request(Request),
}

impl Ui {
    /// Puts the accounts in order, and leaves out those that the filter does not match. Returns where the selected one
    /// is, or the first one if it is gone.
    pub(super) fn arrange(&mut self, views: &mut Vec<AccountView>) -> Option<usize> {
        let wanted = self.filter.to_lowercase();
        let matches = |view: &AccountView| {
            let words = [&view.account.label, view.account.email.as_ref().unwrap_or(&view.account.label)];
            let plan = view.account.plan.as_deref().unwrap_or_default();
            words.iter().any(|word| word.to_lowercase().contains(&wanted))
                || plan.to_lowercase().contains(&wanted)
                || view.state.words().contains(&wanted)
        };
        views.retain(matches);
        let left = |view: &AccountView, short: bool| {
            let usage = view.usage.as_ref()?;
            let window = if short { of_length(&usage.windows, FIVE_HOURS) } else { long_window(usage) };
            window.map(|window| 100.0 - window.used_percent)
        };
        // What is not known comes last.
        let least = |a: &AccountView, b: &AccountView, short: bool| match (left(a, short), left(b, short)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        views.sort_by(|a, b| match self.sort {
            Sort::Ranking => Ordering::Equal,
            Sort::Label => a.account.label.to_lowercase().cmp(&b.account.label.to_lowercase()),
            Sort::FiveHours => least(a, b, true),
            Sort::Week => least(a, b, false),
        });
        let found = views.iter().position(|view| Some(&view.account.id) == self.selected.as_ref());
        let at = found.or_else(|| (!views.is_empty()).then_some(0));
        self.selected = at.map(|at| views[at].account.id.clone());
        at
    }

    /// Does what a key asks for. `at`: the selected account. `None`: the key means nothing here.
    pub(super) fn key(&mut self, key: KeyEvent, snapshot: &Snapshot, at: Option<usize>) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Action::Quit);
        }
        match &mut self.mode {
            Mode::Help => {
                self.mode = Mode::Table;
                Some(Action::Redraw)
            }
            Mode::Filter => {
                match key.code {
                    KeyCode::Enter => self.mode = Mode::Table,
                    KeyCode::Esc => (self.mode, self.filter) = (Mode::Table, String::new()),
                    code => typed(&mut self.filter, code)?,
                }
                Some(Action::Redraw)
            }
            Mode::Rename(id, label) => {
                let request = match key.code {
                    KeyCode::Enter => Some(Request::Rename(id.clone(), label.trim().to_owned())),
                    KeyCode::Esc => None,
                    code => {
                        typed(label, code)?;
                        return Some(Action::Redraw);
                    }
                };
                self.mode = Mode::Table;
                Some(request.map_or(Action::Redraw, Action::Request))
            }
            Mode::Switch(id) => {
                let request = match key.code {
                    KeyCode::Char('y' | 'Y') => Some(Request::Use(id.clone(), true)),
                    KeyCode::Char('n' | 'N') => Some(Request::Use(id.clone(), false)),
                    KeyCode::Esc | KeyCode::Char('q') => None,
                    // No other key answers it.
                    _ => return None,
                };
                self.mode = Mode::Table;
                Some(request.map_or(Action::Redraw, Action::Request))
            }
            Mode::Details if matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q')) => {
                self.mode = Mode::Table;
                Some(Action::Redraw)
            }
            Mode::Table | Mode::Details => self.command(key.code, snapshot, at),
        }
    }

    fn command(&mut self, code: KeyCode, snapshot: &Snapshot, at: Option<usize>) -> Option<Action> {
        let last = snapshot.views.len().checked_sub(1);
        let here = at.unwrap_or(0);
        let view = at.and_then(|at| snapshot.views.get(at));
        match code {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc if self.filter.is_empty() => return Some(Action::Quit),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.select(snapshot, here.saturating_sub(1), last?),
            KeyCode::Down | KeyCode::Char('j') => self.select(snapshot, here.saturating_add(1), last?),
            KeyCode::Home => self.select(snapshot, 0, last?),
            KeyCode::End => self.select(snapshot, usize::MAX, last?),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Enter => self.mode = view.map(|_| Mode::Details)?,
            KeyCode::Char('n') => {
                self.mode = Mode::Rename(view?.account.id.clone(), view?.account.label.clone());
            }
            KeyCode::Char('r') => return Some(Action::Request(Request::Refresh)),
            KeyCode::Char('b') => return Some(Action::Request(Request::Best)),
            KeyCode::Char('u') => {
                let (id, live) = (view?.account.id.clone(), view?.live);
                if live || snapshot.in_main_home == 0 {
                    return Some(Action::Request(Request::Use(id, false)));
                }
                self.mode = Mode::Switch(id);
            }
            KeyCode::Char('d') => {
                let (id, enabled) = (view?.account.id.clone(), view?.account.enabled);
                return Some(Action::Request(Request::Enable(id, !enabled)));
            }
            _ => return None,
        }
        Some(Action::Redraw)
    }

    fn select(&mut self, snapshot: &Snapshot, to: usize, last: usize) {
        self.selected = Some(snapshot.views[to.min(last)].account.id.clone());
    }
}

/// Changes a text as a key says; `None` if it is no key of text.
fn typed(text: &mut String, code: KeyCode) -> Option<()> {
    match code {
        KeyCode::Char(c) if text.chars().count() < LONGEST_INPUT => text.push(c),
        KeyCode::Char(_) => {}
        KeyCode::Backspace => drop(text.pop()),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(ui: &mut Ui, code: KeyCode) -> Option<Action> {
        let snapshot = Snapshot::empty(0, crate::view::Clock::of_system());
        ui.key(KeyEvent::new(code, KeyModifiers::NONE), &snapshot, None)
    }

    fn write(ui: &mut Ui, text: &str) {
        for c in text.chars() {
            assert_eq!(press(ui, KeyCode::Char(c)), Some(Action::Redraw), "{c}");
        }
    }

    #[test]
    fn letters_are_text_while_something_is_typed() {
        let mut ui = Ui::default();
        assert_eq!(press(&mut ui, KeyCode::Char('/')), Some(Action::Redraw));
        write(&mut ui, "qub");
        press(&mut ui, KeyCode::Backspace);
        assert_eq!((ui.filter.as_str(), &ui.mode), ("qu", &Mode::Filter));
        press(&mut ui, KeyCode::Enter);
        assert_eq!((ui.filter.as_str(), &ui.mode), ("qu", &Mode::Table));
        assert_eq!(press(&mut ui, KeyCode::Esc), Some(Action::Redraw), "it clears the filter first");
        assert_eq!(press(&mut ui, KeyCode::Esc), Some(Action::Quit));
    }

    #[test]
    fn new_label_is_asked_for_and_esc_leaves_the_old_one() {
        let id = AccountId::of_api_key("a");
        let mut ui = Ui { mode: Mode::Rename(id.clone(), "wor".to_owned()), ..Ui::default() };
        write(&mut ui, "k ");
        let rename = Request::Rename(id.clone(), "work".to_owned());
        assert_eq!(press(&mut ui, KeyCode::Enter), Some(Action::Request(rename)));
        assert_eq!(ui.mode, Mode::Table);
        ui.mode = Mode::Rename(id, String::new());
        assert_eq!(press(&mut ui, KeyCode::Esc), Some(Action::Redraw));
        assert_eq!(ui.mode, Mode::Table);
    }

    #[test]
    fn switch_under_sessions_waits_for_yes_or_no() {
        let id = AccountId::of_api_key("a");
        let mut ui = Ui::default();
        for (code, request) in [
            (KeyCode::Char('y'), Some(Request::Use(id.clone(), true))),
            (KeyCode::Char('n'), Some(Request::Use(id.clone(), false))),
            (KeyCode::Esc, None),
        ] {
            ui.mode = Mode::Switch(id.clone());
            for other in [KeyCode::Enter, KeyCode::Char('u'), KeyCode::Down] {
                assert_eq!(press(&mut ui, other), None, "{other} is no answer");
            }
            assert_eq!(ui.mode, Mode::Switch(id.clone()));
            assert_eq!(press(&mut ui, code), Some(request.map_or(Action::Redraw, Action::Request)));
            assert_eq!(ui.mode, Mode::Table);
        }
    }

    #[test]
    fn help_ends_with_any_key_and_control_c_always_quits() {
        let mut ui = Ui::default();
        press(&mut ui, KeyCode::Char('?'));
        assert_eq!(ui.mode, Mode::Help);
        assert_eq!(press(&mut ui, KeyCode::Char('q')), Some(Action::Redraw));
        assert_eq!(ui.mode, Mode::Table);
        let snapshot = Snapshot::empty(0, crate::view::Clock::of_system());
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in [Mode::Table, Mode::Help, Mode::Filter, Mode::Details] {
            ui.mode = mode;
            assert_eq!(ui.key(control_c, &snapshot, None), Some(Action::Quit));
        }
        assert_eq!(Sort::Ranking.next().next().next().next(), Sort::Ranking);
    }
}
