//! A launch, from what the user typed to what is executed. [`prepare`] decides and does everything on disk; the caller
//! prints the lines and becomes the program. Whatever is wrong with the pool, Codex starts: only an account that was
//! asked for by name, or a folder rule, may fail a launch. Prints nothing and uses no network.

mod attendant;
mod carried;
mod choose;
mod exec;
mod folder_rule;
mod handover;
mod instructions;
mod learn;
mod locked;
mod log;
pub mod login;
mod native;
mod nested;
mod placement;
mod reach;
mod record;
mod refresh_child;
mod spawn;
mod thread_owner;
mod untouched;

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use attendant::ATTENDANT_VARIABLES;
pub use carried::CarriedExec;
pub use choose::{candidates, databases, usable_by_name};
pub use exec::{Program, become_program};
pub use learn::learn_from_logs;
pub use untouched::untouched;

use crate::carry::Round;
use crate::codex::argv::{self, Command, Invocation};
use crate::codex::configuration::{CodexSettings, SYSTEM_DIR, Surroundings};
use crate::codex::find::{self, NoCodex};
use crate::codex::native_start::{self, Unknown};
use crate::config::{Settings, parse_duration_text};
use crate::env::{Env, names};
use crate::error::{Error, ErrorKind};
use crate::files;
use crate::homes::{self, CodexHome, NoMainHome};
use crate::paths::PoolPaths;
use locked::Locked;
use refresh_child::Due;

/// How long a launch waits for the pool's lock.
pub const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How many shims deep a launch may be. Beyond that, a wrapper calls the shim that calls the wrapper.
const DEEPEST: u32 = 12;

/// A launch as the user asked for it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Environment, folder and clock.
    pub env: &'a Env,
    /// argv[0] as typed.
    pub argv0: &'a OsStr,
    /// The arguments after argv[0].
    pub args: &'a [OsString],
    /// The file of this program, so that the shim does not find itself.
    pub own: Option<&'a Path>,
    /// The account that `codex-pool run` names.
    pub named: Option<&'a str>,
    /// `run --best`: the pick, whatever is pinned.
    pub best: bool,
    /// How this program was called, up to the arguments that are Codex's: an `exec` that is carried on executes it anew.
    pub again: Again<'a>,
    /// `run --program`: the program that runs instead of Codex.
    pub program: Option<PathBuf>,
}

/// The beginning of this program's own command line.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// argv[0]
    pub argv0: &'a OsStr,
    /// The arguments in front of Codex's.
    pub args: &'a [OsString],
}

/// What the caller of [`prepare`] must do.
#[derive(Debug)]
pub enum Action {
    /// Print the lines and become this program.
    Exec(Program, Vec<Line>),
    /// Print the lines and run this program as a child (see [`login::AuthCommand::run`]).
    Child(Box<login::AuthCommand>, Program, Vec<Line>),
    /// Print the lines and run this program as a child that is carried on at its account's limit (see
    /// [`CarriedExec::run`]).
    Carried(Box<CarriedExec>, Program, Vec<Line>),
    /// Print the error and exit with this status.
    Fail(u8, Error),
}

/// One line for stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Something is wrong, or not as asked for. It is always printed.
    Wrong(String),
    /// The account changed. It is printed on a terminal.
    Switched(String),
    /// About the pick. It is printed on request.
    Verbose(String),
}

/// How a launch that was prepared is to run.
enum Outcome {
    Exec,
    Child(login::AuthCommand),
    Carried(Box<CarriedExec>),
}

/// The reason why a launch goes on without the pool, or fails.
enum Trouble {
    /// Codex starts untouched, with this line. If an account was asked for by name, the launch fails.
    Pool(String),
    /// Codex starts untouched, and says itself what is wrong.
    Codex,
    /// The launch fails: the account that was asked for by name cannot be used, or a folder rule forbids what could be.
    Fails(Error),
    /// Codex starts untouched in a CODEX_HOME that is another program's.
    Foreign,
}

/// The next step, at the end of what is wrong with a pool.
const SEE_DOCTOR: &str = " (see `codex-pool doctor`)";

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Pool(match error.kind {
            // Of many words, those that say what to type.
            ErrorKind::Corrupt => format!("the pool's accounts.json is corrupt{SEE_DOCTOR}"),
            _ => error.to_string(),
        })
    }
}

