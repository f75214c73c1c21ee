//! What a renewal of an account's tokens does on disk: which token is sent, where the answer is kept, and how a crash
//! in between is known. The caller makes the request between [`begin`] and one of [`finish`], [`reject`] and
//! [`abandon`], with the renewal lock held and the pool's lock released.

use crate::account::{AccountId, AuthReason, AuthState};
use crate::auth_doc::{AuthDoc, MAX_BYTES, Secret};
use crate::error::{Error, Result};
use crate::files::{self, PoolLock, RenewalLock};
use crate::homes::in_use::Processes;
use crate::homes::{self, CodexHome, HomeContent};
use crate::pool::Pool;
use crate::process::{Liveness, ProcessId};
use crate::store::{LostFound, Mark, MarkKind, Origin, Why};

/// Tokens are renewed when less than this is left, so that Codex never has to, seconds.
pub const EARLY: i64 = 86_400;
/// A renewal that was begun this long ago has ended, seconds.
const ENDS: i64 = 60;

/// A Codex that starts renews tokens by itself that end so soon, seconds.
const CODEX_RENEWS_WITHIN: i64 = 300;
/// How long that may take after its start, seconds. If it sends the same refresh token as the pool, the login is lost.
const STARTS_WITHIN: i64 = 15;

/// Why tokens are to be renewed.
#[derive(Debug, Clone, Copy)]
pub enum Cause<'a> {
    /// They expire soon.
    Expiring,
    /// The service rejected this access token.
    Rejected(&'a Secret),
    /// To find out whether the login is still good.
    Proof,
    /// They lack the id token, which the answer has.
    Incomplete,
}

/// What [`begin`] decided.
#[derive(Debug)]
pub enum Decision {
    /// Send the refresh token of this renewal.
    Send(Box<Renewal>),
    /// Another process has renewed the tokens. This is the newest document.
    Renewed(Box<AuthDoc>),
    /// A session uses the account and its token has time left. Its Codex renews it.
    LeftToCodex,
    /// Codex is just writing the account's document, which has a newer token than any that can be read; or it is
    /// starting, and renews a token that ends.
    BeingWritten,
    /// There is no refresh token, so only a login helps.
    NoRefreshToken,
    /// The refresh token was sent before, and is never sent again. Only a login helps.
    UsedUp,
}

/// A renewal that was begun.
#[derive(Debug)]
pub struct Renewal {
    /// The newest document. Its refresh token is the one to send.
    pub doc: AuthDoc,
    /// A document of the same age, to be tried if the token of `doc` is rejected.
    pub tie: Option<AuthDoc>,
    /// The token of `tie` was sent, too.
    pub sent_tie: bool,
    /// An earlier renewal got no answer, so the token may be used up.
    pub interrupted: bool,
}

/// Returns whether a document's tokens expire soon. `now`: Unix seconds.
pub fn is_due(doc: &AuthDoc, now: i64) -> bool {
    doc.refresh_token().is_some() && doc.expires_at().is_some_and(|at| at.saturating_sub(now) < EARLY)
}

/// Returns whether a renewal of this account began and got no answer: its process has ended, or has given up waiting.
/// `now`: Unix seconds.
pub fn is_interrupted(pool: &Pool, id: &AccountId, now: i64) -> bool {
    let mut marks = marks(pool, id).peekable();
    if marks.peek().is_none() {
        return false;
    }
    let me = ProcessId::of_self().ok();
    marks.any(|mark| {
        let process = ProcessId::parse(&mark.process).zip(me.as_ref());
        let ended = process.is_none_or(|(process, me)| process.liveness(me) == Liveness::Dead);
        ended || !(0..ENDS).contains(&now.saturating_sub(mark.at))
    })
}

fn is_mark_of(mark: &Mark, id: &AccountId) -> bool {
    mark.kind == MarkKind::Renewal && mark.account.as_ref() == Some(id)
}

fn marks<'a>(pool: &'a Pool, id: &'a AccountId) -> impl Iterator<Item = &'a Mark> {
    pool.state().marks.iter().filter(move |mark| is_mark_of(mark, id))
}

fn unmark(pool: &mut Pool, id: &AccountId) {
    if marks(pool, id).next().is_some() {
        pool.state_mut().marks.retain(|mark| !is_mark_of(mark, id));
    }
}

/// Gives pool and homes the newest documents: what the homes contain is adopted, so are answers that could not be
/// stored, and a home with an older document gets the pool's.
///
/// # Errors
/// A document could not be made durable.
pub fn exchange_newest(lock: &PoolLock, pool: &mut Pool, now: i64) -> Result<()> {
    recover_answers(lock, pool, now)?;
    for home in homes::known(pool) {
        exchange_one(lock, pool, &home, now)?;
    }
    Ok(())
}

