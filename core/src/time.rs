//! Time as codex-pool keeps it: Unix seconds in `i64`. Reads no clock: decisions get the time as an argument.

/// A day, seconds.
pub const DAY: i64 = 86_400;

/// Parses RFC 3339 into Unix nanoseconds; `None` if it is not a time (or beyond the year 2262).
pub fn parse_rfc3339_nanos(text: &str) -> Option<i64> {
    i64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

/// Parses RFC 3339 into Unix seconds.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_second())
}

/// RFC 3339 in UTC, as Codex writes `last_refresh`.
pub fn to_rfc3339(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).unwrap_or_default().to_string()
}

/// The folder of a day under Codex's `sessions`: `2026/11/22`. `day`: whole days since the epoch.
pub fn day_folder(day: i64) -> String {
    to_rfc3339(day.saturating_mul(DAY))[..10].replace('-', "/")
}

/// A duration for people, in two units at most: `2h 14m`, `3d 4h`, `50s`, `0s`.
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
