//! Arguments of the commands that decide on launches, start Codex, or keep it going.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// `use`
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("which").args(["account", "best", "auto"]))]
pub(crate) struct UseArgs {
    /// Pin this account: its label, its email or its id, or the first letters of one (default: choose from a list)
    #[arg(value_name = "REF")]
    pub(crate) account: Option<String>,
    /// Make the best account live, without a pin
    #[arg(long)]
    pub(crate) best: bool,
    /// Take the pin away: every launch picks again
    #[arg(long)]
    pub(crate) auto: bool,
    /// Switch auth.json at once, although sessions use it; they stop with an error at their next token renewal
    #[arg(long, alias = "force", conflicts_with = "auto")]
    pub(crate) now: bool,
    /// Restart Codex's background server, so that open interfaces move, too; interrupts their work
    #[arg(long, conflicts_with = "auto")]
    pub(crate) restart_server: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Which account: its label, its email or its id, or the first letters of one (default: the pick)
    #[arg(value_name = "REF", conflicts_with = "best")]
    pub(crate) account: Option<String>,
    /// The best account, whatever is pinned
    #[arg(long)]
    pub(crate) best: bool,
    /// At the limit, let `exec` wait this long for the first reset (6h, 90m)
    #[arg(long, value_name = "TIME", value_parser = carry_wait)]
    pub(crate) carry_wait: Option<String>,
    /// Run this program instead of Codex
    #[arg(long, value_name = "P")]
    pub(crate) program: Option<OsString>,
    /// Arguments of the program, after `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

fn carry_wait(text: &str) -> Result<String, &'static str> {
    let known = codex_pool_core::config::parse_duration_text(text).is_some();
    known.then(|| text.to_owned()).ok_or("a time such as 90s, 30m or 6h")
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
    /// With --background and an account: its usage, too, if that is due
    #[arg(long, hide = true, requires_all = ["background", "account"])]
    pub(crate) usage: bool,
    /// Show limits of single models, too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `learn-start`
#[derive(Debug, Args)]
pub(crate) struct LearnStartArgs {
    /// The launcher, by its absolute path
    pub(crate) launcher: PathBuf,
}

/// `move`
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Be the guard of a move: start the server again if standard input ends without a word
    #[arg(long, conflicts_with = "finish")]
    pub(crate) guard: bool,
    /// End a move that was cut off
    #[arg(long)]
    pub(crate) finish: bool,
    /// The Codex home
    pub(crate) home: PathBuf,
}
