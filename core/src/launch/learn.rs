//! Learning usage from Codex's session logs, as part of a launch: the ledger says which accounts can have written them.

use std::path::Path;

use crate::files::PoolLock;
use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::usage::session_log::{Span, learn};

/// Brings the usage up to date with the session logs of the main home, and saves it if there was news. `ledger` must
/// be as it was read: tidying removes the entries of launches that ended, and only this uses them.
pub fn learn_from_logs(pool: &mut Pool, lock: &PoolLock, ledger: &Ledger, main_home: &Path, now: i64) {
    let entries = ledger.launches.iter().map(|l| l.entry.as_ref()).chain(ledger.ended.iter().map(Some));
    let spans: Vec<Span<'_>> = entries
        .map(|entry| match entry {
            Some(entry) => Span { account: entry.account.as_ref(), started_at: entry.started_at },
            // An entry that cannot be read may be of any account and any time.
            None => Span { account: None, started_at: 0 },
        })
        .collect();
    if ledger.unreadable || spans.is_empty() {
        return;
    }
    let accounts = &pool.registry().accounts;
    let news = learn(main_home, &spans, accounts, pool.usage(), ledger.changed_at, now);
    if news.is_empty() {
        return;
    }
    for (id, usage) in news {
        pool.set_usage(&id, usage);
    }
    // If the cache cannot be written, the next launch learns the same.
    let _ = pool.save_usage(lock);
}
