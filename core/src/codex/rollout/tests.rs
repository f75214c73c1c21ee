//! Blanking on real files: recorded logs, crashes at any instant, and logs that must be left alone.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::paths::PoolPaths;

const THREAD: &str = "01a2148a-1509-7203-9900-6a00d5afb73c";

struct Lab {
    dir: tempfile::TempDir,
    pool: PoolPaths,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let pool = PoolPaths::new(dir.path().join("pool"));
        Lab { dir, pool }
    }

    /// A log with this text, as old as the hills.
    fn log(&self, text: &str) -> PathBuf {
        let folder = self.dir.path().join("sessions/2026/11/25");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("rollout-2026-11-25T21-08-43-{THREAD}.jsonl"));
        fs::write(&path, text).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(FileTimes::new().set_accessed(old).set_modified(old))
            .unwrap();
        path
    }

    fn blank(&self, log: &Path) -> Blanked {
        blank(&self.pool, THREAD, log, Quiet::Stopped).unwrap()
    }

    fn record(&self) -> PathBuf {
        self.pool.blanked().join(THREAD)
    }
}

fn recorded(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rollouts/history").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// What a log would send, as (type, id, call id, whether something is sealed).
fn history(text: &str) -> Vec<(String, Value, Value)> {
    let items = lines(text)
        .into_iter()
        .filter(|line| line["type"] == "response_item")
        .map(|mut line| line["payload"].take());
    items
        .map(|item| (item["type"].as_str().unwrap().to_owned(), item["id"].clone(), item["call_id"].clone()))
        .collect()
}

#[test]
fn recorded_histories_lose_what_is_sealed_and_nothing_else() {
    for (version, reasoning, compacted, ids) in
        [("0.140.0", 3, 2, 0), ("0.159.3", 3, 2, 3), ("0.169.0", 3, 2, 3)]
    {
        for (case, compacted) in [("answered", 0), ("compacted", compacted)] {
            let what = format!("{version} {case}");
            let text = recorded(&format!("{version}-{case}.jsonl"));
            let lab = Lab::new();
            let log = lab.log(&text);
            let before = fs::metadata(&log).unwrap();
            let done = lab.blank(&log);
            assert_eq!(
                done,
                Blanked { lines: reasoning + compacted, parts: 0, ids, unknown: vec![] },
                "{what}"
            );

            let meta = fs::metadata(&log).unwrap();
            let after = fs::read_to_string(&log).unwrap();
            assert!(!after.contains("encrypted_content"), "{what}");
            let stat = |m: &fs::Metadata| {
                (m.len(), m.ino(), m.mtime(), m.mtime_nsec(), m.mode(), m.atime(), m.atime_nsec())
            };
            assert_eq!(stat(&meta), stat(&before), "{what}");
            let ends = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
            assert_eq!(ends(&after), ends(&text), "{what}");

            for (old, new) in lines(&text).into_iter().zip(lines(&after)) {
                assert_eq!(
                    (&old["timestamp"], &old["ordinal"]),
                    (&new["timestamp"], &new["ordinal"]),
                    "{what}"
                );
                let mut old = old;
                let kind = old["payload"]["type"].as_str().unwrap_or_default().to_owned();
                if old["type"] == "compacted" || kind == "reasoning" {
                    assert_eq!(
                        (&new["type"], &new["payload"]),
                        (&"response_item".into(), &json!({"type": "other"}))
                    );
                    continue;
                }
                if kind.ends_with("_call") || old["payload"]["role"] == "assistant" {
                    old["payload"].as_object_mut().unwrap().shift_remove("id");
                }
                assert_eq!(new, old, "{what}");
            }
            let calls = history(&after);
            let of = |kind: &str| {
                calls
                    .iter()
                    .filter(|(k, ..)| k.ends_with(kind))
                    .map(|(_, _, call)| call.clone())
                    .collect::<Vec<_>>()
            };
            assert_eq!((of("_call").len(), of("_call")), (2, of("_output")), "{what}");

            assert_eq!(lab.blank(&log), Blanked::default(), "{what}: again");
            assert_eq!(fs::read_to_string(&log).unwrap(), after, "{what}");
            restore(&lab.pool, THREAD, &log).unwrap();
            assert_eq!(fs::read_to_string(&log).unwrap(), text, "{what}: nothing is lost");
            assert!(!lab.record().exists());
        }
    }
}

#[test]
fn what_is_blanked_is_kept_privately_and_text_is_not() {
    let lab = Lab::new();
    let text = recorded("0.169.0-answered.jsonl");
    lab.blank(&lab.log(&text));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&lab.record()), mode(&lab.pool.blanked())), (0o600, 0o700));
    let kept = fs::read_to_string(lab.record()).unwrap();
    assert!(kept.contains("\"encrypted_content\":\"") && kept.contains("\"id\":\"msg_4\","), "{kept}");
    assert!(!kept.contains("done by alice") && !kept.contains("finished step"), "{kept}");
    assert!(kept.ends_with("ready\ndone\n"));
}

