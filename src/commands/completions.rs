//! `completions`: what clap knows of the command line, and the labels of accounts, which only the pool knows: the
//! scripts ask `codex-pool __complete-refs` for them when Tab is pressed.

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
    // The scripts would offer hidden verbs, too.
    let full = Cli::command();
    let verbs = full.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let mut command = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(verbs);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    String::from_utf8(script).map_err(|e| Error::new(e.to_string()))
}

/// The verbs whose first positional argument is an account.
fn verbs_with_account() -> Vec<String> {
    let takes_one =
        |verb: &&Command| verb.get_positionals().next().is_some_and(|arg| arg.get_id() == "account");
    Cli::command().get_subcommands().filter(takes_one).map(|verb| verb.get_name().to_owned()).collect()
}

/// A function of ours around the generated one.
fn bash(generated: &str) -> String {
    // clap_complete 4.6 writes the dash in the program's name in two ways, so that the options of no verb are found.
    let generated = generated.replace("codex__subcmd__pool", "codex__pool");
    let generated = generated.replace("complete -F _codex__pool ", "complete -F _codex_pool_with_labels ");
    generated + &include_str!("completions/labels.bash").replace("@VERBS@", &verbs_with_account().join("|"))
}

/// The generated script calls `_default` for an account; it gets a function of ours instead.
fn zsh(generated: &str) -> String {
    let lines = generated.lines().map(|line| {
        let account = line.starts_with("':account -- ") || line.starts_with("'::account -- ");
        if account { line.replace(":_default' ", ":_codex-pool_labels' ") } else { line.to_owned() }
    });
    let mut lines: Vec<String> = lines.collect();
    // After `#compdef`, which has to be the first line.
    lines.insert(1, include_str!("completions/labels.zsh").to_owned());
    lines.join("\n") + "\n"
}

/// In fish, completions add up.
fn fish(generated: &str) -> String {
    generated.to_owned()
        + &include_str!("completions/labels.fish").replace("@VERBS@", &verbs_with_account().join(" "))
}
