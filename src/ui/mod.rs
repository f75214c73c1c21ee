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
mod usage;
pub(crate) mod watch;
mod wrap;

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use codex_pool_core::launch::Line;
use codex_pool_core::text::is_deceptive;
use codex_pool_core::{Error, ErrorKind, Result};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use style::{Span, Tone, rendered};
use wrap::{fitted, wrapped};

pub(crate) use glyphs::set_ascii;
pub(crate) use progress::{download, progress};
pub(crate) use prompt::{agree, choose, confirm, interactive, secret, text};
pub(crate) use usage::usage_error;

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

/// Prints an error, and what to type next. What the user ended himself is no error.
pub(crate) fn error(error: &Error) {
    let print = |text: &str| eprintln!("{}", glyphs::shown(&fitted(&printable(text), columns_of_stderr())));
    let usual = match error.kind {
        ErrorKind::Stopped => None,
        ErrorKind::Usage => Some("see `codex-pool --help`"),
        ErrorKind::NoSuchAccount | ErrorKind::NoUsableAccount | ErrorKind::LoginNeeded => {
            Some("`codex-pool list`")
        }
        _ => Some("`codex-pool doctor`"),
    };
    match error.kind {
        ErrorKind::Stopped => print(&error.message),
        _ => complain("error:", Tone::Bad, &error.message),
    }
    if let Some(next) = error.hint.as_deref().or(usual) {
        print(&format!("  next: {next}"));
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
