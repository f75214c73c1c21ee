//! The command line as clap types, and nothing else: no behaviour, no I/O. Here are the commands with their help; their
//! arguments are in the files below.

mod accounts;
mod installation;
mod launches;
#[cfg(feature = "share")]
mod share;
mod views;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use accounts::*;
pub(crate) use installation::*;
pub(crate) use launches::*;
#[cfg(feature = "share")]
pub(crate) use share::*;
pub(crate) use views::*;

/// Several Codex accounts on one machine, used as if they were one.
///
/// You keep typing `codex`. A small program of that name, ahead of the real one on PATH, picks the account with the
/// most room, puts its login in place, and starts Codex. `codex-pool` is for everything else: adding accounts, showing
/// their limits, choosing one yourself.
#[derive(Debug, Parser)]
#[command(name = "codex-pool", version, about, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  codex-pool init                      set everything up, once
  codex-pool add --label work          log in to one more account
  codex-pool list --refresh            what each account has left
  codex-pool use work                  stay on one account, until `codex-pool use --auto`
  codex-pool run work -- exec \"hi\"     one launch on one account

Environment:
  CODEX_POOL=off              start Codex without the pool
  CODEX_POOL_ACCOUNT=work     the account of a launch
  CODEX_POOL_HOME=DIR         where the pool is (default: ~/.codex-pool)
  CODEX_POOL_CODEX=FILE       the real Codex
  CODEX_POOL_VERBOSE=1        say which account was picked, and why
  CODEX_POOL_QUIET=1          say nothing unless a launch fails
  CODEX_POOL_CARRY_ON=0       end work at its account's limit
  CODEX_POOL_CARRY_WAIT=6h    let it wait for a reset

Exit status: 0 done, 1 failed, 2 usage error, 3 no such or ambiguous account, 4 no usable account, 5 login needed.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to print in colour
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Colour::Auto)]
    pub(crate) color: Colour,
    /// Print without colours
    #[arg(long, global = true, conflicts_with = "color")]
    pub(crate) no_color: bool,
    /// Print with characters of ASCII alone, except in names
    #[arg(long, global = true)]
    pub(crate) ascii: bool,
}

/// When to print in colour
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is dumb; elsewhere if `CLICOLOR_FORCE` is set
    Auto,
    Always,
    Never,
}

/// The verbs, one file each under `commands/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set up codex-pool on this machine, or repair it
    ///
    /// Finds the real Codex, puts codex-pool's own `codex` ahead of it on PATH, adopts the live login, and offers to
    /// import accounts from another tool and to add more. What is in order already is left alone.
    #[command(after_help = "\
Examples:
  codex-pool init
  codex-pool init --yes  in a script")]
    Init(InitArgs),
    /// Log in to one more account; the live login stays as it is
    ///
    /// Runs the official `codex login` in a folder of its own, so you stay logged in.
    #[command(
        alias = "login",
        after_help = "\
Examples:
  codex-pool add --label work                        opens a browser
  codex-pool add --label work --device-auth          shows a code to type on another device
  codex-pool add --label ci --with-api-key <key.txt  an API key, read from standard input"
    )]
    Add(AddArgs),
    /// Log in again to an account that needs it
    ///
    /// For an account that `codex-pool list` shows as reauth_required. Logging in as another
    /// user is an error and changes nothing.
    #[command(after_help = "\
Examples:
  codex-pool reauth work
  codex-pool reauth work --device-auth  without a browser here")]
    Reauth(ReauthArgs),
    /// Import logins from auth.json files or another tool's store
    #[command(after_help = "\
Examples:
  codex-pool import ~/backup/auth.json --label old
  codex-pool import - --label work <auth.json
  codex-pool import codex-tools  the accounts of that tool")]
    Import(ImportArgs),
    /// Write one account's auth.json, or a bundle of accounts without their refresh tokens
    ///
    /// The file contains the account's tokens. Anyone who has it can use the account; of a bundle (`--access-only`),
    /// until its access tokens end.
    #[command(after_help = "\
Examples:
  codex-pool export work --out work.json
  codex-pool export --access-only work home  for the secret of a CI system")]
    Export(ExportArgs),
    /// Remove an account and its credentials from the pool
    #[command(
        alias = "remove",
        after_help = "\
Examples:
  codex-pool rm old
  codex-pool rm old --yes  in a script"
    )]
    Rm(RmArgs),
    /// Give an account another label
    #[command(after_help = "\
Examples:
  codex-pool rename ada@example.com work")]
    Rename(RenameArgs),
    /// Let an account be picked again
    #[command(after_help = "\
Examples:
  codex-pool enable work")]
    Enable(RefArg),
    /// Keep an account, but never pick it
    #[command(after_help = "\
