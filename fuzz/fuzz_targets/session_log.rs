//! Any session log can be read.
#![no_main]

use std::io::Write;

use codex_pool_core::usage::session_log::newest_limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let _ = newest_limits(&file, 0);
});
