//! What a renewal leaves on disk, whatever happens between its steps.

use super::*;
use crate::auth_doc::FreshTokens;
use crate::paths::PoolPaths;
use crate::store::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::path::PathBuf;
use std::time::Duration;

const NOW: i64 = 1_800_000_000;

fn jwt(issued: i64) -> String {
    let claims = serde_json::json!({"iat": issued, "exp": issued + 864_000, "iss": "https://issuer.example",
        "https://api.openai.com/auth": {"chatgpt_user_id": "alice", "chatgpt_account_id": "space"}});
    format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A document whose access token was issued that long ago, seconds.
fn doc(issued_ago: i64, refresh_token: &str) -> AuthDoc {
    let tokens = serde_json::json!({"access_token": jwt(NOW - issued_ago), "refresh_token": refresh_token,
        "account_id": "space"});
    let doc = serde_json::json!({"auth_mode": "chatgpt", "tokens": tokens, "kept": 1});
    AuthDoc::parse(doc.to_string().into_bytes()).unwrap()
}

struct Lab {
    _dir: tempfile::TempDir,
    paths: PoolPaths,
    codex_home: PathBuf,
    alone: RenewalLock,
}

impl Lab {
    /// A pool and a main home that hold `doc`.
    fn new(doc: &AuthDoc) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let codex_home = dir.path().join("codex/auth.json");
        std::fs::create_dir(codex_home.parent().unwrap()).unwrap();
        std::fs::write(&codex_home, doc.bytes()).unwrap();
        let alone = RenewalLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let lab = Lab { _dir: dir, paths, codex_home, alone };
        lab.with(|lock, pool| {
            let codex_home = homes::CodexHome::of_auth_json(&pool.paths, &lab.codex_home).unwrap();
            homes::reconcile(lock, pool, &codex_home, NOW).unwrap();
        });
        lab
    }

    fn with<T>(&self, act: impl FnOnce(&PoolLock, &mut Pool) -> T) -> T {
        // A child that another test just starts has the lock before for a moment.
        let lock = PoolLock::acquire(&self.paths, Duration::from_secs(60)).unwrap().unwrap();
        let mut pool = Pool::open(&lock, &self.paths, NOW).unwrap();
        let result = act(&lock, &mut pool);
        pool.commit(&lock).unwrap();
        result
    }

    fn begin(&self, cause: Cause<'_>) -> Decision {
        let id = doc(0, "").id().clone();
        self.with(|lock, pool| begin(&self.alone, lock, pool, &id, cause, NOW).unwrap())
    }

    fn renewal(&self) -> Box<Renewal> {
        match self.begin(Cause::Expiring) {
            Decision::Send(renewal) => renewal,
            other => panic!("{other:?}"),
        }
    }

    fn stored(&self) -> Vec<u8> {
        self.with(|_, pool| pool.credentials().bytes(doc(0, "").id()).unwrap().unwrap())
    }

    fn marks(&self) -> usize {
        State::load(None, &self.paths).marks.len()
    }
}

fn answer(from: &AuthDoc) -> AuthDoc {
    let fresh = FreshTokens {
        id_token: None,
        access_token: Some(Secret::new(jwt(NOW))),
        refresh_token: Some(Secret::new("second")),
    };
    from.renewed(&fresh, NOW).unwrap()
}

const OLD: i64 = 863_000;

#[test]
fn an_answer_reaches_store_and_home_and_the_mark_is_gone() {
    let lab = Lab::new(&doc(OLD, "first"));
    let renewal = lab.renewal();
    assert!(!renewal.interrupted);
    assert_eq!(lab.marks(), 1, "before anything is sent");
    let fresh = answer(&renewal.doc);
    let problems = lab.with(|l, p| finish(&lab.alone, l, p, &renewal, &fresh, NOW)).unwrap();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((lab.stored().as_slice(), lab.marks()), (fresh.bytes(), 0));
    assert_eq!(std::fs::read(&lab.codex_home).unwrap(), fresh.bytes());
    assert!(String::from_utf8_lossy(fresh.bytes()).contains("\"kept\": 1"));
    assert!(matches!(lab.begin(Cause::Expiring), Decision::Renewed(_)), "whoever comes second finds it done");
}

#[test]
fn home_that_is_not_remembered_may_have_the_newest_token() {
    let lab = Lab::new(&doc(OLD, "first"));
    let home = lab.paths.homes().join("base").join(doc(0, "").id().as_str());
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("auth.json"), "{\"tokens\": {").unwrap();
    assert!(matches!(lab.begin(Cause::Expiring), Decision::BeingWritten));
    let newest = doc(OLD - 10, "rotated by Codex");
    std::fs::write(home.join("auth.json"), newest.bytes()).unwrap();
    assert_eq!(lab.renewal().doc.bytes(), newest.bytes());
}

