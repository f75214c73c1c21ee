//! Times as people read them: by the clock on their wall, as Codex itself says when a limit resets.

use std::cell::OnceCell;

use codex_pool_core::time::{DAY, human_duration};
use jiff::tz::TimeZone;

/// The user's time zone. To find it takes as long as all of `status`, so it is looked for when a time is first shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(OnceCell<TimeZone>);

impl Clock {
    /// Returns that of the system, or of `TZ`.
    pub(crate) fn of_system() -> Clock {
        Clock::default()
    }

    fn zone(&self) -> TimeZone {
        self.0.get_or_init(TimeZone::system).clone()
    }

    /// Returns `20:28` for a time within a day, `Fri 09:10` within a week, and `12 Dec` beyond. Both are Unix seconds.
    pub(crate) fn time(&self, at: i64, now: i64) -> String {
        let zoned = jiff::Timestamp::from_second(at).unwrap_or_default().to_zoned(self.zone());
        let form = match at.saturating_sub(now).abs() {
            distance if distance < DAY => "%H:%M",
            distance if distance < 7 * DAY => "%a %H:%M",
            _ => "%-d %b",
        };
        zoned.strftime(form).to_string()
    }

    /// Returns `20:28 (1h 5m)` for a time within a day; further away the time alone says enough.
    pub(crate) fn time_and_distance(&self, at: i64, now: i64) -> String {
        let time = self.time(at, now);
        match at.saturating_sub(now) {
            distance if distance < DAY => format!("{time} ({})", human_duration(distance)),
            _ => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_by_the_users_clock_and_say_the_day_where_it_is_another() {
        let now = 1_800_000_000; // Fri 15 Jan 2027, 08:00 UTC
        let clock = Clock(OnceCell::from(TimeZone::fixed(jiff::tz::offset(1))));
        assert_eq!(clock.time_and_distance(now + 3_900, now), "10:05 (1h 5m)");
        assert_eq!(clock.time_and_distance(now + DAY - 60, now), "08:59 (23h 59m)");
        assert_eq!(clock.time_and_distance(now + DAY, now), "Sat 09:00");
        assert_eq!(clock.time_and_distance(now + 6 * DAY + 600, now), "Thu 09:10");
        assert_eq!(clock.time_and_distance(now + 30 * DAY, now), "14 Feb");
        assert_eq!(clock.time(now - 600, now), "08:50", "the past, too");
    }
}
