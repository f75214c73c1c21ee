//! A `codex` inside a session of `codex`: how deep we are, and whose session it is.

use std::ffi::OsString;

use super::ledger;
use crate::env::{Env, names};
use crate::seats::occupants::Census;

/// How many shims deep we are. The count is kept with the thread it was made in: a new thread is a
/// new session, not a loop.
pub(super) fn depth(value: Option<&str>, thread: Option<&str>) -> u32 {
    let Some(value) = value else { return 0 };
    let (count, counted_in) = match value.split_once(':') {
        Some((count, counted_in)) => (count, Some(counted_in)),
        None => (value, None),
    };
    if thread.is_some() && thread != counted_in { 0 } else { count.parse().unwrap_or(0) }
}

/// The value for the next level.
pub(super) fn depth_value(depth: u32, thread: Option<&str>) -> OsString {
    match thread {
        Some(thread) => format!("{depth}:{thread}").into(),
        None => depth.to_string().into(),
    }
}

/// The launch that we run inside, while it lives.
pub(super) fn outer<'a>(env: &Env, census: &'a Census) -> Option<&'a ledger::Launch> {
    let launch = census.ledger.find(env.text(names::CODEX_POOL_LAUNCH)?)?;
    launch.entry.is_some().then_some(launch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_starts_again_in_a_new_thread_only() {
        assert_eq!(depth(None, None), 0);
        assert_eq!(depth(Some("3"), None), 3);
        assert_eq!(depth(Some("3"), Some("t1")), 0);
        assert_eq!(depth(Some("3:t1"), Some("t1")), 3);
        assert_eq!(depth(Some("3:t1"), Some("t2")), 0);
        assert_eq!(depth(Some("rubbish"), None), 0);
        assert_eq!(depth_value(4, Some("t1")), "4:t1");
    }
}
