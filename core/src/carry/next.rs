//! Who goes on when an account has reached its limit. Pure.

use crate::account::AccountId;
use crate::config::Settings;
use crate::pick::{Candidate, Ranked, Reason, Tier, pick};

/// Who goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This account.
    Account(AccountId),
    /// None can. The first reset, if it is known when.
    None(Option<FirstReset>),
}

/// The account that can work again first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstReset {
    /// When, Unix seconds.
    pub at: i64,
    /// Its label.
    pub label: String,
}

/// Returns the best account that may be picked, has not reached its limit or its reserve, and is none of `done`, which
/// have had their turn.
pub fn next(candidates: &[Candidate<'_>], done: &[AccountId], now: i64, settings: &Settings) -> Next {
    let ranking = pick(candidates, now, settings);
    let eligible = || ranking.iter().filter(|ranked| ranked.eligible());
    let id = |index: usize| &candidates[index].account.id;
    let has_room = |ranked: &&Ranked| ranked.tier != Tier::Exhausted && !ranked.reserved;
    let can = eligible().filter(has_room).find(|ranked| !done.contains(id(ranked.index)));
    if let Some(next) = can {
        return Next::Account(id(next.index).clone());
    }
    let resets = eligible().filter_map(|ranked| match ranked.reason {
        Reason::Exhausted(Some(at)) | Reason::ModelExhausted(Some(at)) => {
            Some((at, &candidates[ranked.index].account.label))
        }
        _ => None,
    });
    Next::None(resets.min().map(|(at, label)| FirstReset { at, label: label.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, AccountKind};
    use crate::usage::{ExtraLimit, Source, Usage, Window};

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn account_at_its_reserve_goes_not_on() {
        let known = [("alice", 0.0, 50.0), ("bob", 20.0, 79.0), ("carol", 20.0, 80.0)]
            .map(|(label, reserve, used)| (Account { reserve, ..account(label) }, usage(used, 60)));
        let candidates: Vec<_> = known.iter().map(|(a, u)| Candidate::of(a, Some(u))).collect();
        let next = |done: &[&str]| {
            let done: Vec<_> = done.iter().map(|label| AccountId::of_chatgpt(label, "w")).collect();
            super::next(&candidates, &done, NOW, &Settings::default())
        };
        assert_eq!(next(&["alice"]), goes("bob"));
        assert_eq!(next(&["alice", "bob"]), Next::None(None));
        let unknown = [Candidate::of(&known[1].0, None)];
        assert_eq!(super::next(&unknown, &[], NOW, &Settings::default()), Next::None(None));
    }

    fn account(label: &str) -> Account {
        let account = Account::new(AccountId::of_chatgpt(label, "w"), label, AccountKind::Chatgpt, 0);
        Account { enabled: label != "disabled", ..account }
    }

    fn usage(used_percent: f64, resets_in: i64) -> Usage {
        let window = Window { window_seconds: 18_000, used_percent, resets_at: Some(NOW + resets_in) };
        Usage { limit_reached: used_percent >= 100.0, ..Usage::new(Source::Api, NOW, vec![window]) }
    }

    /// Label, percent used, seconds to the reset.
    fn of(accounts: &[(&str, f64, i64)], done: &[&str]) -> Next {
        let known: Vec<(Account, Usage)> =
            accounts.iter().map(|(label, used, left)| (account(label), usage(*used, *left))).collect();
        let candidates = known.iter().map(|(account, usage)| Candidate {
            has_credentials: account.label != "gone",
            allowed: account.label != "forbidden",
            elsewhere: (account.label == "elsewhere").then_some("only in ~/acme"),
            ..Candidate::of(account, Some(usage))
        });
        let candidates: Vec<_> = candidates.collect();
        let done: Vec<_> = done.iter().map(|label| AccountId::of_chatgpt(label, "w")).collect();
        next(&candidates, &done, NOW, &Settings::default())
    }

    fn goes(label: &str) -> Next {
        Next::Account(AccountId::of_chatgpt(label, "w"))
    }

    #[test]
    fn best_of_those_that_have_not_had_their_turn_goes_on() {
        let all = [("alice", 100.0, 60), ("bob", 50.0, 60), ("carol", 95.0, 60)];
        assert_eq!(of(&all, &["alice"]), goes("bob"));
        assert_eq!(of(&all, &["alice", "bob"]), goes("carol"));
        let none = Some(FirstReset { at: NOW + 60, label: "alice".to_owned() });
        assert_eq!(of(&all, &["alice", "bob", "carol"]), Next::None(none));
    }

    #[test]
    fn reset_of_a_models_own_limit_is_waited_for() {
        let tiny =
            ExtraLimit { name: "tiny".to_owned(), windows: usage(100.0, 60).windows, limit_reached: true };
        let (alice, usage) = (account("alice"), Usage { extra: vec![tiny], ..usage(20.0, 900) });
        let of = |model| {
            let candidate = Candidate { model, ..Candidate::of(&alice, Some(&usage)) };
            next(&[candidate], &[], NOW, &Settings::default())
        };
        assert_eq!(
            of(Some("tiny")),
            Next::None(Some(FirstReset { at: NOW + 60, label: "alice".to_owned() }))
        );
        assert_eq!(of(Some("other")), goes("alice"));
    }

    #[test]
    fn account_that_may_not_be_picked_goes_not_on_and_is_not_waited_for() {
        for label in ["disabled", "gone", "forbidden", "elsewhere"] {
            let all = [("alice", 100.0, 600), (label, 0.0, 60)];
            let first = FirstReset { at: NOW + 600, label: "alice".to_owned() };
            assert_eq!(of(&all, &["alice"]), Next::None(Some(first)), "{label}");
        }
    }
}