/// Prepares a launch.
pub fn prepare(request: &Request<'_>) -> Action {
    let env = request.env;
    let pool = pool_of(env);
    let paths = pool.as_ref().ok();
    let (settings, problems) = match paths {
        Some(paths) => Settings::load(&paths.config()),
        None => (Settings::default(), Vec::new()),
    };
    let codex = OnceCell::new();
    let tried = nested::tried(env.get(names::CODEX_POOL_DEPTH));
    let program = match &request.program {
        Some(program) => program.clone(),
        None => match find::find_beyond(env, &settings, request.own, &tried) {
            Ok(path) => {
                let _ = codex.set(Some(path.clone()));
                path
            }
            Err(error) => {
                let status = if matches!(error, NoCodex::Shim(..)) { 126 } else { 127 };
                return Action::Fail(status, error.into());
            }
        },
    };
    let thread = env.text(names::CODEX_THREAD_ID);
    let depth = nested::depth(env.text(names::CODEX_POOL_DEPTH), thread);
    if depth >= DEEPEST {
        return calls_itself(&program);
    }
    let next = nested::depth_value(depth + 1, thread, &tried, &program);
    let mut untouched = Program::new(program, request.argv0, request.args, env);
    untouched.set_env(names::CODEX_POOL_DEPTH, Some(&next));
    let round = Round::of_env(env);
    if env.is_set(names::CODEX_POOL_CARRIED) {
        untouched.set_env(names::CODEX_POOL_CARRIED, None);
    }
    let call = argv::parse(request.args);
    let is_codex = request.program.is_none();
    let unknown =
        paths.filter(|_| is_codex).and_then(|paths| native::use_known(env, &settings, paths, &mut untouched));
    if is_codex
        && call.command == Command::Update
        && let Some(paths) = paths
    {
        instructions::leave_own_home(env, paths, &mut untouched);
    }
    if env.text(names::CODEX_POOL) == Some("off") || is_codex && !call.needs_account() {
        return Action::Exec(untouched, Vec::new());
    }
    let exec =
        matches!(call.command, Command::Exec | Command::ExecResume | Command::ExecFork | Command::ExecReview);
    if is_codex
        && !call.is_login()
        && !call.is_logout()
        && let Some(variable) = env.identity(exec)
    {
        // No account of the pool answers, so no home is touched for one.
        let named = request.named.or_else(|| env.text(names::CODEX_POOL_ACCOUNT));
        return match named {
            Some(name) => Action::Fail(
                ErrorKind::NoUsableAccount.exit_status(),
                Error::of(
                    ErrorKind::NoUsableAccount,
                    format!("account `{name}` was asked for, but Codex takes its login from {variable}"),
                )
                .hint(format!("`env -u {variable} …` lets the pool answer")),
            ),
            None => {
                let against = |paths| folder_rule::against_identity(env, paths, &call, variable);
                if let Some(error) = paths.and_then(against) {
                    return Action::Fail(error.kind.exit_status(), error);
                }
                Action::Exec(untouched, vec![Line::Verbose(format!("Codex takes its login from {variable}"))])
            }
        };
    }
    let mut lines: Vec<Line> =
        problems
            .into_iter()
            .map(|problem| {
                if Settings::is_unknown_name(&problem) {
                    Line::Verbose(problem)
                } else {
                    Line::Wrong(problem)
                }
            })
            .collect();
    if round.is_none() {
        lines.extend(carry_wait_problem(env).map(Line::Wrong));
    }
    let of_settings = lines.len();
    let launch = Launch { request, settings: &settings, call: &call, is_codex, codex, unknown, round };
    let mut program = untouched.clone();
    match launch.prepare(pool.as_ref().map_err(String::as_str), &mut program, &mut lines) {
        Ok(Outcome::Exec) => Action::Exec(program, lines),
        Ok(Outcome::Child(auth_command)) => Action::Child(Box::new(auth_command), program, lines),
        Ok(Outcome::Carried(exec)) => Action::Carried(exec, program, lines),
        Err(Trouble::Fails(error)) => {
            launch.note_refusal(paths, &error.message);
            Action::Fail(error.kind.exit_status(), error)
        }
        Err(Trouble::Codex) => Action::Exec(untouched, lines),
        Err(Trouble::Foreign) => match launch.named() {
            Some(name) => Action::Fail(
                ErrorKind::NoUsableAccount.exit_status(),
                Error::of(
                    ErrorKind::NoUsableAccount,
                    format!(
                        "account `{name}` was asked for, but CODEX_HOME has a login that is not the pool's"
                    ),
                )
                .hint("`codex-pool init` takes it in"),
            ),
            None => {
                lines.truncate(of_settings);
                let text = "CODEX_HOME has a login that is not the pool's, so it is left alone";
                lines.push(Line::Verbose(text.to_owned()));
                Action::Exec(untouched, lines)
            }
        },
        Err(Trouble::Pool(why)) => {
            launch.note_refusal(paths, &why);
            if let (Some(_), argv::Target::Thread(id)) = (&launch.round, call.target) {
                // On the account that is live, it would be another conversation, and perhaps at its limit again.
                let error = Error::new(format!("this session cannot go on: {why}"));
                let hint = format!("`codex exec resume {id} continue` goes on with it later");
                return Action::Fail(error.kind.exit_status(), error.hint(hint));
            }
            if let Some(name) = launch.named() {
                // It is the next step below.
                let why = why.replace(SEE_DOCTOR, "");
                let error = Error::of(
                    ErrorKind::NoUsableAccount,
                    format!("account `{name}` was asked for, but {why}"),
                );
                let hint = "`codex-pool doctor`; `CODEX_POOL=off codex …` starts Codex without the pool";
                return Action::Fail(error.kind.exit_status(), error.hint(hint));
            }
            if let Some(paths) = paths {
                launch.record_untouched(paths);
                let obeys = !(is_codex && (call.is_login() || call.is_logout()));
                let against = || folder_rule::against_untouched(env, paths, launch.codex_call(), &why);
                if let Some(error) = obeys.then(against).flatten() {
                    launch.forget(paths);
                    return Action::Fail(error.kind.exit_status(), error);
                }
            }
            let revokes =
                if is_codex && call.is_login() { ", and a login revokes the one that is there" } else { "" };
            lines.push(Line::Wrong(format!("{why}; Codex starts without the pool{revokes}")));
            Action::Exec(untouched, lines)
        }
    }
}

