//! What was blanked, kept: `blanked/<thread>` in the pool, 0600, only ever appended to. Each pass over a log first writes
//! all that it will take away, durably, and then changes the log; so a pass that a crash has cut off is made complete by
//! making its edits again, and every byte can be brought back.
//!
//! ```text
//! codex-pool blanked 1
//! pass {"dev":…,"ino":…,"size":…,"atime":…,"mtime":…,"log":"…"}
//! edit <offset> <length> <length of what comes there>
//! <what comes there, then blanks><what was there>
//! ready            all of it is here, and durable
//! done             the log has been changed
//! ```

use std::fs::{File, FileTimes, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::change::{Change, PIECE, Way, pieces};
use super::line::Edit;
use super::scan::read_up_to;
use crate::files::{FileLock, create_private_dir, open_with, sync_dir};

const FORMAT: &[u8] = b"codex-pool blanked 1\n";
/// The longest line between edits: a path, escaped.
const LINE: u64 = 32 << 10;

/// A log as it was when a pass began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    dev: u64,
    ino: u64,
    size: u64,
    /// Nanoseconds since 1970.
    atime: i64,
    mtime: i64,
    /// Where it is, for people.
    log: String,
}

impl Before {
    pub(super) fn of(log: &Path, meta: &Metadata) -> Before {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Before {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            atime: nanos(meta.atime(), meta.atime_nsec()),
            mtime: nanos(meta.mtime(), meta.mtime_nsec()),
            log: log.to_string_lossy().into_owned(),
        }
    }

    /// Whether it is this very file.
    fn is(&self, meta: &Metadata) -> bool {
        (self.dev, self.ino) == (meta.dev(), meta.ino())
    }

    /// Puts the times back, unless somebody has written to the log since.
    fn put_times_back(&self, log: &File) -> io::Result<()> {
        if log.metadata()?.len() != self.size {
            return Ok(());
        }
        let time = |nanos: i64| {
            let since = Duration::from_nanos(nanos.unsigned_abs());
            if nanos < 0 { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since }
        };
        log.set_times(FileTimes::new().set_accessed(time(self.atime)).set_modified(time(self.mtime)))
    }
}

/// Where the log of a record was; `None` for what is no record of ours.
pub fn log_of_blanked(record: &Path) -> Option<PathBuf> {
    let file = open_with(File::options().read(true), libc::O_NOFOLLOW, record).ok()?;
    let mut lines = BufReader::new(file.take(LINE)).split(b'\n');
    let format = lines.next()?.ok()?;
    let pass = lines.next()?.ok()?;
    let before: Before = serde_json::from_slice(pass.strip_prefix(b"pass ")?).ok()?;
    (FORMAT.strip_suffix(b"\n") == Some(&format)).then(|| before.log.into())
}

/// The record of one thread, which nobody else writes to meanwhile.
#[derive(Debug)]
pub(super) struct Record {
    file: File,
    _lock: FileLock,
}

/// What a record's last pass says.
enum Last {
    /// Nothing is open.
    Settled,
    /// It may have changed the log in part.
    Open { before: Before, edits: u64 },
}

