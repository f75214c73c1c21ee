//! Any `accounts.json` and `state.json` is understood or refused, and what is refused does not change.
#![no_main]

use codex_pool_core::paths::PoolPaths;
use codex_pool_core::store::{Registry, State, is_registry, parse_foreign_store};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = (is_registry(bytes), parse_foreign_store(bytes));
    let dir = tempfile::tempdir().unwrap();
    let paths = PoolPaths::new(dir.path().to_owned());
    std::fs::write(paths.registry(), bytes).unwrap();
    std::fs::write(paths.state(), bytes).unwrap();
    let _ = (Registry::load(&paths), State::load(None, &paths));
    assert_eq!(std::fs::read(paths.registry()).unwrap(), bytes);
});
