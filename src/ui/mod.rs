//! The only place that prints. Results go to stdout, everything else to stderr. JSON is never mixed with text. Text
//! from outside is shown without control characters.

#![expect(clippy::print_stderr, reason = "this room prints")]

pub(crate) mod findings;
mod progress;
mod prompt;
pub(crate) mod table;
pub(crate) mod watch;
mod wrap;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use codex_pool_core::launch::Line;
use codex_pool_core::text::is_deceptive;
use codex_pool_core::{Error, Result};

use wrap::wrapped;

pub(crate) use progress::{download, progress};
pub(crate) use prompt::{agree, choose, confirm, interactive, secret};

/// Prints a line of a result.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", printable(text));
}

/// Prints text of a result that is laid out already, such as a table.
pub(crate) fn block(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints bytes of a result.
pub(crate) fn raw(bytes: &[u8]) {
    let _ = raw_whole(bytes);
}

/// Prints bytes of a result that must arrive whole.
///
/// # Errors
/// Standard output does not take them.
pub(crate) fn raw_whole(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|e| Error::new(format!("cannot write to standard output: {e}")))
}

/// Prints a result as JSON.
pub(crate) fn json(value: &serde_json::Value) {
    let _ = writeln!(std::io::stdout(), "{value}");
}

/// Prints what was done.
pub(crate) fn done(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", printable(text));
}

/// Prints something worth knowing.
pub(crate) fn note(text: &str) {
    eprintln!("note: {}", printable(text));
}

/// Prints a warning.
pub(crate) fn warn(text: &str) {
    eprintln!("{} {}", style("warning:", "33"), printable(text));
}

/// Prints an error, and what to type next.
pub(crate) fn error(error: &Error) {
    eprintln!("{} {}", style("error:", "31"), printable(&error.message));
    if let Some(hint) = &error.hint {
        eprintln!("  next: {}", printable(hint));
    }
}

/// Prints a message of a launch, in the form of the shim.
pub(crate) fn fatal(text: &str) {
    eprintln!("codex-pool: {}", printable(text));
}

/// Prints a message of clap: help goes to stdout with status 0, an error to stderr with status 2.
pub(crate) fn usage_error(error: clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints the messages of a launch, as the shim does.
pub(crate) fn launch_lines(lines: &[Line], quiet: bool, verbose: bool) {
    for line in lines {
        match line {
            _ if quiet => {}
            Line::Wrong(text) => fatal(text),
            Line::Switched(text) if verbose || std::io::stderr().is_terminal() => fatal(text),
            Line::Verbose(text) if verbose => fatal(text),
            Line::Switched(_) | Line::Verbose(_) => {}
        }
    }
}

/// Returns the text in a colour, on a terminal and unless NO_COLOR is set.
fn style(text: &str, code: &str) -> String {
    paint(colour(&std::io::stderr()), text, code)
}

fn paint(colour: bool, text: &str, code: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Returns the text without characters that change what a terminal shows: control and bidirectional ones.
pub(crate) fn printable(text: &str) -> String {
    let bad = |c| c != '\n' && is_deceptive(c);
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}
