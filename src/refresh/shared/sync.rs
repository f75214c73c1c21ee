//! Agreeing with the database: newer logins, removals, usage and sessions of other machines come here, and newer logins
//! and the sessions of this machine go there.

use codex_pool_core::account::{Account, AccountId};
use codex_pool_core::files::PoolLock;
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::pool::Pool;
use codex_pool_core::shared::Role;
use codex_pool_core::store::{Adoption, Origin};
use codex_pool_core::usage::{SYNC_EVERY, Sent, SessionsElsewhere, Usage};
use codex_pool_core::{Result, env, homes, removal, renewal};
use codex_pool_share::login::{LeaseState, Login};
use codex_pool_share::protocol::Pushed;
use codex_pool_share::pull::Pulled;

use super::super::{Mode, Refresher};
use crate::share::{self, ShareState, Shared, Told};

impl Refresher<'_> {
    /// Agrees with the database, if the pool is shared and it is time. Whatever fails there is noted, and nothing else:
    /// the pool works on with what is here. Returns the labels of accounts that were removed on another machine, and now
    /// here.
    ///
    /// # Errors
    /// The pool cannot be used.
    pub(in super::super) fn sync(&self, mode: Mode) -> Result<Vec<String>> {
        let now = env::clock();
        let is_wanted = |pool: &Pool| match mode {
            Mode::Due => pool.usage().sync_is_due(now),
            // A renewal asks for the newest login itself.
            Mode::TokenOnly => pool.shared() == Some(Role::Runner),
            Mode::Asked => true,
        };
        let role_if_wanted = |pool: &Pool| pool.shared().filter(|_| is_wanted(pool));
        // Looked at without the lock. A registry that cannot be read is the next one's to tell.
        if Pool::peek(&self.ctx.paths).ok().as_ref().and_then(role_if_wanted).is_none() {
            return Ok(Vec::new());
        }
        let (lock, mut pool) = self.open()?;
        let Some(role) = role_if_wanted(&pool) else { return Ok(Vec::new()) };
        // What Codex has got by a login goes to the others.
        homes::reconcile(&lock, &mut pool, &self.ctx.main_home, now)?;
        renewal::exchange_newest(&lock, &mut pool, now)?;
        // Claimed, so that one process of this machine asks.
        pool.usage_mut().sharing_mut().tried_at = Some(now);
        pool.commit(&lock)?;
        drop(lock);
        let pulled = self.sharing.ask(Shared::pull);
        let now = env::clock();
        let mut removed = Vec::new();
        let error = match pulled {
            Ok(pulled) => {
                let (lock, mut pool) = self.open()?;
                removed = self.sharing.take_in(&lock, &mut pool, &pulled, now)?;
                pulled.refused.first().map(ToString::to_string)
            }
            Err(why) => Some(why),
        };
        let untold = if error.is_none() && role == Role::Member { self.push_all(now)? } else { None };
        let (lock, mut pool) = self.open()?;
        let sharing = pool.usage_mut().sharing_mut();
        sharing.tried(error, now);
        if untold.is_some() {
            // What others have told is here all the same.
            sharing.error = untold;
        }
        pool.commit(&lock)?;
        Ok(removed)
    }

    /// Offers what is newer here, and tells how many sessions run here. Returns why the database did not take it.
    fn push_all(&self, now: i64) -> Result<Option<String>> {
        let (lock, pool) = self.open()?;
        let ledger = Processes::read(Some(&lock), &pool.paths, now).ledger;
        let state = self.sharing.state();
        let mut logins = Vec::new();
        let mut sessions = Vec::new();
        for account in &pool.registry().accounts {
            let id = account.id.to_string();
            let running = u32::try_from(ledger.sessions(&account.id)).unwrap_or(u32::MAX);
            if state.told.get(&id).copied().unwrap_or_default().must_tell(running, now) {
                sessions.push((id.clone(), running));
            }
            let Ok(Some(doc)) = pool.credentials().load(&account.id) else { continue };
            let login = share::login(account, &doc);
            if !doc.is_access_only() && !state.is_removed(&login) {
                logins.push(login);
            }
        }
        drop(lock);
        let (mut newer, mut written) = (Vec::new(), Vec::new());
        let mut told = Vec::new();
        let (mut changed, mut trouble) = (false, None);
        for login in &logins {
            let pushed = self.sharing.as_member(|share| {
                let known = share.known_age(&login.account).is_some_and(|known| known >= login.age);
                if known { Ok(None) } else { share.push(login).map(Some) }
            });
            match pushed {
                Ok(None) => {}
                Ok(Some(pushed)) => {
                    changed = true;
                    match pushed {
                        Pushed::Newer(theirs) => newer.push(*theirs),
                        Pushed::Written => written.extend(AccountId::parse(&login.account)),
                        Pushed::Same => {}
                    }
                }
                Err(why) => {
                    trouble = Some(why);
                    break;
                }
            }
        }
        for (id, running) in sessions {
            match self.sharing.as_member(|share| share.tell_sessions(&id, running)) {
                Ok(()) => told.push((id, Told { running, at: now })),
                Err(why) => drop(trouble.get_or_insert(why)),
            }
        }
        if !changed && told.is_empty() {
            return Ok(trouble);
        }
        let (lock, mut pool) = self.open()?;
        for login in &newer {
            take_login(&lock, &mut pool, login, now)?;
        }
        for id in &written {
            // What failed with the older one, here or elsewhere, is over.
            pool.usage_mut().sharing_mut().note_sent(id, None);
            if let Some(entry) = pool.usage_mut().accounts.get_mut(id) {
                entry.renewal = None;
            }
        }
        pool.commit(&lock)?;
        self.sharing.save(&lock, |state: &mut ShareState| state.told.extend(told))?;
        Ok(trouble)
    }
}

