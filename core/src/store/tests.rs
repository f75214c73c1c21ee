//! What the pool keeps: only forward, nothing lost, and files that are corrupt or of another version.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::auth_doc::tests::{Login, login};
use crate::auth_doc::{AuthDoc, DocHash};
use crate::error::ErrorKind;
use crate::files::PoolLock;

const NOW: i64 = 1_800_000_000;

struct Lab {
    _dir: tempfile::TempDir,
    paths: PoolPaths,
    lock: PoolLock,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        Lab { _dir: dir, paths, lock }
    }

    fn put_newer(&self, doc: &AuthDoc, origin: Origin) -> Adoption {
        Credentials::new(&self.paths).put_newer(&self.lock, doc, origin, NOW).unwrap()
    }

    fn stored(&self, doc: &AuthDoc) -> Vec<u8> {
        Credentials::new(&self.paths).bytes(doc.id()).unwrap().unwrap()
    }

    /// Names without the time, and contents.
    fn lost(&self) -> Vec<(String, Vec<u8>)> {
        let entries = LostFound::new(&self.paths).entries();
        let name = |p: &std::path::Path| {
            p.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1.to_owned()
        };
        entries.iter().map(|kept| (name(&kept.path), std::fs::read(&kept.path).unwrap())).collect()
    }

    /// Requires that exactly this document is in `lost+found/`, for that reason.
    #[track_caller]
    fn assert_lost(&self, why: &str, bytes: &[u8]) {
        let lost = self.lost();
        assert_eq!(lost.len(), 1);
        assert!(lost[0].0.contains(&format!("-{why}-")), "{}", lost[0].0);
        assert_eq!(lost[0].1, bytes);
    }
}

#[test]
fn the_first_document_is_taken_and_the_same_one_changes_nothing() {
    let lab = Lab::new();
    let doc = login("alice").doc();
    assert_eq!(lab.put_newer(&doc, Origin::Found), Adoption::New);
    assert_eq!(lab.put_newer(&doc, Origin::Found), Adoption::Unchanged);
    assert_eq!(lab.stored(&doc), doc.bytes());
    assert!(lab.lost().is_empty());
}

#[test]
fn a_newer_document_replaces_the_older_one_which_is_kept_aside() {
    let lab = Lab::new();
    let (old, new) = (login("alice").doc(), login("alice").issued(1500).refresh("rt-2").doc());
    lab.put_newer(&old, Origin::Found);
    assert_eq!(lab.put_newer(&new, Origin::Successor), Adoption::Updated);
    assert_eq!(lab.stored(&new), new.bytes());
    lab.assert_lost("replaced", old.bytes());
}

#[test]
fn an_older_document_never_replaces_a_newer_one_and_is_kept_aside() {
    for origin in [Origin::Found, Origin::Successor, Origin::Answer] {
        let lab = Lab::new();
        let (old, new) = (login("alice").doc(), login("alice").issued(1500).refresh("rt-2").doc());
        lab.put_newer(&new, Origin::Found);
        assert_eq!(lab.put_newer(&old, origin), Adoption::KeptNewer);
        assert_eq!(lab.stored(&new), new.bytes());
        lab.assert_lost("replaced", old.bytes());
    }
}

#[test]
fn document_from_the_future_is_not_newer_and_the_issuer_decides() {
    const YEARS: i64 = 75 * 365 * 86_400;
    for ahead in [601, 86_400, YEARS, i64::MAX - NOW] {
        for origin in [Origin::Found, Origin::Successor] {
            let now = login("alice").issued(NOW).doc();
            let forged = login("alice").issued(NOW + ahead).refresh("forged").doc();
            let lab = Lab::new();
            lab.put_newer(&now, Origin::Found);
            assert_eq!(lab.put_newer(&forged, origin), Adoption::KeptNewer);
            assert_eq!(lab.stored(&now), now.bytes());
            lab.assert_lost("tie", forged.bytes());

            let lab = Lab::new();
            lab.put_newer(&forged, Origin::Found);
            assert_eq!(lab.put_newer(&now, origin), Adoption::Updated);
            assert_eq!(lab.stored(&now), now.bytes());
            lab.assert_lost("tie", forged.bytes());
        }
    }
    // The clock of this machine may be behind: by less than ten minutes, or for all documents.
    for (one, other) in [(0, 600), (86_400, 86_401)] {
        let lab = Lab::new();
        let at = |ahead, token| login("alice").issued(NOW + ahead).refresh(token).doc();
        lab.put_newer(&at(one, "rt-1"), Origin::Found);
        assert_eq!(lab.put_newer(&at(other, "rt-2"), Origin::Found), Adoption::Updated);
    }
    let lab = Lab::new();
    lab.put_newer(&login("alice").doc(), Origin::Found);
    let answer = login("alice").issued(NOW + 86_400).refresh("rt-2").doc();
    assert_eq!(lab.put_newer(&answer, Origin::Answer), Adoption::Updated);
}

