//! Arguments of the commands that show something.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use codex_pool_core::config::{Settings, WATCH_INTERVALS};

/// `list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Fetch usage first
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Show limits of single models, where accounts are in use, and sessions, too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `watch`
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Seconds between two looks at the service (default: `watch_interval` of the settings, 60)
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(WATCH_INTERVALS))]
    interval: Option<u64>,
}

impl WatchArgs {
    /// Returns the time between two looks: what was typed, else what is set.
    pub(crate) fn interval(&self, settings: &Settings) -> Duration {
        self.interval.map_or(settings.watch_interval, Duration::from_secs)
    }
}

/// `why`
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Explain the last launch instead of the next one
    #[arg(long)]
    pub(crate) last: bool,
    /// Show tier, room and urgency, too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// What to print, such as '{label} {5h}% {5h_reset}'
    #[arg(long, value_name = "TEXT")]
    pub(crate) format: Option<String>,
    /// The colours of this program, by what is left
    #[arg(long, value_name = "PROGRAM", value_enum)]
    pub(crate) markup: Option<Markup>,
    /// Print a line whenever it changes
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Programs that show a status line
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Markup {
    /// A terminal
    Ansi,
    /// A prompt of bash
    Bash,
    /// A prompt of zsh
    Zsh,
    /// The status line of tmux
    Tmux,
    /// waybar, i3bar and others that read Pango's markup
    Pango,
}

/// `history`
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only these accounts
    #[arg(value_name = "REF")]
    pub(crate) accounts: Vec<String>,
    /// How far back
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=400))]
    pub(crate) days: i64,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print comma-separated values
    #[arg(long)]
    pub(crate) csv: bool,
    /// Write a picture to this file, `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// `log`
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Only what concerns this account
    #[arg(value_name = "REF")]
    pub(crate) account: Option<String>,
    /// How far back (90m, 2h, 7d)
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = duration)]
    pub(crate) since: Duration,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    codex_pool_core::config::parse_duration_text(text).ok_or("a time such as 90m, 2h or 7d")
}
