//! Asking for usage, at most four accounts at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;

use codex_pool_core::Result;
use codex_pool_core::account::AccountId;
use codex_pool_core::auth_doc::{AuthDoc, Secret};
use codex_pool_core::env;
use codex_pool_core::renewal::Need;
use codex_pool_core::usage::{Usage, answer};

use super::renew::Renewed;
use super::survey::{Plan, Task};
use super::{Meter, Outcome, Refresher};
use crate::net::NetError;

/// Requests at once: the service takes bursts badly.
const AT_ONCE: usize = 4;

/// The answer to one request.
pub(super) struct Fetched {
    pub(super) id: AccountId,
    /// When the access token ends, Unix seconds.
    pub(super) expires_at: Option<i64>,
    pub(super) result: Result<Usage, NetError>,
}

impl Refresher<'_> {
    /// Asks for the tasks' usage, entering answers as they come. Accounts whose token was rejected are
    /// renewed afterwards, one by one, and asked once more.
    pub(super) fn fetch(&self, tasks: Vec<Task>, plan: &mut Plan, meter: &mut Meter<'_>) -> Result<()> {
        let mut rejected: Vec<(AccountId, Secret)> = Vec::new();
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
                    // They all go to one host: no connection for one is none for the next.
                    Some(error) => Err(error.clone()),
                    None => self.ask(&task.doc),
                };
                if let Err(error @ (NetError::Unreachable(_) | NetError::ConnectTimeout(_))) = &result {
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
                // No thread to be had: one after the other, then.
                work(sender.clone());
            }
            drop(sender);
            while let Ok(first) = receiver.recv() {
                let mut batch = Vec::new();
                for (task, result) in std::iter::once(first).chain(receiver.try_iter()) {
                    match (&result, task.doc.access_token()) {
                        (Err(NetError::Service(e)), Some(token)) if e.status == 401 => {
                            rejected.push((task.id, token.clone()));
                        }
                        _ => batch.push(Fetched { id: task.id, expires_at: task.doc.expires_at(), result }),
                    }
                }
                if let Err(error) = self.record(batch, plan, meter) {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        })?;
        for (id, token) in rejected {
            match self.ask_again(&id, &token) {
                Some(fetched) => self.record(vec![fetched], plan, meter)?,
                None => {
                    self.settle_login(&id)?;
                    plan.outcomes.insert(id, Outcome::NeedsLogin);
                    meter.step();
                }
            }
        }
        Ok(())
    }

    /// After a rejected access token: renewal, and one more request. `None`: only a login helps.
    fn ask_again(&self, id: &AccountId, token: &Secret) -> Option<Fetched> {
        let error = |text: &str| Err(NetError::Refused(text.to_owned()));
        let (expires_at, result) = match self.renew_or_say(id, Need::Rejected(token)) {
            Renewed::Fresh(doc) => (doc.expires_at(), self.ask(&doc)),
            Renewed::LeftToCodex => (
                None,
                error(
                    "the service rejects its access token before its time; the session that runs on it will notice",
                ),
            ),
            Renewed::NeedsLogin => return None,
            Renewed::Failed(e) => (None, Err(e)),
        };
        Some(Fetched { id: id.clone(), expires_at, result })
    }

    fn ask(&self, doc: &AuthDoc) -> Result<Usage, NetError> {
        let place = self.usage_place.as_ref().map_err(Clone::clone)?;
        let (Some(token), Some(who)) = (doc.access_token(), doc.identity()) else {
            return Err(NetError::Refused("it has no access token".to_owned()));
        };
        let answer = self.net.usage(place, token, &who.account_id)?;
        answer::parse(&answer, env::clock()).ok_or(NetError::Garbled)
    }
}