#[test]
fn a_log_without_anything_sealed_leaves_no_trace() {
    let lab = Lab::new();
    let log = lab.log("{\"timestamp\":\"t\",\"type\":\"response_item\",\"payload\":{\"type\":\"message\",\"role\":\"user\"}}\n");
    assert_eq!(lab.blank(&log), Blanked::default());
    assert!(!lab.pool.root().exists());
}

#[test]
fn later_turns_are_blanked_as_well_and_all_comes_back() {
    let lab = Lab::new();
    let (first, second) = (recorded("0.159.3-answered.jsonl"), recorded("0.159.3-compacted.jsonl"));
    let log = lab.log(&first);
    lab.blank(&log);
    let mut both = fs::read_to_string(&log).unwrap() + &second;
    fs::write(&log, &both).unwrap();
    assert_eq!(lab.blank(&log).lines, 5);
    assert!(!fs::read_to_string(&log).unwrap().contains("encrypted_content"));
    // A turn that came later is not overwritten by what was before.
    both = fs::read_to_string(&log).unwrap() + "{\"more\":1}\n";
    fs::write(&log, &both).unwrap();
    restore(&lab.pool, THREAD, &log).unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{first}{second}{{\"more\":1}}\n"));
}

#[test]
fn a_torn_last_line_is_left_alone() {
    let lab = Lab::new();
    let text = recorded("0.169.0-answered.jsonl");
    let reasoning = text.lines().find(|line| line.contains("encrypted_content")).unwrap();
    let torn = &reasoning[..reasoning.len() - 5];
    let log = lab.log(&format!("{text}{torn}"));
    lab.blank(&log);
    let after = fs::read_to_string(&log).unwrap();
    assert!(after.ends_with(torn) && after.matches("encrypted_content").count() == 1);
}

/// The state of a log when a crash stops it: so many bytes of the edits have been made, in order.
fn cut_off(text: &str, blanked: &str, bytes: usize) -> String {
    let mut left = bytes;
    let mixed = text.bytes().zip(blanked.bytes()).map(|(old, new)| {
        if old == new || left == 0 {
            return old;
        }
        left -= 1;
        new
    });
    String::from_utf8(mixed.collect()).unwrap()
}

#[test]
fn a_crash_at_any_instant_is_made_good() {
    let text = recorded("0.169.0-answered.jsonl");
    let (whole, record) = {
        let lab = Lab::new();
        let log = lab.log(&text);
        lab.blank(&log);
        (fs::read_to_string(&log).unwrap(), fs::read(lab.record()).unwrap())
    };
    let differing = text.bytes().zip(whole.bytes()).filter(|(old, new)| old != new).count();
    let ready = record.len() - b"done\n".len();
    // The log has another inode here than when the record was made.
    let placed = |lab: &Lab, record: &[u8], log: &Path| {
        let ino = fs::metadata(log).unwrap().ino();
        let text = String::from_utf8(record.to_vec()).unwrap();
        let at = text.find("\"ino\":").map_or(0, |at| at + 6);
        let end = at + text[at..].find(',').unwrap_or(0);
        let text = if at > 6 { format!("{}{ino}{}", &text[..at], &text[end..]) } else { text };
        fs::create_dir_all(lab.pool.blanked()).unwrap();
        fs::write(lab.record(), text).unwrap();
    };

    // While the record was being written, the log was untouched.
    for cut in (0..ready).step_by(97).chain([ready - 1]) {
        let lab = Lab::new();
        let log = lab.log(&text);
        placed(&lab, &record[..cut], &log);
        complete(&lab.pool, THREAD, &log).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), text, "undone: {cut}");
        lab.blank(&log);
        assert_eq!(fs::read_to_string(&log).unwrap(), whole, "{cut}");
        restore(&lab.pool, THREAD, &log).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), text, "{cut}");
    }
    // While the log was being changed, all was in the record.
    for bytes in (0..=differing).step_by(61) {
        let lab = Lab::new();
        let log = lab.log(&cut_off(&text, &whole, bytes));
        let times = |log: &Path| fs::metadata(log).map(|m| (m.mtime(), m.mtime_nsec())).unwrap();
        let old = times(&log);
        placed(&lab, &record[..ready], &log);
        complete(&lab.pool, THREAD, &log).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), whole, "completed: {bytes}");
        assert_eq!(times(&log), old);
        assert_eq!(lab.blank(&log), Blanked::default());
        restore(&lab.pool, THREAD, &log).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), text, "{bytes}");
    }
}

