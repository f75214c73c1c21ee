//! One conversation out of the lines that several runs of `codex exec --json` write. A line's first bytes decide what
//! becomes of it; the rest of a long one streams. Pure: bytes and a time in, bytes out.

use crate::codex::rollout::says_limit;

/// A line's kind, and the number of an item, are in these first bytes.
const HEAD: usize = 160;
/// How long an `error` is held back for the line that follows, milliseconds.
const HOLD: u64 = 250;
/// Longer errors are not held back, bytes.
const LONGEST: usize = 64 << 10;

const TYPE: &[u8] = b"{\"type\":\"";
const ITEM: &[u8] = b",\"item\":{\"id\":\"item_";
const THREAD: &[u8] = b",\"thread_id\":\"";

/// The filter of one run's lines.
#[derive(Debug, Default)]
pub struct JsonStream {
    /// Whether the run goes on with a conversation that has begun.
    resumed: bool,
    /// How many items the runs before have named.
    before: u64,
    /// How many items there are by now.
    items: u64,
    /// Whether the turn of this run was told.
    turn_started: bool,
    thread: Option<String>,
    at: At,
    /// Beginning of the line, or all of one that is held back.
    line: Vec<u8>,
    held: Held,
}

/// Where in a line the stream is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In its first bytes, which are in `line`.
    #[default]
    Head,
    /// In the rest of one that is passed on.
    Through,
    /// In the rest of one that is dropped.
    Drop,
    /// In one that is held back, and collected in `line`.
    Hold,
}

/// Lines that are passed on only if the run is not carried on.
#[derive(Debug, Default)]
struct Held {
    lines: Vec<u8>,
    /// When the `error` came, milliseconds.
    since: u64,
    /// Whether it says limit, or `turn.failed` has followed.
    last: bool,
}

impl JsonStream {
    /// Returns the filter of a run. `items`: how many items the runs before have named; `None`: it is the first run.
    pub fn new(items: Option<u64>) -> JsonStream {
        let before = items.unwrap_or(0);
        JsonStream { resumed: items.is_some(), before, items: before, ..JsonStream::default() }
    }

    /// Returns the id of the thread, once it was told.
    pub fn thread(&self) -> Option<&str> {
        self.thread.as_deref()
    }

    /// Returns how many items have been named.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Takes what the run has written, and adds what is to be passed on. `now`: milliseconds of any clock.
    pub fn push(&mut self, mut bytes: &[u8], now: u64, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
            bytes = rest;
            match self.at {
                At::Through => out.extend_from_slice(piece),
                At::Drop => {}
                At::Head | At::Hold => self.line.extend_from_slice(piece),
            }
            if self.at == At::Head && (end.is_some() || self.line.len() >= HEAD) {
                self.decide(now, out);
            }
            if self.at == At::Hold && end.is_none() && self.line.len() > LONGEST {
                self.release(out);
                out.append(&mut self.line);
                self.at = At::Through;
            }
            if end.is_some() {
                if self.at == At::Hold {
                    self.hold(now, out);
                }
                self.at = At::Head;
            }
        }
    }

    /// Decides what becomes of the line that begins with `line`.
    fn decide(&mut self, now: u64, out: &mut Vec<u8>) {
        let kind = kind(&self.line);
        if matches!(kind, b"error" | b"turn.failed") {
            self.at = At::Hold;
            return;
        }
        self.pass_overdue(now, out);
        self.release(out);
        let mut line = std::mem::take(&mut self.line);
        self.at = At::Through;
        match kind_of(&line) {
            Kind::Thread => {
                self.thread = self.thread.take().or_else(|| value(&line, THREAD));
                if self.resumed {
                    self.at = At::Drop;
                }
            }
            Kind::Turn if self.resumed && !self.turn_started => {
                self.turn_started = true;
                self.at = At::Drop;
            }
            Kind::Item => self.number(&mut line),
            Kind::Turn | Kind::Other => {}
        }
        if self.at == At::Through {
            out.append(&mut line);
        }
        line.clear();
        self.line = line;
    }

    /// Gives an item the number that it has in the whole conversation.
    fn number(&mut self, line: &mut Vec<u8>) {
        let Some(at) = memchr::memmem::find(&line[..line.len().min(HEAD)], ITEM) else { return };
        let start = at + ITEM.len();
        let digits = line[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number =
            std::str::from_utf8(&line[start..start + digits]).ok().and_then(|n| n.parse::<u64>().ok());
        let Some(number) = number.map(|number| number.saturating_add(self.before)) else { return };
        self.items = self.items.max(number.saturating_add(1));
        line.splice(start..start + digits, number.to_string().into_bytes());
    }

    /// Holds back the whole line in `line`.
    fn hold(&mut self, now: u64, out: &mut Vec<u8>) {
        if kind(&self.line) == b"turn.failed" {
            self.held.last = true;
        } else {
            self.release(out);
            self.held = Held { lines: Vec::new(), since: now, last: says_limit(&self.line) };
        }
        self.held.lines.append(&mut self.line);
    }

    /// Passes on what is held back.
    fn release(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held.lines);
        self.held = Held::default();
    }

    /// Passes on an `error` that has waited long enough.
    pub fn pass_overdue(&mut self, now: u64, out: &mut Vec<u8>) {
        if self.patience(now) == Some(0) {
            self.release(out);
        }
    }

    /// Returns how much longer an `error` waits, milliseconds. `None`: none does, or it waits for the run's end.
    pub fn patience(&self, now: u64) -> Option<u64> {
        let waits = !self.held.lines.is_empty() && !self.held.last;
        waits.then(|| (self.held.since + HOLD).saturating_sub(now))
    }

    /// Ends the run. Returns what was held back, which is passed on unless the run is carried on.
    pub fn take_held(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.release(&mut out);
        out.append(&mut self.line);
        out
    }
}