#[test]
fn the_newest_token_is_sent_wherever_it_is() {
    let lab = Lab::new(&doc(OLD, "first"));
    std::fs::write(&lab.codex_home, doc(OLD - 10, "rotated by Codex").bytes()).unwrap();
    assert_eq!(lab.renewal().doc.refresh_token(), Some(&Secret::new("rotated by Codex")));
    std::fs::write(&lab.codex_home, doc(10, "renewed by Codex").bytes()).unwrap();
    assert!(matches!(lab.begin(Cause::Expiring), Decision::Renewed(_)));
}

#[test]
fn no_token_is_sent_while_codex_writes_a_newer_one() {
    let lab = Lab::new(&doc(OLD, "first"));
    std::fs::write(&lab.codex_home, &doc(10, "renewed by Codex").bytes()[..50]).unwrap();
    assert!(matches!(lab.begin(Cause::Expiring), Decision::BeingWritten));
    assert_eq!(lab.marks(), 0);
    let hour = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&lab.codex_home).unwrap().set_modified(hour).unwrap();
    assert!(matches!(lab.begin(Cause::Expiring), Decision::Send(_)), "nobody is writing it any more");
}

#[test]
fn a_rejection_counts_only_if_no_newer_token_turned_up() {
    let lab = Lab::new(&doc(OLD, "first"));
    let renewal = lab.renewal();
    std::fs::write(&lab.codex_home, doc(10, "renewed by Codex").bytes()).unwrap();
    let newer = lab.with(|l, p| reject(&lab.alone, l, p, &renewal, AuthReason::Reused, NOW)).unwrap();
    assert_eq!(newer.unwrap().refresh_token(), Some(&Secret::new("renewed by Codex")));
    let state = |lab: &Lab| lab.with(|_, p| p.registry().accounts[0].auth.clone());
    assert_eq!(state(&lab).state, AuthState::Ok);

    let lab = Lab::new(&doc(OLD, "first"));
    let renewal = lab.renewal();
    assert!(lab.with(|l, p| reject(&lab.alone, l, p, &renewal, AuthReason::Reused, NOW)).unwrap().is_none());
    assert_eq!(
        (state(&lab).state, state(&lab).reason.clone()),
        (AuthState::ReauthRequired, Some(AuthReason::Reused))
    );
    assert_eq!(lab.marks(), 0);
}

#[test]
fn a_lost_answer_is_remembered_until_the_issuer_decides() {
    let lab = Lab::new(&doc(OLD, "first"));
    let renewal = lab.renewal();
    lab.with(|l, p| abandon(&lab.alone, l, p, &renewal, true)).unwrap();
    assert_eq!(lab.marks(), 1);
    let renewal = lab.renewal();
    assert!(renewal.interrupted);
    lab.with(|l, p| abandon(&lab.alone, l, p, &renewal, false)).unwrap();
    assert_eq!(lab.marks(), 1, "not sent this time, but the first time it was");
    let renewal = lab.renewal();
    lab.with(|l, p| reject(&lab.alone, l, p, &renewal, AuthReason::Reused, NOW)).unwrap();
    let reason = lab.with(|_, p| p.registry().accounts[0].auth.reason.clone());
    assert_eq!(reason.clone(), Some(AuthReason::Interrupted));
}

#[test]
fn a_request_that_was_never_sent_leaves_no_mark() {
    let lab = Lab::new(&doc(OLD, "first"));
    let renewal = lab.renewal();
    lab.with(|l, p| abandon(&lab.alone, l, p, &renewal, false)).unwrap();
    assert_eq!(lab.marks(), 0);
}

#[test]
fn a_rescued_answer_is_put_into_its_place() {
    let lab = Lab::new(&doc(OLD, "first"));
    let renewal = lab.renewal();
    let fresh = answer(&renewal.doc);
    LostFound::new(&lab.paths).rescue(&lab.alone, &fresh, NOW).unwrap();
    lab.with(|lock, pool| exchange_newest(lock, pool, NOW).unwrap());
    assert_eq!((lab.stored().as_slice(), lab.marks()), (fresh.bytes(), 0));
    assert_eq!(std::fs::read(&lab.codex_home).unwrap(), fresh.bytes());
    assert_eq!(LostFound::new(&lab.paths).rescued(), Vec::<PathBuf>::new());
}

#[test]
fn a_rejected_access_token_is_renewed_unless_a_newer_one_is_there() {
    let lab = Lab::new(&doc(100, "first"));
    let rejected = Secret::new(jwt(NOW - 100));
    assert!(matches!(lab.begin(Cause::Rejected(&Secret::new("older"))), Decision::Renewed(_)));
    assert!(matches!(lab.begin(Cause::Rejected(&rejected)), Decision::Send(_)));
}

#[test]
fn nothing_is_sent_when_the_answer_could_not_be_stored() {
    let lab = Lab::new(&doc(OLD, "first"));
    let auth = lab.paths.auth_dir();
    std::fs::rename(&auth, auth.with_extension("away")).unwrap();
    std::fs::write(&auth, "a file in its place").unwrap();
    let id = doc(0, "").id().clone();
    lab.with(|l, p| begin(&lab.alone, l, p, &id, Cause::Expiring, NOW)).unwrap_err();
    assert_eq!(lab.marks(), 0);
}
