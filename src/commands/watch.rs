//! `watch`: the live view on a terminal, and elsewhere the list again and again. Fetches what is due while it runs.

use std::io::IsTerminal;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use codex_pool_core::account::{AccountId, AccountKind, AuthState};
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::homes::{self, HomeContent};
use codex_pool_core::journal::{self, Entry, Event};
use codex_pool_core::ledger::{LaunchEntry, Ledger};
use codex_pool_core::notices::{self as core_notices, Told};
use codex_pool_core::pool::Pool;
use codex_pool_core::process::ProcessId;
use codex_pool_core::store::{path_key, path_of_key};
use codex_pool_core::{Error, Result, env, folders};

use crate::changes::Stamps;
use crate::cli::WatchArgs;
use crate::context::Context;
use crate::past::Past;
use crate::refresh::{self, Mode, Outcome, Refresher, Scope};
use crate::ui::watch::{Request, Session, Snapshot, Source};
use crate::{notices, signals, ui, view};

/// How long a message replaces the keys, seconds.
const MESSAGE_TIME: i64 = 8;
/// How often to check whether something is due. That reads a few small files.
const PACE: Duration = Duration::from_secs(1);

pub(crate) fn run(ctx: &Context, args: &WatchArgs) -> Result<ExitCode> {
    let interval = args.interval(&ctx.settings);
    // The interval replaces the age from which on launches refresh.
    let mut ctx = ctx.clone();
    ctx.settings.usage_max_age = interval;
    // Migrates and adopts, and says so, before the view takes the screen.
    drop(ctx.open()?);
    if std::io::stdout().is_terminal() { live(&ctx) } else { repeat(&ctx, interval) }
}

/// Prints a table per interval, without a terminal.
fn repeat(ctx: &Context, interval: Duration) -> Result<ExitCode> {
    // A closed pipe ends this.
    signals::end_with_the_pipe();
    loop {
        // A failure is shown with its account. A new one each time: once the database of a shared pool did not answer, a
        // refresher asks it no more.
        Refresher::new(ctx)?.run(&Scope::All, Mode::Due, &mut |_| {})?;
        let open = ctx.open()?;
        let (views, now) = (view::accounts(ctx, &open), env::clock());
        let clock = view::Clock::of_system();
        let moves = view::moves::moves(ctx, &open.pool, open.processes.me.as_ref(), &clock, now);
        drop(open);
        ui::table::accounts(&views, now, false);
        ui::table::moves(&moves);
        ui::line("");
        std::thread::sleep(interval);
    }
}

/// The number of such checks after which it looks for notices.
const NOTICES_EVERY: u32 = 15;
/// What is read when files change is read again at least this often: ages in it grow.
const PAST_EVERY: Duration = Duration::from_secs(30);
/// What happened last is shown in at most this many lines.
const EVENTS: usize = 40;

/// What the worker reports to the view.
#[derive(Debug, Default)]
struct Status {
    busy: bool,
    /// The last message, and its time (Unix seconds).
    message: Option<(String, i64)>,
    news: bool,
}

type Shared = Arc<Mutex<Status>>;

