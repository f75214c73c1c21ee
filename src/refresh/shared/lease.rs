//! The right to send a refresh token: the lease of the account, and the mark that this machine sends.

use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::files::RenewalLock;
use codex_pool_core::renewal::{self, Renewal};
use codex_pool_core::shared::Role;
use codex_pool_core::{Result, env};
use codex_pool_share::clock;
use codex_pool_share::login::Login;
use codex_pool_share::protocol::{Begun, Pushed, Ticket};

use super::super::Refresher;
use super::super::renew::Renewed;
use crate::net::NetError;
use crate::share;

/// Whether a renewal may send.
pub(in super::super) enum Permission {
    /// It may.
    Granted(Grant),
    /// It may not, and this is what became of it.
    Ended(Renewed),
}

/// The right to send a refresh token, or the freedom of a pool that is this machine's alone.
pub(in super::super) struct Grant(Option<Ticket>);

impl Grant {
    /// Returns whether the refresh token may still be sent. It is the last thing to ask before the request.
    pub(in super::super) fn may_send(&self) -> bool {
        self.0.as_ref().is_none_or(|ticket| ticket.may_send(clock::now()))
    }
}

impl Refresher<'_> {
    /// Asks for the right to send the refresh token of a renewal that was begun. If it is not to be had, the renewal is
    /// ended.
    pub(in super::super) fn permit(&self, alone: &RenewalLock, pending: &mut Renewal) -> Result<Permission> {
        let (role, account) = {
            let pool = codex_pool_core::pool::Pool::peek(&self.ctx.paths)?;
            (pool.shared(), pool.registry().get(pending.doc.id()).cloned())
        };
        let Some((Role::Member, account)) = role.zip(account) else {
            return match role {
                None => Ok(Permission::Granted(Grant(None))),
                Some(_) => self.refuse(alone, pending, "this machine does not renew".to_owned()),
            };
        };
        // The lease is for one token.
        pending.tie = None;
        let id = account.id.as_str();
        let login = share::login(&account, &pending.doc);
        let state = self.sharing.state();
        if state.is_removed(&login) {
            return self.refuse_removed(alone, pending);
        }
        let mine = state.tickets.get(id).cloned();
        // What the lease lasts is counted from before the database was asked.
        let asked_at = clock::now();
        let begun = self.sharing.as_member(|share| share.begin(&login, mine.as_deref(), asked_at));
        let mut ticket = match begun {
            Ok(Begun::Leased(ticket)) => ticket,
            Ok(Begun::Newer(theirs)) => {
                let newest = self.take_newer(alone, pending, &theirs)?;
                return Ok(Permission::Ended(newest));
            }
            Ok(Begun::Busy(machine, _)) => {
                self.end_unsent(alone, pending)?;
                return Ok(Permission::Ended(Renewed::UnderWay(Some(machine))));
            }
            Ok(Begun::SentBy(machine)) => {
                let text = format!(
                    "`{machine}` has sent its refresh token and not told the answer; start it and run `codex-pool \
                     refresh` there, or `codex-pool share take-over {}` here",
                    account.shell_ref()
                );
                return self.refuse(alone, pending, text);
            }
            Ok(Begun::Removed(age)) => {
                // It counts as seen now, and is not pulled any more.
                let (lock, _) = self.open()?;
                self.sharing.save(&lock, |state| {
                    state.removals.insert(id.to_owned(), age);
                })?;
                drop(lock);
                return self.refuse_removed(alone, pending);
            }
            Err(why) => {
                return self.refuse(alone, pending, format!("nothing is renewed without a lease: {why}"));
            }
        };
        // Kept before the mark, so that this machine knows the mark as its own whatever happens to it.
        let (lock, _) = self.open()?;
        self.sharing.save(&lock, |state| drop(state.tickets.insert(id.to_owned(), ticket.id.clone())))?;
        drop(lock);
        match self.sharing.as_member(|share| share.mark(&mut ticket)) {
            Ok(true) => Ok(Permission::Granted(Grant(Some(ticket)))),
            Ok(false) => self.refuse(alone, pending, "its lease has ended".to_owned()),
            // The mark may be there. The ticket says whose it is.
            Err(why) => self.refuse(alone, pending, format!("nothing is renewed without a lease: {why}")),
        }
    }

    /// Ends the renewal of an account that was removed: its new tokens would be newer than the removal, and bring it back
    /// on every machine.
    fn refuse_removed(&self, alone: &RenewalLock, pending: &Renewal) -> Result<Permission> {
        let text =
            "it was removed on another machine of the shared pool, and goes from here when it is not in use";
        self.refuse(alone, pending, text.to_owned())
    }

    /// Ends a renewal whose refresh token was not sent, with this failure.
    fn refuse(&self, alone: &RenewalLock, pending: &Renewal, why: String) -> Result<Permission> {
        self.end_unsent(alone, pending)?;
        Ok(Permission::Ended(Renewed::Failed(NetError::Refused(why))))
    }

    fn end_unsent(&self, alone: &RenewalLock, pending: &Renewal) -> Result<()> {
        let (lock, mut pool) = self.open()?;
        renewal::abandon(alone, &lock, &mut pool, pending, false)
    }

    /// Takes in the newer login of another machine.
    fn take_newer(&self, alone: &RenewalLock, pending: &Renewal, theirs: &Login) -> Result<Renewed> {
        let (lock, mut pool) = self.open()?;
        renewal::abandon(alone, &lock, &mut pool, pending, false)?;
        let now = env::clock();
        super::sync::take_login(&lock, &mut pool, theirs, now)?;
        pool.commit(&lock)?;
        self.sharing.save(&lock, |_| ())?;
        match pool.credentials().load(pending.doc.id())? {
            Some(newest) if !newest.same_credentials(&pending.doc) => Ok(Renewed::Fresh(Box::new(newest))),
            _ => Ok(Renewed::Failed(NetError::Refused("the shared pool has another login of it".to_owned()))),
        }
    }

    /// Gives back the right to send: no byte has left this machine.
    pub(in super::super) fn give_back(&self, grant: Grant) {
        let Some(ticket) = grant.0 else { return };
        // If it cannot be told, this machine knows its mark again.
        let _ = self.sharing.as_member(|share| share.clear(ticket));
    }

    /// Tells the answer of a renewal, which is durable here. If that fails, the next sync does it.
    pub(in super::super) fn tell_renewed(&self, grant: Grant, fresh: &AuthDoc) -> Result<()> {
        let Some(ticket) = grant.0 else { return Ok(()) };
        let (lock, pool) = self.open()?;
        let account = pool.registry().get(fresh.id()).cloned();
        drop(lock);
        let Some(account) = account else { return Ok(()) };
        let login = share::login(&account, fresh);
        let told = self.sharing.as_member(|share| share.finish(ticket, &login));
        let (lock, mut pool) = self.open()?;
        if let Ok(pushed) = told {
            if let Pushed::Newer(theirs) = pushed {
                super::sync::take_login(&lock, &mut pool, &theirs, env::clock())?;
                pool.commit(&lock)?;
            }
            self.sharing.save(&lock, |state| drop(state.tickets.remove(account.id.as_str())))?;
        }
        Ok(())
    }
}
