//! Whose usage the session logs tell, and when that is certain.

use super::*;
use crate::account::AccountKind;
use crate::usage::{Credits, Source, UsageEntry};
use std::io::Write;

const NOW: i64 = 1_795_357_894; // 2026-11-22T14:31:34Z
const WEEK_RESET: i64 = NOW + 86_400;

fn account(name: &str) -> Account {
    Account {
        user_id: Some(name.to_owned()),
        account_id: Some("team".to_owned()),
        ..Account::new(AccountId::of_chatgpt(name, "team"), name, AccountKind::Chatgpt, 0)
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
    let week = Window { window_seconds: super::super::WEEK, used_percent: 10.0, resets_at: Some(week_reset) };
    Usage {
        credits: Some(Credits { has_credits: true, ..Credits::default() }),
        plan: Some("plus".to_owned()),
        ..Usage::new(Source::Api, NOW - 5_000, vec![week])
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

    fn usage(&self) -> UsageCache {
        let mut cache = UsageCache::default();
        for (account, usage) in self.accounts.iter().zip(&self.known) {
            cache
                .accounts
                .insert(account.id.clone(), UsageEntry { usage: usage.clone(), ..UsageEntry::default() });
        }
        cache
    }

    /// Launches as (index of the account, seconds before now).
    fn learn(&self, launches: &[(usize, i64)], since: i64) -> Vec<(String, f64)> {
        let spans: Vec<_> = launches
            .iter()
            .map(|(who, ago)| Span { account: Some(&self.accounts[*who].id), started_at: NOW - ago })
            .collect();
        let found = learn(self.dir.path(), &spans, &self.accounts, &self.usage(), since, NOW);
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
    let found = learn(lab.dir.path(), &spans, &lab.accounts, &lab.usage(), 0, NOW);
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
