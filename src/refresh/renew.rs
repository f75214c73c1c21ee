//! Renewing tokens: one account at a time on this machine, with the newest token, and with the answer on disk before it
//! is used. `codex_pool_core::renewal` does what happens on disk. Here is the request between, and the effort with
//! which its answer is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use codex_pool_core::account::{AccountId, AuthReason, AuthState};
use codex_pool_core::auth_doc::{AuthDoc, FreshTokens};
use codex_pool_core::env;
use codex_pool_core::files::RenewalLock;
use codex_pool_core::journal::{Entry, Event};
use codex_pool_core::renewal::{self, Cause, Decision, Renewal};
use codex_pool_core::shared::Role;
use codex_pool_core::store::{LostFound, Why};
use codex_pool_core::usage::{Attempt, Failure};
use codex_pool_core::{Error, Result};

use super::plan::{Plan, RenewReason, Task};
use super::shared::Permission;
use super::{Meter, Outcome, Refresher, record};
use crate::net::NetError;
use crate::net::endpoint::Endpoint;
use crate::net::token::RenewalError;
use crate::signals;

/// How long to wait while another process renews. Its request ends within 15 s.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How often a renewal is tried whose token turns out to be another account's.
const OWN_LOGIN_TRIES: u32 = 2;
/// How often storing an answer is tried. Each try may wait for the pool's lock, too.
const STORE_TRIES: u32 = 5;
/// The pause between two renewals of an account in the background, seconds. With a clock that is days ahead every token
/// looks old.
const PAUSE: i64 = 3_600;

/// How long a Codex that is renewing the tokens is waited for. A launch waits for all at most 10 s.
const BY_CODEX: Duration = Duration::from_secs(8);
/// The time between two looks at what that Codex has written.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The same where another machine renews, and the database tells.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Held during a renewal in this process.
static UNDER_WAY: Mutex<()> = Mutex::new(());

/// Waits for the renewal that is under way. While the guard lives, this process begins no other.
pub(crate) fn no_more_renewals() -> MutexGuard<'static, ()> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of a renewal.
pub(super) enum Renewed {
    /// The account has new tokens, by this process or by another one.
    Fresh(Box<AuthDoc>),
    /// A session uses the account. Its Codex renews the tokens.
    LeftToCodex,
    /// They are being renewed at this moment: by that machine of a shared pool, or by a Codex here.
    UnderWay(Option<String>),
    /// Only a new login helps.
    NeedsLogin,
    /// It failed, and may work later.
    Failed(NetError),
}