enum Kind {
    Thread,
    Turn,
    Item,
    Other,
}

fn kind_of(line: &[u8]) -> Kind {
    match kind(line) {
        b"thread.started" => Kind::Thread,
        b"turn.started" => Kind::Turn,
        kind if kind.starts_with(b"item.") => Kind::Item,
        _ => Kind::Other,
    }
}

fn kind(line: &[u8]) -> &[u8] {
    let name = line.strip_prefix(TYPE).unwrap_or_default();
    &name[..memchr::memchr(b'"', name).unwrap_or(0)]
}

/// Returns the text after this key.
fn value(line: &[u8], key: &[u8]) -> Option<String> {
    let text = &line[memchr::memmem::find(line, key)? + key.len()..];
    String::from_utf8(text[..memchr::memchr(b'"', text)?].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD_LINE: &str = "{\"type\":\"thread.started\",\"thread_id\":\"01a2\"}\n";
    const TURN: &str = "{\"type\":\"turn.started\"}\n";
    const ERROR: &str = "{\"type\":\"error\",\"message\":\"Reconnecting... 1/5\"}\n";
    const LIMIT: &str =
        "{\"type\":\"error\",\"message\":\"You’ve hit your usage limit. Try again later.\"}\n";
    const FAILED: &str =
        "{\"type\":\"turn.failed\",\"error\":{\"message\":\"You’ve hit your usage limit.\"}}\n";
    const DONE: &str = "{\"type\":\"turn.completed\",\"usage\":{}}\n";

    fn item(number: u64) -> String {
        format!(
            "{{\"type\":\"item.completed\",\"item\":{{\"id\":\"item_{number}\",\"type\":\"agent_message\",\"text\":\"item_0\"}}}}\n"
        )
    }

    /// Passes a run's lines in pieces of this size.
    fn passed(stream: &mut JsonStream, lines: &str, size: usize) -> String {
        let mut out = Vec::new();
        lines.as_bytes().chunks(size).for_each(|piece| stream.push(piece, 0, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn two_runs_are_one_conversation_in_pieces_of_any_size() {
        for size in [1, 2, 7, 100, 100_000] {
            let mut first = JsonStream::new(None);
            let mut whole =
                passed(&mut first, &[THREAD_LINE, TURN, &item(0), &item(1), LIMIT, FAILED].concat(), size);
            assert_eq!(String::from_utf8(first.take_held()).unwrap(), [LIMIT, FAILED].concat());
            assert_eq!((first.thread(), first.items()), (Some("01a2"), 2));
            let mut second = JsonStream::new(Some(2));
            whole += &passed(&mut second, &[THREAD_LINE, TURN, &item(0), DONE].concat(), size);
            assert_eq!(whole, [THREAD_LINE, TURN, &item(0), &item(1), &item(2), DONE].concat(), "{size}");
            assert_eq!(second.items(), 3);
        }
    }

    #[test]
    fn run_that_is_not_carried_on_is_passed_on_whole() {
        let lines = [THREAD_LINE, TURN, ERROR, &item(0), LIMIT, FAILED, "no JSON"].concat();
        let mut stream = JsonStream::new(None);
        let mut out = passed(&mut stream, &lines, 5).into_bytes();
        out.append(&mut stream.take_held());
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    #[test]
    fn error_waits_for_the_next_line_or_250_ms() {
        let mut stream = JsonStream::new(None);
        let mut out = Vec::new();
        stream.push(ERROR.as_bytes(), 1_000, &mut out);
        assert_eq!((out.len(), stream.patience(1_100)), (0, Some(150)));
        stream.pass_overdue(1_249, &mut out);
        assert!(out.is_empty());
        stream.pass_overdue(1_250, &mut out);
        assert_eq!((out.as_slice(), stream.patience(1_250)), (ERROR.as_bytes(), None));
        out.clear();
        stream.push([ERROR, ERROR].concat().as_bytes(), 2_000, &mut out);
        assert_eq!(out, ERROR.as_bytes(), "the first of two");
        stream.push(FAILED.as_bytes(), 2_000, &mut out);
        stream.pass_overdue(9_000, &mut out);
        assert_eq!(out, ERROR.as_bytes(), "a turn that failed may be carried on until the run ends");
    }

    #[test]
    fn error_that_says_limit_waits_longer_but_not_for_other_lines() {
        let mut stream = JsonStream::new(None);
        let mut out = Vec::new();
        stream.push(LIMIT.as_bytes(), 0, &mut out);
        stream.pass_overdue(60_000, &mut out);
        assert_eq!((out.len(), stream.patience(60_000)), (0, None));
        stream.push(item(0).as_bytes(), 60_000, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), [LIMIT, &item(0)].concat());
    }

    #[test]
    fn long_lines_stream() {
        let mut stream = JsonStream::new(Some(7));
        let mut out = Vec::new();
        let long = format!(
            "{{\"type\":\"item.updated\",\"item\":{{\"id\":\"item_1\",\"text\":\"{}",
            "x".repeat(500)
        );
        stream.push(long.as_bytes(), 0, &mut out);
        assert_eq!(String::from_utf8(out.clone()).unwrap(), long.replace("item_1", "item_8"));
        let error = format!("{{\"type\":\"error\",\"message\":\"{}", "x".repeat(LONGEST));
        let mut stream = JsonStream::new(None);
        out.clear();
        stream.push(error.as_bytes(), 0, &mut out);
        assert_eq!(out.len(), error.len(), "too long to be held");
        stream.push(b"\"}\n", 0, &mut out);
        assert_eq!(out.len(), error.len() + 3);
    }
}
