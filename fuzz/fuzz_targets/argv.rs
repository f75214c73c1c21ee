//! Any command line is understood, and what is added to it changes nothing else. Words are separated by newlines.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use codex_pool_core::codex::argv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<OsString> = bytes.split(|b| *b == b'\n').map(|w| OsString::from_vec(w.to_vec())).collect();
    let call = argv::parse(&words);
    let longer = call.with_extra(&words, &["-c".into(), "own=1".into()]);
    let again = argv::parse(&longer);
    assert_eq!((again.command, again.target), (call.command, call.target));
});
