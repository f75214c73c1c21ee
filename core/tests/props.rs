//! Properties of every input: nothing panics, and a few laws. The cases are random. One that fails is reduced and
//! printed. `PROPTEST_CASES` sets their number.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codex_pool_core::account::{Account, AccountId, AccountKind};
use codex_pool_core::auth_doc::{AuthDoc, Claims, FreshTokens, Secret};
use codex_pool_core::codex::argv;
use codex_pool_core::codex::configuration::{CodexSettings, Surroundings};
use codex_pool_core::config::Settings;
use codex_pool_core::files::PoolLock;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pick::{Candidate, pick};
use codex_pool_core::process::ProcessId;
use codex_pool_core::references;
use codex_pool_core::store::{Credentials, Origin, Registry, State, path_key, path_of_key};
use codex_pool_core::text::is_deceptive;
use codex_pool_core::usage::session_log::newest_limits;
use codex_pool_core::usage::{Source, Usage, UsageCache, Window};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

fn jwt(claims: &Value) -> String {
    format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Returns any JSON of a limited depth.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // JSON keeps the first 15 digits of a fraction.
        any::<f32>().prop_map(|f| Value::from(f64::from((f / 8.0).clamp(-1e6, 1e6).trunc()))),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop_oneof![
            "[a-z_]{1,8}",
            Just("tokens".to_owned()),
            Just("version".to_owned()),
            Just("accounts".to_owned()),
            Just("homes".to_owned()),
            Just("auth_mode".to_owned()),
            Just("access_token".to_owned()),
        ];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((key, inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Returns a good document of one user, issued and expiring at these times, with unknown fields.
fn document(issued: i64, token: &str, unknown: &Value) -> Vec<u8> {
    let claims = json!({"iat": issued, "exp": issued + 864_000, "iss": "https://issuer.example",
        "https://api.openai.com/auth": {"chatgpt_user_id": "alice", "chatgpt_account_id": "space"}});
    let tokens = json!({"access_token": jwt(&claims), "refresh_token": token, "account_id": "space"});
    json!({"auth_mode": "chatgpt", "tokens": tokens, "unknown": unknown}).to_string().into_bytes()
}

fn a_document() -> impl Strategy<Value = Vec<u8>> {
    (0..4_000_000_000_i64, "[a-z]{0,8}", any_json())
        .prop_map(|(at, token, unknown)| document(at, &token, &unknown))
}

/// Returns a document that was damaged.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (
        a_document(),
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut bytes, changes, end, cut)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
}

proptest! {
    #[test]
    fn any_bytes_are_a_document_or_an_error(bytes in prop_oneof![vec(any::<u8>(), 0..300), damaged()]) {
        let _ = AuthDoc::parse_foreign(&bytes);
        if let Ok(doc) = AuthDoc::parse(bytes.clone()) {
            prop_assert_eq!(doc.bytes(), bytes.as_slice(), "kept byte for byte");
            let id = doc.id().clone();
            let corrected = doc.corrected();
            prop_assert_eq!(corrected.id(), &id);
            let again = corrected.clone().corrected();
            prop_assert_eq!(again.bytes(), corrected.bytes(), "once is enough");
        }
    }

    #[test]
    fn any_json_is_a_document_or_an_error(tree in any_json()) {
        let _ = AuthDoc::parse_foreign(tree.to_string().as_bytes());
        let _ = AuthDoc::parse(json!({"tokens": tree}).to_string().into_bytes());
    }

    #[test]
    fn any_text_has_claims_or_none(text in ".{0,80}", tree in any_json()) {
        let _ = Claims::of_jwt(&text);
        let _ = Claims::of_jwt(&jwt(&tree));
    }

    #[test]
    fn no_secret_is_in_debug(token in "[a-zA-Z0-9]{12,40}") {
        let doc = AuthDoc::parse(document(1_800_000_000, &token, &Value::Null)).unwrap();
        let access = doc.access_token().unwrap().expose().to_owned();
        let shown = format!("{doc:?} {:?}", doc.refresh_token());
        prop_assert!(!shown.contains(&token) && !shown.contains(&access));
    }

    #[test]
    fn a_refresh_keeps_what_it_does_not_know(unknown in any_json(), token in "[a-z]{1,20}", now in 0..4_000_000_000_i64) {
        let doc = AuthDoc::parse(document(5, "old", &unknown)).unwrap();
        let fresh = FreshTokens { refresh_token: Some(Secret::new(token.as_str())), ..FreshTokens::default() };
        let renewed = doc.renewed(&fresh, now).unwrap();
        let tree: Value = serde_json::from_slice(renewed.bytes()).unwrap();
        let before: Value = serde_json::from_slice(doc.bytes()).unwrap();
        prop_assert_eq!(&tree["unknown"], &before["unknown"]);
        prop_assert_eq!(&tree["tokens"]["access_token"], &before["tokens"]["access_token"]);
        prop_assert_eq!(renewed.refresh_token().unwrap().expose(), token);
        prop_assert_eq!(renewed.id(), doc.id());
    }

    #[test]
    fn a_renewal_is_newer_even_within_the_same_second(issued in 0..4_000_000_000_i64, now in 0..4_000_000_000_i64, count in 2..5_usize) {
        let mut doc = AuthDoc::parse(document(issued, "t", &Value::Null)).unwrap();
        for number in 0..count {
            let fresh = FreshTokens { refresh_token: Some(Secret::new(format!("t{number}"))), ..FreshTokens::default() };
            let renewed = doc.renewed(&fresh, now).unwrap();
            prop_assert!(renewed.compare_age(&doc).is_gt());
            doc = renewed;
        }
    }

    #[test]
    fn age_is_an_order(a in a_document(), b in a_document(), c in a_document()) {
        let [a, b, c] = [a, b, c].map(|bytes| AuthDoc::parse(bytes).unwrap());
        prop_assert_eq!(a.compare_age(&b), b.compare_age(&a).reverse());
        if a.compare_age(&b).is_le() && b.compare_age(&c).is_le() {
            prop_assert!(a.compare_age(&c).is_le());
        }
    }

    #[test]
    fn ids_have_their_form(user in ".{0,20}", space in ".{0,20}") {
        for id in [AccountId::of_chatgpt(&user, &space), AccountId::of_api_key(&user)] {
            prop_assert_eq!(AccountId::parse(id.as_str()), Some(id));
        }
    }

    #[test]
    fn any_text_is_settings(text in prop_oneof!["(?s).{0,200}", "([a-z_]{1,12} = [-0-9a-z\".\\[\\]{}]{0,12}\n){0,6}"]) {
        let (_, problems) = Settings::parse(&text);
        prop_assert!(problems.iter().all(|p| !p.is_empty()));
    }

    #[test]
    fn a_path_comes_back_from_its_key(bytes in vec(1_u8.., 0..40), key in ".{0,20}") {
        let path = PathBuf::from(OsString::from_vec(bytes));
        prop_assert_eq!(path_of_key(&path_key(&path)), path);
        let _ = path_of_key(&format!("hex:{key}"));
    }

    #[test]
    fn a_process_comes_back_from_its_name(boot in "[a-z0-9]{1,12}", ns in any::<u64>(), pid in any::<u32>(), ticks in any::<u64>(), text in ".{0,30}") {
        let name = format!("{boot}-{ns}-{pid}-{ticks}");
        if let Some(process) = ProcessId::parse(&name) {
            prop_assert_eq!(process.to_string(), name);
        }
        let _ = ProcessId::parse(&text);
    }

    #[test]
    fn what_is_left_is_a_percentage(used in any::<f64>(), resets in any::<Option<i64>>(), length in any::<i64>(), now in any::<i64>()) {
        let window = Window { window_seconds: length, used_percent: used, resets_at: resets };
        let left = window.left_percent(now);
        prop_assert!((0.0..=100.0).contains(&left));
        prop_assert!(!window.name().is_empty());
    }
}

/// Returns words of Codex's command line, and others.
fn words() -> impl Strategy<Value = Vec<OsString>> {
    let known = prop::sample::select(vec![
        "exec",
        "e",
        "resume",
        "fork",
        "login",
        "logout",
        "status",
        "mcp",
        "agents",
        "queue",
        "review",
        "help",
        "--",
        "-c",
        "a=b",
        "--config=a=b",
        "-cx=y",
        "-i",
        "--image",
        "a.png",
        "-p",
        "work",
        "--profile=x",
        "-C",
        "/tmp",
        "--cd=/x",
        "--last",
        "--no-daemon",
        "--remote",
        "ws://x",
        "-h",
        "-V",
        "--json",
        "-m",
        "model",
        "-",
        "018f5b2c-0000-7000-8000-000000000000",
        "app-server",
        "daemon",
        "proxy",
        "hi there",
        "--oss",
        "-s",
        "-a",
    ]);
    let word = prop_oneof![
        4 => known.prop_map(OsString::from),
        1 => vec(1_u8.., 0..8).prop_map(OsString::from_vec),
    ];
    vec(word, 0..9)
}

proptest! {
    #[test]
    fn what_we_add_changes_nothing_else(argv in words()) {
        let call = argv::parse(&argv);
        let extra = [OsString::from("-c"), OsString::from("own=1")];
        let longer = call.with_extra(&argv, &extra);
        prop_assert_eq!(longer.len(), argv.len() + 2);
        let at = (0..=argv.len()).find(|at| longer[*at..*at + 2] == extra && longer[..*at] == argv[..*at] && longer[*at + 2..] == argv[*at..]);
        prop_assert!(at.is_some(), "{longer:?}");
        let end = argv.iter().position(|word| word == "--").unwrap_or(argv.len());
        prop_assert!(at.is_some_and(|at| at <= end), "behind the `--`: {longer:?}");
        let again = argv::parse(&longer);
        prop_assert_eq!(again.command, call.command);
        prop_assert_eq!(again.target, call.target);
        if call.needs_account() {
            prop_assert!(again.overrides.contains(&("own", "1")), "{longer:?}");
        }
    }
}

fn account(at: usize, label: &str, email: &str) -> Account {
    let id = AccountId::of_chatgpt(&format!("user {at}"), "space");
    Account {
        email: Some(email.to_owned()),
        account_id: Some("space".to_owned()),
        ..Account::new(id, label, AccountKind::Chatgpt, 0)
    }
}

fn accounts() -> impl Strategy<Value = Vec<Account>> {
    vec((".{0,6}", "[ab]{0,3}(@x)?"), 0..5).prop_map(|names| {
        let named = names.iter().enumerate();
        named.map(|(at, (label, email))| account(at, label, email)).collect()
    })
}

fn a_time() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 1_799_000_000..1_801_000_000_i64, 1 => any::<i64>()]
}

