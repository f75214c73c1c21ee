//! One verb, one file. A verb reads and changes the pool through core, talks to people through `ui`,
//! to the service through `net`, and prints nothing itself.

mod add;
mod adopt;
mod completions;
mod context;
mod doctor;
mod edit;
mod export;
mod import;
mod init;
mod list;
mod login;
mod man;
mod reauth;
pub(crate) mod refresh;
mod run;
mod switch;
mod update;
mod watch;
mod why;

use std::process::ExitCode;

use codex_pool_core::Result;
use codex_pool_core::env::Env;

pub(crate) use context::{Context, Open};
pub(crate) use run::explain;

use crate::cli::Command;

/// Runs a verb. The status is 0 unless the verb has its own (a program that ran, a check that failed).
pub(crate) fn run(command: Command, env: &Env) -> Result<ExitCode> {
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    let ctx = || Context::new(env);
    match command {
        Command::Init(args) => done(init::run(&ctx()?, &args)),
        Command::Add(args) => done(add::run(&ctx()?, &args)),
        Command::Reauth(args) => done(reauth::run(&ctx()?, &args)),
        Command::Import(args) => done(import::run(&ctx()?, &args)),
        Command::Export(args) => done(export::run(&ctx()?, &args)),
        Command::Rm(args) => done(edit::rm(&ctx()?, &args)),
        Command::Rename(args) => done(edit::rename(&ctx()?, &args)),
        Command::Enable(args) => done(edit::enable(&ctx()?, &args, true)),
        Command::Disable(args) => done(edit::enable(&ctx()?, &args, false)),
        Command::List(args) => done(list::run(&ctx()?, &args)),
        Command::Refresh(args) => refresh::run(&ctx()?, &args),
        Command::Use(args) => done(switch::run(&ctx()?, &args)),
        Command::Run(args) => run::run(env, &args),
        Command::Doctor(args) => doctor::run(env, &args),
        Command::Update(args) => done(update::run(env, &args)),
        Command::Completions(args) => done(completions::run(&args)),
        Command::Man(args) => done(man::run(&args)),
        Command::Why(args) => done(why::run(&ctx()?, &args)),
        Command::CompleteRefs => done(list::complete_refs(&ctx()?)),
        Command::Watch(args) => watch::run(&ctx()?, &args),
    }
}
