//! Blanking: what in a thread's log is bound to the account that ran it is taken out in place, so that another account
//! can go on with the thread. The file keeps its size, its inode and its times; Codex's database (0.159 and later) points
//! into it by offset. Lost is hidden reasoning; no word that anybody has read, no call and no output.
//!
//! What is taken out is first kept in the pool, durably, see `record`.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::end::TurnState;
use super::follow::last_turn;
use super::line::What;
use super::record::{Before, Pass, Record};
use super::scan::scan;
use super::writer_lock::WriterLock;
use crate::codex::argv::is_uuid;
use crate::files::open_with;
use crate::paths::PoolPaths;

/// Why nobody writes to the log meanwhile.
#[derive(Debug, Clone, Copy)]
pub enum Quiet<'a> {
    /// Codex's own lock of the thread is ours. A log whose last turn has no end is left alone all the same: a Codex that
    /// knows no locks (0.140 and older) may be at it.
    Locked(&'a WriterLock),
    /// The caller knows that no process has the thread: it has seen its server or `exec` end. A last turn without an end
    /// was cut off by that.
    Stopped,
}

/// What was taken out of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blanked {
    /// Whole lines: reasoning, compactions.
    pub lines: usize,
    /// Parts of tools' outputs and of agents' messages.
    pub parts: usize,
    /// Ids of answers and calls.
    pub ids: usize,
    /// The first of the things that seem bound to the account but are not known, in words; they were left alone.
    pub unknown: Vec<String>,
}

/// Most of what is told of unknown things.
const UNKNOWN: usize = 8;

/// Why a log was left as it is.
#[derive(Debug)]
pub enum NotBlanked {
    /// A turn is in flight, or was when its Codex was killed.
    InFlight,
    /// It is archived, compressed, under several names, or no log at all: the word for it.
    Unfit(&'static str),
    /// Somebody else is blanking it.
    Busy,
    /// What would be taken out cannot be kept: no room, say.
    Record(io::Error),
    /// The log cannot be read or written. It may be changed in part; the next attempt completes that.
    Log(io::Error),
}

impl std::fmt::Display for NotBlanked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotBlanked::InFlight => f.write_str("a turn of the thread is in flight"),
            NotBlanked::Unfit(why) => write!(f, "the thread's log is {why}"),
            NotBlanked::Busy => f.write_str("another process is at the thread's log"),
            NotBlanked::Record(e) => {
                write!(
                    f,
                    "cannot keep what would be taken out of the thread's log: {}",
                    crate::error::os_text(e)
                )
            }
            NotBlanked::Log(e) => write!(f, "cannot change the thread's log: {}", crate::error::os_text(e)),
        }
    }
}

impl std::error::Error for NotBlanked {}

/// Takes out of a thread's log what is bound to an account. Doing it again changes nothing.
///
/// # Errors
/// [`NotBlanked`]; only with [`NotBlanked::Log`] can the log have changed.
pub fn blank(pool: &PoolPaths, thread: &str, log: &Path, quiet: Quiet<'_>) -> Result<Blanked, NotBlanked> {
    let record_path = record_path(pool, thread)?;
    let (file, meta) = open(log)?;
    match quiet {
        Quiet::Locked(lock) if !lock.thread().eq_ignore_ascii_case(thread) => {
            return Err(NotBlanked::Unfit("not that of the thread whose lock is held"));
        }
        Quiet::Locked(_) => {
            let turn = last_turn(&file).map_err(NotBlanked::Log)?;
            if turn.is_some_and(|turn| turn.state == TurnState::InFlight) {
                return Err(NotBlanked::InFlight);
            }
        }
        Quiet::Stopped => {}
    }
    let record = open_record(&record_path)?;
    if let Some(record) = &record {
        record.settle(&file).map_err(NotBlanked::Log)?;
    }
    let mut done = Blanked::default();
    let mut pass = Pass::new(&record_path, record, &file, Before::of(log, &meta));
    let kept = write_down(&file, &meta, &mut pass, &mut done);
    if let Err(e) = kept {
        pass.give_up();
        return Err(e);
    }
    pass.carry_out().map_err(NotBlanked::Log)?;
    Ok(done)
}

