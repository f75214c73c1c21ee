//! What must hold of every key, account, revision and text.

use codex_pool_share::code::{Code, Keys, NoCode};
use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};
use codex_pool_share::login::Age;
use codex_pool_share::record::{Kind, Record, Refused};
use codex_pool_share::{Seen, join, split};
use proptest::prelude::*;

fn keys(byte: u8) -> MemberKeys {
    MemberKeys::new(PoolId([1; 16]), 1, PoolKey([byte; 32]))
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&Kind::ALL[..])
}

/// The record with one change to what the database sees.
fn changed(record: &Record, which: usize, at: usize) -> Record {
    let mut record = record.clone();
    let length = record.sealed.len();
    match which {
        0 => record.sealed[at % length] ^= 1,
        1 => record.signature[at % 64] ^= 1,
        2 => record.revision += 1,
        3 => record.epoch += 1,
        4 => record.row.0[at % 16] ^= 1,
        5 => record.format += 1,
        6 => record.sealed.truncate(at % length),
        7 => record.sealed.push(0),
        _ => {
            record.kind =
                Kind::ALL[(Kind::ALL.iter().position(|k| *k == record.kind).unwrap() + 1) % Kind::ALL.len()]
        }
    }
    record
}

proptest! {
    // Each case seals and signs: without optimization that takes its time.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn record_is_read_as_it_was_written(
        kind in kind(), account in "[a-z2-7]{10}", revision: u64, text in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let keys = keys(2);
        let record = keys.write(kind, &account, revision, &text);
        prop_assert_eq!(&*keys.read(&record, &account).unwrap(), &text);
        prop_assert_eq!(&*keys.read_unknown(&record).unwrap(), &text);
        match kind {
            Kind::Full => prop_assert_eq!(keys.runner().read(&record, &account), Err(Refused::Sealed)),
            _ => prop_assert_eq!(&*keys.runner().read(&record, &account).unwrap(), &text),
        }
    }

    #[test]
    fn record_that_was_changed_anywhere_is_refused(kind in kind(), which in 0usize..9, at: usize) {
        let keys = keys(2);
        let record = keys.write(kind, "aaaaaaaaaa", 7, b"text");
        let changed = changed(&record, which, at);
        prop_assert_ne!(&changed, &record);
        prop_assert!(keys.read(&changed, "aaaaaaaaaa").is_err());
        if which != 4 {
            prop_assert!(keys.read_unknown(&changed).is_err());
        }
    }

    #[test]
    fn length_of_what_is_sealed_tells_only_the_block(kind in kind(), a in 0usize..5000, b in 0usize..5000) {
        let keys = keys(2);
        let length = |n: usize| keys.write(kind, "aaaaaaaaaa", 1, &vec![0; n]).sealed.len();
        let block = if matches!(kind, Kind::Full | Kind::Access) { 8192 } else { 1024 };
        prop_assert_eq!(length(a) - 40, (a / block + 1) * block);
        prop_assert_eq!(a / block == b / block, length(a) == length(b));
    }

    #[test]
    fn row_names_neither_account_nor_kind_and_differs_with_each(a in "[a-z2-7]{10}", b in "[a-z2-7]{10}") {
        let keys = keys(2);
        let rows: std::collections::BTreeSet<_> =
            Kind::ALL.iter().map(|kind| keys.runner().row(*kind, &a)).collect();
        prop_assert_eq!(rows.len(), Kind::ALL.len());
        let row = |account: &str| keys.runner().row(Kind::Full, account);
        prop_assert_eq!(row(&a) == row(&b), a == b);
        prop_assert_ne!(row(&a), keys.rotated().runner().row(Kind::Full, &a));
    }

    #[test]
    fn code_survives_being_copied_and_shows_a_wrong_letter(url in "[ -~]{0,120}", at: usize, letter in "[A-Za-z0-9_-]") {
        let (code, bundle) = Code::new(&url, &Keys::Member(Box::new(keys(2))));
        let text = code.to_text();
        let parsed = Code::parse(&format!("  {}\n", *text)).unwrap();
        prop_assert_eq!(&parsed, &code);
        prop_assert_eq!(&parsed.url, &url);
        prop_assert_eq!(parsed.open(&bundle).unwrap().shared().pool, PoolId([1; 16]));
        let at = 9 + at % (text.len() - 9);
        let mut wrong = text.to_string();
        wrong.replace_range(at..=at, &letter);
        if wrong != *text {
            // The last letter may have bits that mean nothing, which the alphabet's rules refuse.
            prop_assert_eq!(Code::parse(&wrong).unwrap_err(), NoCode::Damaged);
        }
        prop_assert!(Code::parse(&text[..at]).is_err());
    }

    #[test]
    fn fields_come_apart_as_they_were_joined(a: Vec<u8>, b: Vec<u8>, extra: u8) {
        let bytes = join(&[&a, &b]);
        prop_assert_eq!(split::<2>(&bytes), Some([&a[..], &b[..]]));
        let longer = [&bytes[..], &[extra]].concat();
        prop_assert_eq!(split::<2>(&longer), None);
        prop_assert_eq!(split::<2>(&bytes[..bytes.len() - 1]), None);
        prop_assert_eq!(split::<3>(&bytes), None);
    }
}

