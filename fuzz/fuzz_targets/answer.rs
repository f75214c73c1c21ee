//! Any answer of the usage endpoint is understood or refused, and its numbers are sane.
#![no_main]

use codex_pool_core::text::is_deceptive;
use codex_pool_core::usage::{answer, longest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(answer) = serde_json::from_slice(bytes) else { return };
    let now = 1_800_000_000;
    let Some(usage) = answer::parse(&answer, now) else { return };
    for window in &usage.windows {
        assert!((0.0..=100.0).contains(&window.used_percent) && window.window_seconds > 0);
    }
    let _ = (usage.known(now), usage.exhausted_until(now), longest(&usage.windows).map(|w| w.left_percent(now)));
    let shown = usage.plan.iter().chain(usage.extra.iter().map(|extra| &extra.name));
    assert!(!shown.into_iter().any(|text| text.chars().any(is_deceptive)));
});
