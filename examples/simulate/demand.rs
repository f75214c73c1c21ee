//! Sessions that a user begins: how many, when, and how large.

use fastrand::Rng;

/// Seconds.
pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;
pub(crate) const WEEK: i64 = 7 * DAY;

/// A session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// When it begins.
    pub(crate) at: i64,
    /// How much it needs, in 5h windows of a Plus account.
    pub(crate) size: f64,
}

/// Returns the sessions of 4 to 12 weeks, in the order in which they begin. `weekly`: how much they need in a week, in 5h
/// windows of a Plus account.
pub(crate) fn sessions(weekly: f64, random: &mut Rng) -> Vec<Session> {
    let mut sessions = Vec::new();
    for week in 0..random.i64(4..=12) {
        let weights: Vec<f64> = (0..7).map(|day| gamma(random) * if day >= 5 { 0.25 } else { 1.0 }).collect();
        let all: f64 = weights.iter().sum();
        let mut left = weekly * (0.8 + 0.4 * random.f64());
        while left > 0.0 {
            let size = (0.12 * (0.8 * normal(random)).exp()).min(0.9);
            let mut place = random.f64() * all;
            let day = weights.iter().position(|weight| {
                place -= weight;
                place <= 0.0
            });
            let hour = 9.0 + 10.0 * beta(random);
            let at = week * WEEK + day.unwrap_or(0) as i64 * DAY + (hour * HOUR as f64) as i64;
            sessions.push(Session { at, size });
            left -= size;
        }
    }
    sessions.sort_by_key(|session| session.at);
    sessions
}

/// Normal, mean 0, variance 1 (Box and Muller).
fn normal(random: &mut Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}

/// Gamma(2, 1): the sum of two exponential times.
fn gamma(random: &mut Rng) -> f64 {
    -((1.0 - random.f64()) * (1.0 - random.f64())).ln()
}

/// Beta(1.3, 1.3) (Jöhnk).
fn beta(random: &mut Rng) -> f64 {
    loop {
        let (a, b) = (random.f64().powf(1.0 / 1.3), random.f64().powf(1.0 / 1.3));
        if a + b > 0.0 && a + b <= 1.0 {
            return a / (a + b);
        }
    }
}
