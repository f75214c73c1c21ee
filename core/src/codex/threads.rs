//! Codex's threads: the log of a thread with what its first line says, and the process that writes a thread. Only
//! reads, and only below the main home, to which the other homes link. What is missing, cut off or of another shape is
//! `None`.
//!
//! A log is `sessions/YYYY/MM/DD/rollout-<time>-<id>.jsonl`, by the local date on which the thread began, or
//! `archived_sessions/rollout-….jsonl`. Names are in `session_index.jsonl` (0.140.0 to 0.169.0; later versions repeat
//! them in the database). Compressed logs (`.jsonl.zst`) are not read.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::read_dir;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::argv::Target;
use crate::files;
use crate::process;
use crate::time;

/// Longer first lines are refused, bytes. They hold the base instructions, about 20 kB.
const FIRST_LINE_MAX: u64 = 4 << 20;
/// How much of the end of `session_index.jsonl` is read, bytes.
const INDEX_MAX: u64 = 4 << 20;
/// How many directory entries are read when a log is not where its id says.
const SEARCH_MAX: usize = 5_000;
/// Among how many logs, and the rest of their day, the last one is looked for.
const NEWEST: usize = 500;

/// What the first line of a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadMeta {
    /// The id of the thread, a UUID in lower case
    pub id: String,
    /// The folder it was started in
    pub cwd: PathBuf,
    /// `chatgpt_user_id` of the login that created it (from 0.159 on, and not for API keys)
    pub creator_user_id: Option<String>,
    /// `chatgpt_account_id` of that login
    pub creator_account_id: Option<String>,
    /// Whether Codex itself began it for a part of the work (a review, a sub-agent): nothing for the user to go on with
    pub subagent: bool,
    /// The thread that it is a fork of (0.169 reads the history up to there in that one's log)
    pub forked_from: Option<String>,
    /// Whether it was begun in an interface, not by `exec`
    pub interactive: bool,
    /// Who serves the model: `openai`, or a provider that the user has configured
    pub model_provider: Option<String>,
    /// The log
    pub path: PathBuf,
}

/// Returns the thread that a command names.
pub fn find(codex_home: &Path, target: Target<'_>) -> Option<ThreadMeta> {
    match target {
        Target::Thread(id) => by_id(codex_home, id),
        Target::Name(name) => by_name(codex_home, name),
        Target::None | Target::Picked | Target::Last => None,
    }
}

/// Returns the thread with this id (a hyphenated UUID in upper or lower case).
pub fn by_id(codex_home: &Path, id: &str) -> Option<ThreadMeta> {
    let id = id.to_ascii_lowercase();
    read_meta(log_of(codex_home, &id)?, &id)
}

/// Returns the thread with exactly this name. As in Codex, the latest entry of a thread is its name, the latest thread
/// of a name counts, and one without a log does not hide an older one.
pub fn by_name(codex_home: &Path, name: &str) -> Option<ThreadMeta> {
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        thread_name: String,
    }

    let mut file = files::open(&codex_home.join("session_index.jsonl")).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(INDEX_MAX))).ok()?;
    let mut text = Vec::new();
    file.take(INDEX_MAX).read_to_end(&mut text).ok()?;

    let mut renamed = HashSet::new();
    text.rsplit(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Entry>(line).ok())
        .filter(|entry| renamed.insert(entry.id.clone()) && entry.thread_name == name)
        .find_map(|entry| by_id(codex_home, &entry.id))
}

/// Looks for a log where the time in the id puts it, then in the archive, then everywhere, newest first.
fn log_of(codex_home: &Path, id: &str) -> Option<PathBuf> {
    let suffix = format!("-{id}.jsonl");
    let (mut unbounded, mut bounded) = (usize::MAX, SEARCH_MAX);
    let sessions = codex_home.join("sessions");
    days_of(id)
        .into_iter()
        .flatten()
        .find_map(|day| log_in(&sessions.join(day), &suffix, &mut unbounded))
        .or_else(|| log_in(&codex_home.join("archived_sessions"), &suffix, &mut unbounded))
        .or_else(|| search(&sessions, &suffix, 3, &mut bounded))
}

