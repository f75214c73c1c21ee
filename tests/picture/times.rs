//! The same times of day at every hour, so that a picture is the same whenever it is drawn.

/// When it is now in the pictures, minutes after midnight.
const NOW: u32 = 18 * 60 + 14;
/// The times on other days, in the order in which they are shown.
const OTHER_DAYS: [&str; 4] = ["Thu 22:14", "Sun 01:14", "Mon 20:14", "Tue 18:14"];
const DAYS: [&str; 7] = ["Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun "];

/// Replaces the times of day: one with a distance behind it follows from that, one with a day in front of it is the next
/// of a list.
pub(crate) fn fixed(text: &str) -> String {
    let (mut out, mut rest, mut days) = (String::new(), text, 0);
    while let Some(at) = time(rest) {
        let (before, after) = (&rest[..at], &rest[at + 5..]);
        match DAYS.iter().find(|day| before.ends_with(**day)) {
            Some(_) => {
                out.push_str(&before[..at - 4]);
                out.push_str(OTHER_DAYS[days % OTHER_DAYS.len()]);
                days += 1;
            }
            None => {
                let then = (NOW + distance(after)) % 1_440;
                out.push_str(&format!("{before}{:02}:{:02}", then / 60, then % 60));
            }
        }
        rest = after;
    }
    out + rest
}

/// Returns where the first time of day is.
fn time(text: &str) -> Option<usize> {
    text.as_bytes()
        .windows(5)
        .position(|w| w[2] == b':' && [w[0], w[1], w[3], w[4]].iter().all(u8::is_ascii_digit))
}

/// Returns the minutes in ` (2h 14m)`.
fn distance(text: &str) -> u32 {
    let inside = text.strip_prefix(" (").and_then(|rest| rest.split(')').next()).unwrap_or_default();
    let minutes = |part: &str| match part.split_at_checked(part.len().saturating_sub(1)) {
        Some((n, "h")) => n.parse::<u32>().unwrap_or(0) * 60,
        Some((n, "m")) => n.parse().unwrap_or(0),
        _ => 0,
    };
    inside.split(' ').map(minutes).sum()
}

#[test]
fn times_follow_from_their_distances() {
    assert_eq!(fixed("62 % · 04:06 (2h 14m)  x"), "62 % · 20:28 (2h 14m)  x");
    assert_eq!(fixed("Fri 05:52 and Sat 01:00, 03:00"), "Thu 22:14 and Sun 01:14, 18:14");
    assert_eq!(fixed("\x1b[38;5;1m a:b 1:2"), "\x1b[38;5;1m a:b 1:2");
}
