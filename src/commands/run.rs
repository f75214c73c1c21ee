//! `run`: picks and places an account, then becomes Codex or another program, as the shim does.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use codex_pool_core::codex::argv;
use codex_pool_core::env::{Env, names};
use codex_pool_core::launch::{self, Action, Again, Line, Request};
use codex_pool_core::pool::Pool;
use codex_pool_core::references;
use codex_pool_core::{Error, ErrorKind as Kind, Result};

use crate::cli::RunArgs;
use crate::{context, inherited, ui};

/// The exit statuses of shells for a program that does not exist, and for one that cannot be executed.
const NOT_FOUND: u8 = 127;
const CANNOT_EXECUTE: u8 = 126;

/// Our own options that take a value.
const WITH_VALUE: [&str; 2] = ["--program", "--carry-wait"];

pub(crate) fn run(env: &Env, args: &RunArgs) -> Result<ExitCode> {
    if env.text(names::CODEX_POOL) == Some("off") {
        return Err(Error::of(Kind::Usage, "CODEX_POOL=off is set, so no account can be used")
            .hint("unset it, or call `codex` itself"));
    }
    if let Some(wait) = &args.carry_wait
        && (args.account.is_some() || args.program.is_some())
    {
        let what = if args.account.is_some() { "an account that is named" } else { "another program" };
        return Err(Error::of(Kind::Usage, format!("{what} does not wait for a reset (--carry-wait)")).hint(
            format!("`codex-pool run --carry-wait {wait} -- exec …` waits with whichever account is picked"),
        ));
    }
    if let Some(account) = args.account.as_deref()
        && args.program.is_none()
        && !argv::parse(&args.args).needs_account()
    {
        // A command that needs no account starts without one, but a wrong name is an error.
        let pool = Pool::peek(&context::paths(env)?)?;
        references::resolve(&pool.registry().accounts, account)?;
    }
    let program = match args.program.as_deref().map(|program| find_program(env, program)).transpose() {
        Ok(program) => program,
        Err((status, error)) => {
            ui::error(&error);
            return Ok(ExitCode::from(status));
        }
    };
    let argv0 = args.program.clone().unwrap_or_else(|| OsString::from("codex"));
    let mut again = vec![OsString::from("run"), OsString::from("--")];
    if args.best {
        again.insert(1, "--best".into());
    }
    let env = &match &args.carry_wait {
        Some(wait) => env.clone().with(names::CODEX_POOL_CARRY_WAIT, Some(wait.as_ref())),
        None => env.clone(),
    };
    let request = Request {
        env,
        argv0: &argv0,
        args: &args.args,
        own: None,
        named: args.account.as_deref(),
        best: args.best,
        again: Again { argv0: OsStr::new("codex-pool"), args: &again },
        program,
    };
    let say = |lines: &[Line]| {
        ui::launch_lines(lines, env.flag(names::CODEX_POOL_QUIET), env.flag(names::CODEX_POOL_VERBOSE));
    };
    match launch::prepare(&request) {
        Action::Child(command, program, lines) => {
            say(&lines);
            inherited::restore();
            Ok(ExitCode::from(command.run(&program, say)))
        }
        Action::Carried(exec, program, lines) => {
            say(&lines);
            inherited::restore();
            Ok(ExitCode::from(exec.run(&program, say)))
        }
        Action::Exec(program, lines) => {
            say(&lines);
            inherited::restore();
            let error = launch::become_program(&program);
            ui::error(&Error::io("execute", program.path(), &error).hint("`codex-pool doctor`"));
            Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE }))
        }
        Action::Fail(status, error) => {
            let unknown = status == Kind::NoSuchAccount.exit_status();
            let meant = args.account.as_deref().filter(|account| unknown && is_command(account));
            ui::error(&match meant {
                Some(account) => error.hint(format!(
                    "if `{account}` is meant for Codex, it goes after `--`: codex-pool run -- {account}"
                )),
                None => error,
            });
            Ok(ExitCode::from(status))
        }
    }
}

