//! The only place that prints. Results go to stdout, everything else to stderr. JSON is never mixed with text. Text
//! from outside is shown without control characters.

#![expect(clippy::print_stderr, reason = "this room prints")]

pub(crate) mod columns;
pub(crate) mod findings;
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
use codex_pool_core::launch::Line;
use codex_pool_core::text::is_deceptive;
use codex_pool_core::{Error, Result};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use style::{Span, Tone, rendered};
use wrap::wrapped;

pub(crate) use progress::{download, progress};
pub(crate) use prompt::{agree, choose, confirm, interactive, secret, text};

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
    eprintln!("{} {}", toned("warning:", Tone::Middling), printable(text));
}

/// Prints an error, and what to type next.
pub(crate) fn error(error: &Error) {
    eprintln!("{} {}", toned("error:", Tone::Bad), printable(&error.message));
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

/// Says whether output is coloured, for all that this program prints: the text of help and questions, too. Unless it is
/// said, `NO_COLOR`, `CLICOLOR_FORCE`, `TERM` and the kind of the output decide.
pub(crate) fn set_colour(always: bool) {
    if always { ColorChoice::Always } else { ColorChoice::Never }.write_global();
}

/// Returns the text in a colour, if stderr is coloured.
fn toned(text: &'static str, tone: Tone) -> String {
    rendered(&[Span { tone, ..Span::plain(text) }], colour(&std::io::stderr()))
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

/// Returns how charts look on standard output.
pub(crate) fn look(ascii: bool) -> history::Look {
    history::Look { colour: colour(&std::io::stdout()), ascii }
}

fn colour(stream: &impl RawStream) -> bool {
    !matches!(AutoStream::choice(stream), ColorChoice::Never)
}

/// Returns the text without characters that change what a terminal shows: control and bidirectional ones.
pub(crate) fn printable(text: &str) -> String {
    let bad = |c| c != '\n' && is_deceptive(c);
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}
