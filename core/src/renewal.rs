//! Renewing an account's tokens, as far as the disk is concerned: what to send, what to keep, and how a
//! crash in between is known. The request itself is made by the caller between [`begin`] and one of
//! [`finish`], [`reject`], [`abandon`], with the refresh lock held and the pool's lock released.

use crate::account::{AccountId, AuthState, AuthStatus};
use crate::auth_doc::{AuthDoc, MAX_BYTES, Secret};
use crate::error::{Error, Result};
use crate::files::{self, PoolLock, RenewalLock};
use crate::homes::in_use::Processes;
use crate::homes::{self, HomeContent};
use crate::pool::Pool;
use crate::process::{Liveness, ProcessId};
use crate::store::{LostFound, Mark, MarkKind, Why};

/// Tokens are renewed when less than this is left, so that Codex never has to, seconds.
pub const EARLY: i64 = 86_400;
/// A renewal that was begun this long ago is not under way any more, seconds.
const ENDS: i64 = 60;
/// The registry's reason when the answer of a refresh was lost and the token with it.
pub const INTERRUPTED: &str = "interrupted";

/// Why an account is to be renewed.
#[derive(Debug, Clone, Copy)]
pub enum Need<'a> {
    /// Its time is nearly over.
    Early,
    /// The service rejected this access token.
    Rejected(&'a Secret),
    /// To find out whether the login is still good.
    Proof,
}

/// What to do, as [`begin`] found it.
#[derive(Debug)]
pub enum Begun {
    /// Send the refresh token of this ticket.
    Go(Box<Ticket>),
    /// Somebody renewed it meanwhile: this is the newest document.
    Done(Box<AuthDoc>),
    /// A session is at work on it and its token should still be good: Codex finds out by itself.
    LeftToCodex,
    /// Codex is writing the account's document just now: it has a newer token than any that can be read.
    BeingWritten,
    /// Only a login helps: there is no refresh token.
    NoRefreshToken,
}

/// A renewal under way.
#[derive(Debug)]
pub struct Ticket {
    /// The newest document; its refresh token is the one to send.
    pub doc: AuthDoc,
    /// Another document of the account, as new as this one, to try if this one's token is rejected.
    pub tie: Option<AuthDoc>,
    /// An earlier renewal never got its answer, so that the token may be used up.
    pub interrupted: bool,
}

/// Whether a document's tokens are due for renewal at `now`.
pub fn needed(doc: &AuthDoc, now: i64) -> bool {
    doc.refresh_token().is_some() && doc.expires_at().is_some_and(|at| at.saturating_sub(now) < EARLY)
}

/// Whether a renewal of this account was begun and never got its answer: whoever began it is gone, or
/// has given up waiting. `now`: Unix seconds.
pub fn interrupted(pool: &Pool, id: &AccountId, now: i64) -> bool {
    let mut marks = refresh_marks(pool, id).peekable();
    if marks.peek().is_none() {
        return false;
    }
    let me = ProcessId::of_self().ok();
    marks.any(|mark| {
        let process = ProcessId::parse(&mark.process).zip(me.as_ref());
        let gone = process.is_none_or(|(process, me)| process.liveness(me) == Liveness::Dead);
        gone || !(0..ENDS).contains(&now.saturating_sub(mark.at))
    })
}

fn refresh_marks<'a>(pool: &'a Pool, id: &'a AccountId) -> impl Iterator<Item = &'a Mark> {
    pool.state().marks.iter().filter(move |m| m.kind == MarkKind::Renewal && m.account.as_ref() == Some(id))
}

fn unmark(pool: &mut Pool, id: &AccountId) {
    if refresh_marks(pool, id).next().is_some() {
        pool.state_mut().marks.retain(|m| m.kind != MarkKind::Renewal || m.account.as_ref() != Some(id));
    }
}

/// Makes store and homes agree: what the homes hold comes into the pool, answers that could not be
/// put into their place are, and a home with an older document gets the pool's newer one.
///
/// # Errors
/// If something could not be made durable.
pub fn settle(lock: &PoolLock, pool: &mut Pool, now: i64) -> Result<()> {
    for path in LostFound::new(&pool.paths).rescued() {
        let Ok(Some(bytes)) = files::read_small(&path, MAX_BYTES) else { continue };
        if let Ok(doc) = AuthDoc::parse(bytes) {
            pool.adopt(lock, &doc, None, true, now)?;
            unmark(pool, doc.id());
        }
        files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
    }
    for codex_home in homes::known(pool) {
        if let HomeContent::Account { id, stale: true } = homes::reconcile(lock, pool, &codex_home, now)?
            && let Ok(Some(doc)) = pool.credentials().load(&id)
        {
            // A home that cannot be written keeps what it has.
            let _ = homes::rewrite(lock, pool, &codex_home, &doc, now);
        }
    }
    Ok(())
}