impl Record {
    /// Opens a record; `None` if there is none, `WouldBlock` if somebody else is at it.
    pub(super) fn open(path: &Path) -> io::Result<Option<Record>> {
        match Record::open_file(path, false) {
            Ok(file) => Record::locked(path, file).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens or makes a record.
    fn make(path: &Path) -> io::Result<Record> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        create_private_dir(folder)?;
        match Record::open_file(path, true) {
            Ok(_) => {
                sync_dir(folder)?;
                // The folder may be new as well.
                folder.parent().map_or(Ok(()), sync_dir)?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        Record::locked(path, Record::open_file(path, false)?)
    }

    fn open_file(path: &Path, new: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        open_with(options.read(true).write(true).create_new(new).mode(0o600), libc::O_NOFOLLOW, path)
    }

    fn locked(path: &Path, file: File) -> io::Result<Record> {
        let meta = file.metadata()?;
        let lock = FileLock::of(file.try_clone()?, Duration::ZERO)?.ok_or(io::ErrorKind::WouldBlock)?;
        // Whoever held it may have removed it.
        let there =
            std::fs::symlink_metadata(path).is_ok_and(|at| (at.dev(), at.ino()) == (meta.dev(), meta.ino()));
        if there { Ok(Record { file, _lock: lock }) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Removes the record.
    pub(super) fn remove(self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Makes the last pass complete if a crash has cut it off, or forgets it if it never began to change the log.
    pub(super) fn settle(&self, log: &File) -> io::Result<()> {
        let (last, end) = self.last()?;
        if end == 0 && !self.began_and_no_more()? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not written by this version"));
        }
        self.file.set_len(end)?;
        let Last::Open { before, edits } = last else { return Ok(()) };
        // Another file at its place was never touched.
        if before.is(&log.metadata()?) {
            self.apply(log, &before, edits, Way::Blank)?;
        }
        self.done()
    }

    /// The state of the last pass, and where the part that counts ends.
    fn last(&self) -> io::Result<(Last, u64)> {
        let (mut last, mut end) = (Last::Settled, 0);
        let mut pass = None;
        self.read(0, |part, at| {
            match part {
                Part::Format => end = at,
                Part::Pass(before) => pass = Some((before, at)),
                Part::Edit { .. } => {}
                Part::Ready => {
                    if let Some((before, edits)) = pass.take() {
                        (last, end) = (Last::Open { before, edits }, at);
                    }
                }
                Part::Done => (last, end) = (Last::Settled, at),
            }
            Ok(true)
        })?;
        Ok((last, end))
    }

    /// Whether there is nothing but what a crash left of the first line.
    fn began_and_no_more(&self) -> io::Result<bool> {
        let mut start = [0; FORMAT.len()];
        let read = read_up_to(&self.file, &mut start, 0, u64::MAX)?;
        Ok(read < FORMAT.len()
            && (FORMAT.starts_with(&start[..read]) || start[..read].iter().all(|b| *b == 0)))
    }

    fn done(&self) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::End(0))?;
        file.write_all(b"done\n")
    }

    /// Changes the log by the edits of a pass that begin at this place of the record.
    fn apply(&self, log: &File, before: &Before, edits: u64, way: Way) -> io::Result<()> {
        let mut change = Change::new(&self.file, log, way);
        self.read(edits, |part, _| match part {
            Part::Edit { place, head, was } => {
                change.make(&place, &head, was)?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        before.put_times_back(log)?;
        log.sync_all()
    }

    /// Writes back all that was ever blanked in this log, the newest first.
    pub(super) fn restore(&self, log: &File) -> io::Result<()> {
        let meta = log.metadata()?;
        let mut passes = Vec::new();
        self.read(0, |part, at| {
            if let Part::Pass(before) = part {
                passes.push((before, at));
            }
            Ok(true)
        })?;
        for (before, edits) in passes.into_iter().rev().filter(|(before, _)| before.is(&meta)) {
            self.apply(log, &before, edits, Way::Back)?;
        }
        Ok(())
    }

    /// Hands out what stands in the record from `at` on, with where it ends, until `take` has enough or it ends: a part
    /// that a crash has cut off is none.
    fn read(&self, at: u64, mut take: impl FnMut(Part, u64) -> io::Result<bool>) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))?;
        let mut reader = BufReader::with_capacity(PIECE, file);
        let (mut at, mut line) = (at, Vec::new());
        loop {
            line.clear();
            reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
            let Some(text) = line.strip_suffix(b"\n") else { return Ok(()) };
            at += line.len() as u64;
            let Some(mut part) = Part::of(text) else { return Ok(()) };
            if let Part::Edit { place, head, was } = &mut part {
                *was = at + head.len() as u64;
                let end = *was + (place.end - place.start) + 1;
                if end > size {
                    return Ok(());
                }
                reader.read_exact(head)?;
                reader.seek_relative(end as i64 - *was as i64)?;
                at = end;
            }
            if !take(part, at)? {
                return Ok(());
            }
        }
    }
}

/// A part of a record.
enum Part {
    Format,
    Pass(Before),
    Edit {
        /// In the log.
        place: Range<u64>,
        head: Vec<u8>,
        /// Where in the record stands what was there.
        was: u64,
    },
    Ready,
    Done,
}

impl Part {
    /// Reads a part's line; an edit's `head` is as long as it will be.
    fn of(line: &[u8]) -> Option<Part> {
        match line {
            b"codex-pool blanked 1" => return Some(Part::Format),
            b"ready" => return Some(Part::Ready),
            b"done" => return Some(Part::Done),
            _ => {}
        }
        if let Some(before) = line.strip_prefix(b"pass ") {
            return serde_json::from_slice(before).ok().map(Part::Pass);
        }
        let mut numbers =
            std::str::from_utf8(line).ok()?.strip_prefix("edit ")?.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let (start, length, head) = (next()?, next()?, next()?);
        let end = start.checked_add(length)?;
        (head <= length && head <= PIECE as u64).then(|| Part::Edit {
            place: start..end,
            head: vec![0; head as usize],
            was: 0,
        })
    }
}

/// A pass that is being written.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    path: &'a Path,
    log: &'a File,
    before: Before,
    record: Option<Record>,
    writing: Option<Writing>,
    copied: Vec<u8>,
}

#[derive(Debug)]
struct Writing {
    record: Record,
    writer: BufWriter<File>,
    /// Where the record ended before.
    began: u64,
    /// Where its first edit begins.
    edits: u64,
}

impl<'a> Pass<'a> {
    /// A pass over this log; `record` is what is there already. Nothing is written before the first edit.
    pub(super) fn new(path: &'a Path, record: Option<Record>, log: &'a File, before: Before) -> Self {
        Pass { path, log, before, record, writing: None, copied: vec![0; PIECE] }
    }

    fn begin(&mut self) -> io::Result<&mut Writing> {
        let record = match self.record.take() {
            Some(record) => record,
            None => {
                let record = Record::make(self.path)?;
                record.settle(self.log)?;
                record
            }
        };
        let began = (&record.file).seek(SeekFrom::End(0))?;
        let mut writer = BufWriter::with_capacity(PIECE, record.file.try_clone()?);
        let header = format!("pass {}\n", serde_json::to_string(&self.before)?);
        let format = if began == 0 { FORMAT } else { b"" };
        let edits = began + (format.len() + header.len()) as u64;
        // A failure is undone by `give_up`, which must know of it.
        let written = writer.write_all(format).and_then(|()| writer.write_all(header.as_bytes()));
        let writing = self.writing.insert(Writing { record, writer, began, edits });
        written.map(|()| writing)
    }

    /// Writes down an edit and what it will take away.
    pub(super) fn keep(&mut self, edit: &Edit) -> io::Result<()> {
        if self.writing.is_none() {
            self.begin()?;
        }
        let Some(Writing { writer, .. }) = &mut self.writing else { return Ok(()) };
        let Range { start, end } = edit.place;
        writeln!(writer, "edit {start} {} {}", end - start, edit.head.len())?;
        writer.write_all(&edit.head)?;
        for piece in pieces(&edit.place) {
            let bytes = &mut self.copied[..(piece.end - piece.start) as usize];
            if read_up_to(self.log, bytes, piece.start, piece.end)? != bytes.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            writer.write_all(bytes)?;
        }
        writer.write_all(b"\n")
    }

    /// All edits are written down: makes that durable. From here on the record is what counts.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let Some(Writing { record, writer, .. }) = &mut self.writing else { return Ok(()) };
        writer.write_all(b"ready\n")?;
        writer.flush()?;
        record.file.sync_all()
    }

    /// Makes the edits.
    pub(super) fn carry_out(self) -> io::Result<()> {
        let Some(Writing { record, edits, .. }) = self.writing else { return Ok(()) };
        record.apply(self.log, &self.before, edits, Way::Blank)?;
        record.done()
    }

    /// Takes back what was written down: the log is as it was.
    pub(super) fn give_up(self) {
        let Some(Writing { record, writer, began, .. }) = self.writing else { return };
        // What is still in its buffer must not be written when it is dropped.
        drop(writer.into_parts());
        // Whatever cannot be taken back now is no whole pass, and forgotten by the next.
        let _ = record.file.set_len(began);
        if began == 0 {
            let _ = record.remove(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::rollout::line::What;

    #[test]
    fn what_could_not_be_kept_whole_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blanked/thread");
        let log_path = dir.path().join("log");
        // More than what is written at once.
        std::fs::write(&log_path, "sealed".repeat(PIECE)).unwrap();
        let log = File::options().read(true).write(true).open(&log_path).unwrap();
        let before = || Before::of(&log_path, &log.metadata().unwrap());
        let edit = |place| Edit { place, head: Vec::new(), what: What::Id };
        let fail = || {
            let mut pass = Pass::new(&path, Record::open(&path).unwrap(), &log, before());
            pass.keep(&edit(0..3 * PIECE as u64)).unwrap();
            // As when the disk is full: this cannot be written.
            pass.keep(&edit(0..7 * PIECE as u64)).unwrap_err();
            pass.give_up();
        };
        fail();
        assert!(!path.exists());
        let mut pass = Pass::new(&path, None, &log, before());
        pass.keep(&edit(0..3 * PIECE as u64)).unwrap();
        pass.close().unwrap();
        pass.carry_out().unwrap();
        let kept = std::fs::read(&path).unwrap();
        fail();
        assert_eq!(std::fs::read(&path).unwrap(), kept);
        let log = std::fs::read_to_string(&log_path).unwrap();
        assert_eq!(log, " ".repeat(3 * PIECE) + &"sealed".repeat(PIECE / 2));
    }
}
