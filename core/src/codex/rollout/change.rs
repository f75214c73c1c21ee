//! Makes the edits of a record in a session log, forwards and back. It touches no byte that is neither the old nor the new
//! one.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::scan::read_up_to;

/// How much of a change is in memory at once, bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Which way an edit is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Blank,
    Back,
}

/// Makes edits, one way or the other.
pub(super) struct Change<'a> {
    record: &'a File,
    log: &'a File,
    way: Way,
    old: Vec<u8>,
    now: Vec<u8>,
}

impl<'a> Change<'a> {
    /// Edits of this log, whose old bytes the record has.
    pub(super) fn new(record: &'a File, log: &'a File, way: Way) -> Change<'a> {
        Change { record, log, way, old: vec![0; PIECE], now: vec![0; PIECE] }
    }

    /// Makes one edit. A place that holds neither what was there nor what comes there, nor a mixture of the two, was
    /// written by another program since.
    pub(super) fn make(&mut self, place: &Range<u64>, head: &[u8], was: u64) -> io::Result<()> {
        for piece in pieces(place) {
            if !self.is_ours(place, &piece, head, was)? {
                return Ok(());
            }
        }
        for piece in pieces(place) {
            let (at, length) = (piece.start - place.start, (piece.end - piece.start) as usize);
            let bytes = &mut self.old[..length];
            match self.way {
                Way::Back => {
                    read_up_to(self.record, bytes, was + at, u64::MAX)?;
                }
                Way::Blank => fill(bytes, at, head),
            }
            self.log.write_all_at(bytes, piece.start)?;
        }
        Ok(())
    }

    fn is_ours(&mut self, place: &Range<u64>, piece: &Range<u64>, head: &[u8], was: u64) -> io::Result<bool> {
        let (at, length) = (piece.start - place.start, (piece.end - piece.start) as usize);
        let (old, now) = (&mut self.old[..length], &mut self.now[..length]);
        if read_up_to(self.record, old, was + at, u64::MAX)? != length
            || read_up_to(self.log, now, piece.start, piece.end)? != length
        {
            return Ok(false);
        }
        let same = |i: usize| now[i] == old[i] || now[i] == new_byte(head, at + i as u64);
        Ok(now == old || (0..length).all(same))
    }
}

/// A place in pieces that fit into memory.
pub(super) fn pieces(place: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = place.end;
    (place.start..end).step_by(PIECE).map(move |start| start..end.min(start + PIECE as u64))
}

/// What comes at `at` of an edit's place.
fn fill(bytes: &mut [u8], at: u64, head: &[u8]) {
    bytes.fill(b' ');
    let rest = usize::try_from(at).ok().and_then(|at| head.get(at..)).unwrap_or_default();
    let length = rest.len().min(bytes.len());
    bytes[..length].copy_from_slice(&rest[..length]);
}

fn new_byte(head: &[u8], at: u64) -> u8 {
    usize::try_from(at).ok().and_then(|at| head.get(at)).copied().unwrap_or(b' ')
}