/// Begins a renewal: finds the newest document, makes sure that an answer can be stored, and leaves a
/// mark. Whoever comes second finds it done.
///
/// # Errors
/// If the pool cannot be read or written; nothing must be sent then.
pub fn begin(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    id: &AccountId,
    need: Need<'_>,
    now: i64,
) -> Result<Begun> {
    settle(lock, pool, now)?;
    let doc = pool.credentials().load(id)?;
    let doc = doc.ok_or_else(|| Error::new(format!("the pool has no credentials for {id}")))?;
    let done = match need {
        Need::Early => doc.refresh_token().is_some() && !needed(&doc, now),
        Need::Rejected(token) => doc.access_token() != Some(token),
        Need::Proof => false,
    };
    if done {
        return Ok(Begun::Done(Box::new(doc)));
    }
    if doc.refresh_token().is_none() {
        return Ok(Begun::NoRefreshToken);
    }
    if matches!(need, Need::Rejected(_)) && doc.expires_at().is_some_and(|at| at > now) {
        let processes = Processes::read(None, &pool.paths, now);
        if !processes.users_of_account(pool, id).is_empty() {
            return Ok(Begun::LeftToCodex);
        }
    }
    if homes::being_written(pool, id) {
        return Ok(Begun::BeingWritten);
    }
    let interrupted = refresh_marks(pool, id).next().is_some();
    // The answer will need the same room at the same place: a full or read-only disk must be found
    // out before the token is used up.
    pool.credentials().put(lock, &doc)?;
    let process = ProcessId::of_self().map_or_else(|_| "unknown".to_owned(), |me| me.to_string());
    unmark(pool, id);
    pool.state_mut().marks.push(Mark {
        kind: MarkKind::Renewal,
        account: Some(id.clone()),
        home: None,
        process,
        at: now,
    });
    pool.commit(lock)?;
    let tie = tie(pool, &doc);
    Ok(Begun::Go(Box::new(Ticket { doc, tie, interrupted })))
}

/// A document that was kept beside the pool's because nobody could tell which is newer.
fn tie(pool: &Pool, doc: &AuthDoc) -> Option<AuthDoc> {
    let path = LostFound::new(&pool.paths).tie(doc.id())?;
    let other = AuthDoc::parse(files::read_small(&path, MAX_BYTES).ok()??).ok()?;
    let newer = other.id() == doc.id()
        && other.compare_age(doc).is_ge()
        && other.refresh_token().is_some()
        && other.refresh_token() != doc.refresh_token();
    newer.then_some(other)
}

/// Stores a renewed document: durably in the pool, then in every home that holds the account.
///
/// # Errors
/// If it is not in the pool; the caller must try again, and at last [`LostFound::rescue`] it. What
/// failed later comes back as sentences.
pub fn finish(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    ticket: &Ticket,
    fresh: &AuthDoc,
    now: i64,
) -> Result<Vec<String>> {
    let id = fresh.id();
    let Some(stored) = pool.credentials().bytes(id)? else {
        // Removed meanwhile, or logged out: it does not come back. After a logout it is kept, should that have failed.
        if pool.registry().get(id).is_some() {
            LostFound::new(&pool.paths).keep(lock, fresh.bytes(), Why::Replaced, Some(id), now)?;
        }
        unmark(pool, id);
        pool.commit(lock)?;
        return Ok(Vec::new());
    };
    if stored == ticket.doc.bytes() {
        // What it replaces is used up, so nothing is lost with it.
        pool.credentials().put(lock, fresh)?;
        pool.registry_mut().enter(fresh, None, now);
    } else {
        pool.adopt(lock, fresh, None, true, now)?;
    }
    let mut problems = Vec::new();
    let codex_homes = homes::homes_with(lock, pool, id, now).unwrap_or_else(|e| {
        problems.push(e.to_string());
        Vec::new()
    });
    // A home may have had something newer still.
    let newest = pool.credentials().load(id)?.unwrap_or_else(|| fresh.clone());
    for codex_home in codex_homes {
        if let Err(e) = homes::rewrite(lock, pool, &codex_home, &newest, now) {
            problems.push(e.to_string());
        }
    }
    unmark(pool, id);
    if let Err(e) = pool.commit(lock) {
        problems.push(e.to_string());
    }
    Ok(problems)
}

