//! Fetching usage, of at most four accounts at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;

use codex_pool_core::Result;
use codex_pool_core::account::{AccountId, AuthState};
use codex_pool_core::auth_doc::{AuthDoc, Secret};
use codex_pool_core::env;
use codex_pool_core::renewal::Cause;
use codex_pool_core::usage::{Attempt, Usage, answer};

use super::plan::{Plan, Task};
use super::renew::Renewed;
use super::shared::Asker;
use super::{Meter, Outcome, Refresher};
use crate::net::NetError;

/// Requests at once. The service takes bursts badly.
const AT_ONCE: usize = 4;
/// The pause between two renewals of an account that the service refuses with new tokens, too, seconds.
const REFUSED_PAUSE: i64 = 86_400;

/// The answer to one request.
pub(super) struct Fetched {
    pub(super) id: AccountId,
    /// When the access token ends, Unix seconds.
    pub(super) expires_at: Option<i64>,
    pub(super) result: Result<Usage, NetError>,
}

impl Refresher<'_> {
    /// Fetches the usage of the tasks, and records answers as they come. Accounts whose token was rejected are renewed
    /// afterwards, one by one, and tried once more.
    pub(super) fn fetch(
        &self,
        tasks: Vec<Task>,
        asker: &Asker,
        plan: &mut Plan,
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let mut rejected: Vec<(Fetched, Secret)> = Vec::new();
        let queue: Mutex<VecDeque<Task>> = Mutex::new(tasks.into());
        let workers = AT_ONCE.min(queue.lock().unwrap_or_else(PoisonError::into_inner).len());
        let offline: OnceLock<NetError> = OnceLock::new();
        let stop = AtomicBool::new(false);
        let (sender, receiver) = mpsc::channel();
        let work = |sender: mpsc::Sender<_>| {
            while !stop.load(Ordering::Relaxed) {
                let task = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(task) = task else { return };
                let result = match offline.get() {
                    // All requests go to one host: without a connection for one there is none for the next.
                    Some(error) => Err(error.clone()),
                    None if !asker.may_ask(&task.id) => {
                        Err(NetError::Refused("another machine may be asking by now".to_owned()))
                    }
                    None => self.request(&task.doc),
                };
                if let Err(error) = &result
                    && error.is_offline()
                {
                    let _ = offline.set(error.clone());
                }
                if sender.send((task, result)).is_err() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            let work = &work;
            let start = |sender| thread::Builder::new().spawn_scoped(scope, move || work(sender)).is_ok();
            let started = (0..workers).filter(|_| start(sender.clone())).count();
            if started == 0 {
                // The system gives no thread: fetch one after the other.
                work(sender.clone());
            }
            drop(sender);
            while let Ok(first) = receiver.recv() {
                let mut batch = Vec::new();
                for (task, result) in std::iter::once(first).chain(receiver.try_iter()) {
                    match (&result, task.doc.access_token()) {
                        (Err(error), Some(token)) if error.is_token_rejected() => {
                            let token = token.clone();
                            rejected.push((
                                Fetched { id: task.id, expires_at: task.doc.expires_at(), result },
                                token,
                            ));
                        }
                        _ => batch.push(Fetched { id: task.id, expires_at: task.doc.expires_at(), result }),
                    }
                }
                for fetched in &batch {
                    self.tell(asker, fetched);
                }
                if let Err(error) = self.record(batch, plan, meter) {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        })?;
        for (fetched, token) in rejected {
            let id = fetched.id.clone();
            if self.renewal_did_not_help(&id)? {
                self.record(vec![fetched], plan, meter)?;
                continue;
            }
            match self.renew_and_retry(&id, &token) {
                Some(fetched) => {
                    self.tell(asker, &fetched);
                    self.record(vec![fetched], plan, meter)?;
                }
                None => {
                    self.end_claim(&id)?;
                    plan.outcomes.insert(id, Outcome::NeedsLogin);
                    meter.step();
                }
            }
        }
        Ok(())
    }

    /// Returns whether the service refused the account with new tokens, and that was lately: each renewal uses a refresh
    /// token up, and the next one would not help either.
    fn renewal_did_not_help(&self, id: &AccountId) -> Result<bool> {
        let (_lock, pool) = self.open()?;
        let refused = pool.registry().get(id).is_some_and(|account| account.auth.state == AuthState::Refused);
        let renewal = pool.usage().accounts.get(id).and_then(|entry| entry.renewal.as_ref());
        let lately = |a: &Attempt| a.error.is_none() && (0..REFUSED_PAUSE).contains(&(env::clock() - a.at));
        Ok(refused && renewal.is_some_and(|attempt| lately(attempt)))
    }

    /// Renews the tokens after the access token was rejected, and fetches once more. `None`: only a login helps.
    fn renew_and_retry(&self, id: &AccountId, token: &Secret) -> Option<Fetched> {
        let (expires_at, result) = match self.renew(id, Cause::Rejected(token)) {
            Renewed::Fresh(doc) => (doc.expires_at(), self.request(&doc)),
            Renewed::LeftToCodex | Renewed::UnderWay(_) => {
                let text = "the service rejects its access token before its time; the session that runs on it will \
                            notice";
                (None, Err(NetError::Refused(text.to_owned())))
            }
            Renewed::NeedsLogin => return None,
            Renewed::Failed(error) => (None, Err(error)),
        };
        Some(Fetched { id: id.clone(), expires_at, result })
    }

    /// Tells an answer to the other machines of a shared pool.
    fn tell(&self, asker: &Asker, fetched: &Fetched) {
        if let Ok(usage) = &fetched.result {
            self.tell_usage(asker, &fetched.id, usage);
        }
    }

    fn request(&self, doc: &AuthDoc) -> Result<Usage, NetError> {
        let endpoint = self.usage_endpoint.as_ref().map_err(Clone::clone)?;
        let (Some(token), Some(who)) = (doc.access_token(), doc.identity()) else {
            return Err(NetError::Refused("it has no access token".to_owned()));
        };
        let answer = self.net.usage(endpoint, token, &who.account_id)?;
        answer::parse(&answer, env::clock()).ok_or(NetError::Garbled)
    }
}