/// As [`exchange_newest`] for one home. Returns what it has then; a home that cannot be written keeps what it had, and is
/// stale.
///
/// # Errors
/// A document could not be made durable.
pub(crate) fn exchange_one(
    lock: &PoolLock,
    pool: &mut Pool,
    home: &CodexHome,
    now: i64,
) -> Result<HomeContent> {
    let content = homes::reconcile(lock, pool, home, now)?;
    if let HomeContent::Account { id, stale: true } = &content
        && let Ok(Some(doc)) = pool.credentials().load(id)
        && homes::rewrite(lock, pool, home, &doc, now).is_ok()
    {
        return Ok(HomeContent::Account { id: id.clone(), stale: false });
    }
    Ok(content)
}

/// Adopts the answers that [`LostFound::rescue`] kept.
fn recover_answers(lock: &PoolLock, pool: &mut Pool, now: i64) -> Result<()> {
    for path in LostFound::new(&pool.paths).rescued() {
        let Ok(Some(bytes)) = files::read_small(&path, MAX_BYTES) else { continue };
        if let Ok(doc) = AuthDoc::parse(bytes) {
            pool.adopt(lock, &doc, None, Origin::Answer, now)?;
            unmark(pool, doc.id());
        }
        files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
    }
    Ok(())
}

/// Begins a renewal: finds the newest document, makes sure that an answer can be stored, and leaves a mark. A second
/// process finds the tokens renewed.
///
/// # Errors
/// The pool cannot be read or written. Nothing may be sent then.
pub fn begin(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    id: &AccountId,
    cause: Cause<'_>,
    now: i64,
) -> Result<Decision> {
    exchange_newest(lock, pool, now)?;
    let doc = pool.credentials().load(id)?;
    let doc = doc.ok_or_else(|| Error::new(format!("the pool has no credentials for {id}")))?;
    let renewed = match cause {
        Cause::Expiring => doc.refresh_token().is_some() && !is_due(&doc, now),
        Cause::Rejected(token) => doc.access_token() != Some(token),
        Cause::Proof => false,
        Cause::Incomplete => doc.has_id_token(),
    };
    if renewed {
        return Ok(Decision::Renewed(Box::new(doc)));
    }
    if doc.refresh_token().is_none() {
        return Ok(Decision::NoRefreshToken);
    }
    if pool.is_used(&doc) {
        return Ok(Decision::UsedUp);
    }
    // In a shared pool no home has a refresh token, so that no Codex renews.
    let codex_can_renew = pool.shared().is_none();
    if codex_can_renew && matches!(cause, Cause::Rejected(_)) && doc.expires_at().is_some_and(|at| at > now) {
        let processes = Processes::read(None, &pool.paths, now);
        if !processes.users_of_account(pool, id).is_empty() {
            return Ok(Decision::LeftToCodex);
        }
    }
    let codex_renews = codex_can_renew && doc.expires_at().is_some_and(|at| at - now < CODEX_RENEWS_WITHIN);
    if homes::being_written(pool, id)
        || codex_renews
            && Processes::read(None, &pool.paths, now).has_started_on(pool, id, now - STARTS_WITHIN)
    {
        return Ok(Decision::BeingWritten);
    }
    let interrupted = marks(pool, id).next().is_some();
    // The answer will need the same room at the same place. A full or read-only disk must be found out before the token
    // is used up.
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
    Ok(Decision::Send(Box::new(Renewal { doc, tie, sent_tie: false, interrupted })))
}

/// Returns the document that was kept beside the pool's because it could not be known which is newer.
fn tie(pool: &Pool, doc: &AuthDoc) -> Option<AuthDoc> {
    let path = LostFound::new(&pool.paths).tie(doc.id())?;
    let other = AuthDoc::parse(files::read_small(&path, MAX_BYTES).ok()??).ok()?;
    let newer = other.id() == doc.id()
        && other.compare_age(doc).is_ge()
        && other.refresh_token().is_some()
        && other.refresh_token() != doc.refresh_token()
        && !pool.is_used(&other);
    newer.then_some(other)
}

/// Stores a renewed document: durably in the pool, then in every home that has the account. Returns what failed after
/// the document was in the pool, as sentences.
///
/// # Errors
/// The document is not in the pool. The caller must try again, and in the end [`LostFound::rescue`] it.
pub fn finish(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    renewal: &Renewal,
    renewed: &AuthDoc,
    now: i64,
) -> Result<Vec<String>> {
    note_sent(pool, renewal, Some(renewed));
    let id = renewed.id();
    let Some(stored) = pool.credentials().bytes(id)? else {
        // The account was removed meanwhile, or logged out, and does not come back. A logout may have failed at the
        // service, so the document is kept.
        if pool.registry().get(id).is_some() {
            LostFound::new(&pool.paths).keep(lock, renewed.bytes(), Why::Replaced, Some(id), now)?;
        }
        unmark(pool, id);
        pool.commit(lock)?;
        return Ok(Vec::new());
    };
    if stored == renewal.doc.bytes() {
        // The token that it replaces is used up, so nothing is lost with it.
        pool.credentials().put(lock, renewed)?;
        pool.registry_mut().upsert(renewed, None, now);
    } else {
        pool.adopt(lock, renewed, None, Origin::Answer, now)?;
    }
    pool.see(renewed);
    let mut problems = give_to_homes(lock, pool, id, now);
    unmark(pool, id);
    if let Err(e) = pool.commit(lock) {
        problems.push(e.to_string());
    }
    Ok(problems)
}

