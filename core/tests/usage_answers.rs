//! Answers of the usage endpoint as the service gives them (`data/usage`), and the place in the pick that each means.

use std::path::Path;

use codex_pool_core::account::{Account, AccountId, AccountKind};
use codex_pool_core::config::Settings;
use codex_pool_core::pick::{Candidate, Ranked, pick};
use codex_pool_core::usage::{Usage, answer};

const NOW: i64 = 1_795_349_821;

fn usage(name: &str) -> Usage {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/usage").join(name).with_extension("json");
    let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    answer::parse(&serde_json::from_slice(&bytes).expect("JSON"), NOW).expect("an answer")
}

/// Ranks accounts with these answers, for a launch with this model.
fn rank(names: &[&str], model: Option<&str>) -> Vec<(String, Ranked)> {
    let known: Vec<(Account, Usage)> = names
        .iter()
        .map(|name| {
            let id = AccountId::of_chatgpt(name, "w");
            (Account::new(id, *name, AccountKind::Chatgpt, 0), usage(name))
        })
        .collect();
    let candidates: Vec<_> =
        known.iter().map(|(a, u)| Candidate { model, ..Candidate::of(a, Some(u)) }).collect();
    let ranking = pick(&candidates, NOW, &Settings::default());
    ranking.into_iter().map(|ranked| (names[ranked.index].to_owned(), ranked)).collect()
}

fn one(name: &str, model: Option<&str>) -> (&'static str, Option<f64>, String) {
    let (_, ranked) = rank(&[name], model).remove(0);
    (ranked.tier.as_str(), ranked.room, ranked.explain(NOW))
}

#[test]
fn answers_rank_by_what_they_leave_and_what_they_cost() {
    let names = [
        "nothing_said",
        "spending_cap_reached",
        "exhausted_with_banked_resets",
        "usage_based_seat",
        "exhausted_with_credits",
        "plus",
        "unlimited",
    ];
    let order: Vec<String> = rank(&names, None).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        order,
        [
            "plus",
            "unlimited",
            "exhausted_with_credits",
            "usage_based_seat",
            "nothing_said",
            "exhausted_with_banked_resets",
            "spending_cap_reached",
        ]
    );
}

#[test]
fn each_answer_is_explained_with_its_numbers() {
    let banked = one("exhausted_with_banked_resets", None);
    assert_eq!(banked.0, "exhausted");
    assert_eq!(banked.2, "at its limit, back in 1h; 2 banked resets can be used");
    assert_eq!(one("spending_cap_reached", None).2, "at its limit, back in 10d");
    assert_eq!(one("usage_based_seat", None).2, "no windows; each use is paid for");
    assert_eq!(one("exhausted_with_credits", None).2, "only credits left");
    assert_eq!(one("unlimited", None).2, "no limit");
    assert_eq!(one("nothing_said", None).0, "unknown", "what is absent is no room");
}

#[test]
fn bucket_of_a_model_counts_for_that_model_alone() {
    // prolite holds as much as five Plus accounts.
    assert_eq!(one("model_bucket", None).1, Some(350.0));
    assert_eq!(one("model_bucket", Some("big-model")).1, Some(350.0));
    let (tier, room, _) = one("model_bucket", Some("small-model"));
    assert_eq!((tier, room), ("less_room", Some(25.0)));
}