#[test]
fn login_that_the_user_makes_wins_whatever_the_pool_has() {
    for stored in [NOW + 500, NOW + 86_400, i64::MAX] {
        let lab = Lab::new();
        let stored = login("alice").issued(stored).refresh("forged").doc();
        lab.put_newer(&stored, Origin::Found);
        let made = login("alice").issued(NOW - 60).doc();
        assert_eq!(lab.put_newer(&made, Origin::Login), Adoption::Updated);
        assert_eq!(lab.stored(&made), made.bytes());
        lab.assert_lost("replaced", stored.bytes());
    }
}

#[test]
fn document_of_the_home_wins_a_tie_if_the_stored_one_did_not_change() {
    let earlier = Login { last_refresh: "2026-01-01T00:00:00Z", ..login("alice").refresh("rt-2") }.doc();
    let lab = Lab::new();
    let stored = login("alice").doc();
    lab.put_newer(&stored, Origin::Found);
    // A local clock that went backwards decides nothing.
    assert_eq!(lab.put_newer(&earlier, Origin::Successor), Adoption::Updated);
    lab.assert_lost("replaced", stored.bytes());
    let lab = Lab::new();
    lab.put_newer(&stored, Origin::Found);
    assert_eq!(lab.put_newer(&earlier, Origin::Found), Adoption::KeptNewer);
    lab.assert_lost("replaced", earlier.bytes());
}

#[test]
fn a_tie_keeps_both_until_a_renewal_decides() {
    let lab = Lab::new();
    let (one, other) = (login("alice").doc(), login("alice").refresh("rt-2").doc());
    lab.put_newer(&one, Origin::Found);
    assert_eq!(lab.put_newer(&other, Origin::Found), Adoption::Updated);
    lab.assert_lost("tie", one.bytes());
    let tie = LostFound::new(&lab.paths).tie(one.id()).unwrap();
    assert_eq!(std::fs::read(tie).unwrap(), one.bytes());
    assert_eq!(LostFound::new(&lab.paths).tie(login("bob").doc().id()), None);
}

#[test]
fn the_same_credentials_in_another_layout_are_nothing_to_keep_aside() {
    let lab = Lab::new();
    let doc = login("alice").doc();
    lab.put_newer(&doc, Origin::Found);
    let compact = AuthDoc::parse(login("alice").tree().to_string().into_bytes()).unwrap();
    assert_eq!(lab.put_newer(&compact, Origin::Successor), Adoption::Unchanged);
    assert_eq!(lab.stored(&doc), compact.bytes());
    assert!(lab.lost().is_empty());
}

#[test]
fn a_broken_copy_does_not_stand_in_the_way_of_a_good_one_but_is_kept() {
    let lab = Lab::new();
    let doc = login("alice").doc();
    lab.put_newer(&doc, Origin::Found);
    for broken in [&b"{ broken"[..], login("bob").doc().bytes()] {
        let lab = Lab::new();
        lab.put_newer(&doc, Origin::Found);
        std::fs::write(lab.paths.auth(doc.id()), broken).unwrap();
        let error = Credentials::new(&lab.paths).load(doc.id()).unwrap_err();
        assert!(error.to_string().contains("codex-pool reauth"), "{error}");
        assert_eq!(lab.put_newer(&doc, Origin::Found), Adoption::New);
        assert_eq!(lab.stored(&doc), doc.bytes());
        lab.assert_lost("broken", broken);
    }
}

