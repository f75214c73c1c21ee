//! What was known of each account's limits in the past: every reading that changed, one small file per month
//! (`history/<year>-<month>.jsonl`), for 13 months. Readings of the last days are kept as they came, older ones one an
//! hour, so that an account takes less than 1 MB a year whatever it does. Writes nothing but those files.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Usage, Window, of_length};
use crate::account::AccountId;
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::time::{self, DAY};

/// The number of files that are kept.
const MONTHS: usize = 13;
/// Readings older than this are thinned, seconds.
const WHOLE_FOR: i64 = 2 * DAY;
/// Of those, the last one of each such span is kept, seconds.
const SPAN: i64 = 3_600;
/// The size of the largest file that is read, bytes. One month of 50 accounts has 3 MB.
const MAX_FILE: u64 = 16 << 20;
/// Resets of one window in two answers differ by at most this, seconds.
const SAME_RESET: i64 = 300;

/// What was known of an account at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The account.
    pub account: AccountId,
    /// Unix seconds.
    pub at: i64,
    /// Its windows, as the service or a session log gave them.
    pub windows: Vec<Window>,
    /// Whether the service said that the limit is reached.
    pub limit_reached: bool,
}

/// A line of a file: short names, since there are many.
#[derive(Serialize, Deserialize)]
struct Line {
    t: i64,
    a: AccountId,
    /// Length (seconds), percent used, seconds until the reset.
    w: Vec<(i64, f64, Option<i64>)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    l: bool,
}

impl Reading {
    /// Returns the reading that an account's usage is.
    pub fn of(account: &AccountId, usage: &Usage) -> Reading {
        Reading {
            account: account.clone(),
            at: usage.fetched_at,
            windows: usage.windows.clone(),
            limit_reached: usage.limit_reached,
        }
    }

    /// Returns the window of this length, seconds.
    pub fn window(&self, seconds: i64) -> Option<&Window> {
        of_length(&self.windows, seconds)
    }

    fn to_line(&self) -> Line {
        let tenth = |percent: f64| (percent * 10.0).round() / 10.0;
        let windows = self.windows.iter().map(|w| {
            (w.window_seconds, tenth(w.used_percent), w.resets_at.map(|at| at.saturating_sub(self.at)))
        });
        Line { t: self.at, a: self.account.clone(), w: windows.collect(), l: self.limit_reached }
    }

    fn of_line(line: &[u8]) -> Option<Reading> {
        let Line { t, a, w, l } = serde_json::from_slice(line).ok()?;
        let window = |(window_seconds, used_percent, left): (i64, f64, Option<i64>)| Window {
            window_seconds,
            used_percent,
            resets_at: left.map(|left| t.saturating_add(left)),
        };
        let windows: Vec<Window> = w.into_iter().map(window).collect();
        let sound = windows.iter().all(|w| w.window_seconds > 0 && (0.0..=1_000.0).contains(&w.used_percent));
        sound.then_some(Reading { account: a, at: t, windows, limit_reached: l })
    }
}

/// Returns whether usage says something else than what was known: another percent, another window, or a reset.
pub fn changed(before: Option<&Usage>, after: &Usage) -> bool {
    let Some(before) = before else { return true };
    let percent = |w: &Window| w.used_percent.round() as i64;
    let differs = |w: &Window| match of_length(&before.windows, w.window_seconds) {
        Some(old) => percent(old) != percent(w) || !same_reset(old.resets_at, w.resets_at),
        None => true,
    };
    before.limit_reached != after.limit_reached
        || before.windows.len() != after.windows.len()
        || after.windows.iter().any(differs)
}

/// Returns whether two readings are of one run of a window.
pub(super) fn same_reset(a: Option<i64>, b: Option<i64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) <= SAME_RESET.unsigned_abs(),
        (a, b) => a == b,
    }
}

/// The files.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
}

impl History {
    /// Returns the history of a pool.
    pub fn new(paths: &PoolPaths) -> History {
        History { dir: paths.history() }
    }

