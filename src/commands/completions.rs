//! `completions`: prints completions of the command line, by clap, and of labels. The scripts run
//! `codex-pool __complete-refs` for the labels when Tab is pressed.

use clap::{Command, CommandFactory};
use codex_pool_core::{Error, Result};

use crate::cli::{Cli, CompletionsArgs, Shell};
use crate::ui;

const NAME: &str = "codex-pool";

pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let script = match args.shell {
        Shell::Bash => bash(&generate(clap_complete::Shell::Bash)?),
        Shell::Zsh => zsh(&generate(clap_complete::Shell::Zsh)?),
        Shell::Fish => fish(&generate(clap_complete::Shell::Fish)?),
    };
    ui::raw(script.as_bytes());
    Ok(())
}

fn generate(shell: clap_complete::Shell) -> Result<String> {
    // Without hidden verbs, which scripts would offer.
    let full = Cli::command();
    let verbs = full.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let mut command = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(verbs);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    String::from_utf8(script).map_err(|e| Error::new(e.to_string()))
}

/// Returns the verbs whose first positional argument is an account.
fn verbs_with_account() -> Vec<String> {
    let takes_one = |verb: &&Command| {
        verb.get_positionals()
            .next()
            .is_some_and(|arg| ["account", "accounts"].contains(&arg.get_id().as_str()))
    };
    let root = Cli::command();
    let verbs = root.get_subcommands().chain(root.get_subcommands().flat_map(Command::get_subcommands));
    verbs.filter(takes_one).map(|verb| verb.get_name().to_owned()).collect()
}

/// Wraps a function of ours around the generated one.
fn bash(generated: &str) -> String {
    // clap_complete 4.6 writes the dash of the program's name in two ways, so that it finds no options of verbs.
    let generated = generated.replace("codex__subcmd__pool", "codex__pool");
    let generated = generated.replace("complete -F _codex__pool ", "complete -F _codex_pool_with_labels ");
    generated + &include_str!("completions/labels.bash").replace("@VERBS@", &verbs_with_account().join("|"))
}

/// Replaces `_default`, which the generated script calls for an account, by a function of ours.
fn zsh(generated: &str) -> String {
    let lines = generated.lines().map(|line| {
        let account = ["':account -- ", "'::account -- ", "'*::accounts -- "]
            .iter()
            .any(|begin| line.starts_with(begin));
        if account { line.replace(":_default' ", ":_codex-pool_labels' ") } else { line.to_owned() }
    });
    let mut lines: Vec<String> = lines.collect();
    // After `#compdef`, which must be the first line.
    lines.insert(1, include_str!("completions/labels.zsh").to_owned());
    lines.join("\n") + "\n"
}

/// Appends our completions. In fish they add up.
fn fish(generated: &str) -> String {
    generated.to_owned()
        + &include_str!("completions/labels.fish").replace("@VERBS@", &verbs_with_account().join(" "))
}