impl Refresher<'_> {
    /// Renews the tokens of the tasks that need it, one after the other. Returns the tasks whose usage can be fetched.
    pub(super) fn renew_first(&self, plan: &mut Plan, meter: &mut Meter<'_>) -> Result<Vec<Task>> {
        let mut ready = Vec::new();
        let mut offline: Option<NetError> = None;
        for mut task in std::mem::take(&mut plan.tasks) {
            let cause = match task.renew {
                None => {
                    ready.push(task);
                    continue;
                }
                Some(RenewReason::Early) => Cause::Expiring,
                Some(RenewReason::Incomplete) => Cause::Incomplete,
                Some(RenewReason::Proof) => Cause::Proof,
            };
            let renewed = match &offline {
                // Without a connection for one account there is none for the next.
                Some(error) => Renewed::Failed(error.clone()),
                None => self.renew(&task.id, cause),
            };
            let outcome = match renewed {
                Renewed::Fresh(doc) => {
                    task.doc = *doc;
                    None
                }
                Renewed::LeftToCodex | Renewed::UnderWay(_) => None,
                Renewed::NeedsLogin => Some(Outcome::NeedsLogin),
                Renewed::Failed(error) => {
                    if error.is_offline() {
                        offline = Some(error.clone());
                    }
                    let ended = task.doc.expires_at().is_none_or(|at| at <= env::clock());
                    let hopeless = ended || task.renew == Some(RenewReason::Proof) || offline.is_some();
                    (hopeless || !task.usage).then(|| Outcome::Failed(error.to_string()))
                }
            };
            match outcome {
                None if task.usage => ready.push(task),
                outcome => {
                    self.end_claim_of(&task, outcome.as_ref())?;
                    plan.outcomes.insert(task.id, outcome.unwrap_or(Outcome::Updated));
                    meter.step();
                }
            }
        }
        Ok(ready)
    }

    /// Renews the tokens of one account. An error of this machine is a failure of this account alone.
    pub(super) fn renew(&self, id: &AccountId, cause: Cause<'_>) -> Renewed {
        self.try_renew(id, cause).unwrap_or_else(|e| Renewed::Failed(NetError::Refused(e.to_string())))
    }

    fn try_renew(&self, id: &AccountId, cause: Cause<'_>) -> Result<Renewed> {
        let path = self.ctx.paths.refresh_lock();
        let alone =
            RenewalLock::acquire(&self.ctx.paths, LOCK_WAIT).map_err(|e| Error::io("lock", &path, &e))?;
        let Some(alone) = alone else {
            return Ok(Renewed::Failed(NetError::Refused("another renewal takes too long".to_owned())));
        };
        let until = Instant::now() + BY_CODEX;
        loop {
            match self.renew_or_see(&alone, id, cause)? {
                Renewed::UnderWay(machine) if Instant::now() < until => {
                    std::thread::sleep(if machine.is_some() { ASK_AGAIN } else { LOOK_AGAIN });
                }
                Renewed::UnderWay(Some(machine)) => {
                    let text =
                        format!("`{machine}` is renewing its tokens; they are here at the next refresh");
                    return Ok(Renewed::Failed(NetError::Refused(text)));
                }
                renewed => return Ok(renewed),
            }
        }
    }

    fn renew_or_see(&self, alone: &RenewalLock, id: &AccountId, cause: Cause<'_>) -> Result<Renewed> {
        // Neither a signal nor the end of the live view may cost the answer.
        let _signals = signals::hold();
        let _under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..OWN_LOGIN_TRIES {
            if let Some(renewed) = self.renew_alone(alone, id, cause)? {
                return Ok(renewed);
            }
        }
        Ok(Renewed::Failed(NetError::Refused("the issuer answered with another account's tokens".to_owned())))
    }

    /// Renews the tokens. `None`: they were another account's, and the account has its own login again.
    fn renew_alone(&self, alone: &RenewalLock, id: &AccountId, cause: Cause<'_>) -> Result<Option<Renewed>> {
        let mut pending = match self.begin(alone, id, cause)? {
            Ok(pending) => pending,
            Err(done) => return Ok(Some(done)),
        };
        let grant = match self.permit(alone, &mut pending)? {
            Permission::Granted(grant) => grant,
            Permission::Ended(renewed) => return Ok(Some(self.note_unsent(id, renewed)?)),
        };
        let endpoint = Endpoint::token(
            pending.doc.issuer(),
            &self.ctx.settings.allowed_issuers,
            self.ctx.env.text("CODEX_REFRESH_TOKEN_URL_OVERRIDE"),
        );
        let mut answer = match &endpoint {
            // Checked last: a machine that was asleep meanwhile has no lease any more.
            Ok(_) if !grant.may_send() => {
                Err(RenewalError::Net(NetError::Refused("its lease has ended".to_owned())))
            }
            Ok(endpoint) => self.send(endpoint, &pending.doc),
            Err(refused) => Err(RenewalError::Net(refused.clone())),
        };
        if let (Err(RenewalError::Rejected(_)), Some(tie), Ok(endpoint)) = (&answer, &pending.tie, &endpoint)
        {
            answer = self.send(endpoint, tie);
            pending.sent_tie = true;
        }
        let refusal = match &answer {
            Err(RenewalError::Refused(state, _)) => Some(*state),
            _ => None,
        };
        match answer {
            Ok(tokens) => {
                let stored = self.store(alone, &pending, &tokens);
                if let Ok(Some(Renewed::Fresh(fresh))) = &stored {
                    // The tokens are safe. The next sync tells what is not told now.
                    let _ = self.tell_renewed(grant, fresh);
                }
                stored
            }
            // The mark of a shared pool stays: the token is of no use to any machine.
            Err(RenewalError::Rejected(reason)) => {
                let (lock, mut pool) = self.open()?;
                let newer = renewal::reject(alone, &lock, &mut pool, &pending, reason, env::clock())?;
                Ok(Some(newer.map_or(Renewed::NeedsLogin, |doc| Renewed::Fresh(Box::new(doc)))))
            }
            Err(RenewalError::Refused(_, error) | RenewalError::Net(error)) => {
                if !error.outcome_unknown() {
                    self.give_back(grant);
                }
                let (lock, mut pool) = self.open()?;
                renewal::abandon(alone, &lock, &mut pool, &pending, error.outcome_unknown())?;
                if let Some(refusal) = refusal {
                    pool.set_auth(id, refusal, None, env::clock());
                } else if pending.doc.expires_at().is_some_and(|at| at <= env::clock()) {
                    pool.set_auth(id, AuthState::Expired, None, env::clock());
                }
                let text = format!("failed: {error}");
                pool.note(Entry::new(env::clock(), Event::Renewal, Some(id)).why(&text));
                let entry = pool.usage_mut().accounts.entry(id.clone()).or_default();
                entry.renewal = Some(failed(entry.renewal.as_deref(), &error).into());
                pool.commit(&lock)?;
                Ok(Some(Renewed::Failed(error)))
            }
        }
    }

    /// Begins a renewal on disk. Returns it, or the result if no request is needed.
    fn begin(
        &self,
        alone: &RenewalLock,
        id: &AccountId,
        cause: Cause<'_>,
    ) -> Result<std::result::Result<Box<Renewal>, Renewed>> {
        let (lock, mut pool) = self.open()?;
        let now = env::clock();
        let begun = match renewal::begin(alone, &lock, &mut pool, id, cause, now)? {
            Decision::Send(pending) => Ok(pending),
            Decision::Renewed(doc) => Err(Renewed::Fresh(doc)),
            Decision::BeingWritten => Err(Renewed::UnderWay(None)),
            Decision::LeftToCodex => {
                pool.set_auth(id, AuthState::Expired, Some(AuthReason::Rejected), now);
                Err(Renewed::LeftToCodex)
            }
            Decision::UsedUp => {
                pool.set_auth(id, AuthState::ReauthRequired, Some(AuthReason::Reused), now);
                Err(Renewed::NeedsLogin)
            }
            Decision::NoRefreshToken if pool.shared() == Some(Role::Runner) => {
                let text = "a runner renews no tokens, and no member's newer ones are here";
                Err(Renewed::Failed(NetError::Refused(text.to_owned())))
            }
            Decision::NoRefreshToken => {
                pool.set_auth(id, AuthState::ReauthRequired, Some(AuthReason::NoRefreshToken), now);
                Err(Renewed::NeedsLogin)
            }
        };
        pool.commit(&lock)?;
        Ok(begun)
    }

    fn send(&self, endpoint: &Endpoint, doc: &AuthDoc) -> Result<FreshTokens, RenewalError> {
        match doc.refresh_token() {
            Some(token) => self.net.renew(endpoint, token),
            None => Err(RenewalError::Net(NetError::Refused("there is no refresh token".to_owned()))),
        }
    }

    /// Stores an answer. The old token is used up, so this is the account's only login now: neither a lock that another
    /// process holds nor a disk that fails for a moment may cost it.
    fn store(&self, alone: &RenewalLock, pending: &Renewal, tokens: &FreshTokens) -> Result<Option<Renewed>> {
        let now = env::clock();
        let from = pending.tie.as_ref().filter(|_| pending.sent_tie).unwrap_or(&pending.doc);
        let fresh = match from.renewed(tokens, now) {
            Ok(fresh) => fresh,
            Err(bytes) => {
                if let Some(filed) = self.file_elsewhere(alone, from, &bytes, now)? {
                    return filed;
                }
                // Tokens of another account. They are kept, since nothing else is left of the login.
                let (lock, mut pool) = self.open()?;
                let kept =
                    LostFound::new(&self.ctx.paths).keep(&lock, &bytes, Why::Broken, Some(from.id()), now)?;
                renewal::reject(alone, &lock, &mut pool, pending, AuthReason::Foreign, now)?;
                return Err(Error::new(format!(
                    "the issuer answered with another account's tokens, which are in {}",
                    kept.display()
                ))
                .hint(format!("log in again with `codex-pool reauth {}`", from.id())));
            }
        };
        let mut trouble = None;
        for attempt in 0..STORE_TRIES {
            std::thread::sleep(Duration::from_millis(100) * attempt);
            let stored = self.open().and_then(|(lock, mut pool)| {
                renewal::finish(alone, &lock, &mut pool, pending, &fresh, now)?;
                let entry = pool.usage_mut().accounts.entry(fresh.id().clone()).or_default();
                entry.renewal =
                    Some(Attempt { not_before: Some(now + PAUSE), ..Attempt::succeeded(now) }.into());
                if let Some(issued_at) = fresh.issued_at().filter(|_| tokens.access_token.is_some()) {
                    // A new token that is due at once.
                    let ahead = if renewal::is_due(&fresh, now) { now - issued_at } else { 0 };
                    pool.usage_mut().note_clock(ahead, now);
                }
                // It is only a cache.
                let _ = pool.save_usage(&lock);
                Ok(())
            });
            match stored {
                Ok(()) => return Ok(Some(Renewed::Fresh(Box::new(fresh)))),
                Err(error) => trouble = Some(error),
            }
        }
        let why = trouble.map_or_else(String::new, |e| e.to_string());
        match LostFound::new(&self.ctx.paths).rescue(alone, &fresh, now) {
            Ok(path) => Err(Error::new(format!(
                "the renewed tokens could not be stored in the pool ({why}); they are in {}",
                path.display()
            ))
            .hint(format!("`codex-pool refresh {}` stores them", fresh.id()))),
            Err(_) => Err(Error::new(format!("the renewed tokens could not be stored: {why}"))
                .hint(format!("log in again with `codex-pool reauth {}`", fresh.id()))),
        }
    }
}

