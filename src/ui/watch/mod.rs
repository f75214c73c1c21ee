//! The live view: the terminal, the keys and the loop. What is shown, and what the keys do, comes from a [`Source`].
//! Nothing here knows the pool.

mod draw;
mod panels;
mod state;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use codex_pool_core::account::AccountId;
use crossterm::event::{self, Event, KeyEventKind};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::DefaultTerminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use state::{Action, Ui};

use crate::past::Past;
use crate::ui::style::Text;
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
    /// The sessions that run, by home.
    pub(crate) sessions: Vec<Session>,
    /// How many of them use the main home, whose login `use` replaces.
    pub(crate) in_main_home: usize,
    /// The label of the account whose login that is. The filter does not touch it.
    pub(crate) live: Option<String>,
    /// What the accounts had left, and what follows.
    pub(crate) past: Arc<Past>,
    /// Until when the whole pool lasts.
    pub(crate) pool: Option<String>,
    /// What happened last, a line each, the newest first.
    pub(crate) events: Vec<Text>,
    /// What the user should be told now, wherever the terminal can.
    pub(crate) notices: Vec<String>,
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
            sessions: Vec::new(),
            in_main_home: 0,
            live: None,
            past: Arc::default(),
            pool: None,
            events: Vec::new(),
            notices: Vec::new(),
            now,
            clock,
            next_poll: None,
            busy: false,
            message: None,
        }
    }
}

/// A session that runs.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) account: Option<AccountId>,
    /// The home that it is in, and its account, in words.
    pub(crate) home: String,
    /// What runs: `codex exec`.
    pub(crate) command: String,
    /// The folder that it was started in.
    pub(crate) folder: Option<String>,
    /// Unix seconds.
    pub(crate) started_at: i64,
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Fetch usage now.
    Refresh,
    /// Pin this account, and make it live if nothing uses the main home. `true`: at once, under what uses it.
    Use(AccountId, bool),
    /// Make the best account live, without a pin.
    Best,
    /// Let this account be picked, or not.
    Enable(AccountId, bool),
    /// Give this account another label.
    Rename(AccountId, String),
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
    let mut ui = Ui::default();
    loop {
        let mut snapshot = source.snapshot();
        let at = ui.arrange(&mut snapshot.views);
        terminal.draw(|frame| draw::screen(frame, &snapshot, &ui, at, super::colour(&io::stdout())))?;
        tell(&snapshot.notices)?;
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
                Event::Key(key) if key.kind != KeyEventKind::Release => match ui.key(key, &snapshot, at) {
                    Some(Action::Quit) => return Ok(None),
                    Some(Action::Redraw) => {}
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

/// Shows notices beside the view: as notifications of terminals that have them (OSC 9), and with the bell.
fn tell(notices: &[String]) -> io::Result<()> {
    let mut out = io::stdout();
    for text in notices {
        write!(out, "\x1b]9;codex-pool: {}\x07\x07", super::printable(text).replace('\n', " "))?;
    }
    out.flush()
}
