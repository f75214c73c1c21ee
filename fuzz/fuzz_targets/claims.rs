//! Any text has claims or none.
#![no_main]

use codex_pool_core::auth_doc::Claims;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Claims::of_jwt(text);
});
