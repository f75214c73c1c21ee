//! Any `usage.json` is understood or counts as empty, and no number in it makes a function panic.
#![no_main]

use codex_pool_core::config::Settings;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::usage::{UsageCache, longest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    let paths = PoolPaths::new(dir.path().to_owned());
    std::fs::write(paths.usage(), bytes).unwrap();
    let cache = UsageCache::load(None, &paths);
    let (now, settings) = (1_800_000_000, Settings::default());
    for entry in cache.accounts.values() {
        let _ = (entry.poll().due_at(&settings, now), entry.may_renew(&settings, now), entry.error());
        if let Some(usage) = &entry.usage {
            let left = longest(&usage.windows).map(|w| w.left_percent(now));
            let _ = (usage.known(now), usage.exhausted_until(now), left);
        }
    }
});
