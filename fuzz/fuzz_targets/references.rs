//! Any reference names an account or is an error without deceptive characters.
#![no_main]

use codex_pool_core::text::is_deceptive;
use codex_pool_core::references;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = references::resolve(&[], text) {
        assert!(!error.to_string().contains(is_deceptive));
    }
});