#[test]
fn other_pool_epoch_or_key_opens_nothing() {
    let mine = keys(2);
    let record = mine.write(Kind::Access, "aaaaaaaaaa", 1, b"text");
    let other_key = keys(3);
    let other_pool = MemberKeys::new(PoolId([9; 16]), 1, PoolKey([2; 32]));
    assert_eq!(other_key.read_unknown(&record), Err(Refused::Unsigned));
    assert_eq!(other_pool.read_unknown(&record), Err(Refused::Unsigned));
    assert_eq!(mine.rotated().read_unknown(&record), Err(Refused::OtherEpoch));
    assert_eq!(mine.read(&record, "bbbbbbbbbb"), Err(Refused::Misplaced));
    let newer = Record { format: 2, ..record };
    assert_eq!(mine.read_unknown(&newer), Err(Refused::Newer));
}

#[test]
fn bundle_opens_with_its_own_code_alone_and_a_runner_gets_no_pool_key() {
    let keys = keys(2);
    let (code, bundle) =
        Code::new("postgres://localhost/pool", &Keys::Runner(Box::new(keys.runner().clone())));
    let (other, _) = Code::new("postgres://localhost/pool", &Keys::Member(Box::new(keys.clone())));
    assert!(other.open(&bundle).is_none());
    let joined = code.open(&bundle).expect("its bundle");
    assert!(matches!(joined, Keys::Runner(_)));
    let bytes = joined.to_bytes();
    assert!(!bytes.windows(32).any(|window| window == keys.pool_key().0), "no pool key");
    assert!(matches!(Keys::from_bytes(&bytes), Some(Keys::Runner(_))));
    let record = keys.write(Kind::Access, "aaaaaaaaaa", 1, b"text");
    assert_eq!(&**joined.shared().read(&record, "aaaaaaaaaa").unwrap(), b"text");
}

#[test]
fn text_that_is_no_code_says_what_it_is() {
    for (text, why) in [
        ("", NoCode::Other),
        ("postgres://localhost/pool", NoCode::Other),
        ("cpshare2-AAAA", NoCode::Newer),
        ("cpshare1-", NoCode::Damaged),
        ("cpshare1-AAAA", NoCode::Damaged),
        ("cpshare1-ä", NoCode::Damaged),
    ] {
        assert_eq!(Code::parse(text).unwrap_err(), why, "{text}");
    }
}

#[test]
fn no_secret_is_shown() {
    let keys = MemberKeys::new(PoolId([1; 16]), 1, PoolKey([0xab; 32]));
    let (code, _) = Code::new("postgres://u:hunter2@host/pool", &Keys::Member(Box::new(keys.clone())));
    let shown = format!("{keys:?} {code:?} {:?} {:?}", keys.pool_key(), keys.runner());
    for secret in ["171, 171", "abab", "hunter2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn of_what_two_processes_have_seen_the_newest_stays() {
    let keys = keys(2);
    let record = |n| keys.write(Kind::Access, "aaaaaaaaaa", n, b"text");
    let age = |n| Some(Age { issued_at: Some(n), ..Age::default() });
    let seen = |n: u64, at| {
        let mut seen = Seen::default();
        assert!(seen.note(&record(n), age(at)));
        seen
    };
    for (mut one, other) in [(seen(2, 1), seen(5, 7)), (seen(5, 7), seen(2, 1))] {
        one.merge(other);
        assert!(!one.note(&record(4), age(9)), "an older revision");
        assert!(!one.note(&record(6), age(6)), "an older login");
        assert!(one.note(&record(6), age(7)));
    }
    let mut one = Seen::default();
    one.merge(seen(2, 1));
    assert!(one.has(record(2).row));
}