/// The issuer rejected the refresh token. If a newer one has turned up in a home meanwhile, that is
/// no verdict, and the newer document comes back; else the account needs a login.
///
/// # Errors
/// If the pool cannot be read or written.
pub fn reject(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    ticket: &Ticket,
    reason: &str,
    now: i64,
) -> Result<Option<AuthDoc>> {
    let id = ticket.doc.id();
    settle(lock, pool, now)?;
    let newest = pool.credentials().load(id)?;
    unmark(pool, id);
    let newer = newest.filter(|doc| !doc.same_credentials(&ticket.doc));
    if newer.is_none() {
        let reason = if ticket.interrupted { INTERRUPTED } else { reason };
        note(pool, id, AuthState::ReauthRequired, Some(reason), now);
    }
    pool.commit(lock)?;
    Ok(newer)
}

/// No answer came. `fate_unknown`: the token may be used up, so the mark stays.
///
/// # Errors
/// If the pool cannot be written.
pub fn abandon(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    ticket: &Ticket,
    fate_unknown: bool,
) -> Result<()> {
    if !fate_unknown && !ticket.interrupted {
        unmark(pool, ticket.doc.id());
    }
    pool.commit(lock)
}

/// A login was made: no renewal that was begun before it, and nothing that was wrong, counts any more.
pub fn restart(pool: &mut Pool, id: &AccountId) {
    unmark(pool, id);
    note(pool, id, AuthState::Ok, None, 0);
}

/// Notes an account's state in the registry, if it is news.
pub fn note(pool: &mut Pool, id: &AccountId, state: AuthState, reason: Option<&str>, now: i64) {
    let is_news = |auth: &AuthStatus| auth.state != state || auth.reason.as_deref() != reason;
    if pool.registry().get(id).is_some_and(|account| is_news(&account.auth))
        && let Some(account) = pool.registry_mut().get_mut(id)
    {
        let since = (state != AuthState::Ok).then_some(now);
        account.auth = AuthStatus { state, reason: reason.map(str::to_owned), since };
    }
}

