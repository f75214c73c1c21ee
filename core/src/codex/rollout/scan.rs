//! Going through a session log of any size, in pieces: lines that cannot matter are passed over unread, the others are
//! read by `line`. A last line without its end is left alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem::Finder;

use super::line::{Finding, Line};

/// How much is in memory at once, bytes. Longer lines are read twice.
const PIECE: usize = 256 << 10;
/// The kind of a line stands in its first bytes, whoever wrote it.
const HEAD: usize = 128;

/// What makes a line worth reading.
struct Needles {
    sealed: Finder<'static>,
    id: Finder<'static>,
    item: Finder<'static>,
    compacted: Finder<'static>,
}

/// The longest of the needles that are looked for in a whole line, less one: what two pieces must share.
const SHARED: usize = b"\"encrypted_".len() - 1;

impl Needles {
    fn new() -> Needles {
        Needles {
            sealed: Finder::new(b"\"encrypted_"),
            id: Finder::new(b"\"id\":\""),
            item: Finder::new(b"\"type\":\"response_item\""),
            compacted: Finder::new(b"\"type\":\"compacted\""),
        }
    }

    /// Whether it is part of the history, by the line's beginning.
    fn history(&self, head: &[u8]) -> bool {
        let head = &head[..head.len().min(HEAD)];
        self.item.find(head).is_some() || self.compacted.find(head).is_some()
    }

    fn matter(&self, piece: &[u8], history: bool) -> bool {
        self.sealed.find(piece).is_some() || history && self.id.find(piece).is_some()
    }
}

/// Hands out what is to be done about each line of the first `size` bytes, with where the line begins.
///
/// # Errors
/// What reading or `found` says.
pub(super) fn scan(
    file: &File,
    size: u64,
    mut found: impl FnMut(u64, Finding) -> io::Result<()>,
) -> io::Result<()> {
    let needles = Needles::new();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let read = read_up_to(file, &mut piece, at, size)?;
        if read == 0 {
            return Ok(());
        }
        let Some(last) = memchr::memrchr(b'\n', &piece[..read]) else {
            let Some(end) = long_line(file, &needles, &mut piece, at, size, &mut found)? else {
                return Ok(());
            };
            at = end + 1;
            continue;
        };
        let mut rest = &piece[..=last];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            if needles.matter(line, needles.history(line)) {
                let mut reading = Line::new(at);
                reading.feed(line);
                tell(&mut found, at, reading.finish(at + end as u64))?;
            }
            at += end as u64 + 1;
            rest = &rest[end + 1..];
        }
    }
    Ok(())
}

/// A line that is longer than a piece. Where it ends, if it does.
fn long_line(
    file: &File,
    needles: &Needles,
    piece: &mut [u8],
    began: u64,
    size: u64,
    found: &mut impl FnMut(u64, Finding) -> io::Result<()>,
) -> io::Result<Option<u64>> {
    let (mut at, mut history, mut matters) = (began, false, false);
    let end = loop {
        let read = read_up_to(file, piece, at, size)?;
        if read == 0 {
            return Ok(None);
        }
        let end = memchr::memchr(b'\n', &piece[..read]);
        let part = &piece[..end.unwrap_or(read)];
        history |= at == began && needles.history(part);
        matters |= needles.matter(part, history);
        match end {
            Some(end) => break at + end as u64,
            None if at + read as u64 >= size => return Ok(None),
            // A needle may lie across the seam.
            None => at += (read - SHARED.min(read - 1)) as u64,
        }
    };
    if matters {
        let mut reading = Line::new(began);
        let mut at = began;
        while at < end {
            let read = read_up_to(file, piece, at, end)?;
            if read == 0 {
                return Ok(None);
            }
            reading.feed(&piece[..read]);
            at += read as u64;
        }
        tell(found, began, reading.finish(end))?;
    }
    Ok(Some(end))
}

fn tell(found: &mut impl FnMut(u64, Finding) -> io::Result<()>, at: u64, finding: Finding) -> io::Result<()> {
    if finding == Finding::default() { Ok(()) } else { found(at, finding) }
}

/// Fills the piece from `at`, as far as the file goes, and not beyond `limit`.
pub(super) fn read_up_to(file: &File, piece: &mut [u8], at: u64, limit: u64) -> io::Result<usize> {
    let room = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
    let mut filled = 0;
    while filled < room {
        match file.read_at(&mut piece[filled..room], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn found(text: &[u8]) -> Vec<(u64, usize, bool)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let mut found = Vec::new();
        scan(&file, text.len() as u64, |at, finding| {
            found.push((at, finding.edits.len(), finding.unknown.is_some()));
            Ok(())
        })
        .unwrap();
        found
    }

    fn reasoning(filler: usize) -> String {
        let summary = "s".repeat(filler);
        format!(
            "{{\"timestamp\":\"2026-11-25T20:35:10.943Z\",\"type\":\"response_item\",\"payload\":{{\"type\":\"reasoning\",\"summary\":[\"{summary}\"],\"encrypted_content\":\"gAAAAABocWl0\"}}}}\n"
        )
    }

    #[test]
    fn every_line_is_seen_however_long_and_wherever_pieces_end() {
        let plain =
            |length: usize| format!("{{\"type\":\"event_msg\",\"payload\":\"{}\"}}\n", "p".repeat(length));
        for before in [0, 10, PIECE - 200, PIECE - 20, PIECE, 2 * PIECE + 5] {
            for filler in [0, PIECE - 150, PIECE - 120, PIECE - 90, PIECE, 3 * PIECE] {
                let start = plain(before);
                let text = format!("{start}{}{}{}", reasoning(filler), plain(3), reasoning(1));
                let second = start.len() + reasoning(filler).len() + plain(3).len();
                let both = [(start.len() as u64, 1, false), (second as u64, 1, false)];
                assert_eq!(found(text.as_bytes()), both, "{before} {filler}");
            }
        }
    }

    #[test]
    fn a_needle_on_a_seam_is_found() {
        let needle = reasoning(0).find("\"encrypted_").unwrap();
        for pieces in [1, 2] {
            for before in 0..2 * SHARED {
                // The seam of the second piece moves by what the first two share.
                let seam = pieces * PIECE - (pieces - 1) * SHARED;
                let line = reasoning(seam - needle - before);
                assert_eq!(found(line.as_bytes()), [(0, 1, false)], "{pieces} {before}");
            }
        }
    }

    #[test]
    fn a_last_line_without_its_end_is_left_alone() {
        let whole = reasoning(0);
        for filler in [0, 2 * PIECE] {
            let torn = reasoning(filler);
            for cut in [1, 10] {
                let text = format!("{whole}{}", &torn[..torn.len() - cut]);
                assert_eq!(found(text.as_bytes()), [(0, 1, false)]);
            }
        }
        assert_eq!(found(b""), []);
        assert_eq!(found(b"\n\n"), []);
    }
}
