//! `codex-pool`, the admin command: parse, dispatch, report the error, exit.

mod cli;
mod commands;
mod net;
mod receipt;
mod refresh;
mod shell_env;
mod ui;
mod view;

use std::process::ExitCode;

use clap::Parser;
use codex_pool_core::env::Env;

fn main() -> ExitCode {
    let env = Env::of_process();
    let command = match cli::Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return ui::usage_error(error),
    };
    match commands::run(command, &env) {
        Ok(status) => status,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(error.kind.exit_status())
        }
    }
}
