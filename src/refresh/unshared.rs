//! In the place of `shared` in a program that was built without the feature `share`: a pool that is shared all the same
//! gets no new tokens, since other machines have the same ones.

use codex_pool_core::Result;
use codex_pool_core::account::AccountId;
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::files::RenewalLock;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::renewal::{self, Renewal};
use codex_pool_core::usage::Usage;

use super::plan::{Plan, Task};
use super::renew::Renewed;
use super::{Meter, Mode, Refresher};
use crate::net::NetError;

/// No database.
pub(super) struct Sharing;

impl Sharing {
    pub(super) fn of(_paths: &PoolPaths) -> Sharing {
        Sharing
    }
}

/// Whether a renewal may send.
pub(super) enum Permission {
    /// It may.
    Granted(Grant),
    /// It may not, and this is what became of it.
    Ended(Renewed),
}

/// The freedom of a pool that is this machine's alone.
pub(super) struct Grant;

impl Grant {
    #[expect(clippy::unused_self, reason = "a shared pool looks")]
    pub(super) fn may_send(&self) -> bool {
        true
    }
}

/// Nobody else asks.
pub(super) struct Asker;

impl Asker {
    #[expect(clippy::unused_self, reason = "a shared pool looks")]
    pub(super) fn may_ask(&self, _id: &AccountId) -> bool {
        true
    }
}

#[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a shared pool asks its database")]
impl Refresher<'_> {
    pub(super) fn sync(&self, _mode: Mode) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    pub(super) fn permit(&self, alone: &RenewalLock, pending: &mut Renewal) -> Result<Permission> {
        if Pool::peek(&self.ctx.paths)?.shared().is_none() {
            return Ok(Permission::Granted(Grant));
        }
        let (lock, mut pool) = self.open()?;
        renewal::abandon(alone, &lock, &mut pool, pending, false)?;
        let text = "the pool is shared, and this codex-pool was built without the feature `share`";
        Ok(Permission::Ended(Renewed::Failed(NetError::Refused(text.to_owned()))))
    }

    pub(super) fn give_back(&self, _grant: Grant) {}

    pub(super) fn tell_renewed(&self, _grant: Grant, _fresh: &AuthDoc) -> Result<()> {
        Ok(())
    }

    pub(super) fn claim_polls(
        &self,
        tasks: Vec<Task>,
        _mode: Mode,
        _plan: &mut Plan,
        _meter: &mut Meter<'_>,
    ) -> Result<(Vec<Task>, Asker)> {
        Ok((tasks, Asker))
    }

    pub(super) fn tell_usage(&self, _asker: &Asker, _id: &AccountId, _usage: &Usage) {}
}