/// Writes all that is to be taken out into the record.
fn write_down(
    file: &File,
    meta: &Metadata,
    pass: &mut Pass<'_>,
    done: &mut Blanked,
) -> Result<(), NotBlanked> {
    let mut failed = None;
    let scanned = scan(file, meta.len(), |_, finding| {
        if let Some(unknown) = finding.unknown
            && done.unknown.len() < UNKNOWN
            && !done.unknown.contains(&unknown)
        {
            done.unknown.push(unknown);
        }
        for edit in &finding.edits {
            *match edit.what {
                What::Line => &mut done.lines,
                What::Part => &mut done.parts,
                What::Id => &mut done.ids,
            } += 1;
            if let Err(e) = pass.keep(edit) {
                failed = Some(e);
                return Err(io::ErrorKind::Other.into());
            }
        }
        Ok(())
    });
    match (failed, scanned) {
        (Some(e), _) if e.kind() == io::ErrorKind::WouldBlock => Err(NotBlanked::Busy),
        (Some(e), _) => Err(NotBlanked::Record(e)),
        (None, Err(e)) => Err(NotBlanked::Log(e)),
        (None, Ok(())) => pass.close().map_err(NotBlanked::Record),
    }
}

/// Completes what a crash has cut off, without looking for more; nothing if nothing was.
///
/// # Errors
/// As [`blank`].
pub fn complete(pool: &PoolPaths, thread: &str, log: &Path) -> Result<(), NotBlanked> {
    let Some(record) = open_record(&record_path(pool, thread)?)? else { return Ok(()) };
    record.settle(&open(log)?.0).map_err(NotBlanked::Log)
}

/// Writes back everything that was ever taken out of a thread's log, and forgets it. For the account that ran it.
///
/// # Errors
/// As [`blank`].
pub fn restore(pool: &PoolPaths, thread: &str, log: &Path) -> Result<(), NotBlanked> {
    let path = record_path(pool, thread)?;
    let Some(record) = open_record(&path)? else { return Ok(()) };
    record.restore(&open(log)?.0).map_err(NotBlanked::Log)?;
    record.remove(&path).map_err(NotBlanked::Record)
}

fn record_path(pool: &PoolPaths, thread: &str) -> Result<PathBuf, NotBlanked> {
    if !is_uuid(thread) {
        return Err(NotBlanked::Unfit("of no thread"));
    }
    Ok(pool.blanked().join(thread.to_ascii_lowercase()))
}

fn open_record(path: &Path) -> Result<Option<Record>, NotBlanked> {
    Record::open(path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => NotBlanked::Busy,
        _ => NotBlanked::Record(e),
    })
}

/// Opens a log that may be changed in place.
fn open(log: &Path) -> Result<(File, Metadata), NotBlanked> {
    let name = log.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.ends_with(".zst") {
        return Err(NotBlanked::Unfit("compressed"));
    }
    if !name.starts_with("rollout-") || !name.ends_with(".jsonl") {
        return Err(NotBlanked::Unfit("no session log"));
    }
    // Through the links of an account's own home to where it really is.
    let real = log.canonicalize().map_err(NotBlanked::Log)?;
    if real.iter().any(|part| part == "archived_sessions") {
        return Err(NotBlanked::Unfit("archived"));
    }
    let file = match open_with(OpenOptions::new().read(true).write(true), libc::O_NOFOLLOW, log) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Err(NotBlanked::Unfit("no file")),
        file => file.map_err(NotBlanked::Log)?,
    };
    let meta = file.metadata().map_err(NotBlanked::Log)?;
    if meta.nlink() != 1 {
        return Err(NotBlanked::Unfit("under several names"));
    }
    Ok((file, meta))
}
