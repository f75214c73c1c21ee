//! What a limit is, and what is known of an account's usage once it has reached it. Pure.

use crate::codex::rollout::{EndedByLimit, LastTurn};
use crate::usage::{Source, Usage};

/// Returns whether a run ended with the usage limit. `turn`: the last turn of its thread; `began_ms`: when the run began,
/// Unix milliseconds; `service`: as for [`LastTurn::ended_by_limit`].
pub fn run_at_limit(
    status: Option<u8>,
    turn: Option<&LastTurn>,
    began_ms: i64,
    service: bool,
) -> EndedByLimit {
    // A run that fails before its turn begins leaves the turn of another one as the last.
    let own = turn.filter(|turn| turn.at / 1_000_000 >= began_ms);
    match own {
        Some(turn) if status.is_some_and(|status| status != 0) => turn.ended_by_limit(service),
        _ => EndedByLimit::No,
    }
}

/// Returns whether what the service said since then (Unix seconds) is that the account is at its limit.
pub fn at_limit(usage: Option<&Usage>, since: i64, now: i64) -> bool {
    usage.is_some_and(|usage| {
        usage.source == Source::Api && usage.fetched_at >= since && usage.exhausted_until(now).is_some()
    })
}

/// Returns what is known of an account that has just reached its limit. `known`: what was known before, or what its
/// session log says; `model`: the one that was asked for. Where that one's own limit is all that is reached, the account
/// has room for others.
pub fn exhaust(known: Option<&Usage>, model: Option<&str>, now: i64) -> Usage {
    let mut usage = known.cloned().unwrap_or(Usage::new(Source::SessionLog, now, Vec::new()));
    let of_model = model.and_then(|model| usage.limit_of(model)?.exhausted_until(now));
    if of_model.is_some() && usage.exhausted_until(now).is_none() {
        return usage;
    }
    (usage.limit_reached, usage.fetched_at) = (true, now);
    // Only a window that is running can be full.
    usage.windows.retain(|window| window.running(now));
    // Those that there were did not help.
    usage.credits = None;
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::rollout::TurnState;
    use crate::usage::{ExtraLimit, Window};

    const NOW: i64 = 1_800_000_000;

    fn turn(state: TurnState, at: i64) -> LastTurn {
        LastTurn { state, turn_id: None, at: at * 1_000_000_000, full: true, credits: false }
    }

    #[test]
    fn only_a_turn_of_this_run_that_failed_counts() {
        let began = NOW * 1_000;
        let of = |status, state, at| run_at_limit(status, Some(&turn(state, at)), began, true);
        assert_eq!(of(Some(1), TurnState::Limit, NOW + 1), EndedByLimit::Yes);
        assert_eq!(of(Some(1), TurnState::Limit, NOW - 1), EndedByLimit::No, "an older turn");
        assert_eq!(of(Some(0), TurnState::Limit, NOW + 1), EndedByLimit::No);
        assert_eq!(of(None, TurnState::Limit, NOW + 1), EndedByLimit::No, "killed");
        assert_eq!(of(Some(1), TurnState::Aborted, NOW + 1), EndedByLimit::No);
        let quiet = TurnState::Unanswered { would_say: false };
        assert_eq!(of(Some(1), quiet, NOW + 1), EndedByLimit::Confirm);
        assert_eq!(run_at_limit(Some(1), None, began, true), EndedByLimit::No);
    }

    fn usage(windows: &[(f64, i64)], fetched_at: i64) -> Usage {
        let window = |&(used_percent, left): &(f64, i64)| Window {
            window_seconds: 18_000,
            used_percent,
            resets_at: Some(NOW + left),
        };
        let windows = windows.iter().map(window).collect();
        Usage { windows, fetched_at, limit_reached: false, source: Source::Api, ..exhaust(None, None, NOW) }
    }

    #[test]
    fn service_confirms_a_limit_only_afresh() {
        assert!(at_limit(Some(&usage(&[(100.0, 60)], NOW)), NOW, NOW));
        assert!(!at_limit(Some(&usage(&[(100.0, 60)], NOW - 1)), NOW, NOW));
        assert!(!at_limit(Some(&usage(&[(99.0, 60)], NOW)), NOW, NOW));
        let log = Usage { source: Source::SessionLog, ..usage(&[(100.0, 60)], NOW) };
        assert!(!at_limit(Some(&log), NOW, NOW));
        assert!(!at_limit(None, NOW, NOW));
    }

    #[test]
    fn account_at_its_limit_is_exhausted_whatever_was_known() {
        let until = |known: Option<Usage>| exhaust(known.as_ref(), None, NOW).exhausted_until(NOW);
        assert_eq!(until(None), Some(None));
        assert_eq!(until(Some(usage(&[(80.0, 60)], NOW - 500))), Some(Some(NOW + 60)));
        assert_eq!(until(Some(usage(&[(100.0, 60), (30.0, 900)], NOW))), Some(Some(NOW + 60)));
        assert_eq!(until(Some(usage(&[(100.0, -60)], NOW - 500))), Some(None), "a window that has ended");
    }

    #[test]
    fn account_whose_model_is_at_its_limit_has_room_for_others() {
        let of = |model: f64, account: f64, asked: &str| {
            let extra = ExtraLimit {
                name: "Tiny".to_owned(),
                windows: usage(&[(model, 60)], NOW).windows,
                limit_reached: false,
            };
            let known = Usage { extra: vec![extra], ..usage(&[(account, 900)], NOW - 5) };
            exhaust(Some(&known), Some(asked), NOW).exhausted_until(NOW)
        };
        assert_eq!(of(100.0, 80.0, "tiny"), None);
        assert_eq!(of(100.0, 80.0, "other"), Some(Some(NOW + 900)));
        assert_eq!(of(99.0, 80.0, "tiny"), Some(Some(NOW + 900)));
        assert_eq!(of(100.0, 100.0, "tiny"), Some(Some(NOW + 900)));
    }
}
