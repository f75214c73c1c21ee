//! The command line as clap types, and nothing else: no behaviour, no I/O.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Several Codex accounts on one machine, used as if they were one.
#[derive(Debug, Parser)]
#[command(name = "codex-pool", version, about, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  codex-pool init                      set everything up, once
  codex-pool add --label work          log in to one more account
  codex-pool list --refresh            who has how much left
  codex-pool use work                  stay on one account; `use --auto` to let the pool pick again
  codex-pool run work -- exec \"hi\"     one launch on one account

Exit status: 0 done, 1 failed, 2 usage error, 3 no such or ambiguous account, 4 no usable account, 5 login needed.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs, one file each under `commands/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set codex-pool up on this machine (harmless to repeat; it repairs)
    Init(InitArgs),
    /// Log in to one more account; the live login is not touched
    Add(AddArgs),
    /// Log in again to an account that needs it
    Reauth(ReauthArgs),
    /// Take over logins from auth.json files or another tool's store
    Import(ImportArgs),
    /// Write one account's auth.json
    Export(ExportArgs),
    /// Remove an account and its credentials from the pool
    Rm(RmArgs),
    /// Give an account another label
    Rename(RenameArgs),
    /// Let an account be picked again
    Enable(RefArg),
    /// Keep an account, but never pick it
    Disable(RefArg),
    /// Show the accounts: state, what is left, who is live
    List(ListArgs),
    /// Watch the accounts in a live view
    Watch(WatchArgs),
    /// Fetch usage (and renew tokens where needed) without switching
    Refresh(RefreshArgs),
    /// Make an account live: pinned, or the best one, or back to automatic
    Use(UseArgs),
    /// Run Codex, or another program, on an account
    Run(RunArgs),
    /// Explain which account the next launch picks, and why
    Why(JsonArg),
    /// Check the installation and say how to mend it
    Doctor(DoctorArgs),
    /// Update both binaries from a verified release
    Update(UpdateArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Print manual pages
    Man(ManArgs),
    /// Labels for shell completions
    #[command(name = "__complete-refs", hide = true)]
    CompleteRefs,
}

/// `init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Take the default answer to every question
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// How a login is made; shared by `add` and `reauth`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Log in with a code on another device instead of a browser here
    #[arg(long, conflicts_with = "with_api_key")]
    pub(crate) device_auth: bool,
    /// Read an API key from standard input
    #[arg(long)]
    pub(crate) with_api_key: bool,
    /// More arguments for `codex login`
    #[arg(last = true, value_name = "LOGIN-ARGS")]
    pub(crate) login_args: Vec<OsString>,
}

/// `add`
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The account's name in the pool (default: made from its email)
    #[arg(long)]
    pub(crate) label: Option<String>,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// `reauth`
#[derive(Debug, Args)]
pub(crate) struct ReauthArgs {
    /// Id, account id, label or email, or a unique prefix of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// `import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// auth.json files, `-` for standard input, or `codex-tools` for that tool's store
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The account's name in the pool (one file only)
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Where the codex-tools store is (with `import codex-tools`)
    #[arg(long)]
    pub(crate) path: Option<PathBuf>,
}

/// `export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Id, account id, label or email, or a unique prefix of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    /// Write to this file (made 0600) instead of standard output
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Print credentials even to a terminal, or overwrite the file
    #[arg(long)]
    pub(crate) force: bool,
}

/// `rm`
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Id, account id, label or email, or a unique prefix of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Remove the live account, too
    #[arg(long)]
    pub(crate) force: bool,
}

/// `rename`
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// Id, account id, label or email, or a unique prefix of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    /// The new label
    pub(crate) label: String,
}

/// One account
#[derive(Debug, Args)]
pub(crate) struct RefArg {
    /// Id, account id, label or email, or a unique prefix of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
}

/// `--json`
#[derive(Debug, Args)]
pub(crate) struct JsonArg {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Fetch usage first
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Show limits of single models, seats and sessions, too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `watch`
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Seconds between two looks at the service
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: u64,
}

/// `refresh`
#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    /// Only this account
    #[arg(value_name = "REF")]
    pub(crate) account: Option<String>,
    /// Quietly, and only what is due (what the shim starts)
    #[arg(long)]
    pub(crate) background: bool,
    /// Show limits of single models, too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `use`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["account", "best", "auto"]))]
pub(crate) struct UseArgs {
    /// Make this account live, and pin it
    #[arg(value_name = "REF")]
    pub(crate) account: Option<String>,
    /// Make the best account live, without a pin
    #[arg(long)]
    pub(crate) best: bool,
    /// Take the pin away: every launch picks again
    #[arg(long)]
    pub(crate) auto: bool,
    /// Switch even though sessions use the shared seat
    #[arg(long)]
    pub(crate) force: bool,
    /// Restart the background server, so that attached interfaces move, too
    #[arg(long)]
    pub(crate) restart_server: bool,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The account (default: the pick)
    #[arg(value_name = "REF", conflicts_with = "best")]
    pub(crate) account: Option<String>,
    /// The best account, whatever is pinned
    #[arg(long)]
    pub(crate) best: bool,
    /// Run this program instead of Codex
    #[arg(long, value_name = "P")]
    pub(crate) program: Option<OsString>,
    /// Arguments of the program, after `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Mend what is safe to mend
    #[arg(long)]
    pub(crate) fix: bool,
    /// Also check that the service can be reached
    #[arg(long)]
    pub(crate) online: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `update`
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Only say whether there is a newer version
    #[arg(long)]
    pub(crate) check: bool,
    /// This version instead of the newest
    #[arg(long, value_name = "V")]
    pub(crate) version: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Shells with completions
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write one page per command into this directory instead of printing the main page
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