#[test]
fn kept_documents_are_known_by_their_names() {
    let lab = Lab::new();
    let (lost, doc) = (LostFound::new(&lab.paths), login("alice").doc());
    lost.keep(&lab.lock, b"tie", Why::Tie, Some(doc.id()), NOW).unwrap();
    lost.keep(&lab.lock, b"broken", Why::Broken, None, NOW + 1).unwrap();
    let login = lost.keep_login(&doc, NOW + 2).unwrap();
    std::fs::write(lab.paths.lost_found().join(format!("{}-{}-unclaimed-0.json", NOW + 3, doc.id())), "")
        .unwrap();
    let found = lost.entries().into_iter().map(|kept| (kept.at - NOW, kept.why(), kept.account));
    let alice = Some(doc.id().clone());
    let expected = [
        (0, Some(Why::Tie), alice.clone()),
        (1, Some(Why::Broken), None),
        (2, Some(Why::Login), alice.clone()),
        (3, None, alice),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(std::fs::read(login).unwrap(), doc.bytes());
    assert_eq!(lost.rescued(), Vec::<std::path::PathBuf>::new(), "only answers of renewals are stored later");
}

#[test]
fn documents_are_listed_by_their_names() {
    let lab = Lab::new();
    let credentials = Credentials::new(&lab.paths);
    assert!(credentials.ids().is_empty());
    let (alice, bob) = (login("alice").doc(), login("bob").doc());
    lab.put_newer(&alice, Origin::Found);
    lab.put_newer(&bob, Origin::Found);
    for foreign in ["README", "toolongforanid.json", ".abcdefghij.json.codex-pool.tmp"] {
        std::fs::write(lab.paths.auth_dir().join(foreign), "").unwrap();
    }
    let mut ids = credentials.ids();
    ids.sort();
    let mut expected = [alice.id().clone(), bob.id().clone()];
    expected.sort();
    assert_eq!(ids, expected);
}

#[test]
fn the_same_bytes_are_kept_once_and_for_30_days_from_the_last_time() {
    let lab = Lab::new();
    let lost = LostFound::new(&lab.paths);
    let day = 86_400;
    let keep = |bytes: &[u8], now| lost.keep(&lab.lock, bytes, Why::Broken, None, now).unwrap();
    let first = keep(b"one", NOW);
    assert_eq!(std::fs::read(&first).unwrap(), b"one");
    keep(b"one", NOW + 20 * day);
    assert_eq!(lost.entries().len(), 1);
    keep(b"two", NOW + 49 * day);
    assert_eq!(lost.entries().len(), 2);
    keep(b"three", NOW + 51 * day);
    let left: Vec<_> = lost.entries().iter().map(|kept| std::fs::read(&kept.path).unwrap()).collect();
    assert_eq!(left, [&b"two"[..], b"three"]);
    // Other files in the folder are left alone.
    std::fs::write(lab.paths.lost_found().join("note"), "").unwrap();
    keep(b"four", NOW + 200 * day);
    assert!(lab.paths.lost_found().join("note").exists());
}

#[test]
fn a_registry_comes_back_as_it_was_saved_and_a_missing_one_is_empty() {
    let lab = Lab::new();
    assert!(Registry::load(&lab.paths).unwrap().accounts.is_empty());
    let mut registry = Registry::default();
    assert!(registry.upsert(&login("alice").doc(), Some("work"), NOW));
    registry.accounts[0].former_ids.push("old".into());
    registry.save(&lab.lock, &lab.paths).unwrap();
    assert_eq!(Registry::load(&lab.paths).unwrap(), registry);
}

#[test]
fn a_registry_that_is_corrupt_or_newer_is_an_error_that_names_it() {
    let lab = Lab::new();
    for (text, says) in [
        ("", "is corrupt"),
        ("{", "is corrupt (line 1 column 1)"),
        ("{}", "is corrupt"),
        ("5", "is corrupt"),
        ("{\"version\": 2, \"accounts\": 5}", "is corrupt"),
        ("{\"version\": 2, \"accounts\": [{\"id\": \"abcdefghij\"}]}", "is corrupt"),
        ("{\"version\": 3, \"accounts\": []}", "of version 3, newer"),
        ("{\"version\": 99, \"everything\": \"else\"}", "of version 99, newer"),
        ("{\"version\": 1, \"accounts\": []}", "of version 1"),
    ] {
        std::fs::write(lab.paths.registry(), text).unwrap();
        let error = Registry::load(&lab.paths).unwrap_err();
        let corrupt = says.starts_with("is corrupt");
        assert_eq!(error.kind, if corrupt { ErrorKind::Corrupt } else { ErrorKind::Failed }, "{text}");
        assert!(error.message.contains(says) && error.message.contains("accounts.json"), "{text}: {error}");
        assert!(error.hint.is_some(), "{error}");
        assert_eq!(std::fs::read_to_string(lab.paths.registry()).unwrap(), text);
    }
}

#[test]
fn new_credentials_lift_the_need_for_a_login_but_not_a_removal() {
    use crate::account::AuthState;
    let mut registry = Registry::default();
    let doc = login("alice").doc();
    registry.upsert(&doc, None, NOW);
    for (before, after) in [
        (AuthState::ReauthRequired, AuthState::Ok),
        (AuthState::WorkspaceRemoved, AuthState::WorkspaceRemoved),
    ] {
        registry.accounts[0].auth.state = before;
        assert!(!registry.upsert(&doc, Some("other"), NOW + 1), "it is no new account");
        assert_eq!(registry.accounts[0].auth.state, after);
        assert_eq!(registry.accounts[0].label, "alice", "its label stays");
    }
}

#[test]
fn a_corrupt_cache_is_set_aside_under_the_lock_and_counts_as_empty() {
    let lab = Lab::new();
    for text in ["", "{", "[true]", "{\"homes\": 5}"] {
        std::fs::write(lab.paths.state(), text).unwrap();
        assert_eq!(State::load(None, &lab.paths), State::default());
        assert_eq!(std::fs::read_to_string(lab.paths.state()).unwrap(), text, "not without the lock");
        assert_eq!(State::load(Some(&lab.lock), &lab.paths), State::default());
        assert!(!lab.paths.state().exists());
        assert_eq!(std::fs::read_to_string(lab.paths.state().with_extension("json.corrupt")).unwrap(), text);
    }
    assert_eq!(UsageCache::load(Some(&lab.lock), &lab.paths), UsageCache::default());
}

#[test]
fn cache_that_cannot_be_read_is_set_aside_and_not_overwritten() {
    let lab = Lab::new();
    // Whatever rights this test has, that is too large to be read. It takes no room.
    std::fs::File::create(lab.paths.state()).unwrap().set_len(MAX_JSON + 1).unwrap();
    assert_eq!(State::load(None, &lab.paths), State::default());
    let mut state = State::load(Some(&lab.lock), &lab.paths);
    assert_eq!(state, State::default());
    state.save(&lab.lock, &lab.paths, Durability::Fast).unwrap();
    let kept = std::fs::metadata(lab.paths.state().with_extension("json.corrupt")).unwrap();
    assert_eq!(kept.len(), MAX_JSON + 1);
}

#[test]
fn a_home_remembers_its_account_since_when_and_its_server() {
    let mut state = State::default();
    let path = std::path::Path::new("/home/x/.codex/auth.json");
    let (alice, bob) = (login("alice").doc(), login("bob").doc());
    state.remember(path, &alice, alice.hash(), NOW);
    state.remember(path, &alice, DocHash::of(b"rotated"), NOW + 5);
    let memory = state.home(path).unwrap();
    assert_eq!((memory.since, &memory.hash), (NOW, &DocHash::of(b"rotated")), "since when it is there");
    let server = ServerRecord { pid: 7, start_ticks: 8, account: Some(alice.id().clone()) };
    state.homes.get_mut(&path_key(path)).unwrap().server = Some(server.clone());
    state.remember(path, &bob, bob.hash(), NOW + 9);
    let memory = state.home(path).unwrap();
    assert_eq!((memory.since, &memory.server), (NOW + 9, &Some(server)), "a server outlives a switch");
}

#[test]
fn any_path_survives_being_a_key() {
    use std::os::unix::ffi::OsStrExt;
    for bytes in
        [&b"/home/x/.codex/auth.json"[..], b"/\xff\xfe/auth.json", b"hex:00", b"/with space/\n\"", b""]
    {
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(bytes));
        assert_eq!(path_of_key(&path_key(path)), path);
    }
    assert_eq!(path_of_key("hex:zz\u{e9}"), std::path::Path::new(""));
}