/// Puts the pool's document into every home that has the account. Returns what failed, as sentences.
pub fn give_to_homes(lock: &PoolLock, pool: &mut Pool, id: &AccountId, now: i64) -> Vec<String> {
    let mut problems = Vec::new();
    let homes = homes::homes_with(lock, pool, id, now).unwrap_or_else(|e| {
        problems.push(e.to_string());
        Vec::new()
    });
    // A home may have had a newer one still.
    let Ok(Some(newest)) = pool.credentials().load(id) else { return problems };
    for home in homes {
        if let Err(e) = homes::rewrite(lock, pool, &home, &newest, now) {
            problems.push(e.to_string());
        }
    }
    problems
}

/// Notes that the tokens of a renewal were sent and answered. An answer without a refresh token leaves the sent one good.
fn note_sent(pool: &mut Pool, renewal: &Renewal, renewed: Option<&AuthDoc>) {
    let sent = std::iter::once(&renewal.doc).chain(renewal.tie.as_ref().filter(|_| renewal.sent_tie));
    for doc in sent {
        if renewed.is_none_or(|renewed| renewed.refresh_token() != doc.refresh_token()) {
            pool.mark_used(doc);
        }
    }
}

/// Ends a renewal whose answer names another account of the pool: it is filed there. `sent`: the document whose token was
/// sent. If that document had taken the place of the account's own login, that token was the other account's, and the own
/// login comes back. Returns whether it did; otherwise the account needs a login.
///
/// # Errors
/// The pool cannot be read or written. The caller must keep the answer.
pub fn file_elsewhere(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    sent: &AuthDoc,
    answer: &AuthDoc,
    now: i64,
) -> Result<bool> {
    let (id, other) = (sent.id(), answer.id());
    pool.mark_used(sent);
    let own = displaced(pool, id);
    if own.is_some() {
        pool.give_token_to(sent, other);
    }
    pool.adopt(lock, answer, None, Origin::Found, now)?;
    unmark(pool, id);
    match &own {
        Some(own) => {
            pool.credentials().put(lock, own)?;
            pool.registry_mut().upsert(own, None, now);
            pool.set_auth(id, AuthState::Ok, None, now);
        }
        None => pool.set_auth(id, AuthState::ReauthRequired, Some(AuthReason::Foreign), now),
    }
    give_to_homes(lock, pool, other, now);
    pool.commit(lock)?;
    Ok(own.is_some())
}

/// Returns the newest document of an account that made room for one of another origin and was never sent.
fn displaced(pool: &Pool, id: &AccountId) -> Option<AuthDoc> {
    let kept = LostFound::new(&pool.paths).entries().into_iter();
    let docs = kept.filter_map(|kept| AuthDoc::parse(files::read_small(&kept.path, MAX_BYTES).ok()??).ok());
    let own = docs.filter(|doc| doc.id() == id && pool.is_displaced(doc));
    own.max_by(|a, b| a.compare_age(b))
}

/// Ends a renewal whose refresh token the issuer rejected. Returns the newer document that a home has got meanwhile, if
/// there is one; then the rejection means nothing. Otherwise the account needs a login.
///
/// # Errors
/// The pool cannot be read or written.
pub fn reject(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    renewal: &Renewal,
    reason: AuthReason,
    now: i64,
) -> Result<Option<AuthDoc>> {
    note_sent(pool, renewal, None);
    let id = renewal.doc.id();
    exchange_newest(lock, pool, now)?;
    let newest = pool.credentials().load(id)?;
    unmark(pool, id);
    let newer = newest.filter(|doc| !doc.same_credentials(&renewal.doc));
    if newer.is_none() {
        let reason = if renewal.interrupted { AuthReason::Interrupted } else { reason };
        pool.set_auth(id, AuthState::ReauthRequired, Some(reason), now);
    }
    pool.commit(lock)?;
    Ok(newer)
}

/// Ends a renewal that got no answer. `may_be_used`: the service may have used the token up, so the mark stays.
///
/// # Errors
/// The pool cannot be written.
pub fn abandon(
    _alone: &RenewalLock,
    lock: &PoolLock,
    pool: &mut Pool,
    renewal: &Renewal,
    may_be_used: bool,
) -> Result<()> {
    if !may_be_used && !renewal.interrupted {
        unmark(pool, renewal.doc.id());
    }
    pool.commit(lock)
}

/// Forgets the renewals of an account that were begun with a token whose place a newer login has taken.
pub fn forget_superseded(pool: &mut Pool, id: &AccountId) {
    unmark(pool, id);
}

/// Forgets the renewals of an account that were begun before a login, and what was wrong with its credentials.
pub fn forget_before_login(pool: &mut Pool, id: &AccountId) {
    unmark(pool, id);
    pool.set_auth(id, AuthState::Ok, None, 0);
}

#[cfg(test)]
mod tests;
