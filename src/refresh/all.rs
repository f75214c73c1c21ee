//! Renewing every account, whatever the age of its tokens: another machine may have them.

use codex_pool_core::Result;
use codex_pool_core::account::{Account, AccountId, AccountKind};
use codex_pool_core::renewal::Cause;

use super::renew::Renewed;
use super::{Outcome, Refresher};
use crate::share;

impl Refresher<'_> {
    /// Renews the tokens of all accounts, one after the other, and returns the outcome of each.
    ///
    /// # Errors
    /// The pool cannot be used. What fails for one account is its outcome.
    pub(crate) fn renew_all(&self) -> Result<Vec<(AccountId, Outcome)>> {
        let (lock, pool) = self.open()?;
        let state = self.sharing.state();
        // One that is newer than its removal would be back on every machine.
        let is_removed = |account: &Account| {
            let doc = pool.credentials().load(&account.id).ok().flatten();
            doc.is_some_and(|doc| state.is_removed(&share::login(account, &doc)))
        };
        let logins = pool.registry().accounts.iter().filter(|account| account.kind == AccountKind::Chatgpt);
        let ids: Vec<AccountId> =
            logins.filter(|account| !is_removed(account)).map(|account| account.id.clone()).collect();
        drop((pool, lock));
        let mut outcomes = Vec::new();
        for id in ids {
            let outcome = match self.renew(&id, Cause::Proof) {
                Renewed::Fresh(_) => Outcome::Updated,
                Renewed::LeftToCodex | Renewed::UnderWay(_) => {
                    Outcome::Failed("a Codex that runs with it renews it".to_owned())
                }
                Renewed::NeedsLogin => Outcome::NeedsLogin,
                Renewed::Failed(error) => Outcome::Failed(error.to_string()),
            };
            outcomes.push((id, outcome));
        }
        Ok(outcomes)
    }
}
