//! Usage from Codex's own session logs, free of charge: the newest `token_count` events of recent
//! rollout files, read from the tail. Reads a bounded part of a bounded number of files, and
//! attributes an event to an account only when that is certain: a session resumed under another
//! account goes on in the same file, and no event says whose it is.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::window::{Credits, Source, Usage, Window, longest, of_length};
use crate::account::{Account, AccountId};
use crate::time;

/// How much of a file's end is read, growing while nothing is found, bytes.
const TAILS: [u64; 3] = [64 << 10, 256 << 10, 1 << 20];
/// The first line holds the base instructions, 23 KB in Codex 0.169.
const MAX_META: usize = 256 << 10;
/// How many of the newest files are looked at, and how many of those are opened.
const MAX_STATS: usize = 64;
const MAX_OPENED: usize = 8;
/// Folders are named after local days: this many before today's in UTC are looked into.
const DAYS_BACK: i64 = 2;
/// Nanoseconds of a second.
const NANOS: i64 = 1_000_000_000;
/// Resets of one window differ by less than this between two reports, seconds.
const SAME_RESET: i64 = 120;
/// Resets of two accounts' windows that differ by more than this cannot be mixed up, seconds.
const OTHER_RESET: i64 = 600;

/// A launch of the ledger, running or ended since the ledger was last tidied.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// Its account; `None` if nobody knows, and then it may have written anything.
    pub account: Option<&'a AccountId>,
    /// Unix seconds.
    pub started_at: i64,
}

/// What the logs under `codex_home` tell of the accounts that were launched, beyond what is known.
///
/// Only events after `since` (Unix nanoseconds) count, which is when the ledger was last tidied: about
/// anything older it no longer knows who ran. The launches are all that ran since.
pub fn learn<'a>(
    codex_home: &Path,
    launches: &[Span<'_>],
    accounts: impl Fn() -> &'a [Account],
    known: impl Fn(&AccountId) -> Option<&'a Usage>,
    since: i64,
    now: i64,
) -> Vec<(AccountId, Usage)> {
    let Some(earliest) = launches.iter().filter(|s| s.account.is_some()).map(|s| s.started_at).min() else {
        return Vec::new();
    };
    let mut learnt: Vec<(AccountId, Usage)> = Vec::new();
    let changed_since = earliest.max(since.div_euclid(NANOS));
    for path in recent(&codex_home.join("sessions"), changed_since, now) {
        let Ok(file) = File::open(&path) else { continue };
        let Some(creator) = creator(&file) else { continue };
        let Some(account) = accounts().iter().find(|a| creator.is(a)) else { continue };
        let Some(event) = newest_limits(&file, since) else { continue };
        if event.fetched_at > now || !certain(&event, account, launches, &known) {
            continue;
        }
        let before = learnt.iter().find(|(id, _)| *id == account.id).map(|(_, usage)| usage);
        if let Some(usage) = event.over(before.or_else(|| known(&account.id))) {
            learnt.retain(|(id, _)| *id != account.id);
            learnt.push((account.id.clone(), usage));
        }
    }
    learnt
}