    /// Adds readings. Once a day, older ones are thinned, those that `keep` refuses are dropped, and files beyond 13
    /// months are removed.
    ///
    /// # Errors
    /// What the system says. What was there before is still there.
    pub fn add(
        &self,
        lock: &PoolLock,
        readings: &[Reading],
        keep: impl Fn(&AccountId) -> bool,
        now: i64,
    ) -> io::Result<()> {
        let path = self.month_of(now);
        let Some(path) = path.filter(|_| !readings.is_empty()) else { return Ok(()) };
        files::create_private_dir(&self.dir)?;
        let day = |at: i64| at.div_euclid(DAY);
        if fs::metadata(&path).map_or(true, |meta| day(meta.mtime()) != day(now)) {
            self.tidy(lock, keep, now)?;
        }
        let mut lines = Vec::new();
        for reading in readings {
            serde_json::to_writer(&mut lines, &reading.to_line())?;
            lines.push(b'\n');
        }
        append(&path, &lines)
    }

    /// Returns the readings of a span of time (Unix seconds), the oldest first. Lines that cannot be read are left out.
    pub fn read(&self, from: i64, to: i64) -> Vec<Reading> {
        // A reading is in the file of the month in which it was noted, which may be a little later.
        let (first, last) = (month(from), month(to.saturating_add(DAY)));
        let mut readings: Vec<Reading> = self
            .files()
            .into_iter()
            .filter(|(name, _)| (&first..=&last).contains(&name))
            .flat_map(|(_, path)| read_file(&path))
            .filter(|reading| (from..=to).contains(&reading.at))
            .collect();
        readings.sort_by_key(|reading| reading.at);
        readings
    }

    /// Thins the two newest files and removes the oldest.
    fn tidy(&self, _lock: &PoolLock, keep: impl Fn(&AccountId) -> bool, now: i64) -> io::Result<()> {
        let files = self.files();
        for (_, path) in files.iter().rev().skip(MONTHS - 1) {
            files::remove_file(path)?;
        }
        for (_, path) in files.iter().rev().take(2) {
            let before = read_file(path);
            let count = before.len();
            let after: Vec<Reading> = thinned(before, now).into_iter().filter(|r| keep(&r.account)).collect();
            if after.len() == count {
                continue;
            }
            let mut bytes = Vec::new();
            for reading in &after {
                serde_json::to_writer(&mut bytes, &reading.to_line())?;
                bytes.push(b'\n');
            }
            files::write_whole(path, &bytes, Durability::Fast)?;
        }
        Ok(())
    }

    /// Returns the files and their months, the oldest first.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let named = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.to_owned();
            let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
            let (year, month) = name.split_once('-')?;
            (year.len() == 4 && month.len() == 2 && digits(year) && digits(month)).then_some((name, path))
        };
        let mut files: Vec<(String, PathBuf)> = entries.filter_map(|entry| named(entry.path())).collect();
        files.sort();
        files
    }

    /// `None` for a time that has no month, as a clock may say.
    fn month_of(&self, now: i64) -> Option<PathBuf> {
        (now > 0).then(|| self.dir.join(format!("{}.jsonl", month(now))))
    }
}

/// Returns the month of a time in UTC, such as `2026-11`.
fn month(at: i64) -> String {
    time::to_rfc3339(at)[..7].to_owned()
}

fn read_file(path: &Path) -> Vec<Reading> {
    let bytes = files::read_small(path, MAX_FILE).ok().flatten().unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter_map(Reading::of_line).collect()
}

/// Adds lines to a file. A line that a crash left half-written does not spoil them.
fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = files::open_to_append(path)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == *b"\n" {
        return file.write_all(lines);
    }
    file.write_all(&[b"\n", lines].concat())
}

/// Returns the readings without those of older days that say little: of an account in an hour, the last one stays, and
/// the last one before a reset.
fn thinned(mut readings: Vec<Reading>, now: i64) -> Vec<Reading> {
    readings.sort_by_key(|reading| reading.at);
    let mut kept = Vec::new();
    let mut later: HashMap<AccountId, Reading> = HashMap::new();
    for reading in readings.into_iter().rev() {
        let old = reading.at < now - WHOLE_FOR;
        let next = later.get(&reading.account);
        let same_hour = next.is_some_and(|next| next.at.div_euclid(SPAN) == reading.at.div_euclid(SPAN));
        let same_run = next.is_some_and(|next| {
            next.limit_reached == reading.limit_reached
                && reading.windows.iter().all(|w| {
                    let next = next.window(w.window_seconds);
                    next.is_some_and(|next| same_reset(next.resets_at, w.resets_at))
                })
        });
        if old && same_hour && same_run {
            continue;
        }
        later.insert(reading.account.clone(), reading.clone());
        kept.push(reading);
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests;
