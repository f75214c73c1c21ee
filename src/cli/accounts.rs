//! Arguments of the commands that change what accounts the pool has, and where and how they are used.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

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
    /// Print JSON; what `codex login` prints goes to stderr
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// `reauth`
#[derive(Debug, Args)]
pub(crate) struct ReauthArgs {
    /// Which account: its label, its email or its id, or the first letters of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// `import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// auth.json files, folders of them, `-` for standard input, or `codex-tools` for that tool's store
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The account's name in the pool (one file only)
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Give the label to an account that is in the pool already under another one
    #[arg(long, requires = "label")]
    pub(crate) rename: bool,
    /// Where the codex-tools store is (with `import codex-tools`)
    #[arg(long)]
    pub(crate) path: Option<PathBuf>,
}

/// `export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Which account: its label, its email or its id, or the first letters of one
    #[arg(value_name = "REF", required = true)]
    pub(crate) accounts: Vec<String>,
    /// Leave out the refresh tokens: a bundle of accounts that works until their access tokens end
    #[arg(long)]
    pub(crate) access_only: bool,
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
    /// Which account: its label, its email or its id, or the first letters of one
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
    /// Which account: its label, its email or its id, or the first letters of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    /// The new label
    pub(crate) label: String,
}

/// `set`
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Which account: its label, its email or its id, or the first letters of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
    /// Use it only in this folder and below; may be given several times
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: Vec<PathBuf>,
    /// Use it wherever no other account's folder is
    #[arg(long, conflicts_with = "folder")]
    pub(crate) no_folders: bool,
    /// Keep this much of its 5h and its weekly window for yourself (0: nothing)
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) reserve: Option<f64>,
    /// How many Plus accounts it is worth, or `plan`: as many as its plan
    #[arg(long, value_name = "W", value_parser = weight)]
    pub(crate) weight: Option<Weight>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A weight of its own, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weight(pub(crate) Option<f64>);

fn percent(text: &str) -> Result<f64, &'static str> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    number.filter(|n| (0.0..=100.0).contains(n)).ok_or("a number from 0 to 100")
}

fn weight(text: &str) -> Result<Weight, &'static str> {
    if text == "plan" {
        return Ok(Weight(None));
    }
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    number.map(|n| Weight(Some(n))).ok_or("a number above 0, or `plan`")
}

/// One account
#[derive(Debug, Args)]
pub(crate) struct RefArg {
    /// Which account: its label, its email or its id, or the first letters of one
    #[arg(value_name = "REF")]
    pub(crate) account: String,
}