#[test]
fn another_file_at_the_place_of_one_that_was_cut_off_is_not_touched() {
    let text = recorded("0.169.0-answered.jsonl");
    let lab = Lab::new();
    let log = lab.log(&text);
    lab.blank(&log);
    let record = fs::read(lab.record()).unwrap();
    fs::write(lab.record(), &record[..record.len() - 5]).unwrap();
    // Of the same size, and the very same inode, but with other lines.
    let other: String = text.chars().map(|c| if c == '\n' { '\n' } else { 'x' }).collect();
    fs::write(&log, &other).unwrap();
    complete(&lab.pool, THREAD, &log).unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), other);
}

#[test]
fn a_record_that_we_cannot_read_stops_everything() {
    let lab = Lab::new();
    let text = recorded("0.169.0-answered.jsonl");
    let log = lab.log(&text);
    fs::create_dir_all(lab.pool.blanked()).unwrap();
    for record in ["codex-pool blanked 2\nnews\n", "something else altogether, and long"] {
        fs::write(lab.record(), record).unwrap();
        let error = blank(&lab.pool, THREAD, &log, Quiet::Stopped).unwrap_err();
        assert!(error.to_string().contains("not written by this version"), "{error}");
        assert_eq!(fs::read_to_string(lab.record()).unwrap(), record);
        assert_eq!(fs::read_to_string(&log).unwrap(), text);
    }
    // Somebody else is at it.
    fs::write(lab.record(), "").unwrap();
    let held = File::options().read(true).open(lab.record()).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    assert!(matches!(blank(&lab.pool, THREAD, &log, Quiet::Stopped), Err(NotBlanked::Busy)));
    drop(held);
    // What would be taken out cannot be kept.
    fs::remove_dir_all(lab.pool.blanked()).unwrap();
    fs::write(lab.pool.blanked(), "a file").unwrap();
    assert!(matches!(blank(&lab.pool, THREAD, &log, Quiet::Stopped), Err(NotBlanked::Record(_))));
    assert_eq!(fs::read_to_string(&log).unwrap(), text);
}

#[test]
fn logs_that_are_not_to_be_touched_are_not() {
    let text = recorded("0.169.0-answered.jsonl");
    let lab = Lab::new();
    let log = lab.log(&text);
    let why = |log: &Path| match blank(&lab.pool, THREAD, log, Quiet::Stopped) {
        Err(NotBlanked::Unfit(why)) => why,
        other => panic!("{other:?}"),
    };
    let second = log.with_file_name("second");
    fs::hard_link(&log, &second).unwrap();
    assert_eq!(why(&log), "under several names");
    fs::remove_file(second).unwrap();

    let archived = lab.dir.path().join("archived_sessions");
    fs::create_dir(&archived).unwrap();
    let moved = archived.join(log.file_name().unwrap());
    fs::rename(&log, &moved).unwrap();
    assert_eq!(why(&moved), "archived");
    symlink(&archived, lab.dir.path().join("linked")).unwrap();
    assert_eq!(why(&lab.dir.path().join("linked").join(log.file_name().unwrap())), "archived");
    fs::rename(&moved, &log).unwrap();

    let compressed = log.with_extension("jsonl.zst");
    fs::rename(&log, &compressed).unwrap();
    assert_eq!(why(&compressed), "compressed");
    let named = log.with_file_name("history.jsonl");
    fs::rename(&compressed, &named).unwrap();
    assert_eq!(why(&named), "no session log");
    symlink(&named, &log).unwrap();
    assert!(matches!(blank(&lab.pool, THREAD, &log, Quiet::Stopped), Err(NotBlanked::Log(_))));
    assert_eq!(fs::read_to_string(&named).unwrap(), text);
    assert!(matches!(blank(&lab.pool, "../x", &log, Quiet::Stopped), Err(NotBlanked::Unfit("of no thread"))));
    assert!(!lab.pool.root().exists());
}

#[test]
fn under_codexs_lock_a_turn_in_flight_is_not_touched() {
    let text = recorded("0.169.0-answered.jsonl");
    let started = "{\"timestamp\":\"2026-11-25T21:09:00Z\",\"ordinal\":99,\"type\":\"event_msg\",\"payload\":{\"type\":\"task_started\",\"turn_id\":\"t\"}}\n";
    let lab = Lab::new();
    let log = lab.log(&format!("{text}{started}"));
    fs::create_dir(lab.dir.path().join("thread-writer-locks")).unwrap();
    let Ok(Taken::Held(lock)) = WriterLock::take(lab.dir.path(), THREAD) else { panic!("not free") };
    let locked = |thread| blank(&lab.pool, thread, &log, Quiet::Locked(&lock));
    assert!(matches!(locked(THREAD), Err(NotBlanked::InFlight)));
    assert!(matches!(locked("01a20399-89f9-7f61-a9c3-c721a01b72f4"), Err(NotBlanked::Unfit(_))));
    assert!(!lab.pool.root().exists());
    fs::write(&log, &text).unwrap();
    assert_eq!(locked(THREAD).unwrap().lines, 3);
    // Whose process was seen to end has no turn in flight, whatever the log says.
    fs::write(&log, format!("{text}{started}")).unwrap();
    assert_eq!(lab.blank(&log).lines, 3);
}