/// Returns when a thread began, by its id (a UUIDv7), Unix milliseconds. `None`: an id of another kind.
pub fn began_at(id: &str) -> Option<i64> {
    let hex = |range| i64::from_str_radix(id.get(range)?, 16).ok();
    if id.as_bytes().get(14) != Some(&b'7') {
        return None;
    }
    Some(hex(0..8)? << 16 | hex(9..13)?)
}

/// Returns the folders of the three local days that the time of a UUIDv7, in UTC, can be, most likely first.
fn days_of(id: &str) -> Option<[String; 3]> {
    let day = began_at(id)?.div_euclid(1_000 * time::DAY);
    Some([day, day + 1, day - 1].map(time::day_folder))
}

/// Returns the log in a folder whose name ends with `suffix`. `budget`: how many entries may be read.
fn log_in(folder: &Path, suffix: &str, budget: &mut usize) -> Option<PathBuf> {
    for entry in read_dir(folder).ok()?.flatten() {
        *budget = budget.checked_sub(1)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("rollout-") && name.ends_with(suffix)) {
            return Some(entry.path());
        }
    }
    None
}

/// Searches the folders of years, months and days (`depth` levels), newest first.
fn search(folder: &Path, suffix: &str, depth: usize, budget: &mut usize) -> Option<PathBuf> {
    if depth == 0 {
        return log_in(folder, suffix, budget);
    }
    let mut folders: Vec<PathBuf> = read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    *budget = budget.checked_sub(folders.len())?;
    folders.sort_unstable();
    folders.iter().rev().find_map(|folder| search(folder, suffix, depth - 1, budget))
}

fn read_meta(path: PathBuf, id: &str) -> Option<ThreadMeta> {
    #[derive(Deserialize)]
    struct Line {
        r#type: String,
        payload: Payload,
    }
    #[derive(Deserialize)]
    struct Payload {
        id: String,
        cwd: PathBuf,
        creator_user_id: Option<String>,
        creator_account_id: Option<String>,
        #[serde(default)]
        source: Value,
        model_provider: Option<String>,
        forked_from_id: Option<String>,
    }

    let mut line = Vec::new();
    BufReader::new(files::open(&path).ok()?.take(FIRST_LINE_MAX)).read_until(b'\n', &mut line).ok()?;
    let Line { r#type, payload } = serde_json::from_slice(&line).ok()?;
    (r#type == "session_meta" && payload.id.eq_ignore_ascii_case(id)).then(|| ThreadMeta {
        id: id.to_owned(),
        cwd: payload.cwd,
        creator_user_id: payload.creator_user_id,
        creator_account_id: payload.creator_account_id,
        subagent: payload.source.get("subagent").is_some(),
        forked_from: payload.forked_from_id,
        interactive: matches!(payload.source.as_str(), Some("cli" | "vscode")),
        model_provider: payload.model_provider,
        path,
    })
}

/// Returns the thread of a log, by its file.
pub fn of_log(log: &Path) -> Option<ThreadMeta> {
    let stem = log.file_name()?.to_str()?.strip_prefix("rollout-")?.strip_suffix(".jsonl")?;
    let id = stem.get(stem.len().checked_sub(36)?..)?.to_ascii_lowercase();
    read_meta(log.to_owned(), &id)
}

/// Returns the thread in a folder that was written last, as `--last` means it: sub-agents' never, and for an interface
/// only its own.
pub fn newest_in(codex_home: &Path, folder: &Path, interactive: bool) -> Option<ThreadMeta> {
    let here = |log: &PathBuf| {
        of_log(log).filter(|t| t.cwd == folder && !t.subagent && (t.interactive || !interactive))
    };
    newest_logs(codex_home).iter().find_map(here)
}

