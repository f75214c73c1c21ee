//! Usage from Codex's session logs, without a request: the newest `token_count` events of recent logs. It reads a
//! bounded part of a bounded number of files. An event counts for an account only if that is certain: a session that
//! another account resumes goes on in the same file, and no event names its account.

mod limits;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use limits::newest_limits;
use memchr::memchr;
use serde::Deserialize;

use super::{Usage, UsageCache, Window, longest, of_length};
use crate::account::{Account, AccountId};
use crate::files;
use crate::time;

/// How much of a file's beginning is read, more if the first line is longer, bytes. That line contains the base
/// instructions, 23 KB in Codex 0.169.
const HEADS: [u64; 2] = [32 << 10, 256 << 10];
/// The most files whose time is read, the newest first.
const MAX_STATS: usize = 64;
/// The most files that are opened.
const MAX_OPENED: usize = 8;
/// Folders are named after local days. This many before today's in UTC are read.
const DAYS_BACK: i64 = 2;
/// Nanoseconds of a second.
const NANOS: i64 = 1_000_000_000;
/// The resets in two reports of one window differ by at most this, seconds.
const SAME_RESET: i64 = 120;
/// Resets that differ by more than this are of two accounts, seconds.
const OTHER_RESET: i64 = 600;

/// A launch in the ledger that runs, or has ended since ended launches were last removed from the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// Its account. `None`: not known, so the launch may have written any event.
    pub account: Option<&'a AccountId>,
    /// When it was started, Unix seconds.
    pub started_at: i64,
}