impl Refresher<'_> {
    /// Files an answer that names another account of the pool. `None`: it names none.
    fn file_elsewhere(
        &self,
        alone: &RenewalLock,
        from: &AuthDoc,
        answer: &[u8],
        now: i64,
    ) -> Result<Option<Result<Option<Renewed>>>> {
        let Ok(answer) = AuthDoc::parse(answer.to_vec()).map(AuthDoc::corrected) else { return Ok(None) };
        let filed = self.open().and_then(|(lock, mut pool)| {
            let Some(other) = pool.registry().get(answer.id()) else { return Ok(None) };
            let label = other.label.clone();
            Ok(Some((label, renewal::file_elsewhere(alone, &lock, &mut pool, from, &answer, now)?)))
        });
        let label = match filed {
            Ok(None) => return Ok(None),
            Ok(Some((_, true))) => return Ok(Some(Ok(None))),
            Ok(Some((label, false))) => label,
            Err(error) => {
                // Kept where the next renewal looks for it.
                LostFound::new(&self.ctx.paths).rescue(alone, &answer, now)?;
                return Err(error);
            }
        };
        let text = format!("the issuer answered with the tokens of `{label}`, which has them now");
        let hint = format!("log in again with `codex-pool reauth {}`", from.id());
        Ok(Some(Err(Error::new(text).hint(hint))))
    }
}

impl Refresher<'_> {
    /// Notes a renewal that was not allowed to send.
    fn note_unsent(&self, id: &AccountId, renewed: Renewed) -> Result<Renewed> {
        if let Renewed::Failed(error) = &renewed {
            let (lock, mut pool) = self.open()?;
            let entry = pool.usage_mut().accounts.entry(id.clone()).or_default();
            entry.renewal = Some(failed(entry.renewal.as_deref(), error).into());
            pool.commit(&lock)?;
        }
        Ok(renewed)
    }
}

/// Returns a failed renewal for the cache.
fn failed(before: Option<&Attempt>, error: &NetError) -> Attempt {
    let (failure, pause) = record::classify(error);
    let failure = if error.outcome_unknown() { Failure::Other } else { failure };
    Attempt::failed(before, failure, error.to_string(), pause, env::clock())
}