impl Told {
    /// Returns whether the number must be told, since it differs or its hold ends.
    fn must_tell(self, running: u32, now: i64) -> bool {
        let lately = (0..SYNC_EVERY).contains(&now.saturating_sub(self.at));
        running != self.running || running > 0 && !lately
    }
}

/// Takes in what other machines have written, and then counts it as seen: it is not pulled again. Returns the labels of
/// the accounts that were removed on another machine, and now here.
///
/// # Errors
/// A login could not be made durable, or the pool cannot be written.
pub(crate) fn take_in(
    shared: &Shared,
    lock: &PoolLock,
    pool: &mut Pool,
    pulled: &Pulled,
    now: i64,
) -> Result<Vec<String>> {
    for login in &pulled.logins {
        take_login(lock, pool, login, now)?;
    }
    let mut state = shared.state();
    state.removals.extend(pulled.removed.iter().cloned());
    let removed = remove(&state, lock, pool, now)?;
    for usage in &pulled.usages {
        if let Some(id) = AccountId::parse(&usage.account) {
            take_usage(pool, &id, &usage.answer, now);
        }
    }
    let machine = &shared.config().machine;
    for (sessions, held) in pulled.sessions.iter().filter(|(sessions, _)| sessions.machine != *machine) {
        let Some(account) = AccountId::parse(&sessions.account) else { continue };
        let until = now.saturating_add(i64::try_from(held.as_secs()).unwrap_or(i64::MAX));
        let (machine, running) = (sessions.machine.clone(), sessions.running);
        let sessions = SessionsElsewhere { account, machine, running, until };
        pool.usage_mut().sharing_mut().note_sessions(sessions, now);
    }
    for (account, machine) in &pulled.ended {
        let Some(account) = AccountId::parse(account) else { continue };
        let ended = SessionsElsewhere { account, machine: machine.clone(), running: 0, until: now };
        pool.usage_mut().sharing_mut().note_sessions(ended, now);
    }
    for view in &pulled.leases {
        let Some(account) = AccountId::parse(&view.lease.account) else { continue };
        let until = now.saturating_add(i64::try_from(view.held.as_secs()).unwrap_or(i64::MAX));
        let sent = view.lease.state == LeaseState::Sent && view.lease.machine != *machine;
        let sent = sent.then(|| Sent {
            account: account.clone(),
            machine: view.lease.machine.clone(),
            token: view.lease.token.clone(),
            until,
        });
        pool.usage_mut().sharing_mut().note_sent(&account, sent);
    }
    for account in pulled.freed.iter().filter_map(|account| AccountId::parse(account)) {
        pool.usage_mut().sharing_mut().note_sent(&account, None);
    }
    // A token whose place a newer one has taken is of no interest.
    let all = pool.usage().sharing.as_ref().map_or_else(Vec::new, |sharing| sharing.sent.clone());
    for sent in all {
        let doc = pool.credentials().load(&sent.account).ok().flatten();
        if doc.and_then(|doc| doc.token_hash()).is_none_or(|token| token.as_str() != sent.token) {
            pool.usage_mut().sharing_mut().note_sent(&sent.account, None);
        }
    }
    // Before it counts as seen, it must be here.
    pool.commit(lock)?;
    shared.save(lock, |kept| kept.removals = state.removals)?;
    Ok(removed)
}