/// Adds to a usage error what is probably missing: the `--` before the arguments of the program.
pub(crate) fn explain(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    use clap::error::ErrorKind::{ArgumentConflict, UnknownArgument};
    let mut args = args.iter();
    let is_run = args.next().is_some_and(|verb| verb == "run");
    if !is_run
        || !matches!(error.kind(), ArgumentConflict | UnknownArgument)
        || args.clone().any(|a| a == "--")
    {
        return error;
    }
    // Our own options come before it, and one account or `--best`.
    let mut words = vec!["codex-pool run".to_owned()];
    let mut chosen = false;
    while let Some(arg) = args.as_slice().first().map(|arg| arg.to_string_lossy()) {
        let name = arg.split_once('=').map_or(&*arg, |(name, _)| name);
        let (valued, whole) = (WITH_VALUE.contains(&name), name.len() == arg.len());
        let ours = valued || arg == "--best" && !chosen;
        if !ours && (chosen || arg.starts_with('-') || is_command(&arg)) {
            break;
        }
        chosen |= !valued;
        let count = 1 + usize::from(valued && whole);
        words.extend(args.by_ref().take(count).map(|arg| arg.to_string_lossy().into_owned()));
    }
    // An account and `--best`: no argument of Codex, which has no such option.
    if args.as_slice().first().is_some_and(|arg| arg == "--best") {
        return error;
    }
    words.push("--".to_owned());
    words.extend(args.map(|arg| arg.to_string_lossy().into_owned()));
    let tip = format!("what the program gets comes after `--`: {}", ui::printable(&words.join(" ")));
    error.remove(ContextKind::SuggestedArg);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// Returns whether Codex has a command of this name.
fn is_command(word: &str) -> bool {
    let args = [OsString::from(word)];
    argv::parse(&args).command != argv::Command::Interactive
}

/// Returns the file of a program: a name with a slash as it is, another one from PATH. Called before the pool is
/// touched, so that no account is placed for a program that cannot run.
fn find_program(env: &Env, program: &OsStr) -> std::result::Result<PathBuf, (u8, Error)> {
    let path = Path::new(program);
    if !program.to_string_lossy().contains('/') {
        let dirs = env.get("PATH").unwrap_or_default();
        return which::which_in(program, Some(dirs), env.cwd.clone().unwrap_or_default()).map_err(|_| {
            (
                NOT_FOUND,
                Error::new(format!("there is no program `{}` on PATH", path.display()))
                    .hint("check its name, or name its file"),
            )
        });
    }
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Ok(path.to_owned()),
        Ok(_) => Err((
            CANNOT_EXECUTE,
            Error::new(format!("{} cannot be executed", path.display()))
                .hint("name a program, or make it one with `chmod +x`"),
        )),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err((NOT_FOUND, Error::new(format!("there is no {}", path.display())).hint("check its name")))
        }
        Err(e) => Err((CANNOT_EXECUTE, Error::io("execute", path, &e).hint("check who may execute it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn message(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = crate::cli::Cli::try_parse_from(&words).unwrap_err();
        explain(error, &words[1..]).to_string()
    }

    #[test]
    fn missing_dashes_are_named_with_the_whole_command() {
        for (typed, meant) in [
            ("run --best exec", "run --best -- exec"),
            ("run --best exec hi", "run --best -- exec hi"),
            ("run exec hi", "run -- exec hi"),
            ("run work exec hi", "run work -- exec hi"),
            ("run work -m x", "run work -- -m x"),
            ("run --program ./ci.sh work a b", "run --program ./ci.sh work -- a b"),
            ("run work --program=./ci.sh a", "run work --program=./ci.sh -- a"),
            ("run --carry-wait 30m work exec hi", "run --carry-wait 30m work -- exec hi"),
            ("run --best --carry-wait=30m exec hi", "run --best --carry-wait=30m -- exec hi"),
        ] {
            let message = message(&format!("codex-pool {typed}"));
            assert!(message.contains(&format!("after `--`: codex-pool {meant}\n")), "{typed}: {message}");
        }
    }

    #[test]
    fn other_usage_errors_stay_as_they_are() {
        assert!(!message("codex-pool use a b").contains("after `--`"));
        assert!(!message("codex-pool run --program").contains("after `--`"));
        for both in ["run work --best", "run work --best exec hi", "run --best --carry-wait 30m --best"] {
            assert!(!message(&format!("codex-pool {both}")).contains("after `--`"), "{both}");
        }
    }
}
