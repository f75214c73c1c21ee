//! Questions to the user. Without a terminal they are errors, which name the flag that answers. Escape means no, and
//! Ctrl-C ends the command.

use std::io::IsTerminal;

use codex_pool_core::auth_doc::Secret;
use codex_pool_core::{Error, ErrorKind, Result};
use inquire::{Confirm, InquireError, Password, PasswordDisplayMode, Select, Text};

use super::printable;

/// Returns whether the user can be asked.
pub(crate) fn interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a yes-or-no question. The default is no. Without a terminal it is an error: `unasked` says what was not done,
/// and `flag` is how a script says yes.
///
/// # Errors
/// There is no terminal, or Ctrl-C.
pub(crate) fn confirm(question: &str, unasked: &str, flag: &str) -> Result<bool> {
    if !interactive() {
        return Err(Error::of(ErrorKind::Usage, unasked).hint(format!("add `{flag}`")));
    }
    agree(question, false)
}

/// Asks a yes-or-no question on a terminal that is known to be there.
///
/// # Errors
/// Ctrl-C.
pub(crate) fn agree(question: &str, default: bool) -> Result<bool> {
    Ok(answer(Confirm::new(&printable(question)).with_default(default).prompt())?.unwrap_or(false))
}

/// Asks for one of several answers on a terminal that is known to be there. Escape is `None`.
///
/// # Errors
/// Ctrl-C.
pub(crate) fn choose(question: &str, answers: &[&str]) -> Result<Option<usize>> {
    let select = Select::new(question, answers.to_vec()).without_filtering().without_help_message();
    Ok(answer(select.raw_prompt())?.map(|chosen| chosen.index))
}

/// Asks for a line of text on a terminal that is known to be there. Escape is `None`.
///
/// # Errors
/// Ctrl-C.
pub(crate) fn text(question: &str) -> Result<Option<String>> {
    answer(Text::new(&printable(question)).prompt())
}

/// Asks for a secret, without showing it.
///
/// # Errors
/// There is no terminal, nothing was typed, or Ctrl-C.
pub(crate) fn secret(question: &str) -> Result<Secret> {
    if !interactive() {
        return Err(no_terminal(question));
    }
    let prompt = Password::new(question)
        .without_confirmation()
        .with_display_mode(PasswordDisplayMode::Masked)
        .prompt();
    answer(prompt)?.map(Secret::new).ok_or_else(stopped)
}

fn no_terminal(question: &str) -> Error {
    let what = printable(question);
    Error::of(ErrorKind::Usage, format!("{what} This cannot be asked without a terminal"))
        .hint("run it in a terminal")
}

fn stopped() -> Error {
    Error::of(ErrorKind::Stopped, "stopped by Ctrl-C")
}

fn answer<T>(prompt: std::result::Result<T, InquireError>) -> Result<Option<T>> {
    match prompt {
        Ok(answer) => Ok(Some(answer)),
        Err(InquireError::OperationCanceled) => Ok(None),
        Err(InquireError::OperationInterrupted) => Err(stopped()),
        Err(e) => Err(Error::new(format!("cannot ask: {e}"))),
    }
}
