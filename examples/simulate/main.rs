//! Which account should be picked? Drives the program's own pick, and other rules beside it, through simulated demand:
//!
//!     cargo run --example simulate [-- SEEDS]
//!
//! Each rule sees the same sessions, seed by seed. The tables say how much of the demand was served, and how much more
//! than by the pick on the same seeds, in percentage points; and of 100 sessions, how many met a limit, how many of them
//! stopped there since no account could go on, and how many began on another account than the one before. The intervals
//! are of 95 %, over the seeds. docs/picking.md has the results.

mod accounts;
mod demand;
mod rules;
mod run;

use accounts::Accounts;
use demand::sessions;
use rules::{Rule, rules};
use run::{Mode, Outcome};

/// Weekly demand in parts of the weekly quota.
const LOADS: [f64; 4] = [0.6, 0.85, 1.0, 1.2];
/// Pools by the sizes of their plans.
const EQUAL: [&[f64]; 3] = [&[1.0; 2], &[1.0; 3], &[1.0; 5]];
const MIXED: [&[f64]; 3] = [&[1.0, 10.0], &[1.0, 1.0, 0.3], &[10.0, 1.0, 1.0, 0.3, 0.1]];

/// A table.
struct Scenario {
    title: &'static str,
    pools: &'static [&'static [f64]],
    mode: Mode,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        title: "At a limit, the user begins again",
        pools: &EQUAL,
        mode: Mode { carries_on: false, late: 0 },
    },
    Scenario {
        title: "At a limit, sessions are carried on",
        pools: &EQUAL,
        mode: Mode { carries_on: true, late: 0 },
    },
    Scenario {
        title: "Carried on, and usage is known up to 15 minutes late",
        pools: &EQUAL,
        mode: Mode { carries_on: true, late: 900 },
    },
    Scenario {
        title: "Carried on, with plans of different sizes",
        pools: &MIXED,
        mode: Mode { carries_on: true, late: 0 },
    },
];

#[expect(clippy::print_stdout, reason = "an example")]
fn main() {
    let seeds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(30);
    for scenario in SCENARIOS {
        println!("{}\n", scenario.title);
        println!("| rule | served % | against the pick | met a limit | stopped | switches |");
        println!("|---|---|---|---|---|---|");
        let rules = rules();
        let pick = outcomes(&rules[0], &scenario, seeds);
        for rule in &rules {
            println!("{}", line(rule.name, &outcomes(rule, &scenario, seeds), &pick));
        }
        println!();
    }
}

/// What a rule does with the demand of each seed.
fn outcomes(rule: &Rule, scenario: &Scenario, seeds: u64) -> Vec<Outcome> {
    (0..seeds).map(|seed| outcome(rule, scenario, seed)).collect()
}

/// What a rule does with the demand of a seed, in each pool and under each load.
fn outcome(rule: &Rule, scenario: &Scenario, seed: u64) -> Outcome {
    let mut all = Outcome::default();
    for (at, pool) in scenario.pools.iter().enumerate() {
        for (load_at, load) in LOADS.iter().enumerate() {
            let mut random = fastrand::Rng::with_seed(seed << 16 | (at as u64) << 8 | load_at as u64);
            let mut accounts = Accounts::new(pool, &mut random);
            let sessions = sessions(load * accounts.weekly_quota(), &mut random);
            all.add(&run::run(rule, scenario.mode, &mut accounts, &sessions));
        }
    }
    all
}

/// A line of the table. `pick`: the outcomes of the pick, on the same seeds.
fn line(name: &str, outcomes: &[Outcome], pick: &[Outcome]) -> String {
    let text = |values: Vec<f64>| {
        let (mean, half) = interval(&values);
        format!("{mean:.2} ± {half:.2}")
    };
    let column = |value: fn(&Outcome) -> f64| text(outcomes.iter().map(value).collect());
    let against = text(outcomes.iter().zip(pick).map(|(a, b)| a.served() - b.served()).collect());
    let [served, limits, stopped, switches] =
        [Outcome::served, Outcome::limits, Outcome::stopped, Outcome::switches].map(column);
    format!("| {name} | {served} | {against} | {limits} | {stopped} | {switches} |")
}

/// The mean, and half of the interval that has the true one with 95 %.
fn interval(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, 1.96 * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: u64 = 4;

    /// Percent served, and how many of 100 met a limit, in the scenario with carrying on.
    fn of(name: &str) -> (f64, f64) {
        let rule = rules().into_iter().find(|rule| rule.name == name).expect("a rule of this name");
        let outcomes = outcomes(&rule, &SCENARIOS[1], SEEDS);
        let mean = |value: fn(&Outcome) -> f64| interval(&outcomes.iter().map(value).collect::<Vec<_>>()).0;
        (mean(Outcome::served), mean(Outcome::limits))
    }

    #[test]
    fn pick_serves_nearly_as_much_as_the_best_rule_at_fewer_limits() {
        let (served, limits) = of(rules::PICK);
        let (best, _) = of(rules::BEST);
        let (before, limits_before) = of(rules::BEFORE);
        assert!(served >= best - 0.3, "{served} of {best}");
        assert!(
            served > before && limits < limits_before,
            "{served} {limits}, before {before} {limits_before}"
        );
    }

    #[test]
    fn model_of_the_pick_does_what_the_pick_does() {
        let ((served, limits), (modelled, modelled_limits)) = (of(rules::PICK), of(rules::MODEL));
        assert!((served - modelled).abs() < 0.05, "{served} and {modelled}");
        assert!((limits - modelled_limits).abs() < 0.2, "{limits} and {modelled_limits}");
    }

    #[test]
    fn interval_of_equal_values_is_empty() {
        assert_eq!(interval(&[2.0; 5]), (2.0, 0.0));
        let (mean, half) = interval(&[1.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-9 && (half - 1.96).abs() < 1e-9);
    }
}
