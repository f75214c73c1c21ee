//! How far the forecast is off, on simulated demand: sessions of a working day, as the pick was chosen by. The numbers
//! in docs/status.md are those that this prints.

use codex_pool_core::account::AccountId;
use codex_pool_core::usage::forecast::of_window;
use codex_pool_core::usage::history::Reading;
use codex_pool_core::usage::{FIVE_HOURS, Window};

const DAY: i64 = 86_400;
const START: i64 = 1_800_057_600;
/// How often usage is fetched while sessions run, seconds.
const POLL: i64 = 300;

/// A small generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let normal = (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (sigma * normal).exp()
    }
}

/// Returns two weeks of requests: when, and how much of a 5h window each takes. `load`: the demand, as a share of what
/// the week allows.
fn requests(random: &mut Random, load: f64) -> Vec<(i64, f64)> {
    let day = |n: usize, random: &mut Random| {
        (random.exponential() + random.exponential()) * if n % 7 >= 5 { 0.25 } else { 1.0 }
    };
    let days: Vec<f64> = (0..14).map(|n| day(n, random)).collect();
    let all: f64 = days.iter().sum();
    let mut requests = Vec::new();
    for (n, weight) in days.iter().enumerate() {
        let mut left = load * 12.0 * weight / all;
        while left > 0.0 {
            let size = random.lognormal(0.12, 0.8).min(0.9);
            // Sessions begin between 9 and 19 h, more of them in the middle of the day.
            let begin = (9.0 + (random.unit() + random.unit()) * 5.0) * 3_600.0;
            let length = random.lognormal(1_800.0, 0.6);
            let turns = ((length / 180.0) as usize).max(1);
            let sizes: Vec<f64> = (0..turns).map(|_| random.exponential()).collect();
            let sum: f64 = sizes.iter().sum();
            for (turn, part) in sizes.iter().enumerate() {
                let at = begin + length * (turn as f64 + random.unit()) / turns as f64;
                requests.push((START + n as i64 * DAY + at as i64, size * part / sum));
            }
            left -= size;
        }
    }
    requests.sort_by_key(|(at, _)| *at);
    requests
}

/// A 5h window as it was seen, and when it was full.
struct Run {
    readings: Vec<Reading>,
    resets_at: i64,
    full_at: Option<i64>,
}

fn runs(requests: &[(i64, f64)]) -> Vec<Run> {
    let account = AccountId::of_api_key("one");
    let mut runs: Vec<Run> = Vec::new();
    let mut at = 0;
    while at < requests.len() {
        let (start, resets_at) = (requests[at].0, requests[at].0 + FIVE_HOURS);
        let (mut used, mut full_at, mut readings) = (0.0, None, Vec::<Reading>::new());
        let mut poll = start;
        while poll < resets_at && full_at.is_none() {
            while at < requests.len() && requests[at].0 <= poll {
                used += requests[at].1 * 100.0;
                at += 1;
                if used >= 100.0 {
                    full_at = full_at.or(Some(poll));
                }
            }
            let used_percent = f64::min(used, 100.0).floor();
            let window = Window { window_seconds: FIVE_HOURS, used_percent, resets_at: Some(resets_at) };
            if readings.last().is_none_or(|last| last.windows[0] != window) {
                let (account, windows) = (account.clone(), vec![window]);
                readings.push(Reading { account, at: poll, windows, limit_reached: false });
            }
            poll += POLL;
        }
        while at < requests.len() && requests[at].0 < resets_at {
            at += 1;
        }
        runs.push(Run { readings, resets_at, full_at });
    }
    runs
}

/// What came of the forecasts.
#[derive(Default)]
struct Score {
    /// "Limit in about …", and the limit came before the reset.
    right: usize,
    /// It did not come.
    alarm: usize,
    /// Another word, and the limit came.
    missed: usize,
    /// Another word, and it did not come.
    quiet: usize,
    /// How many times too long or too short the time was, of the first kind.
    factors: Vec<f64>,
}

fn score(load: f64) -> Score {
    let mut score = Score::default();
    for seed in 0..40 {
        for run in runs(&requests(&mut Random(seed), load)) {
            for (n, reading) in run.readings.iter().enumerate() {
                let (window, now) = (&reading.windows[0], reading.at);
                if window.used_percent < 25.0 || window.used_percent >= 100.0 || now >= run.resets_at {
                    continue;
                }
                let Some(forecast) = of_window(&run.readings[..=n], window, now) else { continue };
                match (forecast.limit_at, run.full_at) {
                    (Some(said), Some(came)) => {
                        score.right += 1;
                        let (said, came) = ((said - now).max(POLL) as f64, (came - now).max(POLL) as f64);
                        score.factors.push((said / came).max(came / said));
                    }
                    (Some(_), None) => score.alarm += 1,
                    (None, Some(_)) => score.missed += 1,
                    (None, None) => score.quiet += 1,
                }
            }
        }
    }
    score.factors.sort_by(f64::total_cmp);
    score
}

#[test]
#[expect(clippy::print_stdout, reason = "the documentation has these numbers")]
fn forecast_is_as_good_as_documented() {
    for (load, least_right, least_found) in [(1.0, 0.50, 0.73), (1.5, 0.55, 0.73), (2.5, 0.70, 0.80)] {
        let score = score(load);
        let factor = |share: f64| score.factors[(score.factors.len() as f64 * share) as usize];
        let right = score.right as f64 / (score.right + score.alarm) as f64;
        let found = score.right as f64 / (score.right + score.missed) as f64;
        println!(
            "load {load}: {} forecasts, limit came {right:.2}, found {found:.2}, off by a factor of {:.2} (half), {:.2} \
             (four of five)",
            score.right + score.alarm + score.missed + score.quiet,
            factor(0.5),
            factor(0.8)
        );
        assert!(right >= least_right && found >= least_found, "load {load}: {right} {found}");
        assert!(factor(0.5) <= 1.8 && factor(0.8) <= 3.0, "load {load}: {} {}", factor(0.5), factor(0.8));
    }
}
