//! Renewing tokens: one at a time on this machine, the newest token, and the answer durable before
//! anybody uses it. What is written and when is in `codex_pool_core::renewal`; here is the request
//! in the middle, and the stubbornness with which its answer is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codex_pool_core::account::{AccountId, AuthState};
use codex_pool_core::auth_doc::{AuthDoc, FreshTokens};
use codex_pool_core::env;
use codex_pool_core::files::RenewalLock;
use codex_pool_core::renewal::{self, Begun, Need, Ticket};
use codex_pool_core::store::{LostFound, Why};
use codex_pool_core::usage::{Attempt, Failure};
use codex_pool_core::{Error, Result};

use super::survey::{Plan, Renew, Task};
use super::{Meter, Outcome, Refresher};
use crate::net::NetError;
use crate::net::place;
use crate::net::token::RefreshError;
use crate::signals;

/// How long we wait while another process renews: its request ends within 15 s.
const ALONE_WAIT: Duration = Duration::from_secs(30);
/// How often storing an answer is tried. Each try may wait for the pool's lock, too.
const STORE_TRIES: u32 = 5;
/// After a renewal no other in the background for this long, seconds: with a clock that is days
/// ahead every token looks old.
const RESTS: i64 = 3_600;

/// Held while a renewal is under way in this process.
static UNDER_WAY: Mutex<()> = Mutex::new(());

/// Waits for a renewal that is under way; while the answer lives, this process begins no other.
pub(crate) fn no_more_renewals() -> MutexGuard<'static, ()> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a renewal went.
pub(super) enum Renewed {
    /// Its tokens are new, by us or by somebody else.
    Fresh(Box<AuthDoc>),
    /// A session is at work on it: Codex will find out.
    LeftToCodex,
    /// Only a login helps.
    NeedsLogin,
    /// It failed, and may work later.
    Failed(NetError),
}