/// Returns the threads of sub-agents that a thread has begun, of those written since then (Unix milliseconds).
pub fn parts_of(codex_home: &Path, thread: &str, since_ms: i64) -> Vec<ThreadMeta> {
    let since = |log: &&PathBuf| written_at(log).is_some_and(|at| at >= since_ms);
    let begun_by_it = |log: &PathBuf| {
        let mut line = Vec::new();
        let read = BufReader::new(files::open(log).ok()?.take(FIRST_LINE_MAX)).read_until(b'\n', &mut line);
        read.ok().filter(|_| memchr::memmem::find(&line, thread.as_bytes()).is_some())?;
        of_log(log).filter(|part| part.subagent && part.id != thread)
    };
    newest_logs(codex_home).iter().take_while(since).filter_map(begun_by_it).collect()
}

/// Returns the logs of the last days with any, the last written first.
fn newest_logs(codex_home: &Path) -> Vec<PathBuf> {
    let mut folders = vec![codex_home.join("sessions")];
    for _ in 0..3 {
        let inside =
            |folder: PathBuf| read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        folders = folders.into_iter().flat_map(inside).collect();
        folders.sort_unstable_by(|a, b| b.cmp(a));
    }
    let mut logs = Vec::new();
    for folder in folders {
        if logs.len() >= NEWEST {
            break;
        }
        let files = read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        logs.extend(files.filter_map(|log| Some((written_at(&log)?, log))));
    }
    logs.sort_unstable_by(|a, b| b.cmp(a));
    logs.into_iter().map(|(_, log)| log).collect()
}

/// Returns when a file was written last, Unix milliseconds.
fn written_at(path: &Path) -> Option<i64> {
    let at = path.metadata().ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(at.as_millis()).ok()
}

/// Returns the process that has a thread open for writing.
pub fn writer(codex_home: &Path, id: &str) -> Option<u32> {
    let of_thread =
        |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.contains(id));
    let lock = writer_lock_files(codex_home).into_iter().find(of_thread)?;
    process::flock_holders(&[lock]).pids.first().copied()
}