fn status(shared: &Shared) -> MutexGuard<'_, Status> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live(ctx: &Context) -> Result<ExitCode> {
    // An error about proxies or certificates comes before the view takes the screen.
    drop(Refresher::new(ctx)?);
    let shared = Shared::default();
    let (requests, received) = mpsc::channel();
    let worker = Worker { ctx: ctx.clone(), shared: Arc::clone(&shared) };
    std::thread::Builder::new()
        .spawn(move || worker.run(&received))
        .map_err(|e| Error::new(format!("no thread for requests: {e}; `codex-pool list` needs none")))?;
    let mut source = PoolSource::new(ctx, shared, requests);
    let end = ui::watch::run(&mut source);
    // Waits for a renewal that is under way, and lets none begin until this process ends. Other requests may be lost.
    std::mem::forget(refresh::no_more_renewals());
    match end.map_err(|e| Error::new(format!("the terminal cannot be used: {e}")))? {
        Some(signal) => Ok(signals::end_by(signal)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The pool as the view sees it.
struct PoolSource<'a> {
    ctx: &'a Context,
    clock: view::Clock,
    shared: Shared,
    requests: Sender<Request>,
    recent: Recent,
    /// What was told in this view. `None`: nothing was looked at yet, and what is so from the start is no news.
    told: Option<Told>,
}

/// What does not change with every frame.
#[derive(Default)]
struct Recent {
    past: Arc<Past>,
    log: Vec<Entry>,
    /// What became of sessions at a limit, a line each.
    moves: Vec<String>,
    /// When it was read, and what the files looked like.
    read: Option<(Instant, Stamps)>,
}

impl Recent {
    /// Reads it again if files changed, or it is old.
    fn update(&mut self, ctx: &Context, pool: &Pool, me: Option<&ProcessId>, clock: &view::Clock, now: i64) {
        let paths = &ctx.paths;
        let stamps =
            Stamps::of(&[paths.usage(), paths.log(), paths.registry(), paths.moves(), paths.moving()]);
        let fresh = |(at, of): &(Instant, Stamps)| at.elapsed() < PAST_EVERY && *of == stamps;
        if self.read.as_ref().is_some_and(fresh) {
            return;
        }
        self.past = Arc::new(Past::recent(paths, pool, &ctx.settings, now));
        self.log = journal::read(paths, now - core_notices::LOG);
        self.moves = view::moves::moves(ctx, pool, me, clock, now).lines;
        self.read = Some((Instant::now(), stamps));
    }
}

impl<'a> PoolSource<'a> {
    fn new(ctx: &'a Context, shared: Shared, requests: Sender<Request>) -> Self {
        let clock = view::Clock::of_system();
        PoolSource { ctx, clock, shared, requests, recent: Recent::default(), told: None }
    }

    /// Returns what is news in this view.
    fn news(&mut self, pool: &Pool, now: i64) -> Vec<String> {
        let told = self.told.clone().unwrap_or_default();
        let (texts, after) =
            core_notices::due(&told, &pool.registry().accounts, pool.usage(), &self.recent.log, now);
        let first = self.told.replace(after).is_none();
        if first { Vec::new() } else { texts }
    }

    /// Returns the sessions, by home.
    fn sessions(&self, pool: &Pool, ledger: &Ledger) -> Vec<Session> {
        let home_dir = self.ctx.env.home();
        let label =
            |id: &AccountId| pool.registry().get(id).map_or_else(|| id.to_string(), |a| a.label.clone());
        let session = |entry: &LaunchEntry| {
            let auth_json = path_of_key(&entry.home);
            let record = pool.state().home(&auth_json);
            let account = record.map(|record| record.account.clone()).or_else(|| entry.account.clone());
            let who = account.as_ref().map_or_else(|| "unknown".to_owned(), label);
            let dir = auth_json.parent().unwrap_or(&auth_json);
            let home = match homes::main_home_of(&self.ctx.paths, dir) {
                Some(_) => format!("{who} in a home of its own"),
                None => format!("{who} in {}", folders::short(dir, home_dir)),
            };
            let folder = entry.cwd.as_deref().map(|key| folders::short(&path_of_key(key), home_dir));
            Session { account, home, command: entry.command.clone(), folder, started_at: entry.started_at }
        };
        let mut sessions: Vec<Session> =
            ledger.launches.iter().filter_map(|launch| launch.entry.as_ref()).map(session).collect();
        sessions.sort_by(|a, b| a.home.cmp(&b.home).then(b.started_at.cmp(&a.started_at)));
        sessions
    }

    /// Reads everything without the lock, so that a view delays no launch.
    fn read(&mut self, now: i64) -> Result<Snapshot> {
        let ctx = self.ctx;
        let pool = Pool::peek(&ctx.paths)?;
        let processes = Processes::read(None, &ctx.paths, now);
        let content = HomeContent::read(&ctx.paths, &ctx.main_home);
        let views = view::of_pool(ctx, &pool, &processes.ledger, content.account(), now);
        let next_poll = views
            .iter()
            .filter(|v| v.account.enabled && v.account.kind == AccountKind::Chatgpt)
            .filter(|v| v.account.auth.state != AuthState::ReauthRequired)
            .map(|v| pool.usage().poll(&v.account.id).due_at(&ctx.settings, now))
            .min();
        self.recent.update(ctx, &pool, processes.me.as_ref(), &self.clock, now);
        let notices = self.news(&pool, now);
        let past = Arc::clone(&self.recent.past);
        let accounts = &pool.registry().accounts;
        let worth = |entry: &&Entry| !matches!(entry.event, Event::Adoption | Event::Renewal | Event::Other);
        let events = self.recent.log.iter().rev().filter(worth).take(EVENTS);
        let events = events.map(|entry| super::log::line(ctx, entry, accounts, &self.clock, now));
        let events: Vec<_> = events.collect();
        let main_home = path_key(&ctx.main_home.auth_json());
        let launches = processes.ledger.launches.iter().filter_map(|launch| launch.entry.as_ref());
        Ok(Snapshot {
            live: views.iter().find(|view| view.live).map(|view| view.account.label.clone()),
            in_main_home: launches.filter(|entry| entry.home == main_home).count(),
            views,
            moves: self.recent.moves.clone(),
            sessions: self.sessions(&pool, &processes.ledger),
            pool: if accounts.len() > 1 { past.pool_line(&self.clock, now) } else { None },
            past,
            events: ui::log::columns(&events),
            notices,
            next_poll,
            ..Snapshot::empty(now, self.clock.clone())
        })
    }
}

impl Source for PoolSource<'_> {
    fn snapshot(&mut self) -> Snapshot {
        let now = env::clock();
        let mut snapshot = self.read(now).unwrap_or_else(|error| Snapshot {
            message: Some(error.to_string()),
            ..Snapshot::empty(now, self.clock.clone())
        });
        let mut status = status(&self.shared);
        status.news = false;
        snapshot.busy = status.busy;
        if let Some(text) = snapshot.notices.last() {
            status.message = Some((text.clone(), now));
        }
        let recent = status.message.as_ref().filter(|(_, at)| now - at < MESSAGE_TIME);
        snapshot.message = snapshot.message.or_else(|| recent.map(|(text, _)| text.clone()));
        snapshot
    }

    fn has_news(&mut self) -> bool {
        status(&self.shared).news
    }

    fn request(&mut self, request: Request) {
        status(&self.shared).message = None;
        // The worker lives as long as the view.
        let _ = self.requests.send(request);
    }
}

