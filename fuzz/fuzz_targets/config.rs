//! Any text is settings and a list of problems.
#![no_main]

use codex_pool_core::config::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Settings::parse(text);
});
