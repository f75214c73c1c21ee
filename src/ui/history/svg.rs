//! A picture of the past, for a page or an issue: one panel per account, on light and dark backgrounds. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use codex_pool_core::usage::window_words;

use super::{drawn, is_long};
use crate::past::{AccountPast, Past};
use crate::ui::printable;
use crate::view::Clock;

const WIDTH: i64 = 800;
const PANEL: i64 = 150;
/// Around the lines of a panel: left, top, right, bottom.
const MARGIN: (i64, i64, i64, i64) = (50, 34, 16, 22);

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}.dim{fill:#6e7781}.grid{stroke:#d0d7de}.short{stroke:#0969da}\
.long{stroke:#8250df}.fill-short{fill:#0969da}.fill-long{fill:#8250df}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#8b949e}.grid{stroke:#30363d}.short{stroke:#58a6ff}\
.long{stroke:#bc8cff}.fill-short{fill:#58a6ff}.fill-long{fill:#bc8cff}}";

/// Returns the picture. `span`: from when to when, Unix seconds.
pub(crate) fn picture(past: &Past, span: (i64, i64)) -> String {
    let shown: Vec<&AccountPast> = past.accounts.iter().filter(|past| !past.readings.is_empty()).collect();
    let height = (shown.len() as i64 * PANEL).max(PANEL / 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>What the accounts had left</title>\n<style>{STYLE}</style>\n"
    );
    if shown.is_empty() {
        svg.push_str("<text x=\"16\" y=\"40\">no readings yet</text>\n");
    }
    for (n, account) in shown.into_iter().enumerate() {
        panel(&mut svg, account, n as i64 * PANEL, span);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, past: &AccountPast, top: i64, span: (i64, i64)) {
    let (from, to) = span;
    let (left, above, right, below) = MARGIN;
    let (width, height) = (WIDTH - left - right, PANEL - above - below);
    let x = |at: i64| left as f64 + (at - from) as f64 / (to - from).max(1) as f64 * width as f64;
    let y = |percent: f64| (top + above) as f64 + (100.0 - percent) / 100.0 * height as f64;
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\">{}</text>", top + 20, escaped(&past.account.label));
    for percent in [0, 50, 100] {
        let at = y(f64::from(percent));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"dim\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            WIDTH - right,
            left - 6,
            at + 4.0
        );
    }
    for (n, anchor) in [(0, "start"), (1, "middle"), (2, "end")] {
        let at = from + (to - from) * n / 2;
        let _ = writeln!(
            svg,
            "<text class=\"dim\" x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            x(at),
            top + PANEL - 6,
            day(at)
        );
    }
    let shown = drawn(&past.windows());
    let mut key = WIDTH - right;
    for seconds in shown.iter().rev() {
        let class = if is_long(*seconds, &shown) { "long" } else { "short" };
        let mut path = String::new();
        let mut begun = false;
        for (at, percent) in past.left_between(*seconds, span) {
            // A value holds until the next one.
            let _ = match begun {
                true => write!(path, "H{:.1}V{:.1}", x(at), y(percent)),
                false => write!(path, "M{:.1} {:.1}", x(at), y(percent)),
            };
            begun = true;
        }
        let _ = writeln!(svg, "<path class=\"{class}\" fill=\"none\" stroke-width=\"1.5\" d=\"{path}\"/>");
        let _ = writeln!(
            svg,
            "<text class=\"fill-{class}\" x=\"{key}\" y=\"{}\" text-anchor=\"end\">{} left</text>",
            top + 20,
            window_words(*seconds)
        );
        key -= 80;
    }
}

fn day(at: i64) -> String {
    let at = Timestamp::from_second(at).unwrap_or_default().to_zoned(Clock::of_system().zone());
    at.strftime("%b %d, %H:%M").to_string()
}

fn escaped(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::chart::tests::example;
    use super::*;

    #[test]
    fn picture_has_both_lines_and_no_text_becomes_markup() {
        let mut account = example();
        account.account.label = "a<b>&\"c\"".to_owned();
        let past = Past { accounts: vec![account], pool_ends_at: None };
        let svg = picture(&past, (1_800_000_000 - 86_400, 1_800_000_000));
        assert!(svg.contains("class=\"short\"") && svg.contains("class=\"long\""));
        assert!(svg.contains("a&lt;b&gt;&amp;&quot;c&quot;") && !svg.contains("<b>"));
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("prefers-color-scheme")
        );
        assert!(picture(&Past::default(), (0, 1)).contains("no readings yet"));
    }
}