fn usage() -> impl Strategy<Value = Usage> {
    let window = (
        prop_oneof![Just(18_000_i64), Just(604_800), any::<i64>()],
        prop_oneof![0.0..120.0, any::<f64>()],
        proptest::option::of(a_time()),
    )
        .prop_map(|(window_seconds, used_percent, resets_at)| Window {
            window_seconds,
            used_percent,
            resets_at,
        });
    (a_time(), any::<bool>(), vec(window, 0..4)).prop_map(|(fetched_at, limit_reached, windows)| Usage {
        limit_reached,
        ..Usage::new(Source::Api, fetched_at, windows)
    })
}

proptest! {
    #[test]
    fn an_id_always_finds_its_account_and_nothing_deceives(accounts in accounts(), reference in "(?s).{0,12}") {
        for account in &accounts {
            prop_assert_eq!(&references::resolve(&accounts, account.id.as_str()).unwrap().id, &account.id);
        }
        if let Err(error) = references::resolve(&[], &reference) {
            prop_assert!(!error.to_string().contains(is_deceptive), "{error}");
        }
        let _ = references::resolve(&accounts, &reference);
    }

    #[test]
    fn the_pick_ranks_everybody_whatever_the_order(usages in vec(proptest::option::of(usage()), 1..6), live in 0..6_usize, now in a_time()) {
        let accounts: Vec<Account> = (0..usages.len()).map(|at| account(at, &format!("a{at}"), "x")).collect();
        let candidates: Vec<Candidate<'_>> = accounts.iter().zip(&usages).enumerate().map(|(at, (account, usage))| Candidate {
            sessions: at,
            live: at == live,
            ..Candidate::of(account, usage.as_ref())
        }).collect();
        let settings = Settings::default();
        let ranking = pick(&candidates, now, &settings);
        let ids = |candidates: &[Candidate<'_>], ranking: &[codex_pool_core::pick::Ranked]| -> Vec<AccountId> {
            ranking.iter().map(|r| candidates[r.index].account.id.clone()).collect()
        };
        let mut indexes: Vec<usize> = ranking.iter().map(|r| r.index).collect();
        indexes.sort_unstable();
        prop_assert_eq!(indexes, (0..candidates.len()).collect::<Vec<_>>());
        for ranked in &ranking {
            prop_assert!(!ranked.explain(now).is_empty());
        }
        let reversed: Vec<Candidate<'_>> = candidates.iter().rev().cloned().collect();
        prop_assert_eq!(ids(&candidates, &ranking), ids(&reversed, &pick(&reversed, now, &settings)));
    }
}

