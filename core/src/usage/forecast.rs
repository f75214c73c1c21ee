//! When a limit is reached at the pace of the last hours, for one window and for the whole pool. Pure functions of
//! readings and a time. How far they are off is measured on simulated demand (core/tests/forecast.rs, docs/status.md).

use super::history::{Reading, same_reset};
use super::{Usage, Window, longest};

/// Work that is one such share of the window's length ago counts for 1/e of what is done now.
const MEMORY: f64 = 0.2;
/// The time that is added to what was seen, as a share of the memory: little work in a short time is no pace yet.
const DOUBT: f64 = 1.0 / 6.0;
/// A pause of this share of the window's length begins a new stretch of work.
const PAUSE: f64 = 0.4;
/// The part of a stretch that a single step may make up: one burst is no pace.
const BURST: f64 = 1.0 / 3.0;
/// Below this use, percent, a window of which little is used does not say when it ends.
const LEAST_USED: f64 = 25.0;
/// The time ahead of which nothing is said about the pool, seconds.
const HORIZON: i64 = 14 * 86_400;
/// The step of the look ahead for the pool, seconds.
const STEP: i64 = 1_800;

/// What a window comes to at its pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Percent of the window per hour.
    pub pace: f64,
    /// When the limit is reached, Unix seconds; `None`: the window resets first.
    pub limit_at: Option<i64>,
}

/// Returns the pace at which a window is used, percent per hour, from its account's readings, the oldest first. `None`:
/// there was no work lately. `now`: Unix seconds.
pub fn pace(readings: &[Reading], seconds: i64, now: i64) -> Option<f64> {
    let length = seconds as f64;
    // Each step of use: when it began, when it was seen, and its size.
    let mut steps: Vec<(i64, i64, f64)> = Vec::new();
    let mut last: Option<(i64, &Window)> = None;
    for reading in readings.iter().filter(|r| r.at <= now && now - r.at <= 2 * seconds) {
        let Some(window) = reading.window(seconds) else { continue };
        if let Some((at, before)) = last {
            let same =
                same_reset(before.resets_at, window.resets_at) || before.used_percent <= window.used_percent;
            let used = if same { window.used_percent - before.used_percent } else { window.used_percent };
            if used > 0.0 {
                steps.push((at, reading.at, used));
            }
        }
        last = Some((reading.at, window));
    }
    let mut end = now;
    let recent = steps.iter().rev().take_while(|(began, seen, _)| {
        let goes_on = (end - seen) as f64 <= length * PAUSE;
        end = if goes_on { *began.max(&(seen - (length * PAUSE) as i64)) } else { end };
        goes_on && (now - seen) as f64 <= length
    });
    let recent: Vec<_> = recent.copied().collect();
    let all: f64 = recent.iter().map(|(_, _, used)| used).sum();
    let (first, _, _) = recent.last()?;
    let seen = (now - *first.max(&(now - seconds))) as f64;
    let memory = length * MEMORY;
    let weighted = recent.iter().map(|(_, at, used)| {
        let used = if recent.len() > 2 { used.min((all * BURST).max(2.0)) } else { *used };
        used * (-((now - at) as f64) / memory).exp()
    });
    let time = memory * (1.0 - (-seen / memory).exp()) + memory * DOUBT;
    Some(weighted.sum::<f64>() / time * 3_600.0)
}

/// Returns what a window comes to. `None`: it is not running, there was no work lately, or too little is used to say.
pub fn of_window(readings: &[Reading], window: &Window, now: i64) -> Option<Forecast> {
    let resets_at = window.resets_at.filter(|_| window.running(now) && window.used_percent < 100.0)?;
    let pace = pace(readings, window.window_seconds, now).filter(|pace| *pace > 0.01)?;
    if window.used_percent < LEAST_USED {
        return None;
    }
    let left = (window.left_percent(now) / pace * 3_600.0) as i64;
    let limit_at = now.saturating_add(left);
    Some(Forecast { pace, limit_at: (limit_at < resets_at).then_some(limit_at) })
}

/// Returns the forecast of the window of an account that ends first: the earliest limit, else that a window which is
/// nearly used up resets before. `readings`: those of the account.
pub fn of_account<'a>(readings: &[Reading], usage: &'a Usage, now: i64) -> Option<(&'a Window, Forecast)> {
    let all = usage.windows.iter().filter_map(|w| Some((w, of_window(readings, w, now)?)));
    all.min_by_key(|(w, forecast)| (forecast.limit_at.unwrap_or(i64::MAX), w.left_percent(now) as i64))
}