/// Returns the files that are locked by processes which have a thread open for writing.
pub(crate) fn writer_lock_files(codex_home: &Path) -> Vec<PathBuf> {
    let entries = read_dir(writer_locks(codex_home)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Returns whether a process has any thread open for writing. `None`: unknown.
pub(super) fn has_writer(pid: u32, codex_home: &Path) -> Option<bool> {
    process::holds_flock_in(pid, &writer_locks(codex_home))
}

/// The folder where Codex locks a file for each thread that it writes.
fn writer_locks(codex_home: &Path) -> PathBuf {
    codex_home.join("thread-writer-locks")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// Began on 2026-11-22 at 14:12:03 UTC.
    const ID: &str = "01a20399-89f9-7f61-a9c3-c721a01b72f4";
    const OTHER: &str = "01a20398-0caa-7283-bd8a-b0d99fca54a3";
    const DAY: &str = "sessions/2026/11/22";

    /// As 0.169.0 writes it, keys in its order.
    fn first_line(id: &str) -> String {
        let instructions = "You are a coding agent.\\n".repeat(1_000);
        format!(
            concat!(
                r#"{{"timestamp":"2026-11-22T14:12:03.733Z","ordinal":0,"type":"session_meta","payload":{{"#,
                r#""account_scoped":true,"creator_user_id":"user-a","creator_account_id":"acct-a","#,
                r#""session_id":"{id}","id":"{id}","timestamp":"2026-11-22T14:12:03.706Z","cwd":"/w/p","#,
                r#""runtime_workspace_roots":["/w/p"],"originator":"codex_exec","cli_version":"0.169.0","#,
                r#""source":"exec","thread_source":"user","model_provider":"openai","#,
                r#""base_instructions":{{"text":"{text}"}},"history_mode":"paginated"}}}}"#,
                "\n{{\"type\":\"event_msg\",\"payload\":{{}}}}\n"
            ),
            id = id,
            text = instructions,
        )
    }

    /// As 0.120.0 writes it.
    fn old_line(id: &str) -> String {
        format!(
            concat!(
                r#"{{"timestamp":"2026-11-22T14:10:26.131Z","type":"session_meta","payload":{{"id":"{id}","#,
                r#""timestamp":"2026-11-22T14:10:26.125Z","cwd":"/w/old","originator":"codex_exec","#,
                r#""cli_version":"0.120.0","source":"exec","model_provider":"openai"}}}}"#,
                "\n"
            ),
            id = id
        )
    }

    fn put(home: &TempDir, folder: &str, id: &str, text: &str) -> PathBuf {
        let folder = home.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("rollout-2026-11-22T14-12-03-{id}.jsonl"));
        fs::write(&path, text).unwrap();
        path
    }

    fn home() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_thread_and_its_creator() {
        let home = home();
        let path = put(&home, DAY, ID, &first_line(ID));
        put(&home, DAY, OTHER, &old_line(OTHER));
        let meta = by_id(home.path(), ID).unwrap();
        let want = ThreadMeta {
            id: ID.into(),
            cwd: "/w/p".into(),
            creator_user_id: Some("user-a".into()),
            creator_account_id: Some("acct-a".into()),
            subagent: false,
            forked_from: None,
            interactive: false,
            model_provider: Some("openai".into()),
            path,
        };
        assert_eq!(meta, want);
        assert_eq!(by_id(home.path(), &ID.to_uppercase()), Some(want));
        let old = by_id(home.path(), OTHER).unwrap();
        assert_eq!((old.cwd, old.creator_user_id, old.creator_account_id), ("/w/old".into(), None, None));
    }

    #[test]
    fn the_last_thread_of_a_folder_is_the_one_written_last() {
        let home = home();
        let third = "01a20398-0000-7000-8000-000000000000";
        let fourth = "01a20398-0000-7000-8000-000000000001";
        let cli = first_line(ID).replace(r#""source":"exec""#, r#""source":"cli""#);
        let paths = [
            put(&home, "sessions/2026/11/20", ID, &cli),
            put(&home, DAY, OTHER, &first_line(OTHER)),
            put(&home, DAY, third, &first_line(third).replace("/w/p", "/w/other")),
            put(
                &home,
                DAY,
                fourth,
                &first_line(fourth).replace(
                    r#""source":"exec""#,
                    &format!(
                        r#""source":{{"subagent":{{"thread_spawn":{{"parent_thread_id":"{OTHER}"}}}}}}"#
                    ),
                ),
            ),
        ];
        for (log, at) in paths.iter().zip([2_000, 1_000, 3_000, 4_000]) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
            fs::File::options().append(true).open(log).unwrap().set_modified(time).unwrap();
        }
        let last =
            |folder: &str, interactive| newest_in(home.path(), folder.as_ref(), interactive).map(|t| t.id);
        assert_eq!(last("/w/p", false).as_deref(), Some(ID));
        assert_eq!(last("/w/p", true).as_deref(), Some(ID));
        assert_eq!(last("/w/other", false).as_deref(), Some(third));
        assert_eq!(last("/w/other", true), None, "none of an interface");
        let parts = |since| parts_of(home.path(), OTHER, since).into_iter().map(|t| t.id).collect::<Vec<_>>();
        assert_eq!(parts(4_000), [fourth]);
        assert!(parts(4_001).is_empty());
    }

    #[test]
    fn a_part_of_the_work_is_no_thread_of_the_users() {
        for (source, subagent) in [
            (r#"{"subagent":"review"}"#, true),
            (r#"{"subagent":{"thread_spawn":{"depth":1}}}"#, true),
            (r#""exec""#, false),
            (r#"{"other":1}"#, false),
        ] {
            let home = home();
            put(
                &home,
                DAY,
                ID,
                &first_line(ID).replace(r#""source":"exec""#, &format!(r#""source":{source}"#)),
            );
            assert_eq!(by_id(home.path(), ID).map(|meta| meta.subagent), Some(subagent), "{source}");
        }
        let home = home();
        put(&home, DAY, OTHER, &old_line(OTHER).replace(r#","model_provider":"openai""#, ""));
        let meta = by_id(home.path(), OTHER).unwrap();
        assert_eq!((meta.subagent, meta.model_provider), (false, None));
    }

    #[test]
    fn wherever_the_log_is() {
        let v4 = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
        for (folder, id) in [
            (DAY, ID),
            ("sessions/2026/11/23", ID),
            ("sessions/2026/11/21", ID),
            ("archived_sessions", ID),
            ("sessions/2027/02/01", ID),
            ("sessions/2025/12/31", v4),
        ] {
            let home = home();
            put(&home, "sessions/2026/10/01", OTHER, &old_line(OTHER));
            let path = put(&home, folder, id, &first_line(id));
            assert_eq!(by_id(home.path(), id).map(|meta| meta.path), Some(path), "{folder}");
        }
    }

    #[test]
    fn the_days_around_the_turn_of_a_year() {
        // 2026-12-31 23:59:59.999 UTC
        let days = days_of("01a2ce8b-d3ff-7000-8000-000000000000").unwrap();
        assert_eq!(days, ["2026/12/31", "2027/01/01", "2026/12/30"]);
        assert_eq!(days_of("3f2504e0-4f89-41d3-9a0c-0305e82c3301"), None);
        assert_eq!(days_of("zz"), None);
        assert_eq!(days_of(ID).unwrap()[0], "2026/11/22");
    }

    #[test]
    fn what_is_missing_or_garbled_is_nothing() {
        let whole = first_line(ID);
        for text in ["", "\n", "{", &whole[..5_000], "[]\n", "{\"type\":\"event_msg\",\"payload\":{}}\n"] {
            let home = home();
            put(&home, DAY, ID, text);
            assert_eq!(by_id(home.path(), ID), None, "{:.40}", text);
        }
        let home = home();
        assert_eq!(by_id(home.path(), ID), None);
        put(&home, DAY, ID, &first_line(OTHER));
        assert_eq!(by_id(home.path(), ID), None, "another thread's line");
        let path = put(&home, DAY, OTHER, "");
        fs::rename(&path, path.with_extension("jsonl.zst")).unwrap();
        assert_eq!(by_id(home.path(), OTHER), None);
    }

    #[test]
    fn names_come_from_the_index_latest_first() {
        let home = home();
        let entry = |id: &str, name: &str| {
            format!(
                "{{\"id\":\"{id}\",\"thread_name\":\"{name}\",\"updated_at\":\"2026-11-22T14:37:41Z\"}}\n"
            )
        };
        let index = |text: String| fs::write(home.path().join("session_index.jsonl"), text).unwrap();
        let named = |name: &str| by_name(home.path(), name).map(|meta| meta.id);
        assert_eq!(named("work"), None);
        put(&home, DAY, ID, &first_line(ID));
        put(&home, "sessions/2026/11/22", OTHER, &old_line(OTHER));

        index(entry(OTHER, "work") + &entry(ID, "work"));
        assert_eq!(named("work").as_deref(), Some(ID));
        assert_eq!(named("Work"), None, "exactly");
        assert_eq!(find(home.path(), Target::Name("work")).unwrap().id, ID);
        assert_eq!(find(home.path(), Target::Last), None);

        index(entry(OTHER, "work") + &entry(ID, "work") + "garbage\n" + &entry(ID, "new"));
        assert_eq!(named("work").as_deref(), Some(OTHER), "an old name is none");
        assert_eq!(named("new").as_deref(), Some(ID));

        let lost = "01a20399-0000-7000-8000-000000000000";
        index(entry(ID, "work") + &entry(lost, "work"));
        assert_eq!(named("work").as_deref(), Some(ID), "one without a log hides nothing");
    }
}
