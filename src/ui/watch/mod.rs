//! The live view: the terminal, the keys and the loop. What is shown, and what the keys do, comes from a [`Source`].
//! Nothing here knows the pool.

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

use crate::view::{AccountView, Clock};

/// How often the view is drawn anew: times to reset count down.
const TICK: Duration = Duration::from_secs(1);
/// How long a key, a signal or news may wait.
const PATIENCE: Duration = Duration::from_millis(150);

/// What is shown.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The accounts, in the order of the ranking.
    pub(crate) views: Vec<AccountView>,
    /// Unix seconds.
    pub(crate) now: i64,
    /// The clock that shows it.
    pub(crate) clock: Clock,
    /// What has become of sessions at a limit, a line each.
    pub(crate) moves: Vec<String>,
    /// When usage is fetched next, Unix seconds.
    pub(crate) next_poll: Option<i64>,
    /// Whether a request is under way.
    pub(crate) busy: bool,
    /// The last message.
    pub(crate) message: Option<String>,
}

impl Snapshot {
    /// Returns one without anything in it. `now`: Unix seconds.
    pub(crate) fn empty(now: i64, clock: Clock) -> Snapshot {
        Snapshot {
            views: Vec::new(),
            moves: Vec::new(),
            now,
            clock,
            next_poll: None,
            busy: false,
            message: None,
        }
    }
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Fetch usage now.
    Refresh,
    /// Make this account live, and pin it.
    Use(AccountId),
    /// Make the best account live, without a pin.
    Best,
}

/// Where the content of the view comes from, and its requests go.
pub(crate) trait Source {
    /// Returns everything as it is now.
    fn snapshot(&mut self) -> Snapshot;
    /// Returns whether there is news that should not wait for the next snapshot.
    fn has_news(&mut self) -> bool;
    /// Begins what a key asks for. Its end is news.
    fn request(&mut self, request: Request);
}

/// Runs the view until the user quits (`None`) or a signal comes (its number). Afterwards, and after a panic, the
/// terminal is as before.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) fn run(source: &mut dyn Source) -> io::Result<Option<i32>> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        let value = usize::try_from(number).unwrap_or_default();
        signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
    }
    end_with_the_terminal();
    let mut terminal = ratatui::try_init()?;
    let end = draw_and_react(&mut terminal, source, &signal);
    ratatui::restore();
    end
}

/// How long a request may take to store its answer after the terminal is gone. Longer than any request.
const LAST_REQUEST: Duration = Duration::from_secs(20);

/// Ends the process when the terminal is gone. The wait for a key does not notice that, since such a terminal reads as
/// empty for ever, so a thread does. Then there is nothing to restore.
fn end_with_the_terminal() {
    let started = thread::Builder::new().spawn(|| {
        let stdin = io::stdin();
        // Hang-up and error are always reported.
        let mut ends = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
        while poll(&mut ends, PollTimeout::NONE) == Err(Errno::EINTR) {}
        thread::sleep(LAST_REQUEST);
        let _ = signal_hook::low_level::emulate_default_handler(SIGHUP);
    });
    // Without a thread, a signal or a key ends the view.
    drop(started);
}

fn draw_and_react(
    terminal: &mut DefaultTerminal,
    source: &mut dyn Source,
    signal: &AtomicUsize,
) -> io::Result<Option<i32>> {
    let mut selected: Option<AccountId> = None;
    loop {
        let snapshot = source.snapshot();
        let at = position(&snapshot, selected.as_ref());
        selected = at.map(|at| snapshot.views[at].account.id.clone());
        terminal.draw(|frame| draw::screen(frame, &snapshot, at, super::colour(&io::stdout())))?;
        let shown = Instant::now();
        loop {
            if let Ok(number @ 1..) = i32::try_from(signal.load(Ordering::Relaxed)) {
                return Ok(Some(number));
            }
            if shown.elapsed() >= TICK || source.has_news() {
                break;
            }
            if !event::poll(PATIENCE)? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match action(key, &snapshot, at) {
                    Some(Action::Quit) => return Ok(None),
                    Some(Action::Select(to)) => selected = Some(snapshot.views[to].account.id.clone()),
                    Some(Action::Request(request)) => source.request(request),
                    None => continue,
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            break;
        }
    }
}

/// Returns where the selected account is now, or the first one if it is gone.
fn position(snapshot: &Snapshot, selected: Option<&AccountId>) -> Option<usize> {
    let found = snapshot.views.iter().position(|v| Some(&v.account.id) == selected);
    found.or_else(|| (!snapshot.views.is_empty()).then_some(0))
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Quit,
    Select(usize),
    Request(Request),
}

/// Returns what a key means.
fn action(key: KeyEvent, snapshot: &Snapshot, at: Option<usize>) -> Option<Action> {
    let last = snapshot.views.len().checked_sub(1);
    let step = |to: usize| last.map(|last| Action::Select(to.min(last)));
    let selected = at.unwrap_or(0);
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Up | KeyCode::Char('k') => step(selected.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => step(selected.saturating_add(1)),
        KeyCode::Home => step(0),
        KeyCode::End => step(usize::MAX),
        KeyCode::Char('r') => Some(Action::Request(Request::Refresh)),
        KeyCode::Char('b') => Some(Action::Request(Request::Best)),
        KeyCode::Char('u') | KeyCode::Enter => {
            Some(Action::Request(Request::Use(snapshot.views.get(selected)?.account.id.clone())))
        }
        _ => None,
    }
}
