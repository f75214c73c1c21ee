//! `codex-pool`, the admin command: parse, dispatch, report the error, exit.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod changes;
mod cli;
mod commands;
mod context;
mod inherited;
mod net;
mod notices;
mod past;
mod programs;
mod receipt;
mod refresh;
#[cfg(feature = "share")]
mod share;
mod shell_env;
mod signals;
mod ui;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use codex_pool_core::env::Env;

fn main() -> ExitCode {
    commands::keep_secrets_out_of_core_dumps();
    let env = Env::of_process();
    let args: Vec<OsString> = commands::with_colour(std::env::args_os().collect());
    let command = match cli::Cli::try_parse_from(&args) {
        Ok(cli) => {
            match cli.color {
                _ if cli.no_color => ui::set_colour(false),
                cli::Colour::Auto => {}
                colour => ui::set_colour(colour == cli::Colour::Always),
            }
            ui::set_ascii(cli.ascii);
            cli.command
        }
        Err(error) => {
            let typed = args.get(1..).unwrap_or_default();
            return ui::usage_error(&commands::explain(error, typed), typed);
        }
    };
    if let Err(error) = commands::act_as_owner(&command, &env) {
        ui::error(&error);
        return ExitCode::FAILURE;
    }
    match commands::run(command, &env) {
        Ok(status) => status,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(error.kind.exit_status())
        }
    }
}
