//! A launch: from what the user typed to what is executed. `prepare` decides and does everything on
//! disk; the caller prints the lines and becomes the program. Whatever is wrong with the pool, Codex
//! starts: only an account that was asked for by name may fail a launch.

mod choose;
mod exec;
mod learn;
pub mod login;
mod native;
mod nested;
mod placement;
mod refresh_child;
mod spawn;
mod thread_owner;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use choose::{candidates, databases, usable_by_name};
pub use exec::{Program, become_program};
pub use learn::learn_from_logs;

use crate::account::AccountId;
use crate::codex::argv::{self, Invocation};
use crate::codex::configuration::{CodexSettings, SYSTEM_DIR, Surroundings};
use crate::codex::find::{self, NoCodex};
use crate::codex::native_start::{self, Unknown};
use crate::config::Settings;
use crate::env::{Env, names};
use crate::error::{Error, ErrorKind};
use crate::files::PoolLock;
use crate::homes::in_use::Processes;
use crate::homes::{self, CodexHome, HomeContent, NoMainHome};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::usage::NO_WAIT;
use refresh_child::Due;

/// How long a launch waits for the pool's lock.
pub const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How many shims deep a launch may be: beyond that a wrapper calls the shim that calls the wrapper.
const DEEPEST: u32 = 12;

/// What the user asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// The surroundings.
    pub env: &'a Env,
    /// argv[0] as typed.
    pub argv0: &'a OsStr,
    /// Everything after it.
    pub args: &'a [OsString],
    /// This program's own file, so that the shim does not find itself.
    pub own: Option<&'a Path>,
    /// The account that `codex-pool run` names.
    pub named: Option<&'a str>,
    /// `run --best`: the pick, whatever is pinned.
    pub best: bool,
    /// `run --program`: what runs instead of Codex.
    pub program: Option<PathBuf>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Print the lines and become this program.
    Exec(Program, Vec<Line>),
    /// Print the lines and run this program as a child (see [`login::AuthCommand::run`]).
    Child(Box<login::AuthCommand>, Program, Vec<Line>),
    /// Print the error and exit with this status.
    Fail(u8, String),
}

/// One line for stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Something is wrong, or not as asked: always said.
    Wrong(String),
    /// The account changed: said on a terminal.
    Switched(String),
    /// About the pick: said when asked for.
    Verbose(String),
}

/// Why a launch goes on without the pool, or fails.
enum Trouble {
    /// Start Codex untouched, with a line; but not if an account was asked for by name.
    Pool(String),
    /// Start Codex untouched: it will say itself what is wrong.
    Codex,
    /// The account that was asked for by name cannot be had.
    Named(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Pool(error.to_string())
    }
}

/// Prepares a launch.
pub fn prepare(request: &Request<'_>) -> Action {
    let env = request.env;
    let paths = env.pool_home().map(PoolPaths::new);
    let (settings, problems) = match &paths {
        Some(paths) => Settings::load(&paths.config()),
        None => (Settings::default(), Vec::new()),
    };
    let program = match &request.program {
        Some(program) => program.clone(),
        None => match find::find(env, &settings, request.own) {
            Ok(codex) => codex,
            Err(error @ NoCodex::NotFound) => return Action::Fail(127, error.to_string()),
            Err(error) => {
                return Action::Fail(
                    if matches!(error, NoCodex::Named(..)) { 127 } else { 126 },
                    error.to_string(),
                );
            }
        },
    };
    let thread = env.text(names::CODEX_THREAD_ID);
    let depth = nested::depth(env.text(names::CODEX_POOL_DEPTH), thread);
    if depth >= DEEPEST {
        return Action::Fail(
            126,
            format!(
                "{} calls `codex`, which is codex-pool's shim, which calls it again; name the real Codex in \
                 CODEX_POOL_CODEX or as codex_path in config.toml",
                program.display()
            ),
        );
    }
    let mut out = Program::new(program, request.argv0, request.args, env);
    out.set_env(names::CODEX_POOL_DEPTH, Some(nested::depth_value(depth + 1, thread).as_ref()));
    let call = argv::parse(request.args);
    let is_codex = request.program.is_none();
    let unknown =
        paths.as_ref().filter(|_| is_codex).and_then(|p| native::use_known(env, &settings, p, &mut out));
    if env.text(names::CODEX_POOL) == Some("off") || is_codex && !call.needs_account() {
        return Action::Exec(out, Vec::new());
    }
    let mut lines: Vec<Line> = problems.into_iter().map(Line::Wrong).collect();
    let launch = Launch { request, settings: &settings, call: &call, is_codex, unknown };
    let mut seated = out.clone();
    match launch.home(paths.as_ref(), &mut seated, &mut lines) {
        Ok(None) => Action::Exec(seated, lines),
        Ok(Some(auth_command)) => Action::Child(Box::new(auth_command), seated, lines),
        Err(Trouble::Named(error)) => Action::Fail(error.kind.exit_status(), error.to_string()),
        Err(Trouble::Codex) => Action::Exec(out, lines),
        Err(Trouble::Pool(why)) => {
            if let Some(name) = launch.named() {
                let text = format!("account `{name}` was asked for, but {why}");
                return Action::Fail(ErrorKind::NoUsableAccount.exit_status(), text);
            }
            if let Some(paths) = &paths {
                launch.record_untouched(paths);
            }
            let revokes =
                if is_codex && call.is_login() { ", and a login revokes the one that is there" } else { "" };
            lines.push(Line::Wrong(format!("{why}; Codex starts without the pool{revokes}")));
            Action::Exec(out, lines)
        }
    }
}

