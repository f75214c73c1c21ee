//! What clap says about a wrong command line, in the form of every other error: what is wrong, and what to type next.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind::{
    ArgumentConflict, DisplayHelpOnMissingArgumentOrSubcommand, InvalidSubcommand, MissingRequiredArgument,
    UnknownArgument,
};
use clap::error::{ContextKind, ContextValue};
use codex_pool_core::{Error, ErrorKind};

use super::{error, printable};
use crate::cli::Cli;

/// Prints a message of clap: help goes to stdout with status 0, an error to stderr with status 2. `typed`: what was
/// typed after the program's name.
pub(crate) fn usage_error(clap: &clap::Error, typed: &[OsString]) -> ExitCode {
    let status = ExitCode::from(u8::try_from(clap.exit_code()).unwrap_or(2));
    if !clap.use_stderr() || clap.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = clap.print();
        return status;
    }
    error(&Error::of(ErrorKind::Usage, wrong(clap, typed)).hint(next(clap, typed)));
    status
}

/// Returns what is wrong.
fn wrong(clap: &clap::Error, typed: &[OsString]) -> String {
    let of = |kind| values(clap, kind);
    match (clap.kind(), of(ContextKind::InvalidArg).as_slice(), of(ContextKind::PriorArg).as_slice()) {
        (MissingRequiredArgument, missing @ [_, ..], _) => {
            let typed: Vec<_> = typed.iter().map(|word| printable(&word.to_string_lossy())).collect();
            let missing: Vec<String> = missing.iter().map(|missing| needed(missing)).collect();
            format!("`codex-pool {}` needs {}", typed.join(" "), missing.join(" "))
        }
        (ArgumentConflict, [one], [other]) => {
            format!("{} and {} exclude each other", named(one), named(other))
        }
        (UnknownArgument, [option], _) if option.starts_with('-') => format!("there is no option `{option}`"),
        (UnknownArgument, [word], _) => format!("`{word}` is one word too many"),
        (InvalidSubcommand, _, _) => {
            format!("there is no command `{}`", of(ContextKind::InvalidSubcommand).join(" "))
        }
        _ => value(clap),
    }
}

/// Returns what is wrong with a value, from clap's own sentence.
fn value(clap: &clap::Error) -> String {
    let text = clap.render().to_string();
    let text = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ").replace('\'', "`");
    let text = text.replace(" [possible values: ", ": one of ").replace(']', "");
    match text.rsplit_once(": ").and_then(|(before, why)| Some((before, why.split_once(" is not in ")?.1))) {
        Some((before, range)) => format!("{before}: a number from {}", range.replace("..=", " to ")),
        None => text,
    }
}

/// Returns what to type next: what is like it, what we know better, and where the help is.
fn next(clap: &clap::Error, typed: &[OsString]) -> String {
    let like = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let mut like: Vec<String> = like.into_iter().flat_map(|kind| values(clap, kind)).collect();
    let commands = Cli::command();
    let shown = |name: &String| commands.get_subcommands().any(|c| c.get_name() == name && !c.is_hide_set());
    // Not another name of a command that is named already.
    if like.iter().any(shown) {
        like.retain(shown);
    }
    let like = (!like.is_empty()).then(|| {
        let quoted: Vec<String> = like.iter().map(|name| format!("`{name}`")).collect();
        format!("did you mean {}?", quoted.join(" or "))
    });
    let known = match clap.get(ContextKind::Suggested) {
        // How to pass an option as a value, which nobody means.
        Some(ContextValue::StyledStrs(tips)) => {
            tips.iter().map(ToString::to_string).find(|tip| !tip.starts_with("to pass "))
        }
        _ => None,
    };
    let mut help = "see `codex-pool".to_owned();
    let mut command = &commands;
    for word in typed.iter().filter_map(|word| word.to_str()) {
        let Some(next) = command.find_subcommand(word) else { break };
        help.push_str(&format!(" {word}"));
        command = next;
    }
    help.push_str(" --help`");
    let parts: Vec<String> = like.into_iter().chain(known).chain([help]).collect();
    parts.join("; ").replace("?; ", "? ")
}

/// Returns what is missing: an argument, or one of several options, which clap writes `<--a|--b>`.
fn needed(missing: &str) -> String {
    match missing.strip_prefix("<-").and_then(|options| options.strip_suffix('>')) {
        Some(options) => format!("`-{}`", options.replace('|', "` or `")),
        None => missing.to_owned(),
    }
}

/// Returns an argument in a sentence.
fn named(argument: &str) -> String {
    match argument.starts_with('-') {
        true => format!("`{argument}`"),
        false => "an account".to_owned(),
    }
}

fn values(clap: &clap::Error, kind: ContextKind) -> Vec<String> {
    match clap.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(all)) => all.clone(),
        _ => Vec::new(),
    }
}
