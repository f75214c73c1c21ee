//! The only place that prints. Results go to stdout, everything else to stderr. JSON is never mixed with text. Text
//! from outside is shown without control characters.

#![expect(clippy::print_stderr, reason = "this room prints")]

pub(crate) mod columns;
pub(crate) mod findings;
pub(crate) mod glyphs;
pub(crate) mod history;
pub(crate) mod log;
mod progress;
mod prompt;
pub(crate) mod status;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod watch;
mod wrap;

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use clap::CommandFactory;
use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
use codex_pool_core::launch::Line;
use codex_pool_core::text::is_deceptive;
use codex_pool_core::{Error, ErrorKind, Result};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use style::{Span, Tone, rendered};
use wrap::{fitted, wrapped};

use crate::cli::Cli;

pub(crate) use glyphs::set_ascii;
pub(crate) use progress::{download, progress};
pub(crate) use prompt::{agree, choose, confirm, interactive, secret, text};

/// Prints a line of a result.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", glyphs::shown(&fitted(&printable(text), table::width())));
}

/// Prints text of a result that is laid out already, such as a table.
pub(crate) fn block(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", glyphs::shown(text));
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
    line(text);
}

/// Prints something worth knowing.
pub(crate) fn note(text: &str) {
    complain("note:", Tone::Plain, text);
}

/// Prints a warning.
pub(crate) fn warn(text: &str) {
    complain("warning:", Tone::Middling, text);
}

/// Prints an error, and what to type next.
pub(crate) fn error(error: &Error) {
    complain("error:", Tone::Bad, &error.message);
    if let Some(hint) = &error.hint {
        let text = fitted(&format!("  next: {}", printable(hint)), columns_of_stderr());
        eprintln!("{}", glyphs::shown(&text));
    }
}

/// Prints text behind a word that says of what kind it is.
fn complain(kind: &'static str, tone: Tone, text: &str) {
    let text = fitted(&format!("{kind} {}", printable(text)), columns_of_stderr());
    let word = rendered(&[Span { tone, ..Span::plain(kind) }], colour(&std::io::stderr()));
    eprintln!("{word}{}", glyphs::shown(text.strip_prefix(kind).unwrap_or(&text)));
}

/// Returns how wide text on stderr may be.
fn columns_of_stderr() -> usize {
    if std::io::stderr().is_terminal() { table::columns() } else { usize::MAX }
}

/// Prints a message of a launch, in the form of the shim.
pub(crate) fn fatal(text: &str) {
    eprintln!("codex-pool: {}", glyphs::shown(&printable(text)));
}

/// Prints a message of clap: help goes to stdout with status 0, an error to stderr with status 2. `verb`: what was
/// typed after the program's name.
pub(crate) fn usage_error(clap: clap::Error, verb: Option<&str>) -> ExitCode {
    let status = ExitCode::from(u8::try_from(clap.exit_code()).unwrap_or(2));
    if !clap.use_stderr() || clap.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = clap.print();
        return status;
    }
    let text = clap.render().to_string();
    let mut parts = text.split("\n\n");
    let what = parts.next().unwrap_or_default().trim_start_matches("error: ");
    let what: Vec<&str> = what.lines().map(str::trim).collect();
    let tips = parts.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    let help = match verb.filter(|verb| Cli::command().find_subcommand(verb).is_some()) {
        Some(verb) => format!("see `codex-pool {verb} --help`"),
        None => "see `codex-pool --help`".to_owned(),
    };
    let tips: Vec<String> = tips.map(str::to_owned).chain([help]).collect();
    error(&Error::of(ErrorKind::Usage, what.join(" ")).hint(tips.join("; ")));
    status
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

/// Says whether output is coloured, for all that this program prints: the text of help and questions, too. Unless it is
/// said, `NO_COLOR`, `CLICOLOR_FORCE`, `TERM` and the kind of the output decide.
pub(crate) fn set_colour(always: bool) {
    if always { ColorChoice::Always } else { ColorChoice::Never }.write_global();
}

/// Returns whether standard output is coloured.
pub(crate) fn coloured() -> bool {
    colour(&std::io::stdout())
}

/// Returns whether standard output is a pipe that nothing reads any more.
pub(crate) fn nothing_reads() -> bool {
    let stdout = std::io::stdout();
    let mut ends = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLNVAL;
    poll(&mut ends, PollTimeout::ZERO).is_ok_and(|found| found > 0)
        && ends[0].revents().is_some_and(|events| events.intersects(gone))
}

fn colour(stream: &impl RawStream) -> bool {
    !matches!(AutoStream::choice(stream), ColorChoice::Never)
}

/// Returns the text without characters that change what a terminal shows: control and bidirectional ones.
pub(crate) fn printable(text: &str) -> String {
    let bad = |c| c != '\n' && is_deceptive(c);
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}