impl Refresher<'_> {
    /// Renews what is due, one after the other, and gives the tasks that can go on.
    pub(super) fn renew_early(&self, plan: &mut Plan, meter: &mut Meter<'_>) -> Result<Vec<Task>> {
        let mut going_on = Vec::new();
        let mut offline: Option<NetError> = None;
        for mut task in std::mem::take(&mut plan.tasks) {
            let need = match task.renew {
                Renew::No => {
                    going_on.push(task);
                    continue;
                }
                Renew::Early => Need::Early,
                Renew::Proof => Need::Proof,
            };
            let renewed = match &offline {
                // No connection for one is no connection for the next.
                Some(error) => Renewed::Failed(error.clone()),
                None => self.renew_or_say(&task.id, need),
            };
            let outcome = match renewed {
                Renewed::Fresh(doc) => {
                    task.doc = *doc;
                    None
                }
                Renewed::LeftToCodex => None,
                Renewed::NeedsLogin => Some(Outcome::NeedsLogin),
                Renewed::Failed(error) => {
                    if matches!(error, NetError::Unreachable(_) | NetError::ConnectTimeout(_)) {
                        offline = Some(error.clone());
                    }
                    let ended = task.doc.expires_at().is_none_or(|at| at <= env::clock());
                    let hopeless = ended || task.renew == Renew::Proof || offline.is_some();
                    (hopeless || !task.usage).then(|| Outcome::Failed(error.to_string()))
                }
            };
            match outcome {
                None if task.usage => going_on.push(task),
                outcome => {
                    self.release(&task, outcome.as_ref())?;
                    plan.outcomes.insert(task.id, outcome.unwrap_or(Outcome::Updated));
                    meter.step();
                }
            }
        }
        Ok(going_on)
    }

    /// [`Refresher::renew`], with what is wrong on our side as a failure of this account alone.
    pub(super) fn renew_or_say(&self, id: &AccountId, need: Need<'_>) -> Renewed {
        self.renew(id, need).unwrap_or_else(|e| Renewed::Failed(NetError::Refused(e.to_string())))
    }

    /// Renews one account's tokens.
    fn renew(&self, id: &AccountId, need: Need<'_>) -> Result<Renewed> {
        let path = self.ctx.paths.refresh_lock();
        let alone =
            RenewalLock::acquire(&self.ctx.paths, ALONE_WAIT).map_err(|e| Error::io("lock", &path, &e))?;
        let Some(alone) = alone else {
            return Ok(Renewed::Failed(NetError::Refused("another refresh takes too long".to_owned())));
        };
        // Ctrl-C must not cost the answer; it waits until that is stored. So does the end of a live view.
        let _whole = signals::hold();
        let _under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = {
            let (lock, mut pool) = self.open()?;
            let now = env::clock();
            let begun = renewal::begin(&alone, &lock, &mut pool, id, need, now)?;
            let (state, reason, answer) = match begun {
                Begun::Go(ticket) => (None, None, Ok(ticket)),
                Begun::Done(doc) => (None, None, Err(Renewed::Fresh(doc))),
                Begun::LeftToCodex => (Some(AuthState::Expired), Some("rejected"), Err(Renewed::LeftToCodex)),
                Begun::BeingWritten => (None, None, Err(Renewed::LeftToCodex)),
                Begun::NoRefreshToken => {
                    (Some(AuthState::ReauthRequired), Some("no_refresh_token"), Err(Renewed::NeedsLogin))
                }
            };
            if let Some(state) = state {
                renewal::note(&mut pool, id, state, reason, now);
            }
            pool.commit(&lock)?;
            match answer {
                Ok(ticket) => ticket,
                Err(done) => return Ok(done),
            }
        };
        let place = place::refresh(
            ticket.doc.issuer(),
            &self.ctx.settings.allowed_issuers,
            self.ctx.env.text("CODEX_REFRESH_TOKEN_URL_OVERRIDE"),
        );
        let mut from = &ticket.doc;
        let mut answer = match &place {
            Ok(place) => self.send(place, from),
            Err(refused) => Err(RefreshError::Net(refused.clone())),
        };
        if let (Err(RefreshError::Rejected(_)), Some(tie), Ok(place)) = (&answer, &ticket.tie, &place) {
            from = tie;
            answer = self.send(place, from);
        }
        match answer {
            Ok(fresh) => self.store(&alone, &ticket, from, &fresh),
            Err(RefreshError::Rejected(rejection)) => {
                let (lock, mut pool) = self.open()?;
                let word = rejection.as_str();
                let newer = renewal::reject(&alone, &lock, &mut pool, &ticket, word, env::clock())?;
                Ok(newer.map_or(Renewed::NeedsLogin, |doc| Renewed::Fresh(Box::new(doc))))
            }
            Err(RefreshError::Net(error)) => {
                let (lock, mut pool) = self.open()?;
                renewal::abandon(&alone, &lock, &mut pool, &ticket, error.fate_unknown())?;
                if ticket.doc.expires_at().is_some_and(|at| at <= env::clock()) {
                    renewal::note(&mut pool, id, AuthState::Expired, None, env::clock());
                }
                let entry = pool.usage_mut().accounts.entry(id.clone()).or_default();
                entry.renewal = Some(failed(entry.renewal.as_deref(), &error).into());
                pool.commit(&lock)?;
                Ok(Renewed::Failed(error))
            }
        }
    }

    fn send(&self, place: &place::Place, doc: &AuthDoc) -> Result<FreshTokens, RefreshError> {
        match doc.refresh_token() {
            Some(token) => self.net.refresh(place, token),
            None => Err(RefreshError::Net(NetError::Refused("there is no refresh token".to_owned()))),
        }
    }

    /// Keeps an answer. The old token is used up, so this is the account's only login now: a lock that
    /// somebody holds, or a disk that hiccups, must not cost it.
    fn store(
        &self,
        alone: &RenewalLock,
        ticket: &Ticket,
        from: &AuthDoc,
        tokens: &FreshTokens,
    ) -> Result<Renewed> {
        let now = env::clock();
        let fresh = match from.refreshed(tokens, now) {
            Ok(fresh) => fresh,
            Err(bytes) => {
                // Whoever they belong to: the old token is used up, and these are the only ones.
                let (lock, mut pool) = self.open()?;
                let kept =
                    LostFound::new(&self.ctx.paths).keep(&lock, &bytes, Why::Broken, Some(from.id()), now)?;
                renewal::reject(alone, &lock, &mut pool, ticket, "foreign", now)?;
                return Err(Error::new(format!(
                    "the issuer answered with somebody else's tokens, which are in {}",
                    kept.display()
                ))
                .hint(format!("log in again with `codex-pool reauth {}`", from.id())));
            }
        };
        let mut trouble = None;
        for attempt in 0..STORE_TRIES {
            std::thread::sleep(Duration::from_millis(100) * attempt);
            let stored = self.open().and_then(|(lock, mut pool)| {
                renewal::finish(alone, &lock, &mut pool, ticket, &fresh, now)?;
                let entry = pool.usage_mut().accounts.entry(fresh.id().clone()).or_default();
                entry.renewal =
                    Some(Attempt { not_before: Some(now + RESTS), ..Attempt::succeeded(now) }.into());
                // Only a cache.
                let _ = pool.save_usage(&lock);
                Ok(())
            });
            match stored {
                Ok(()) => return Ok(Renewed::Fresh(Box::new(fresh))),
                Err(error) => trouble = Some(error),
            }
        }
        let why = trouble.map_or_else(String::new, |e| e.to_string());
        match LostFound::new(&self.ctx.paths).rescue(alone, &fresh, now) {
            Ok(path) => Err(Error::new(format!(
                "the renewed tokens could not be put into their place ({why}); they are in {}",
                path.display()
            ))
            .hint(format!("`codex-pool refresh {}` puts them there", fresh.id()))),
            Err(_) => Err(Error::new(format!("the renewed tokens could not be stored: {why}"))
                .hint(format!("log in again with `codex-pool reauth {}`", fresh.id()))),
        }
    }
}

/// A failed renewal, for the cache.
fn failed(before: Option<&Attempt>, error: &NetError) -> Attempt {
    let (failure, wish) = super::record::kind(error);
    let failure = if error.fate_unknown() { Failure::Other } else { failure };
    Attempt::failed(before, failure, error.to_string(), wish, env::clock())
}