Examples:
  codex-pool disable work")]
    Disable(RefArg),
    /// Say where an account may be used, and how much of it
    ///
    /// An account with folders is used only in them and below, and there nothing else is used: Codex fails rather than
    /// fall back on another account. A reserve is kept for you: at it, an account is the last choice, and no work is
    /// carried on there. Without an option, it says what is set.
    #[command(after_help = "\
Examples:
  codex-pool set work --folder ~/acme --folder ~/clients  only in these, which replace those it had
  codex-pool set work --no-folders                        everywhere again
  codex-pool set home --reserve 20                        keep 20 % of each window
  codex-pool set big --weight 12                          it holds as much as 12 Plus accounts")]
    Set(SetArgs),
    /// Show the accounts: their state, what they have left, and which is live
    #[command(
        alias = "ls",
        after_help = "\
Examples:
  codex-pool list            what is known, without a request
  codex-pool list --refresh  fetches usage first
  codex-pool list --json | jq -r '.accounts[] | select(.live).label'"
    )]
    List(ListArgs),
    /// Watch the accounts in a live view
    ///
    /// Accounts, sessions, resets to come, what happened last, and a chart of the selected account. Keys: up and down
    /// select an account, enter shows all about it, u uses it, b uses the best one, d disables or enables it, n renames
    /// it, s sorts, / filters, r fetches usage, ? explains the keys, q quits. Without a terminal it prints the list
    /// again and again.
    #[command(after_help = "\
Examples:
  codex-pool watch --interval 300")]
    Watch(WatchArgs),
    /// Refresh usage, and renew tokens where needed
    #[command(after_help = "\
Examples:
  codex-pool refresh       all accounts
  codex-pool refresh work  one")]
    Refresh(RefreshArgs),
    /// Choose the account of the next launches, or let the pool choose
    ///
    /// Every launch uses the pinned account until `codex-pool use --auto`. Running sessions stay on their account: while
    /// one of them uses auth.json, that stays as it is, and new sessions run beside it.
    #[command(
        alias = "switch",
        after_help = "\
Examples:
  codex-pool use             choose from a list
  codex-pool use work        pin one account
  codex-pool use work --now  switch auth.json at once, under the sessions that use it
  codex-pool use --best      the best one now; later launches pick again
  codex-pool use --auto      end the pin"
    )]
    Use(UseArgs),
    /// Run Codex, or another program, on an account
    ///
    /// Without an account it takes the one that the next launch would. A program other than Codex, and every `codex`
    /// that it starts, stay on that account.
    #[command(after_help = "\
Examples:
  codex-pool run work -- exec \"fix the tests\"
  codex-pool run --best
  codex-pool run work --program make -- review  a program that calls `codex`")]
    Run(RunArgs),
    /// Explain which account the next launch picks, and why
    ///
    /// The accounts in the order of the pick, each with what it has left for a session. With --verbose also the numbers:
    /// room is percent of one Plus account's 5-hour window, less 10 for each running session; urgency is the percent of
    /// the longest window that must be used per hour so that nothing is lost at its reset.
    #[command(after_help = "\
Examples:
  codex-pool why
  codex-pool why --verbose  with the numbers behind it
  codex-pool why --last     the launch before")]
    Why(WhyArgs),
    /// Print one line for a prompt or a status bar
    ///
    /// From files alone, within a few milliseconds; nothing at all where there is no pool. A format has {label}, {plan},
    /// {state}, {next}, {pool} (accounts that are ready, of all), {forecast}, and for each window what is left in
    /// percent, when it resets, and how long until then: {5h}, {5h_reset}, {5h_in}, {1week}, {1week_reset}, {1week_in}.
    /// {label:<10} pads at the end, {5h:>3} in front.
    #[command(after_help = "\
Examples:
  codex-pool status
  codex-pool status --format '{label}'
  codex-pool status --markup tmux  in the colours of tmux
  codex-pool status --watch --json  a line per change, for waybar")]
    Status(StatusArgs),
    /// Show what the accounts had left over the last days
    ///
    /// Each fetch of usage that says something new is kept for 13 months, older ones one an hour.
    #[command(after_help = "\
Examples:
  codex-pool history
  codex-pool history --days 30 work
  codex-pool history --svg limits.svg  a picture for a page or an issue
  codex-pool history --csv | sort -n   the numbers")]
    History(HistoryArgs),
    /// Show what the pool did: launches and why, switches, renewals, limits, logins
    #[command(after_help = "\
