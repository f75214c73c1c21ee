//! The account's limits in a session log, read from its end. It does not know which account they belong to.

use std::fs::File;

use memchr::{memchr, memmem};
use serde::Deserialize;

use super::{NANOS, read_part};
use crate::time;
use crate::usage::{Credits, Source, Usage, Window};

/// How much of a file's end is read, more while no report is found, bytes.
const TAILS: [u64; 3] = [64 << 10, 256 << 10, 1 << 20];
/// Within this many bytes a line says its kind.
const HEAD: usize = 256;

/// Returns the newest report of the account's limits in a session log, if it was written after `since` (Unix
/// nanoseconds). Its `fetched_at` is the time of the event.
pub fn newest_limits(file: &File, since: i64) -> Option<Usage> {
    let length = file.metadata().ok()?.len();
    for size in TAILS {
        let start = length.saturating_sub(size);
        let tail = read_part(file, start, size)?;
        // A tail begins within a line.
        let cut = if start > 0 { memchr(b'\n', &tail).map_or(tail.len(), |at| at + 1) } else { 0 };
        let lines = tail[cut..].rsplit(|byte| *byte == b'\n');
        let newest = lines.filter(|line| says_token_count(line)).find_map(event);
        match newest {
            Some((at, usage)) => return (at > since).then_some(usage),
            None if start == 0 => return None,
            None => {}
        }
    }
    None
}

/// Returns whether a line begins as a report of tokens. Most lines are long and of other kinds.
fn says_token_count(line: &[u8]) -> bool {
    memmem::find(&line[..line.len().min(HEAD)], b"\"token_count\"").is_some()
}

#[derive(Deserialize)]
struct Line {
    timestamp: String,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    r#type: String,
    rate_limits: Option<Limits>,
}

#[derive(Deserialize)]
struct Limits {
    limit_id: Option<String>,
    primary: Option<LogWindow>,
    secondary: Option<LogWindow>,
    credits: Option<Credits>,
    plan_type: Option<String>,
}

#[derive(Deserialize)]
struct LogWindow {
    used_percent: f64,
    window_minutes: Option<i64>,
    resets_at: Option<i64>,
    resets_in_seconds: Option<i64>,
}

/// Returns the usage that a line reports and the line's time (Unix nanoseconds), if it is about the main limit.
fn event(line: &[u8]) -> Option<(i64, Usage)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let limits = line.payload.rate_limits.filter(|_| line.payload.r#type == "token_count")?;
    if limits.limit_id.is_some_and(|id| id != "codex") {
        return None;
    }
    let nanos = time::parse_rfc3339_nanos(&line.timestamp)?;
    let at = nanos.div_euclid(NANOS);
    let window = |w: LogWindow| {
        // Some versions write 299 for 300.
        let minutes = w.window_minutes.filter(|m| (1..=366 * 1440).contains(m))?;
        let minutes = if minutes % 60 == 59 { minutes + 1 } else { minutes };
        let resets_at = w.resets_at.or(w.resets_in_seconds.map(|s| at.saturating_add(s)));
        Some(Window {
            window_seconds: minutes * 60,
            used_percent: w.used_percent.clamp(0.0, 100.0),
            resets_at,
        })
    };
    let mut windows: Vec<Window> =
        [limits.primary, limits.secondary].into_iter().flatten().filter_map(window).collect();
    windows.sort_by_key(|w| w.window_seconds);
    windows.dedup_by_key(|w| w.window_seconds);
    let usage = Usage {
        limit_reached: windows.iter().any(|w| w.used_percent >= 100.0),
        credits: limits.credits,
        plan: limits.plan_type,
        ..Usage::new(Source::SessionLog, at, windows)
    };
    (!usage.windows.is_empty()).then_some((nanos, usage))
}
