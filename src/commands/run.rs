//! `run`: seat an account, then become Codex or another program, as the shim would.

use std::ffi::OsString;
use std::process::ExitCode;

use codex_pool_core::Result;
use codex_pool_core::env::{Env, names};
use codex_pool_core::launch::{self, Line, Outcome, Request};

use crate::cli::RunArgs;
use crate::ui;

pub(crate) fn run(env: &Env, args: &RunArgs) -> Result<ExitCode> {
    let program = args.program.as_ref().map(|program| find_program(env, program)).transpose()?;
    let argv0 = args.program.clone().unwrap_or_else(|| OsString::from("codex"));
    let request = Request {
        env,
        argv0: &argv0,
        args: &args.args,
        own: None,
        named: args.account.as_deref(),
        best: args.best,
        program,
    };
    let say = |lines: &[Line]| {
        ui::launch_lines(lines, env.flag(names::CODEX_POOL_QUIET), env.flag(names::CODEX_POOL_VERBOSE));
    };
    match launch::prepare(&request) {
        Outcome::Child(interlude, program, lines) => {
            say(&lines);
            Ok(ExitCode::from(interlude.run(&program, say)))
        }
        Outcome::Exec(program, lines) => {
            say(&lines);
            let error = launch::become_program(&program);
            ui::fatal(&format!("cannot execute {}: {error}", program.path().display()));
            Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
        }
        Outcome::Fail(status, message) => {
            ui::fatal(&message);
            Ok(ExitCode::from(status))
        }
    }
}

/// The program's file: a name with a slash as it is, another one from PATH.
fn find_program(env: &Env, program: &OsString) -> Result<std::path::PathBuf> {
    let path = std::path::Path::new(program);
    if path.components().count() > 1 {
        return Ok(path.to_owned());
    }
    let dirs = env.get("PATH").unwrap_or_default();
    which::which_in(program, Some(dirs), env.cwd.clone().unwrap_or_default())
        .map_err(|_| codex_pool_core::Error::new(format!("no program `{}` on PATH", path.display())))
}
