//! Times as people read them: by the clock on their wall, as Codex itself says when a limit resets.

use std::path::Path;
use std::sync::OnceLock;

use codex_pool_core::files;
use codex_pool_core::time::{DAY, human_duration};
use jiff::tz::TimeZone;

/// The system's time zone.
const LOCAL_TIME: &str = "/etc/localtime";
/// The largest file of a time zone, bytes.
const LARGEST_ZONE: u64 = 1 << 20;

/// The user's time zone. `None`: that of the system, which is looked for when a time is first shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Option<TimeZone>);

impl Clock {
    /// Returns that of the system, or of `TZ`.
    pub(crate) fn of_system() -> Clock {
        Clock::default()
    }

    pub(crate) fn zone(&self) -> TimeZone {
        self.0.clone().unwrap_or_else(zone)
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

/// Returns the time zone of the system, or of `TZ`, as it was when it was first asked for.
fn zone() -> TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(read_zone).clone()
}

/// Reads the time zone. That of the system is read from its file: jiff looks for its name, which shows nowhere, in the
/// folders of all zones, and that takes as long as all else in `status`.
fn read_zone() -> TimeZone {
    let of_file = || {
        let data = files::read_small(Path::new(LOCAL_TIME), LARGEST_ZONE).ok()??;
        TimeZone::tzif("local", &data).ok()
    };
    let named = std::env::var_os("TZ").is_some();
    Some(of_file).filter(|_| !named).and_then(|of_file| of_file()).unwrap_or_else(TimeZone::system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_by_the_users_clock_and_say_the_day_where_it_is_another() {
        let now = 1_800_000_000; // Fri 15 Jan 2027, 08:00 UTC
        let clock = Clock(Some(TimeZone::fixed(jiff::tz::offset(1))));
        assert_eq!(clock.time_and_distance(now + 3_900, now), "10:05 (1h 5m)");
        assert_eq!(clock.time_and_distance(now + DAY - 60, now), "08:59 (23h 59m)");
        assert_eq!(clock.time_and_distance(now + DAY, now), "Sat 09:00");
        assert_eq!(clock.time_and_distance(now + 6 * DAY + 600, now), "Thu 09:10");
        assert_eq!(clock.time_and_distance(now + 30 * DAY, now), "14 Feb");
        assert_eq!(clock.time(now - 600, now), "08:50", "the past, too");
    }
}