/// Whether nobody but this account can have caused the event.
fn certain<'a>(
    event: &Usage,
    account: &Account,
    launches: &[Span<'_>],
    known: &impl Fn(&AccountId) -> Option<&'a Usage>,
) -> bool {
    let at = event.fetched_at;
    let running = || launches.iter().filter(|s| s.started_at <= at);
    if !running().any(|s| s.account == Some(&account.id)) {
        return false;
    }
    let Some(mark) = longest(&event.windows).and_then(|w| Some((w.window_seconds, w.resets_at?))) else {
        return running().all(|s| s.account == Some(&account.id));
    };
    // The reset of the longest window tells accounts apart, where it is known and running.
    let reset_of = |id: &AccountId| {
        let usage = known(id).filter(|usage| usage.known(at))?;
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

/// The newest session files that were written at or after `since`, the newest sessions first.
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

/// Who made a session (from Codex 0.159 on).
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
    let mut line = Vec::new();
    for size in [32 << 10, MAX_META] {
        line.resize(size, 0);
        let read = read_at(file, &mut line, 0)?;
        if let Some(end) = line[..read].iter().position(|b| *b == b'\n') {
            let meta: Meta = serde_json::from_slice(&line[..end]).ok()?;
            return (meta.r#type == "session_meta").then_some(meta.payload);
        }
        if read < size {
            break;
        }
    }
    None
}

/// The newest report of the account's limits in a session file, after `since` (Unix nanoseconds). Its
/// `fetched_at` is the event's own time.
pub fn newest_limits(file: &File, since: i64) -> Option<Usage> {
    let length = file.metadata().ok()?.len();
    let mut tail = Vec::new();
    for size in TAILS {
        let start = length.saturating_sub(size);
        tail.resize((length - start) as usize, 0);
        let read = read_at(file, &mut tail, start)?;
        let mut rest = &tail[..read];
        if start > 0 {
            rest = &rest[rest.iter().position(|b| *b == b'\n').map_or(read, |cut| cut + 1)..];
        }
        let newest = rest.rsplit(|b| *b == b'\n').filter(|line| says_token_count(line)).find_map(event);
        match newest {
            Some((at, usage)) => return (at > since).then_some(usage),
            None if start == 0 => return None,
            None => {}
        }
    }
    None
}

/// Looks at a line's beginning only, since most lines are long and of other kinds.
fn says_token_count(line: &[u8]) -> bool {
    const KIND: &[u8] = b"\"token_count\"";
    line[..line.len().min(256)].windows(KIND.len()).any(|w| w == KIND)
}

/// Reads as much as there is, up to the buffer's length.
fn read_at(file: &File, buffer: &mut [u8], start: u64) -> Option<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(filled)
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

/// A line as usage with its time (Unix nanoseconds), if it is a report of the main limit.
fn event(line: &[u8]) -> Option<(i64, Usage)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let limits = line.payload.rate_limits.filter(|_| line.payload.r#type == "token_count")?;
    if limits.limit_id.is_some_and(|id| id != "codex") {
        return None;
    }
    let nanos = time::parse_rfc3339_nanos(&line.timestamp)?;
    let at = nanos.div_euclid(NANOS);
    let window = |w: LogWindow| {
        // Some versions wrote 299 for 300.
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
        fetched_at: at,
        source: Source::SessionLog,
        limit_reached: windows.iter().any(|w| w.used_percent >= 100.0),
        windows,
        credits: limits.credits,
        plan: limits.plan_type,
        extra: Vec::new(),
    };
    (!usage.windows.is_empty()).then_some((nanos, usage))
}

impl Usage {
    /// This report laid over what was known: windows that it does not speak of, credits and limits of
    /// single models stay. `None` if what is known is as new.
    fn over(mut self, known: Option<&Usage>) -> Option<Usage> {
        let Some(known) = known else { return Some(self) };
        // Within one second, what is used only grows: the fuller one is the later one.
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
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountKind;
    use std::io::Write;

    const NOW: i64 = 1_795_357_894; // 2026-11-22T14:31:34Z
    const WEEK_RESET: i64 = NOW + 86_400;

    fn account(name: &str) -> Account {
        Account {
            id: AccountId::of_chatgpt(name, "team"),
            label: name.to_owned(),
            kind: AccountKind::Chatgpt,
            email: None,
            user_id: Some(name.to_owned()),
            account_id: Some("team".to_owned()),
            plan: None,
            enabled: true,
            added_at: 0,
            updated_at: 0,
            auth: Default::default(),
            former_ids: Vec::new(),
        }
    }

    fn meta(creator: &str) -> String {
        format!(
            r#"{{"timestamp":"x","type":"session_meta","payload":{{"creator_user_id":"{creator}","creator_account_id":"team","base_instructions":{{"text":"{}"}}}}}}"#,
            "i".repeat(40_000)
        )
    }

    fn token_count(at: i64, five_hours: f64, week_reset: i64, limit: &str) -> String {
        format!(
            r#"{{"timestamp":"{}","ordinal":1,"type":"event_msg","payload":{{"type":"token_count","info":null,"rate_limits":{{"limit_id":"{limit}","primary":{{"used_percent":{five_hours},"window_minutes":300,"resets_at":{}}},"secondary":{{"used_percent":50.0,"window_minutes":10079,"resets_at":{week_reset}}},"credits":null,"plan_type":null}}}}}}"#,
            time::to_rfc3339(at),
            at + 600,
        )
    }

    fn known(week_reset: i64) -> Usage {
        let week =
            Window { window_seconds: super::super::WEEK, used_percent: 10.0, resets_at: Some(week_reset) };
        Usage {
            fetched_at: NOW - 5_000,
            source: Source::Api,
            limit_reached: false,
            windows: vec![week],
            credits: Some(Credits { has_credits: true, ..Credits::default() }),
            plan: Some("plus".to_owned()),
            extra: Vec::new(),
        }
    }

    struct Lab {
        dir: tempfile::TempDir,
        accounts: [Account; 2],
        known: [Option<Usage>; 2],
    }

    fn at_now(file: &File) {
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW as u64)).unwrap();
    }

    impl Lab {
        fn new() -> Lab {
            let dir = tempfile::tempdir().unwrap();
            Lab { dir, accounts: [account("alice"), account("bob")], known: [None, None] }
        }

        fn log(&self, name: &str, lines: &[String]) {
            let folder = self.dir.path().join("sessions/2026/11/22");
            std::fs::create_dir_all(&folder).unwrap();
            let mut file = File::create(folder.join(format!("rollout-{name}.jsonl"))).unwrap();
            file.write_all(lines.join("\n").as_bytes()).unwrap();
            at_now(&file);
        }

        /// Launches as (index of the account, seconds before now).
        fn learn(&self, launches: &[(usize, i64)], since: i64) -> Vec<(String, f64)> {
            let spans: Vec<_> = launches
                .iter()
                .map(|(who, ago)| Span { account: Some(&self.accounts[*who].id), started_at: NOW - ago })
                .collect();
            let usage = |id: &AccountId| {
                let at = self.accounts.iter().position(|a| a.id == *id)?;
                self.known[at].as_ref()
            };
            let found = learn(self.dir.path(), &spans, || self.accounts.as_slice(), usage, since, NOW);
            let name = |id: &AccountId| self.accounts.iter().find(|a| a.id == *id).unwrap().label.clone();
            found.iter().map(|(id, usage)| (name(id), usage.windows[0].used_percent)).collect()
        }
    }

    #[test]
    fn the_newest_event_of_the_main_limit_is_alices() {
        let lab = Lab::new();
        let lines = [
            meta("alice"),
            token_count(NOW - 50, 80.0, WEEK_RESET, "codex"),
            token_count(NOW - 40, 100.0, WEEK_RESET, "codex"),
            token_count(NOW - 30, 7.0, WEEK_RESET, "codex_tiny"),
            "{\"timestamp\":\"half a li".to_owned(),
        ];
        lab.log("a", &lines);
        assert_eq!(lab.learn(&[(0, 60)], 0), [("alice".to_owned(), 100.0)]);
    }

    #[test]
    fn session_of_another_launch_is_never_taken_for_this_one() {
        let lab = Lab::new();
        lab.log("b", &[meta("bob"), token_count(NOW - 40, 100.0, WEEK_RESET, "codex")]);
        // Alice resumed bob's session: the creator and the ledger disagree.
        assert_eq!(lab.learn(&[(0, 60)], 0), []);
        lab.log("b", &[meta("stranger"), token_count(NOW - 40, 100.0, WEEK_RESET, "codex")]);
        assert_eq!(lab.learn(&[(0, 60)], 0), []);
        lab.log("b", &["{}".to_owned(), token_count(NOW - 40, 100.0, WEEK_RESET, "codex")]);
        assert_eq!(lab.learn(&[(0, 60)], 0), []);
    }

    #[test]
    fn with_two_accounts_at_work_only_the_reset_can_tell() {
        let mut lab = Lab::new();
        lab.log("a", &[meta("alice"), token_count(NOW - 40, 100.0, WEEK_RESET, "codex")]);
        let both = [(0, 60), (1, 50)];
        assert_eq!(lab.learn(&both, 0), []);
        lab.known[0] = Some(known(WEEK_RESET + 1));
        assert_eq!(lab.learn(&both, 0), [], "bob's is unknown");
        lab.known[1] = Some(known(WEEK_RESET + 2));
        assert_eq!(lab.learn(&both, 0), [], "bob's is the same");
        lab.known[1] = Some(known(WEEK_RESET + 9_000));
        assert_eq!(lab.learn(&both, 0), [("alice".to_owned(), 100.0)]);
        // And the reset can tell that an event is not alice's although only she was launched.
        lab.known[0] = Some(known(WEEK_RESET + 9_000));
        assert_eq!(lab.learn(&[(0, 60)], 0), []);
    }

    #[test]
    fn an_event_must_fall_into_what_the_ledger_knows() {
        let lab = Lab::new();
        lab.log("a", &[meta("alice"), token_count(NOW - 40, 100.0, WEEK_RESET, "codex")]);
        assert_eq!(lab.learn(&[(0, 30)], 0), [], "before the launch");
        assert_eq!(lab.learn(&[(0, 60)], (NOW - 40) * NANOS), [], "before the ledger was tidied");
        assert_eq!(lab.learn(&[(0, 60), (1, 30)], 0), [("alice".to_owned(), 100.0)], "bob came later");
        assert_eq!(lab.learn(&[], 0), []);
    }

    #[test]
    fn what_an_event_does_not_speak_of_stays() {
        let mut lab = Lab::new();
        let mut before = known(WEEK_RESET);
        before.windows.push(Window { window_seconds: 2_592_000, used_percent: 3.0, resets_at: None });
        lab.known[0] = Some(before);
        lab.log("a", &[meta("alice"), token_count(NOW - 40, 100.0, WEEK_RESET, "codex")]);
        let spans = [Span { account: Some(&lab.accounts[0].id), started_at: NOW - 60 }];
        let found =
            learn(lab.dir.path(), &spans, || lab.accounts.as_slice(), |_| lab.known[0].as_ref(), 0, NOW);
        let usage = &found[0].1;
        assert_eq!(usage.windows.iter().map(Window::name).collect::<Vec<_>>(), ["5h", "1week", "30day"]);
        assert_eq!((usage.plan.as_deref(), usage.source), (Some("plus"), Source::SessionLog));
        assert_eq!(usage.exhausted_until(NOW), Some(Some(NOW - 40 + 600)));
        lab.known[0].as_mut().unwrap().fetched_at = NOW - 40;
        assert_eq!(lab.learn(&[(0, 60)], 0), [("alice".to_owned(), 100.0)], "as new, and fuller: later");
        lab.known[0] = Some(usage.clone());
        assert_eq!(lab.learn(&[(0, 60)], 0), [], "as new, and not fuller");
        lab.known[0].as_mut().unwrap().fetched_at = NOW - 39;
        assert_eq!(lab.learn(&[(0, 60)], 0), [], "what is known is newer");
    }

    #[test]
    fn a_log_of_200_mb_is_read_from_its_end() {
        let lab = Lab::new();
        lab.log("a", &[meta("alice")]);
        let path = lab.dir.path().join("sessions/2026/11/22/rollout-a.jsonl");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"\n").unwrap();
        file.set_len(200 << 20).unwrap();
        let last = token_count(NOW - 40, 33.0, WEEK_RESET, "codex");
        file.write_all(format!("\n{last}\n{}\n", "x".repeat(100 << 10)).as_bytes()).unwrap();
        at_now(&file);
        assert_eq!(lab.learn(&[(0, 60)], 0), [("alice".to_owned(), 33.0)]);
    }
}
