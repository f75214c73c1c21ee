//! `move`: moves the background server of a Codex home, which is at its limit, to the next account. The attendant runs it,
//! and it runs its own guard.

use std::process::ExitCode;

use codex_pool_core::Result;
use codex_pool_core::env::Env;
use codex_pool_core::moving::{self, Outcome};

use crate::cli::MoveArgs;
use crate::context;

pub(crate) fn run(env: &Env, args: &MoveArgs) -> Result<ExitCode> {
    let paths = context::paths(env)?;
    if args.guard {
        return moving::keep(&paths, &args.home).map(|()| ExitCode::SUCCESS);
    }
    if args.finish {
        return moving::finish(&paths, &args.home).map(|_| ExitCode::SUCCESS);
    }
    let status = match moving::run(&paths, &args.home)? {
        Outcome::Done => moving::DONE,
        Outcome::Later => 1,
        Outcome::MuchLater => moving::MUCH_LATER,
        Outcome::No => moving::NO,
    };
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