/// Does beside the view what takes time.
struct Worker {
    ctx: Context,
    shared: Shared,
}

impl Worker {
    fn run(self, requests: &mpsc::Receiver<Request>) {
        let mut looks = 0u32;
        loop {
            match requests.recv_timeout(PACE) {
                Ok(Request::Refresh) => self.refresh(Mode::Asked),
                Ok(Request::Use(id, false)) => self.run_command(&["use", id.as_str()]),
                Ok(Request::Use(id, true)) => self.run_command(&["use", id.as_str(), "--now"]),
                Ok(Request::Best) => self.run_command(&["use", "--best"]),
                Ok(Request::Enable(id, true)) => self.run_command(&["enable", id.as_str()]),
                Ok(Request::Enable(id, false)) => self.run_command(&["disable", id.as_str()]),
                Ok(Request::Rename(id, label)) => self.run_command(&["rename", "--", id.as_str(), &label]),
                Err(RecvTimeoutError::Timeout) if self.is_due() => self.refresh(Mode::Due),
                Err(RecvTimeoutError::Timeout) => {
                    // A reset by the clock is told, too.
                    looks += 1;
                    if looks.is_multiple_of(NOTICES_EVERY) {
                        notices::start(&self.ctx);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn is_due(&self) -> bool {
        let now = env::clock();
        let Ok(pool) = Pool::peek(&self.ctx.paths) else { return false };
        pool.registry().accounts.iter().any(|a| {
            a.enabled
                && a.kind == AccountKind::Chatgpt
                && a.auth.state != AuthState::ReauthRequired
                && pool.usage().poll(&a.id).due(&self.ctx.settings, now)
        })
    }

    fn refresh(&self, mode: Mode) {
        status(&self.shared).busy = true;
        status(&self.shared).news = true;
        let result = Refresher::new(&self.ctx).and_then(|r| r.run(&Scope::All, mode, &mut |_| {}));
        let message = match result {
            Err(error) => Some(error.to_string()),
            Ok(_) if mode == Mode::Due => None,
            Ok(refreshed) => Some(summary(&refreshed.outcomes)),
        };
        self.end(message);
    }

    /// Runs codex-pool with these arguments, and shows its output. Without a terminal it asks nothing.
    fn run_command(&self, args: &[&str]) {
        let run = || {
            let program = std::env::current_exe()?;
            Command::new(program).args(args).stdin(Stdio::null()).output()
        };
        let message = match run() {
            Ok(output) => {
                let text = if output.status.success() { output.stdout } else { output.stderr };
                let text = String::from_utf8_lossy(&text).into_owned();
                text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("cannot run codex-pool: {error}"),
        };
        self.end(Some(message));
    }

    fn end(&self, message: Option<String>) {
        let mut status = status(&self.shared);
        status.busy = false;
        status.news = true;
        if let Some(message) = message {
            status.message = Some((message, env::clock()));
        }
    }
}

/// Returns the outcomes of a refresh in one line.
fn summary<Id>(outcomes: &[(Id, Outcome)]) -> String {
    let count = |f: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, o)| f(o)).count();
    let updated = count(|o| matches!(o, Outcome::Updated));
    let recent = count(|o| matches!(o, Outcome::Recent(_)));
    let failed = count(|o| matches!(o, Outcome::Failed(_) | Outcome::NeedsLogin));
    let parts = [(updated, "updated"), (recent, "recent"), (failed, "failed")];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { "nothing to fetch".to_owned() } else { parts.join(", ") }
}