/// Returns the folder, the paths and the lock of a new pool.
fn lab() -> (tempfile::TempDir, PoolPaths, PoolLock) {
    let dir = tempfile::tempdir().unwrap();
    let paths = PoolPaths::new(dir.path().join("pool"));
    let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
    (dir, paths, lock)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_newest_document_stays_whatever_the_order(times in proptest::collection::btree_set(0..1000_i64, 1..5), seed in any::<u64>()) {
        let (_dir, paths, lock) = lab();
        let mut times: Vec<i64> = times.into_iter().collect();
        let newest = times[times.len() - 1];
        let count = times.len();
        times.rotate_left(usize::try_from(seed % 5).unwrap() % count);
        let store = Credentials::new(&paths);
        let origin = if seed % 2 == 0 { Origin::Found } else { Origin::Successor };
        for at in &times {
            let doc = AuthDoc::parse(document(1_800_000_000 + at, &format!("t{at}"), &Value::Null)).unwrap();
            store.put_newer(&lock, &doc, origin, 1_800_000_000 + newest).unwrap();
        }
        let id = AccountId::of_chatgpt("alice", "space");
        let kept = store.load(&id).unwrap().unwrap();
        prop_assert_eq!(kept.issued_at(), Some(1_800_000_000 + newest));
        let lost = std::fs::read_dir(paths.lost_found()).map_or(0, |dir| dir.count());
        prop_assert_eq!(lost, count - 1, "every other one is kept aside");
    }

    #[test]
    fn any_files_are_a_pool_or_an_error(trees in vec(any_json(), 3), bytes in vec(any::<u8>(), 0..100), raw in any::<bool>()) {
        let (_dir, paths, lock) = lab();
        let files = [paths.registry(), paths.state(), paths.usage()];
        for (file, tree) in files.iter().zip(&trees) {
            let text = if raw { bytes.clone() } else { tree.to_string().into_bytes() };
            std::fs::write(file, text).unwrap();
        }
        let before = std::fs::read(&files[0]).unwrap();
        let registry = Registry::load(&paths);
        prop_assert_eq!(std::fs::read(&files[0]).unwrap(), before);
        let _ = State::load(None, &paths);
        let mut usage = UsageCache::load(None, &paths);
        usage.save(&lock, &paths).unwrap();
        prop_assert_eq!(UsageCache::load(None, &paths), usage);
        if let Ok(registry) = registry {
            registry.save(&lock, &paths).unwrap();
            prop_assert_eq!(Registry::load(&paths).unwrap(), registry);
        }
    }

    #[test]
    fn any_session_log_says_something_or_nothing(lines in vec((any_json(), ".{0,40}", any::<bool>()), 0..20)) {
        let mut file = tempfile::tempfile().unwrap();
        for (tree, text, event) in lines {
            let limits = json!({"timestamp": "2026-11-22T12:16:58.981Z", "type": "event_msg",
                "payload": {"type": "token_count", "rate_limits": tree}});
            writeln!(file, "{}", if event { limits.to_string() } else { text }).unwrap();
        }
        let _ = newest_limits(&file, 0);
    }

    #[test]
    fn any_config_of_codex_can_be_read(text in prop_oneof!["(?s).{0,200}", "([a-z_.]{1,12} = [-0-9a-z\".\\[\\]{}]{0,12}\n|\\[[a-z.\"]{1,9}\\]\n){0,8}"], argv in words()) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), &text).unwrap();
        let around = Surroundings { codex_home: dir.path(), system_dir: Path::new("/nonexistent"), user_home: None, cwd: Some(dir.path()) };
        let settings = CodexSettings::read(around, &argv::parse(&argv));
        let _ = settings.allows_chatgpt("space");
        let _ = settings.hooks_override(dir.path(), dir.path());
    }
}