/// Returns the pool of this environment.
///
/// # Errors
/// There is none that may be touched, for this reason. Root reads nothing of another user, not even the settings, which
/// name a program to execute.
fn pool_of(env: &Env) -> Result<PoolPaths, String> {
    if let Some(owner) = files::another_user_of_root(env) {
        return Err(format!(
            "this is root, but HOME, CODEX_HOME or the pool belongs to user {}; `sudo -H` has a HOME of root's",
            owner.uid
        ));
    }
    env.pool_home().map(PoolPaths::new).ok_or_else(|| "HOME is not set".to_owned())
}

/// Returns what is wrong with the time that the environment says a reset is waited for.
fn carry_wait_problem(env: &Env) -> Option<String> {
    let wait = env.get(names::CODEX_POOL_CARRY_WAIT)?;
    let known = wait.to_str().is_some_and(|text| parse_duration_text(text).is_some());
    let name = names::CODEX_POOL_CARRY_WAIT;
    (!known).then(|| format!("{name}: must be a time such as 90s, 30m or 6h; no reset is waited for"))
}

/// Returns the end of a launch whose program calls the shim again.
fn calls_itself(program: &Path) -> Action {
    let what =
        format!("{} calls `codex`, which is codex-pool's shim, which calls it again", program.display());
    let next = "name the real Codex in CODEX_POOL_CODEX or as codex_path in config.toml";
    Action::Fail(126, Error::new(what).hint(next))
}

/// A launch that uses the pool.
struct Launch<'a> {
    request: &'a Request<'a>,
    settings: &'a Settings,
    call: &'a Invocation<'a>,
    /// Whether Codex itself runs, not another program.
    is_codex: bool,
    /// The real Codex, once it was looked for.
    codex: OnceCell<Option<PathBuf>>,
    /// Its launcher, if it is not known what that starts.
    unknown: Option<Unknown>,
    /// The runs before, of an `exec` that is carried on.
    round: Option<Round>,
}