#[test]
fn an_earlier_migrations_kept_file_is_not_lost_to_the_next_one() {
    let lab = Lab::new();
    let store = |n: i32| {
        json!({"version": 1, "accounts": [{"id": "x", "n": n, "authJson": login("alice").tree()}]})
            .to_string()
    };
    for n in [1, 2] {
        std::fs::write(lab.paths.registry(), store(n)).unwrap();
        assert_eq!(migrate_if_v1(&lab.lock, &lab.paths, NOW).unwrap().unwrap().accounts, 1);
    }
    assert_eq!(std::fs::read_to_string(lab.paths.registry_v1()).unwrap(), store(2));
    lab.assert_lost("replaced", store(1).as_bytes());
    assert!(migrate_if_v1(&lab.lock, &lab.paths, NOW).unwrap().is_none(), "version 2 is none");
}

#[test]
fn stores_of_other_tools_are_read_entry_by_entry() {
    let entry = |v: serde_json::Value| json!({"accounts": [v]}).to_string();
    let one = |v| parse_foreign_store(entry(v).as_bytes()).unwrap().remove(0);
    let tree = login("alice").tree();
    for added in [json!(1_700_000_000), json!(1_700_000_000_000_i64), json!("2023-11-14T22:13:20Z")] {
        let account = one(json!({"id": "1", "label": "l", "addedAt": added, "authJson": tree}));
        assert_eq!(account.added_at, Some(1_700_000_000), "{added}");
    }
    assert!(one(json!({"authJson": tree.to_string()})).doc.is_ok(), "as text");
    assert!(one(json!({"authJson": tree["tokens"]})).doc.is_ok(), "flat");
    assert!(!one(json!({"authJson": tree, "enabled": false})).enabled);
    assert!(one(json!({"authJson": {"tokens": 1}})).doc.is_err());
    for none in ["", "{}", "[]", "{\"accounts\": {}}", "{\"accounts\": [{}], \"version\": 2}"] {
        assert!(parse_foreign_store(none.as_bytes()).is_none(), "{none}");
    }
}