/// The real Codex as it would run without the pool: for a launch that failed half-way.
///
/// # Errors
/// In words: there is no Codex, or an account was asked for by name, and only that may fail a launch.
pub fn untouched(env: &Env, argv0: &OsStr, args: &[OsString], own: Option<&Path>) -> Result<Program, String> {
    if let Some(name) = env.text(names::CODEX_POOL_ACCOUNT) {
        return Err(format!("account `{name}` was asked for"));
    }
    let settings = env.pool_home().map(PoolPaths::new).map(|paths| Settings::load(&paths.config()).0);
    let codex = find::find(env, &settings.unwrap_or_default(), own).map_err(|e| e.to_string())?;
    let mut program = Program::new(codex, argv0, args, env);
    let thread = env.text(names::CODEX_THREAD_ID);
    let depth = nested::depth(env.text(names::CODEX_POOL_DEPTH), thread);
    program.set_env(names::CODEX_POOL_DEPTH, Some(nested::depth_value(depth + 1, thread).as_ref()));
    Ok(program)
}

/// The parts of a launch that do not change.
struct Launch<'a> {
    request: &'a Request<'a>,
    settings: &'a Settings,
    call: &'a Invocation<'a>,
    /// Codex itself runs, not another program.
    is_codex: bool,
    /// Its launcher, if it is not known what that starts.
    unknown: Option<Unknown>,
}

/// The pool while we hold it.
struct Locked<'a> {
    lock: &'a PoolLock,
    pool: Pool,
    processes: Processes,
    /// What the usage data asks for.
    due: Due,
    main_home: &'a CodexHome,
    codex: &'a CodexSettings,
    /// What the main home holds.
    shared: HomeContent,
}

