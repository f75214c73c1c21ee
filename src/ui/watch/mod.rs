//! The live view: the terminal's life, the keys and the loop. What is shown and what keys do comes from
//! a [`Source`]; nothing here knows the pool.

mod draw;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use codex_pool_core::account::AccountId;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::DefaultTerminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::view::AccountView;

/// How often what is shown is looked at anew: times to reset count down.
const TICK: Duration = Duration::from_secs(1);
/// How long a key, a signal or news may have to wait.
const PATIENCE: Duration = Duration::from_millis(150);

/// What is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// The accounts in rank order.
    pub(crate) views: Vec<AccountView>,
    /// Unix seconds.
    pub(crate) now: i64,
    /// When the service is asked next, Unix seconds.
    pub(crate) next_poll: Option<i64>,
    /// Something is under way.
    pub(crate) busy: bool,
    /// The last thing worth saying.
    pub(crate) message: Option<String>,
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ask for usage now.
    Refresh,
    /// Make this account live, and pin it.
    Use(AccountId),
    /// Make the best account live, without a pin.
    Best,
}

/// Where the view's content comes from and its orders go.
pub(crate) trait Source {
    /// Everything as it is now.
    fn look(&mut self) -> Look;
    /// Whether there is news that should not wait for the next look.
    fn news(&mut self) -> bool;
    /// Begins what a key asks for; its end is news.
    fn order(&mut self, order: Order);
}

/// Runs the view until the user quits, or a signal (its number) says so. The terminal is as before
/// then, and after a panic, too.
///
/// # Errors
/// If the terminal cannot be used.
pub(crate) fn run(source: &mut dyn Source) -> io::Result<Option<i32>> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        let value = usize::try_from(number).unwrap_or_default();
        signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
    }
    end_with_the_terminal();
    let mut terminal = ratatui::try_init()?;
    let end = rounds(&mut terminal, source, &signal);
    ratatui::restore();
    end
}

/// How long a request that is under way when the terminal goes may take to store its answer: longer than
/// any request.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// A terminal that is gone reads as empty for ever, and the wait for a key never comes back from that:
/// somebody else must look. Without a terminal there is nothing to restore, and nobody to tell.
fn end_with_the_terminal() {
    let looks = thread::Builder::new().spawn(|| {
        let stdin = io::stdin();
        // Nothing is asked for but what cannot be left out: hang-up and error.
        let mut ends = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
        while poll(&mut ends, PollTimeout::NONE) == Err(Errno::EINTR) {}
        thread::sleep(LAST_WORDS);
        let _ = signal_hook::low_level::emulate_default_handler(SIGHUP);
    });
    // The system gives no thread: then a signal or a key ends the view.
    drop(looks);
}

fn rounds(
    terminal: &mut DefaultTerminal,
    source: &mut dyn Source,
    signal: &AtomicUsize,
) -> io::Result<Option<i32>> {
    let mut selected: Option<AccountId> = None;
    loop {
        let look = source.look();
        let at = position(&look, selected.as_ref());
        selected = at.map(|at| look.views[at].account.id.clone());
        terminal.draw(|frame| draw::screen(frame, &look, at, super::colour(&io::stdout())))?;
        let shown = Instant::now();
        loop {
            if let Ok(number @ 1..) = i32::try_from(signal.load(Ordering::Relaxed)) {
                return Ok(Some(number));
            }
            if shown.elapsed() >= TICK || source.news() {
                break;
            }
            if !event::poll(PATIENCE)? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match act(key, &look, at) {
                    Some(Act::Quit) => return Ok(None),
                    Some(Act::Select(to)) => selected = Some(look.views[to].account.id.clone()),
                    Some(Act::Order(order)) => source.order(order),
                    None => continue,
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            break;
        }
    }
}

/// Where the selected account is now; the first if it is gone.
fn position(look: &Look, selected: Option<&AccountId>) -> Option<usize> {
    let found = look.views.iter().position(|v| Some(&v.account.id) == selected);
    found.or_else(|| (!look.views.is_empty()).then_some(0))
}

#[derive(Debug, PartialEq, Eq)]
enum Act {
    Quit,
    Select(usize),
    Order(Order),
}

fn act(key: KeyEvent, look: &Look, at: Option<usize>) -> Option<Act> {
    let last = look.views.len().checked_sub(1);
    let step = |to: usize| last.map(|last| Act::Select(to.min(last)));
    let selected = at.unwrap_or(0);
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Act::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Act::Quit),
        KeyCode::Up | KeyCode::Char('k') => step(selected.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => step(selected.saturating_add(1)),
        KeyCode::Home => step(0),
        KeyCode::End => step(usize::MAX),
        KeyCode::Char('r') => Some(Act::Order(Order::Refresh)),
        KeyCode::Char('b') => Some(Act::Order(Order::Best)),
        KeyCode::Char('u') | KeyCode::Enter => {
            Some(Act::Order(Order::Use(look.views.get(selected)?.account.id.clone())))
        }
        _ => None,
    }
}
