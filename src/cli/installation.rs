//! Arguments of the commands that see to codex-pool itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Take the default answer to every question
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Fix what is safe to fix
    #[arg(long)]
    pub(crate) fix: bool,
    /// Also check that the service can be reached
    #[arg(long)]
    pub(crate) online: bool,
    /// Show what is fine, too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Write versions, settings, states and the log to this file, for a bug report: no emails, labels, folders or tokens
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
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
    /// Print JSON (with `--check`)
    #[arg(long, requires = "check")]
    pub(crate) json: bool,
    /// This version instead of the newest
    #[arg(long, value_name = "V")]
    pub(crate) version: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `uninstall`
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask; the accounts stay
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Do not ask; the accounts go, too
    #[arg(long, conflicts_with = "yes")]
    pub(crate) purge: bool,
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
    Bash,
    Zsh,
    Fish,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write one page per command into this directory instead of printing the main page
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