impl Launch<'_> {
    fn env(&self) -> &Env {
        self.request.env
    }

    /// Returns the real Codex. `run --program` needs it only to stop a background server, and looks for it then.
    fn codex(&self) -> Option<&Path> {
        self.codex.get_or_init(|| find::find(self.env(), self.settings, None).ok()).as_deref()
    }

    /// Chooses the account, places it in a home, records the launch, and tells the program its home.
    fn prepare(
        &self,
        pool: Result<&PoolPaths, &str>,
        program: &mut Program,
        lines: &mut Vec<Line>,
    ) -> Result<Outcome, Trouble> {
        let env = self.env();
        let paths = pool.map_err(|why| Trouble::Pool(why.to_owned()))?;
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
        let codex_settings = CodexSettings::read(around, self.call);
        lines.extend(codex_settings.unheeded.iter().map(|file| Line::Wrong(file.to_string())));
        if self.is_codex {
            lines.extend(reach::line(env, paths, self.call).map(Line::Wrong));
        }
        let mut locked = self.lock(paths, &main_home, &codex_settings)?;
        // A launch into an own home shares them again, and says if that fails. Others do not need it.
        let _ = homes::mcp_logins::share(&locked.lock, paths, &main_home, None, env.now);
        let _ = homes::memories::share(&locked.lock, paths, &main_home, None, env.now);
        if self.is_codex && (self.call.is_login() || self.call.is_logout()) {
            let auth_command = self.begin(&mut locked, program)?;
            locked.pool.commit(&locked.lock)?;
            return Ok(auth_command.map_or(Outcome::Exec, Outcome::Child));
        }
        let said = lines.len();
        let live = locked.live().cloned();
        let choice = self.choose(&locked, lines)?;
        let chosen = lines.len();
        let picked = matches!(choice, choose::Choice::Account(_));
        let placement = self.place(&mut locked, choice, lines);
        let placed = lines.len();
        let mut outcome = Outcome::Exec;
        if let Ok(placement) = &placement {
            self.instruct(&mut locked, placement, program);
            self.hand_over(&locked, placement, program, lines);
            if picked && let Some(exec) = self.carried(&locked, placement, program) {
                outcome = Outcome::Carried(Box::new(exec));
            }
            if let Some(account) = &placement.account {
                self.remember_folder(&mut locked, account);
            }
            let said = (&lines[said..chosen], &lines[chosen..placed]);
            self.note(&mut locked, placement, live.as_ref(), said);
        }
        // What was learnt is kept even if the launch has no place.
        if let Err(error) = locked.pool.commit(&locked.lock) {
            lines.push(Line::Wrong(error.to_string()));
        }
        let renew = locked.account_to_renew(placement?, env.now);
        let down = locked.pool.usage().database_is_down(env.now);
        let due = locked.due;
        let learn =
            self.unknown.as_ref().is_some_and(|u| native_start::claim(&locked.lock, paths, u, env.now));
        let attends = self.may_start_attendant(&locked);
        drop(locked);
        let attended = attends && attendant::start(env, paths);
        match renew {
            Some(account) => refresh_child::renew_tokens(env, paths, &account, !down),
            // The attendant sees that a launch began, and refreshes.
            None if due != Due::Nothing && !attended => refresh_child::in_background(env, paths),
            None => {}
        }
        if learn {
            native::learn_in_background(env, paths, program);
        }
        Ok(outcome)
    }

    /// Returns the name of the account that was asked for.
    fn named(&self) -> Option<&str> {
        self.request
            .named
            .or_else(|| if self.request.best { None } else { self.env().text(names::CODEX_POOL_ACCOUNT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn codex_is_looked_for_once_per_launch() {
        let dir = tempfile::tempdir().unwrap();
        let codex = dir.path().join("codex");
        std::fs::write(&codex, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&codex, std::fs::Permissions::from_mode(0o755)).unwrap();
        let env = Env::of(&[("PATH", dir.path().to_str().unwrap())], dir.path(), 0);
        let (argv0, args, settings) = (OsStr::new("codex"), Vec::new(), Settings::default());
        let request = Request {
            env: &env,
            argv0,
            args: &args,
            own: None,
            named: None,
            best: false,
            again: Again { argv0, args: &[] },
            program: None,
        };
        let call = argv::parse(&args);
        let (request, settings, call) = (&request, &settings, &call);
        let launch = Launch {
            request,
            settings,
            call,
            is_codex: true,
            codex: OnceCell::new(),
            unknown: None,
            round: None,
        };
        assert_eq!(launch.codex(), Some(&*codex));
        std::fs::remove_file(&codex).unwrap();
        assert_eq!(launch.codex(), Some(&*codex), "it is not looked for again");
    }
}