/// Removes what was removed on another machine. What is in use here stays until it is not. Returns the labels.
fn remove(state: &ShareState, lock: &PoolLock, pool: &mut Pool, now: i64) -> Result<Vec<String>> {
    let is_removed = |account: &&Account| {
        let doc = pool.credentials().load(&account.id).ok().flatten();
        match doc {
            Some(doc) => state.is_removed(&share::login(account, &doc)),
            None => state.removals.contains_key(account.id.as_str()),
        }
    };
    let removed: Vec<Account> = pool.registry().accounts.iter().filter(is_removed).cloned().collect();
    let mut labels = Vec::new();
    if removed.is_empty() {
        return Ok(labels);
    }
    let processes = Processes::read(Some(lock), &pool.paths, now);
    for account in removed {
        if processes.users_of_account_and_own_homes(pool, &account.id).is_empty() {
            removal::remove_account(lock, pool, &account.id, None, now)?;
            labels.push(account.label);
        }
    }
    Ok(labels)
}

/// Adopts another machine's login if it is newer than the pool's, and gives it to the homes.
///
/// # Errors
/// It could not be made durable.
pub(crate) fn take_login(lock: &PoolLock, pool: &mut Pool, login: &Login, now: i64) -> Result<()> {
    // What is no document of its account is of no use to anyone; whoever logs in again replaces it.
    let Ok(doc) = share::document(login) else { return Ok(()) };
    let id = doc.id().clone();
    let account = pool.registry().get(&id).cloned();
    let stored = pool.credentials().load(&id).ok().flatten();
    if let (Some(account), Some(stored)) = (&account, &stored) {
        let renewable = doc.is_access_only() || !stored.is_access_only();
        if renewable && share::login(account, stored).age >= login.age {
            return Ok(());
        }
    }
    // Which one is newer was decided, whatever this machine's clock says.
    let adoption = pool.adopt(lock, &doc, Some(&login.label), Origin::Answer, now)?;
    // The command tells what it adopted itself.
    pool.adopted.clear();
    if matches!(adoption, Adoption::New | Adoption::Updated) {
        if let Some(stored) = stored.filter(|stored| stored.token_hash() != doc.token_hash()) {
            // Another machine has sent its token, or a person has logged in anew. It is never sent here.
            pool.mark_used(&stored);
        }
        renewal::forget_superseded(pool, &id);
        // What failed with the older one is over.
        if let Some(entry) = pool.usage_mut().accounts.get_mut(&id) {
            entry.renewal = None;
        }
        renewal::give_to_homes(lock, pool, &id, now);
    }
    Ok(())
}

/// Takes the answer that another machine has got from the service, if it is newer.
pub(super) fn take_usage(pool: &mut Pool, id: &AccountId, answer: &str, now: i64) -> bool {
    let Ok(mut usage) = serde_json::from_str::<Usage>(answer) else { return false };
    // Another machine's clock may be ahead.
    usage.fetched_at = usage.fetched_at.min(now);
    let newer = pool.usage().usage(id).is_none_or(|known| usage.fetched_at > known.fetched_at);
    if newer && pool.registry().get(id).is_some() {
        pool.set_usage(id, usage);
    }
    newer
}