impl Launch<'_> {
    fn env(&self) -> &Env {
        self.request.env
    }

    /// Chooses the account, homes it and enters the launch in the ledger.
    fn home(
        &self,
        paths: Option<&PoolPaths>,
        out: &mut Program,
        lines: &mut Vec<Line>,
    ) -> Result<Option<login::AuthCommand>, Trouble> {
        let env = self.env();
        let paths = paths.ok_or_else(|| Trouble::Pool("HOME is not set".to_owned()))?;
        if !paths.root().is_dir() {
            let text = format!("there is no pool at {}; `codex-pool init` makes one", paths.root().display());
            return Err(Trouble::Pool(text));
        }
        let main_home = match CodexHome::main_of_env(env, paths) {
            Ok(main_home) => main_home,
            Err(NoMainHome::NoHome) => {
                return Err(Trouble::Pool("neither HOME nor CODEX_HOME is set".to_owned()));
            }
            Err(NoMainHome::Absent(_)) => return Err(Trouble::Codex),
        };
        let around = Surroundings {
            codex_home: main_home.dir(),
            system_dir: Path::new(SYSTEM_DIR),
            user_home: env.home(),
            cwd: env.cwd.as_deref(),
        };
        let codex = CodexSettings::read(around, self.call);
        let lock;
        let (mut waited_for_codex, mut waited_for_usage) = (false, false);
        let mut held = loop {
            let attempt = lock_pool(paths)?;
            let mut pool = Pool::open_for_launch(&attempt, paths, env.now)?;
            homes::rediscover_lost(&attempt, &mut pool, env.now)?;
            let processes = Processes::read(Some(&attempt), paths, env.now);
            login::undo_interrupted(&attempt, &mut pool, &processes, env.now)?;
            let shared = homes::reconcile(&attempt, &mut pool, &main_home, env.now)?;
            // Also what was in use until a moment ago: the next look at the ledger does not know of that any more.
            for codex_home in homes::in_ledger(paths, &processes.ledger)
                .iter()
                .filter(|codex_home| **codex_home != main_home.clone())
            {
                homes::reconcile(&attempt, &mut pool, codex_home, env.now)?;
            }
            if shared == HomeContent::BeingWritten && !waited_for_codex {
                drop(attempt);
                homes::wait_until_whole(paths, &main_home);
                waited_for_codex = true;
                continue;
            }
            learn_from_logs(&mut pool, &attempt, &processes.ledger, main_home.dir(), env.now);
            let due = refresh_child::due(pool.standings(), self.settings, env.now);
            if due == Due::Wait && !waited_for_usage && self.named().is_none() {
                // Noted before the wait, so that a wait in vain is not repeated by the next launch.
                pool.usage_mut().no_wait_until = Some(env.now + NO_WAIT);
                pool.commit(&attempt)?;
                drop(attempt);
                refresh_child::and_wait(env, paths, self.settings.launch_refresh_timeout);
                waited_for_usage = true;
                continue;
            }
            lock = attempt;
            break Locked { lock: &lock, pool, processes, due, main_home: &main_home, codex: &codex, shared };
        };
        // Where that fails, a launch into a home says so; others need no home.
        let _ = homes::mcp_logins::share(&lock, paths, &main_home, None, env.now);
        if self.is_codex && (self.call.is_login() || self.call.is_logout()) {
            let auth_command = self.begin(&mut held, out)?;
            held.pool.commit(&lock)?;
            return Ok(auth_command);
        }
        let choice = self.choose(&held, lines)?;
        let seated = self.take_home(&mut held, choice, lines);
        if let Ok(seated) = &seated {
            self.apply_home(&mut held, seated, out);
            if let Some(account) = &seated.account {
                self.remember_folder(&mut held, account);
            }
        }
        // What was learned is kept even if the home could not be had.
        if let Err(error) = held.pool.commit(&lock) {
            lines.push(Line::Wrong(error.to_string()));
        }
        held.pool.index(&lock);
        let seated = seated?;
        let renew = seated.account.filter(|_| held.runs_out_soon(&seated.home, env.now)).and_then(|id| {
            let doc = held.pool.credentials().load(&id).ok().flatten()?;
            refresh_child::token_needs_renewal(&doc, env.now)
                .then(|| held.pool.registry().get(&id).cloned())
                .flatten()
        });
        let due = held.due;
        let learn = self.unknown.as_ref().is_some_and(|u| native_start::claim(&lock, paths, u, env.now));
        drop(lock);
        match renew {
            Some(account) => refresh_child::token(env, paths, &account),
            None if due != Due::Nothing && !waited_for_usage => refresh_child::in_background(env, paths),
            None => {}
        }
        if learn {
            native::learn_in_background(env, paths, out);
        }
        Ok(None)
    }

    /// The account that was asked for by name.
    fn named(&self) -> Option<&str> {
        self.request
            .named
            .or_else(|| if self.request.best { None } else { self.env().text(names::CODEX_POOL_ACCOUNT) })
    }

    /// Gives the program what its home needs: environment and arguments.
    fn apply_home(&self, held: &mut Locked<'_>, seated: &placement::Placement, out: &mut Program) {
        self.set_codex_home(held, &seated.home, out);
        if !self.is_codex {
            if let Some(id) = &seated.account {
                out.set_env(names::CODEX_POOL_ACCOUNT, Some(id.as_str().as_ref()));
            }
            return;
        }
        let extra = self.extra_args(held, seated);
        if !extra.is_empty() && self.call.attaches() {
            self.record_detached(held, seated);
        }
        out.insert_args(self.call, self.request.args, &extra);
    }

    /// Gives the program the environment of its home.
    fn set_codex_home(&self, held: &Locked<'_>, codex_home: &CodexHome, out: &mut Program) {
        if codex_home.dir() != held.main_home.dir() {
            out.set_env(names::CODEX_HOME, Some(codex_home.dir().as_os_str()));
            // Set by the user, or inherited from the home that we are in: it is the main home's already.
            if self.env().get(names::CODEX_SQLITE_HOME).is_none() {
                out.set_env(names::CODEX_SQLITE_HOME, Some(held.main_home.dir().as_os_str()));
            }
        } else if self
            .env()
            .get(names::CODEX_HOME)
            .is_some_and(|dir| homes::main_home_of(&held.pool.paths, Path::new(dir)).is_some())
        {
            // Out of an inherited home, back to the main home.
            out.set_env(
                names::CODEX_HOME,
                (!held.main_home.is_default(self.env())).then(|| held.main_home.dir().as_os_str()),
            );
            if self.env().get(names::CODEX_SQLITE_HOME) == Some(held.main_home.dir().as_os_str()) {
                out.set_env(names::CODEX_SQLITE_HOME, None);
            }
        }
        if let Some(me) = &held.processes.me {
            out.set_env(names::CODEX_POOL_LAUNCH, Some(me.to_string().as_ref()));
        }
    }
}

fn lock_pool(paths: &PoolPaths) -> Result<PoolLock, Trouble> {
    match PoolLock::acquire(paths, LOCK_WAIT) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Trouble::Pool(format!(
            "the pool was locked for {} s by another process (see `codex-pool doctor`)",
            LOCK_WAIT.as_secs()
        ))),
        Err(e) => Err(Error::io("lock", &paths.pool_lock(), &e).into()),
    }
}

impl Locked<'_> {
    /// Whether the token in a home may have to be renewed before somebody starts on it.
    fn runs_out_soon(&self, codex_home: &CodexHome, now: i64) -> bool {
        let expires_at = self.pool.state().home(&codex_home.auth_json()).and_then(|memory| memory.expires_at);
        expires_at.is_none_or(|at| at.saturating_sub(now) < refresh_child::TOKEN_WAITS_BELOW)
    }

    /// The account in the main home.
    fn live(&self) -> Option<&AccountId> {
        self.shared.account()
    }
}
