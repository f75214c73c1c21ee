//! Time as codex-pool keeps it: Unix seconds in `i64`. Reads no clock: decisions get the time as an argument.

/// A day, seconds.
pub const DAY: i64 = 86_400;

/// Returns an RFC 3339 time as Unix nanoseconds; `None` if it is none, or after the year 2262.
pub fn parse_rfc3339_nanos(text: &str) -> Option<i64> {
    i64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

/// Returns an RFC 3339 time as Unix seconds; `None` if it is none.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_second())
}

/// Returns a time as RFC 3339 in UTC, the form of Codex's `last_refresh`.
pub fn to_rfc3339(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).unwrap_or_default().to_string()
}

/// Returns the folder of a day in Codex's `sessions`, such as `2026/11/22`. `day`: days since the epoch.
pub fn day_folder(day: i64) -> String {
    to_rfc3339(day.saturating_mul(DAY))[..10].replace('-', "/")
}

/// Returns a duration in at most two units: `2h 14m`, `3d 4h`, `50s`, `0s`.
pub fn human_duration(seconds: i64) -> String {
    let s = seconds.max(0);
    let (d, h, m) = (s / 86_400, s / 3_600 % 24, s / 60 % 60);
    let pair = |a: i64, an: &str, b: i64, bn: &str| {
        if b == 0 { format!("{a}{an}") } else { format!("{a}{an} {b}{bn}") }
    };
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) if m < 10 => pair(m, "m", s % 60, "s"),
        (0, 0, _) => format!("{m}m"),
        (0, _, _) => pair(h, "h", m, "m"),
        _ => pair(d, "d", h, "h"),
    }
}
