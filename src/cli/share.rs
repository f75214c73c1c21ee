//! The command line of `codex-pool share`.

use clap::{ArgGroup, Args, Subcommand};

/// `share`
#[derive(Debug, Args)]
pub(crate) struct ShareArgs {
    #[command(subcommand)]
    pub(crate) command: ShareCommand,
}

/// What is done with a shared pool.
#[derive(Debug, Subcommand)]
pub(crate) enum ShareCommand {
    /// Share this machine's pool through a PostgreSQL database
    Init(ShareInitArgs),
    /// Print a code with which another machine joins: once, within 15 minutes
    Code(ShareCodeArgs),
    /// Join a shared pool; reads the code, or the keys of a runner, from standard input
    Join(ShareJoinArgs),
    /// Show what this machine is, the machines of the pool, and what waits for a person
    Status(ShareStatusArgs),
    /// Make new keys, lock out every other machine, and renew all accounts
    Rotate(ShareRotateArgs),
    /// Shut out a runner; for a member, it says what to do
    ShutOut(ShareShutOutArgs),
    /// Leave the shared pool; the accounts stay on the other machines
    Leave(ShareLeaveArgs),
    /// Log out of an account on every machine
    Logout(ShareAccountArgs),
    /// Renew an account that another machine may have renewed before it was lost
    TakeOver(ShareAccountArgs),
}

/// `share init`
#[derive(Debug, Args)]
pub(crate) struct ShareInitArgs {
    /// Where the database is, such as postgres://user:password@host/database; without it, CODEX_POOL_SHARE_URL or a
    /// question
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// What this machine is called (default: its host name)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Even if another pool is in that database
    #[arg(long)]
    pub(crate) another: bool,
}

/// `share code`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("role").required(true))]
pub(crate) struct ShareCodeArgs {
    /// For a machine that renews, adds and removes accounts, as this one does
    #[arg(long, group = "role")]
    pub(crate) member: bool,
    /// For a machine that only runs Codex
    #[arg(long, group = "role")]
    pub(crate) runner: bool,
    /// What the runner is called
    #[arg(long, value_name = "NAME", requires = "runner")]
    pub(crate) name: Option<String>,
    /// The database's address for the runner, with a user that can only read, instead of one that is made now
    #[arg(long, value_name = "URL", requires = "runner")]
    pub(crate) url: Option<String>,
}

/// `share join`
#[derive(Debug, Args)]
pub(crate) struct ShareJoinArgs {
    /// What this machine is called (default: its host name)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// `share status`
#[derive(Debug, Args)]
pub(crate) struct ShareStatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `share rotate`
#[derive(Debug, Args)]
pub(crate) struct ShareRotateArgs {
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// The database's new address, if its user or password was changed (or in CODEX_POOL_SHARE_URL, where `ps` does not
    /// show it)
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// `share shut-out`
#[derive(Debug, Args)]
pub(crate) struct ShareShutOutArgs {
    /// The machine, as `codex-pool share status` calls it
    pub(crate) machine: String,
}

/// `share leave`
#[derive(Debug, Args)]
pub(crate) struct ShareLeaveArgs {
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Leave even if the database cannot be told
    #[arg(long)]
    pub(crate) offline: bool,
}

/// `share logout`, `share take-over`
#[derive(Debug, Args)]
pub(crate) struct ShareAccountArgs {
    /// The account
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}