#[cfg(test)]
mod tests {
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
            let lock = PoolLock::acquire(&self.paths, Duration::ZERO).unwrap().unwrap();
            let mut pool = Pool::open(&lock, &self.paths, NOW).unwrap();
            let result = act(&lock, &mut pool);
            pool.commit(&lock).unwrap();
            result
        }

        fn begin(&self, need: Need<'_>) -> Begun {
            let id = doc(0, "").id().clone();
            self.with(|lock, pool| begin(&self.alone, lock, pool, &id, need, NOW).unwrap())
        }

        fn ticket(&self) -> Box<Ticket> {
            match self.begin(Need::Early) {
                Begun::Go(ticket) => ticket,
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
        from.refreshed(&fresh, NOW).unwrap()
    }

    const OLD: i64 = 863_000;

    #[test]
    fn an_answer_reaches_store_and_home_and_the_mark_is_gone() {
        let lab = Lab::new(&doc(OLD, "first"));
        let ticket = lab.ticket();
        assert!(!ticket.interrupted);
        assert_eq!(lab.marks(), 1, "before anything is sent");
        let fresh = answer(&ticket.doc);
        let problems = lab.with(|l, p| finish(&lab.alone, l, p, &ticket, &fresh, NOW)).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((lab.stored().as_slice(), lab.marks()), (fresh.bytes(), 0));
        assert_eq!(std::fs::read(&lab.codex_home).unwrap(), fresh.bytes());
        assert!(String::from_utf8_lossy(fresh.bytes()).contains("\"kept\": 1"));
        assert!(matches!(lab.begin(Need::Early), Begun::Done(_)), "whoever comes second finds it done");
    }

    #[test]
    fn home_that_is_not_remembered_may_have_the_newest_token() {
        let lab = Lab::new(&doc(OLD, "first"));
        let home = lab.paths.homes().join("base").join(doc(0, "").id().as_str());
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("auth.json"), "{\"tokens\": {").unwrap();
        assert!(matches!(lab.begin(Need::Early), Begun::BeingWritten));
        let newest = doc(OLD - 10, "rotated by Codex");
        std::fs::write(home.join("auth.json"), newest.bytes()).unwrap();
        assert_eq!(lab.ticket().doc.bytes(), newest.bytes());
    }

    #[test]
    fn the_newest_token_is_sent_wherever_it_is() {
        let lab = Lab::new(&doc(OLD, "first"));
        std::fs::write(&lab.codex_home, doc(OLD - 10, "rotated by Codex").bytes()).unwrap();
        assert_eq!(lab.ticket().doc.refresh_token(), Some(&Secret::new("rotated by Codex")));
        std::fs::write(&lab.codex_home, doc(10, "renewed by Codex").bytes()).unwrap();
        assert!(matches!(lab.begin(Need::Early), Begun::Done(_)));
    }

    #[test]
    fn no_token_is_sent_while_codex_writes_a_newer_one() {
        let lab = Lab::new(&doc(OLD, "first"));
        std::fs::write(&lab.codex_home, &doc(10, "renewed by Codex").bytes()[..50]).unwrap();
        assert!(matches!(lab.begin(Need::Early), Begun::BeingWritten));
        assert_eq!(lab.marks(), 0);
        let hour = std::time::SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().write(true).open(&lab.codex_home).unwrap().set_modified(hour).unwrap();
        assert!(matches!(lab.begin(Need::Early), Begun::Go(_)), "nobody is writing it any more");
    }

    #[test]
    fn a_rejection_counts_only_if_no_newer_token_turned_up() {
        let lab = Lab::new(&doc(OLD, "first"));
        let ticket = lab.ticket();
        std::fs::write(&lab.codex_home, doc(10, "renewed by Codex").bytes()).unwrap();
        let newer = lab.with(|l, p| reject(&lab.alone, l, p, &ticket, "reused", NOW)).unwrap();
        assert_eq!(newer.unwrap().refresh_token(), Some(&Secret::new("renewed by Codex")));
        let state = |lab: &Lab| lab.with(|_, p| p.registry().accounts[0].auth.clone());
        assert_eq!(state(&lab).state, AuthState::Ok);

        let lab = Lab::new(&doc(OLD, "first"));
        let ticket = lab.ticket();
        assert!(lab.with(|l, p| reject(&lab.alone, l, p, &ticket, "reused", NOW)).unwrap().is_none());
        assert_eq!(
            (state(&lab).state, state(&lab).reason.as_deref()),
            (AuthState::ReauthRequired, Some("reused"))
        );
        assert_eq!(lab.marks(), 0);
    }

    #[test]
    fn a_lost_answer_is_remembered_until_the_issuer_decides() {
        let lab = Lab::new(&doc(OLD, "first"));
        let ticket = lab.ticket();
        lab.with(|l, p| abandon(&lab.alone, l, p, &ticket, true)).unwrap();
        assert_eq!(lab.marks(), 1);
        let ticket = lab.ticket();
        assert!(ticket.interrupted);
        lab.with(|l, p| abandon(&lab.alone, l, p, &ticket, false)).unwrap();
        assert_eq!(lab.marks(), 1, "not sent this time, but the first time it was");
        let ticket = lab.ticket();
        lab.with(|l, p| reject(&lab.alone, l, p, &ticket, "reused", NOW)).unwrap();
        let reason = lab.with(|_, p| p.registry().accounts[0].auth.reason.clone());
        assert_eq!(reason.as_deref(), Some(INTERRUPTED));
    }

    #[test]
    fn a_request_that_was_never_sent_leaves_no_mark() {
        let lab = Lab::new(&doc(OLD, "first"));
        let ticket = lab.ticket();
        lab.with(|l, p| abandon(&lab.alone, l, p, &ticket, false)).unwrap();
        assert_eq!(lab.marks(), 0);
    }

    #[test]
    fn a_rescued_answer_is_put_into_its_place() {
        let lab = Lab::new(&doc(OLD, "first"));
        let ticket = lab.ticket();
        let fresh = answer(&ticket.doc);
        LostFound::new(&lab.paths).rescue(&lab.alone, &fresh, NOW).unwrap();
        lab.with(|lock, pool| settle(lock, pool, NOW).unwrap());
        assert_eq!((lab.stored().as_slice(), lab.marks()), (fresh.bytes(), 0));
        assert_eq!(std::fs::read(&lab.codex_home).unwrap(), fresh.bytes());
        assert_eq!(LostFound::new(&lab.paths).rescued(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_rejected_access_token_is_renewed_unless_a_newer_one_is_there() {
        let lab = Lab::new(&doc(100, "first"));
        let rejected = Secret::new(jwt(NOW - 100));
        assert!(matches!(lab.begin(Need::Rejected(&Secret::new("older"))), Begun::Done(_)));
        assert!(matches!(lab.begin(Need::Rejected(&rejected)), Begun::Go(_)));
    }

    #[test]
    fn nothing_is_sent_when_the_answer_could_not_be_stored() {
        let lab = Lab::new(&doc(OLD, "first"));
        let auth = lab.paths.auth_dir();
        std::fs::rename(&auth, auth.with_extension("away")).unwrap();
        std::fs::write(&auth, "a file in its place").unwrap();
        let id = doc(0, "").id().clone();
        lab.with(|l, p| begin(&lab.alone, l, p, &id, Need::Early, NOW)).unwrap_err();
        assert_eq!(lab.marks(), 0);
    }
}