/// An account as part of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its readings, the oldest first.
    pub readings: &'a [Reading],
    /// Its size in Plus accounts.
    pub weight: f64,
    /// What is known of it now.
    pub usage: &'a Usage,
}

/// Returns when all of these accounts are at their limit, Unix seconds, if they are used on as lately: each in the order
/// in which their longest windows reset, and full again after a reset. `None`: not in the next 14 days, or there was no
/// work lately.
pub fn of_pool(members: &[Member<'_>], now: i64) -> Option<i64> {
    struct Tank {
        left: f64,
        full: f64,
        resets_at: i64,
        length: i64,
    }
    let mut demand = 0.0;
    let mut tanks = Vec::new();
    for member in members {
        if member.usage.unlimited() {
            return None;
        }
        let Some(window) = longest(&member.usage.windows) else { continue };
        demand += member.weight * pace(member.readings, window.window_seconds, now).unwrap_or(0.0);
        tanks.push(Tank {
            left: member.weight * window.left_percent(now),
            full: member.weight * 100.0,
            resets_at: window.resets_at.filter(|at| *at > now).unwrap_or(i64::MAX),
            length: window.window_seconds,
        });
    }
    if demand < 0.01 {
        return None;
    }
    let mut at = now;
    while at < now + HORIZON {
        for tank in tanks.iter_mut().filter(|tank| tank.resets_at <= at) {
            (tank.left, tank.resets_at) = (tank.full, i64::MAX);
        }
        let mut wanted = demand * STEP as f64 / 3_600.0;
        tanks.sort_by_key(|tank| tank.resets_at);
        for tank in &mut tanks {
            let taken = wanted.min(tank.left);
            if taken > 0.0 && tank.resets_at == i64::MAX {
                tank.resets_at = at.saturating_add(tank.length);
            }
            tank.left -= taken;
            wanted -= taken;
        }
        if wanted > 0.0 {
            return Some(at);
        }
        at += STEP;
    }
    None
}

/// Returns a time that is only about right in words: `50 min`, `3 h`, `2 days`.
pub fn about(seconds: i64) -> String {
    let round = |n: i64, to: i64| ((n + to / 2) / to * to).max(to);
    match seconds.max(0) {
        s if s < 5_700 => {
            let minutes = round(s, 60) / 60;
            format!("{} min", if minutes <= 10 { minutes } else { round(minutes, 5) })
        }
        s if s < 36 * 3_600 => format!("{} h", round(s, 3_600) / 3_600),
        s => format!("{} days", round(s, 86_400) / 86_400),
    }
}

impl Forecast {
    /// Returns the forecast for people: `limit in about 50 min`, or `resets first`.
    pub fn words(&self, now: i64) -> String {
        match self.limit_at {
            Some(at) => format!("limit in about {}", about(at - now)),
            None => "resets first".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountId;
    use crate::usage::{FIVE_HOURS, Source, WEEK};

    const NOW: i64 = 1_800_000_000;

    fn reading(name: &str, ago: i64, used_percent: f64, resets_in: i64, window_seconds: i64) -> Reading {
        let window = Window { window_seconds, used_percent, resets_at: Some(NOW + resets_in) };
        Reading {
            account: AccountId::of_api_key(name),
            at: NOW - ago,
            windows: vec![window],
            limit_reached: false,
        }
    }

    /// Steady work: this many percent every 5 minutes for `minutes`, up to now.
    fn steady(minutes: i64, percent: f64, used: f64, resets_in: i64) -> Vec<Reading> {
        let steps = minutes / 5;
        let at = |n: i64| {
            reading("a", (steps - n) * 300, used - (steps - n) as f64 * percent, resets_in, FIVE_HOURS)
        };
        (0..=steps).map(at).collect()
    }

    fn window(readings: &[Reading]) -> Window {
        readings.last().unwrap().windows[0].clone()
    }

    #[test]
    fn steady_work_gives_its_pace_and_the_time_of_the_limit() {
        let readings = steady(120, 2.0, 60.0, 7_200);
        let pace = pace(&readings, FIVE_HOURS, NOW).unwrap();
        assert!((19.0..25.0).contains(&pace), "{pace}");
        let forecast = of_window(&readings, &window(&readings), NOW).unwrap();
        let minutes = (forecast.limit_at.unwrap() - NOW) / 60;
        assert!((95..=125).contains(&minutes), "40 % at 24 % an hour: {minutes}");
        let soon = steady(120, 2.0, 60.0, 3_600);
        assert_eq!(of_window(&soon, &window(&soon), NOW).unwrap().limit_at, None, "it resets first");
    }

    #[test]
    fn one_burst_is_no_pace() {
        let mut readings = steady(120, 0.25, 30.0, 10_800);
        let calm = pace(&readings, FIVE_HOURS, NOW).unwrap();
        for reading in readings.iter_mut().skip(20) {
            reading.windows[0].used_percent += 20.0;
        }
        let burst = pace(&readings, FIVE_HOURS, NOW).unwrap();
        assert!(burst < calm + 20.0 / 2.0, "{calm} and {burst}");
    }

    #[test]
    fn nothing_is_said_without_work_or_of_a_window_that_is_hardly_used() {
        let readings = steady(120, 2.0, 60.0, 7_200);
        let later = |seconds| pace(&readings, FIVE_HOURS, NOW + seconds);
        assert!(later(1_800).unwrap() < later(0).unwrap());
        assert_eq!(later(7_300), None, "a pause of two hours ends it");
        assert_eq!(pace(&[], FIVE_HOURS, NOW), None);
        let little = steady(30, 2.0, 14.0, 7_200);
        assert_eq!(of_window(&little, &window(&little), NOW), None);
        let full = Window { used_percent: 100.0, ..window(&readings) };
        assert_eq!(of_window(&readings, &full, NOW), None);
        let over = Window { resets_at: Some(NOW), ..window(&readings) };
        assert_eq!(of_window(&readings, &over, NOW), None);
    }

    #[test]
    fn work_before_a_reset_counts_and_the_reset_itself_does_not() {
        let mut readings = steady(60, 2.0, 99.0, -600);
        readings.iter_mut().for_each(|reading| reading.at -= 900);
        readings.push(reading("a", 600, 1.0, 17_000, FIVE_HOURS));
        readings.push(reading("a", 0, 3.0, 17_000, FIVE_HOURS));
        let pace = pace(&readings, FIVE_HOURS, NOW).unwrap();
        assert!((12.0..22.0).contains(&pace), "{pace}");
    }

    #[test]
    fn pool_ends_when_the_last_account_does_and_a_reset_fills_one_up() {
        let usage = |used_percent, resets_in: i64| {
            let window = Window { window_seconds: WEEK, used_percent, resets_at: Some(NOW + resets_in) };
            Usage::new(Source::Api, NOW, vec![window])
        };
        // About 1 % of a week per hour on a, nothing on b.
        let readings: Vec<Reading> =
            (0..=60).map(|n| reading("a", (60 - n) * 3_600, 20.0 + n as f64, 4 * 86_400, WEEK)).collect();
        let pool = |one: &Usage, other: &Usage| {
            let members = [(&readings[..], one), (&[], other)].map(|(readings, usage)| Member {
                readings,
                weight: 1.0,
                usage,
            });
            of_pool(&members, NOW).map(|at| (at - NOW) / 3_600)
        };
        let hours = pool(&usage(80.0, 4 * 86_400), &usage(80.0, 5 * 86_400)).unwrap();
        assert!((38..=55).contains(&hours), "40 % at about 1 % an hour: {hours}");
        let refilled = pool(&usage(80.0, 3_600), &usage(80.0, WEEK - 3_600)).unwrap();
        assert!((115..=160).contains(&refilled), "{refilled}");
        let many = usage(10.0, 86_400);
        assert!(pool(&many, &many).is_none_or(|hours| hours > 160));
    }

    #[test]
    fn times_are_only_about_right() {
        let words = [20, 3 * 60, 47 * 60, 94 * 60, 2 * 3_600, 30 * 3_600, 40 * 3_600, 100 * 3_600].map(about);
        assert_eq!(words, ["1 min", "3 min", "45 min", "95 min", "2 h", "30 h", "2 days", "4 days"]);
        let forecast = |limit_at| Forecast { pace: 1.0, limit_at }.words(NOW);
        assert_eq!(forecast(Some(NOW + 3_000)), "limit in about 50 min");
        assert_eq!(forecast(None), "resets first");
    }
}