/// Returns what the logs in a Codex home tell about the accounts that were launched, beyond what is known.
///
/// `launches` are all that ran after `since` (Unix nanoseconds), which is when the ended ones were last removed from
/// the ledger. Older events do not count.
pub fn learn(
    codex_home: &Path,
    launches: &[Span<'_>],
    accounts: &[Account],
    known: &UsageCache,
    since: i64,
    now: i64,
) -> Vec<(AccountId, Usage)> {
    let Some(earliest) = launches.iter().filter(|s| s.account.is_some()).map(|s| s.started_at).min() else {
        return Vec::new();
    };
    let mut learnt: Vec<(AccountId, Usage)> = Vec::new();
    let changed_since = earliest.max(since.div_euclid(NANOS));
    for path in recent(&codex_home.join("sessions"), changed_since, now) {
        let Ok(file) = files::open(&path) else { continue };
        let Some(creator) = creator(&file) else { continue };
        let Some(account) = accounts.iter().find(|a| creator.is(a)) else { continue };
        let Some(event) = newest_limits(&file, since) else { continue };
        if event.fetched_at > now || !certain(&event, account, launches, known) {
            continue;
        }
        let before = learnt.iter().find(|(id, _)| *id == account.id).map(|(_, usage)| usage);
        if let Some(usage) = event.over(before.or_else(|| known.usage(&account.id))) {
            learnt.retain(|(id, _)| *id != account.id);
            learnt.push((account.id.clone(), usage));
        }
    }
    learnt
}

/// Returns whether only this account can have caused the event.
fn certain(event: &Usage, account: &Account, launches: &[Span<'_>], known: &UsageCache) -> bool {
    let at = event.fetched_at;
    let running = || launches.iter().filter(|s| s.started_at <= at);
    if !running().any(|s| s.account == Some(&account.id)) {
        return false;
    }
    let Some(mark) = longest(&event.windows).and_then(|w| Some((w.window_seconds, w.resets_at?))) else {
        return running().all(|s| s.account == Some(&account.id));
    };
    // The reset of the longest window distinguishes accounts, if it is known and running.
    let reset_of = |id: &AccountId| {
        let usage = known.usage(id).filter(|usage| usage.known(at))?;
        let window = of_length(&usage.windows, mark.0)?;
        window.running(at).then_some(window.resets_at?)
    };
    let own = reset_of(&account.id);
    if own.is_some_and(|own| own.abs_diff(mark.1) > OTHER_RESET as u64) {
        return false;
    }
    let confirmed = own.is_some_and(|own| own.abs_diff(mark.1) <= SAME_RESET as u64);
    running().all(|s| match s.account {
        Some(id) if *id == account.id => true,
        Some(id) => confirmed && reset_of(id).is_some_and(|r| r.abs_diff(mark.1) > OTHER_RESET as u64),
        None => false,
    })
}

/// Returns the newest session logs that were written at or after `since`, those of the newest sessions first.
fn recent(sessions: &Path, since: i64, now: i64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut seen = 0;
    // A local day can be ahead of UTC's.
    let today = now.div_euclid(time::DAY);
    for day in (today - DAYS_BACK..=today + 1).rev() {
        let folder = sessions.join(time::day_folder(day));
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut names: Vec<_> = entries
            .filter_map(|e| Some(e.ok()?.file_name()))
            .filter(|n| n.as_bytes().starts_with(b"rollout-") && n.as_bytes().ends_with(b".jsonl"))
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        for name in names {
            if seen == MAX_STATS || found.len() == MAX_OPENED {
                return found;
            }
            seen += 1;
            let path = folder.join(name);
            if std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.mtime() >= since) {
                found.push(path);
            }
        }
    }
    found
}

/// The account that made a session, in the logs of Codex 0.159 and later.
#[derive(Debug, Deserialize)]
struct Creator {
    creator_user_id: String,
    creator_account_id: String,
}

impl Creator {
    fn is(&self, account: &Account) -> bool {
        account.user_id.as_deref() == Some(&self.creator_user_id)
            && account.account_id.as_deref() == Some(&self.creator_account_id)
    }
}

fn creator(file: &File) -> Option<Creator> {
    #[derive(Deserialize)]
    struct Meta {
        r#type: String,
        payload: Creator,
    }
    for size in HEADS {
        let head = read_part(file, 0, size)?;
        if let Some(end) = memchr(b'\n', &head) {
            let meta: Meta = serde_json::from_slice(&head[..end]).ok()?;
            return (meta.r#type == "session_meta").then_some(meta.payload);
        }
        if (head.len() as u64) < size {
            break;
        }
    }
    None
}

/// Reads at most `size` bytes of a file from `start` on.
fn read_part(mut file: &File, start: u64, size: u64) -> Option<Vec<u8>> {
    let mut part = Vec::with_capacity(size as usize);
    file.seek(SeekFrom::Start(start)).ok()?;
    file.take(size).read_to_end(&mut part).ok()?;
    Some(part)
}

impl Usage {
    /// Returns what is known with this report added. Windows that it does not name, credits and limits of single models
    /// stay. `None`: what is known is as new.
    pub(crate) fn over(mut self, known: Option<&Usage>) -> Option<Usage> {
        let Some(known) = known else { return Some(self) };
        // Within one second usage only grows, so the fuller report is the later one.
        let fuller = |w: &Window| {
            of_length(&known.windows, w.window_seconds).is_none_or(|k| w.used_percent > k.used_percent)
        };
        match known.fetched_at.cmp(&self.fetched_at) {
            std::cmp::Ordering::Greater => return None,
            std::cmp::Ordering::Equal if !self.windows.iter().any(fuller) => return None,
            _ => {}
        }
        for window in &known.windows {
            if of_length(&self.windows, window.window_seconds).is_none() {
                self.windows.push(window.clone());
            }
        }
        self.windows.sort_by_key(|w| w.window_seconds);
        self.credits = self.credits.or_else(|| known.credits.clone());
        self.plan = self.plan.or_else(|| known.plan.clone());
        self.extra.clone_from(&known.extra);
        self.spending = known.spending;
        self.banked_resets = known.banked_resets;
        Some(self)
    }
}

#[cfg(test)]
mod tests;
