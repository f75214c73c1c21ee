//! `watch`: the live view on a terminal, the list again and again elsewhere. Polls what is due while it
//! runs, by the same rules as everybody else.

use std::io::IsTerminal;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codex_pool_core::account::{AccountKind, AuthState};
use codex_pool_core::env;
use codex_pool_core::homes::HomeContent;
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::pool::Pool;
use codex_pool_core::{Error, Result};

use crate::cli::WatchArgs;
use crate::context::Context;
use crate::refresh::{self, Mode, Outcome, Refresher, Scope};
use crate::ui::watch::{Look, Order, Source};
use crate::{signals, ui, view};

/// How long a message hides the keys, seconds.
const MESSAGE_STAYS: i64 = 8;
/// How often it is looked whether something is due: a look costs a few small files.
const PACE: Duration = Duration::from_secs(1);

pub(crate) fn run(ctx: &Context, args: &WatchArgs) -> Result<ExitCode> {
    // Asked as often as the interval says, whatever launches think is old.
    let mut ctx = ctx.clone();
    ctx.settings.usage_max_age = Duration::from_secs(args.interval);
    // Migrates, adopts, says so: before the view takes the screen.
    drop(ctx.open()?);
    if std::io::stdout().is_terminal() { live(&ctx) } else { repeat(&ctx, args.interval) }
}

/// Without a terminal: one table per interval.
fn repeat(ctx: &Context, interval: u64) -> Result<ExitCode> {
    // When nobody reads any more, there is nothing left to do.
    signals::end_with_the_pipe();
    let refresher = Refresher::new(ctx)?;
    loop {
        // What fails is shown with its account.
        refresher.run(&Scope::All, Mode::Due, &mut |_| {})?;
        let open = ctx.open()?;
        let views = view::accounts(ctx, &open);
        drop(open);
        ui::table::accounts(&views, env::clock(), false);
        ui::line("");
        std::thread::sleep(Duration::from_secs(interval));
    }
}

/// What the worker tells the view.
#[derive(Debug, Default)]
struct Status {
    busy: bool,
    /// The last thing worth saying, and since when (Unix seconds).
    message: Option<(String, i64)>,
    news: bool,
}

type Shared = Arc<Mutex<Status>>;

fn status(shared: &Shared) -> MutexGuard<'_, Status> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live(ctx: &Context) -> Result<ExitCode> {
    // Proxies and certificates that cannot be used are better said before the view takes the screen.
    drop(Refresher::new(ctx)?);
    let shared = Shared::default();
    let (orders, received) = mpsc::channel();
    let worker = Worker { ctx: ctx.clone(), shared: Arc::clone(&shared) };
    std::thread::Builder::new()
        .spawn(move || worker.run(&received))
        .map_err(|e| Error::new(format!("no thread for requests: {e}; `codex-pool list` needs none")))?;
    let mut source = PoolSource { ctx, shared, orders };
    let end = ui::watch::run(&mut source);
    // A renewal that is under way is waited for, and none begins any more until we are gone; other
    // requests may be lost.
    std::mem::forget(refresh::no_more_renewals());
    match end.map_err(|e| Error::new(format!("the terminal cannot be used: {e}")))? {
        Some(signal) => Ok(signals::end_by(signal)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The pool as the view sees it.
struct PoolSource<'a> {
    ctx: &'a Context,
    shared: Shared,
    orders: Sender<Order>,
}

impl PoolSource<'_> {
    /// Everything, read without the lock: nobody has to wait for a view.
    fn read(&self, now: i64) -> Result<Look> {
        let ctx = self.ctx;
        let pool = Pool::peek(&ctx.paths)?;
        let processes = Processes::read(None, &ctx.paths, now);
        let held = HomeContent::read(&ctx.paths, &ctx.main_home);
        let views = view::of_pool(ctx, &pool, &processes.ledger, held.account(), now);
        let next_poll = views
            .iter()
            .filter(|v| v.account.enabled && v.account.kind == AccountKind::Chatgpt)
            .filter(|v| v.account.auth.state != AuthState::ReauthRequired)
            .map(|v| pool.usage().poll(&v.account.id).due_at(&ctx.settings, now))
            .min();
        Ok(Look { views, now, next_poll, ..Look::default() })
    }
}

impl Source for PoolSource<'_> {
    fn look(&mut self) -> Look {
        let now = env::clock();
        let mut look = self.read(now).unwrap_or_else(|error| Look {
            now,
            message: Some(error.to_string()),
            ..Look::default()
        });
        let mut status = status(&self.shared);
        status.news = false;
        look.busy = status.busy;
        let said = status.message.as_ref().filter(|(_, at)| now - at < MESSAGE_STAYS);
        look.message = look.message.or_else(|| said.map(|(text, _)| text.clone()));
        look
    }

    fn news(&mut self) -> bool {
        status(&self.shared).news
    }

    fn order(&mut self, order: Order) {
        status(&self.shared).message = None;
        // The worker lives as long as we do.
        let _ = self.orders.send(order);
    }
}

/// Does what takes time, beside the view.
struct Worker {
    ctx: Context,
    shared: Shared,
}

impl Worker {
    fn run(self, orders: &mpsc::Receiver<Order>) {
        loop {
            match orders.recv_timeout(PACE) {
                Ok(Order::Refresh) => self.ask(Mode::Asked),
                Ok(Order::Use(id)) => self.switch(&["use", id.as_str()]),
                Ok(Order::Best) => self.switch(&["use", "--best"]),
                Err(RecvTimeoutError::Timeout) if self.due() => self.ask(Mode::Due),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn due(&self) -> bool {
        let now = env::clock();
        let Ok(pool) = Pool::peek(&self.ctx.paths) else { return false };
        pool.registry().accounts.iter().any(|a| {
            a.enabled
                && a.kind == AccountKind::Chatgpt
                && a.auth.state != AuthState::ReauthRequired
                && pool.usage().poll(&a.id).due(&self.ctx.settings, now)
        })
    }

    fn ask(&self, mode: Mode) {
        status(&self.shared).busy = true;
        status(&self.shared).news = true;
        let result = Refresher::new(&self.ctx).and_then(|r| r.run(&Scope::All, mode, &mut |_| {}));
        let message = match result {
            Err(error) => Some(error.to_string()),
            Ok(_) if mode == Mode::Due => None,
            Ok(outcomes) => Some(told(&outcomes)),
        };
        self.end(message);
    }

    /// As the command does it, with its checks and its words; without a terminal it asks nothing.
    fn switch(&self, args: &[&str]) {
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

/// What a refresh that was asked for brought, in one line.
fn told<Id>(outcomes: &[(Id, Outcome)]) -> String {
    let count = |f: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, o)| f(o)).count();
    let updated = count(|o| matches!(o, Outcome::Updated));
    let recent = count(|o| matches!(o, Outcome::Recent(_)));
    let failed = count(|o| matches!(o, Outcome::Failed(_) | Outcome::NeedsLogin));
    let parts = [(updated, "updated"), (recent, "asked for lately"), (failed, "failed")];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { "nothing to ask for".to_owned() } else { parts.join(", ") }
}
