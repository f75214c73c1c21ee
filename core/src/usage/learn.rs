//! Entering into the cache what Codex's session logs tell of the accounts that were launched.

use std::path::Path;

use super::UsageEntry;
use super::session_log::{Span, learn};
use crate::files::PoolLock;
use crate::launch::ledger::Ledger;
use crate::pool::Pool;

impl Pool {
    /// Brings the usage up to date with the session logs under `codex_home` (the base), and writes it
    /// if there was news. `ledger` must be as it was read: whoever tidies it must do this, since
    /// afterwards nobody knows any more who ran.
    pub fn learn_from_logs(&mut self, lock: &PoolLock, ledger: &Ledger, codex_home: &Path, now: i64) {
        let entries = ledger.launches.iter().map(|l| l.entry.as_ref()).chain(ledger.ended.iter().map(Some));
        let spans: Vec<Span<'_>> = entries
            .map(|entry| match entry {
                Some(entry) => Span { account: entry.account.as_ref(), started_at: entry.started_at },
                // Unreadable: whoever it is may have been there for ever.
                None => Span { account: None, started_at: 0 },
            })
            .collect();
        if ledger.unreadable || spans.is_empty() {
            return;
        }
        let accounts = || self.registry().accounts.as_slice();
        let news = learn(codex_home, &spans, accounts, |id| self.usage().usage(id), ledger.changed_at, now);
        if news.is_empty() {
            return;
        }
        let known = &mut self.usage_mut().accounts;
        for (id, usage) in news {
            let entry = known.remove(&id).unwrap_or_default();
            known.insert(id, UsageEntry { usage: Some(usage), ..entry });
        }
        // It is a cache: if it cannot be written, the next look finds the same.
        let _ = self.save_usage(lock);
    }
}
