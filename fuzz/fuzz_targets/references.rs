//! Any reference names an account or is an error that deceives nobody.
#![no_main]

use codex_pool_core::text::deceives;
use codex_pool_core::references;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = references::resolve(&[], text) {
        assert!(!error.to_string().contains(deceives));
    }
});