#[test]
fn lines_of_many_megabytes_are_blanked() {
    let text = recorded("0.169.0-compacted.jsonl");
    let long = "i".repeat(3 << 20);
    let text = text.replace("\"text\":\"do the task\"", &format!("\"text\":\"{long}\""));
    let lab = Lab::new();
    let log = lab.log(&text);
    assert_eq!(lab.blank(&log).lines, 5);
    let after = fs::read_to_string(&log).unwrap();
    assert!(after.len() == text.len() && !after.contains("encrypted_content"));
    lines(&after);
    // And a byte of it that a crash has left.
    let file = File::options().write(true).open(&log).unwrap();
    let at = text.bytes().zip(after.bytes()).rposition(|(old, new)| old != new).unwrap();
    file.write_all_at(&text.as_bytes()[at..=at], at as u64).unwrap();
    let record = fs::read(lab.record()).unwrap();
    fs::write(lab.record(), &record[..record.len() - 5]).unwrap();
    complete(&lab.pool, THREAD, &log).unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), after);
    restore(&lab.pool, THREAD, &log).unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), text);
}

/// A value such as might stand in a log, made of the words that matter, in right and in wrong places.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("reasoning"),
        Just("message"),
        Just("assistant"),
        Just("user"),
        Just("function_call"),
        Just("compaction"),
        Just("function_call_output"),
        Just("encrypted_content"),
        Just("agent_message"),
        Just("a \"quoted\" \\ word"),
        Just("gAAAAABocWl0aCBub3RoaW5nIGluIGl0LCBidXQgbG9uZyBlbm91Z2ggdG8gYmUgcmVhbA=="),
    ];
    let leaf = prop_oneof![word.prop_map(Value::from), Just(Value::Null), any::<u8>().prop_map(Value::from)];
    let name = prop_oneof![
        Just("type"),
        Just("id"),
        Just("role"),
        Just("output"),
        Just("content"),
        Just("encrypted_content"),
        Just("replacement_history"),
        Just("encrypted_function_args"),
        Just("call_id"),
        Just("text"),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        let fields = prop::collection::vec((name.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

fn any_line() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        6 => Just("response_item"), 2 => Just("compacted"), 1 => Just("event_msg"), 1 => Just("world_state"),
        1 => Just("inter_agent_communication"),
    ];
    let line = (kind, anything(), any::<bool>()).prop_map(|(kind, payload, ordinal)| {
        let mut line = json!({"timestamp": "2026-11-25T20:35:10.943Z"});
        if ordinal {
            line["ordinal"] = 7.into();
        }
        (line["type"], line["payload"]) = (kind.into(), payload);
        line.to_string()
    });
    prop_oneof![8 => line, 1 => "[ -~]{0,40}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]
    #[test]
    fn whatever_is_in_a_log_only_what_is_bound_changes(lines in prop::collection::vec(any_line(), 1..8)) {
        let lab = Lab::new();
        let text = lines.join("\n") + "\n";
        let log = lab.log(&text);
        let done = lab.blank(&log);
        let after = fs::read_to_string(&log).unwrap();
        prop_assert_eq!(after.len(), text.len());
        for (old, new) in text.lines().zip(after.lines()) {
            prop_assert_eq!(old.len(), new.len());
            let Ok(old) = serde_json::from_str::<Value>(old) else {
                prop_assert_eq!(old, new);
                continue;
            };
            let new: Value = serde_json::from_str(new).unwrap();
            prop_assert_eq!(&old["timestamp"], &new["timestamp"]);
            prop_assert_eq!(&old["ordinal"], &new["ordinal"]);
            // What is sealed is gone, or told.
            let sealed = |line: &Value| line["type"] != "event_msg" && line["payload"].to_string().contains("\"encrypted_content\":\"");
            prop_assert!(!sealed(&new) || !done.unknown.is_empty(), "{}", new);
        }
        prop_assert_eq!(lab.blank(&log), Blanked { unknown: done.unknown, ..Blanked::default() });
        prop_assert_eq!(&fs::read_to_string(&log).unwrap(), &after);
        restore(&lab.pool, THREAD, &log).unwrap();
        prop_assert_eq!(fs::read_to_string(&log).unwrap(), text);
    }
}