Examples:
  codex-pool log
  codex-pool log --since 2h work")]
    Log(LogArgs),
    /// Share the pool between several machines, through a PostgreSQL database
    ///
    /// Every machine has the same accounts, one of them at a time renews their tokens, and the database sees none of
    /// them: logins are sealed before they leave a machine. A member renews, adds and removes; a runner, such as one of
    /// a CI system, only runs Codex. docs/share.md says more.
    #[cfg(feature = "share")]
    #[command(after_help = "\
Examples:
  codex-pool share init           share this pool; asks for the address of a database
  codex-pool share code --member  a code for another machine of yours
  codex-pool share code --runner  a code for a machine that only runs Codex
  codex-pool share join <code     join with it, there
  codex-pool share status         the machines, and what waits for you
  codex-pool share rotate         a machine was lost: new keys, new tokens")]
    Share(ShareArgs),
    /// Check the installation and say how to fix it
    ///
    /// What is not as it should be says what to do. The exit status is 1 if there is a problem.
    #[command(after_help = "\
Examples:
  codex-pool doctor
  codex-pool doctor --fix     fixes permissions and the like
  codex-pool doctor --online  tries the network, too
  codex-pool doctor --bundle report.json  a file for a bug report")]
    Doctor(DoctorArgs),
    /// Update both binaries from a verified release
    ///
    /// Downloads the archive for this platform, verifies its SHA-256, and lets the new programs say their version. Then
    /// it replaces both programs, or neither. It installs an older version only if you name it.
    #[command(after_help = "\
Examples:
  codex-pool update --check
  codex-pool update
  codex-pool update --version 0.2.0 --yes  that version, without a question")]
    Update(UpdateArgs),
    /// Remove codex-pool: the programs, our line in start files, and on request the accounts
    ///
    /// It does what `sh install.sh --uninstall` does, without a checkout. It asks before it removes the accounts.
    #[command(after_help = "\
Examples:
  codex-pool uninstall --dry-run  what would go
  codex-pool uninstall
  codex-pool uninstall --purge    the accounts, too, without a question")]
    Uninstall(UninstallArgs),
    /// Print shell completions
    ///
    /// They complete the labels of accounts, too.
    #[command(after_help = "\
Examples:
  bash: codex-pool completions bash > ~/.local/share/bash-completion/completions/codex-pool
  zsh:  codex-pool completions zsh > ~/.zfunc/_codex-pool   (with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc)
  fish: codex-pool completions fish > ~/.config/fish/completions/codex-pool.fish")]
    Completions(CompletionsArgs),
    /// Print manual pages
    #[command(after_help = "\
Examples:
  codex-pool man | man -l -
  codex-pool man --dir ~/.local/share/man/man1  then `man codex-pool-use`")]
    Man(ManArgs),
    /// Learn what Codex's launcher starts; launches run it in the background
    #[command(hide = true)]
    LearnStart(LearnStartArgs),
    /// Look after running sessions
    #[command(hide = true)]
    Attend,
    /// Move a background server at its limit to the next account; the attendant runs it
    #[command(hide = true)]
    Move(MoveArgs),
    /// Print the version
    #[command(hide = true)]
    Version,
    /// Tell what is due by the command in the settings
    #[command(hide = true)]
    Notify,
    /// Labels for shell completions
    #[command(name = "__complete-refs", hide = true)]
    CompleteRefs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn watch_looks_as_often_as_typed_else_as_set() {
        let interval = |typed: &[&str]| {
            let Ok(Cli { command: Command::Watch(args), .. }) = Cli::try_parse_from(typed) else {
                panic!("{typed:?} is not understood")
            };
            let (settings, _) = codex_pool_core::config::Settings::parse("watch_interval = \"30s\"");
            args.interval(&settings).as_secs()
        };
        assert_eq!(interval(&["codex-pool", "watch"]), 30);
        assert_eq!(interval(&["codex-pool", "watch", "--interval", "5"]), 5);
    }

    #[test]
    fn every_verb_has_examples_and_all_of_them_parse() {
        let root = Cli::command();
        let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set());
        for command in verbs.chain([&root]) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) = text.split_once("Examples:\n").expect("examples");
            for line in examples.lines().take_while(|line| !line.is_empty()) {
                // Before it may be the shell's name, behind it a note or what a shell does with it.
                let typed = &line
                    [line.find("codex-pool ").unwrap_or_else(|| panic!("{}: {line}", command.get_name()))..];
                let typed = typed.split(['<', '>', '|']).next().unwrap_or_default();
                let typed = typed.split("  ").next().unwrap_or_default();
                let parsed = Cli::try_parse_from(typed.split_whitespace());
                assert!(
                    parsed.is_ok(),
                    "{line}: {}",
                    parsed.err().map_or_else(String::new, |e| e.to_string())
                );
            }
        }
    }
}
