//! `codex-pool`, the admin command: parse, dispatch, report the error, exit.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod cli;
mod commands;
mod context;
mod inherited;
mod net;
mod programs;
mod receipt;
mod refresh;
mod shell_env;
mod signals;
mod ui;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use codex_pool_core::env::Env;

fn main() -> ExitCode {
    // Credentials are in our memory: no core dump contains them, and no other process of the user may read them. The
    // flag ends with exec, so that it does not concern Codex.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    let env = Env::of_process();
    let args: Vec<OsString> = std::env::args_os().collect();
    let command = match cli::Cli::try_parse_from(&args) {
        Ok(cli) => cli.command,
        Err(error) => return ui::usage_error(commands::explain(error, args.get(1..).unwrap_or_default())),
    };
    match commands::run(command, &env) {
        Ok(status) => status,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(error.kind.exit_status())
        }
    }
}
