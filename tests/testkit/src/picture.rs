//! A terminal's output as an SVG picture, for documentation. The same output gives the same picture.

use std::fmt::Write as _;
use std::num::NonZeroU16;

use vt100::{Cell, Color, Screen};

/// Size of one character, and the space around all of them, pixels.
pub(crate) const CHAR: (f64, f64) = (8.4, 20.0);
pub(crate) const MARGIN: (f64, f64) = (18.0, 44.0);
pub(crate) const BACKGROUND: &str = "#10151c";
pub(crate) const FOREGROUND: &str = "#d7dde5";
/// The terminal's eight colours.
const PALETTE: [&str; 8] =
    ["#8b949e", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#d7dde5"];

/// The first seven of them on a light background.
const LIGHT_PALETTE: [&str; 7] =
    ["#6e7781", "#cf222e", "#1a7f37", "#9a6700", "#0969da", "#8250df", "#1b7c83"];

/// Draws what a terminal of `columns` shows after `output`, below a line with the `command` that was typed.
///
/// # Panics
/// If `columns` is 0.
pub fn svg(command: &str, output: &str, columns: u16) -> String {
    let lines = u16::try_from(output.lines().count()).unwrap_or(u16::MAX).max(1);
    let size = |cells: u16| NonZeroU16::new(cells).expect("rows and columns");
    let mut parser = vt100::Parser::new(size(lines + 2), size(columns), 0);
    parser.process(b"\x1b[1m$ ");
    parser.process(command.as_bytes());
    parser.process(b"\x1b[0m\r\n");
    parser.process(output.trim_end().replace('\n', "\r\n").replace("\r\r", "\r").as_bytes());
    let screen = parser.screen();
    let rows = screen.cursor_position().0 + 1;
    let mut out = opening(command, columns, rows);
    out.push_str(TEXT);
    for row in 0..rows {
        draw_row(&mut out, screen, row, MARGIN.1 + f64::from(row) * CHAR.1);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// Draws the screen of a program that fills a terminal of this size, after all that it wrote there.
///
/// # Panics
/// If there are no rows or no columns.
pub fn screen(label: &str, output: &str, rows: u16, columns: u16) -> String {
    let size = |cells: u16| NonZeroU16::new(cells).expect("rows and columns");
    let mut parser = vt100::Parser::new(size(rows), size(columns), 0);
    parser.process(output.as_bytes());
    let mut out = opening(label, columns, rows);
    out.push_str(TEXT);
    for row in 0..rows {
        draw_row(&mut out, parser.screen(), row, MARGIN.1 + f64::from(row) * CHAR.1);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// Opens the group that has the terminal's font.
pub(crate) const TEXT: &str = "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\" \
     font-size=\"14\">\n";

/// What replaces the colours for readers with a light background. They are attributes, so that viewers without style
/// sheets show the dark picture.
fn light() -> String {
    let ground = [(BACKGROUND, "#f6f8fa"), (FOREGROUND, "#1f2328")];
    let palette = PALETTE.iter().take(7).copied().zip(LIGHT_PALETTE);
    let rules =
        ground.into_iter().chain(palette).map(|(dark, light)| format!("[fill=\"{dark}\"]{{fill:{light}}}"));
    format!("<style>@media(prefers-color-scheme:light){{{}}}</style>\n", rules.collect::<String>())
}

/// Opens a picture of a terminal window with so many columns and rows: its ground and its three lights.
pub(crate) fn opening(label: &str, columns: u16, rows: u16) -> String {
    let width = f64::from(columns) * CHAR.0 + 2.0 * MARGIN.0;
    let height = f64::from(rows) * CHAR.1 + MARGIN.1 + MARGIN.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">\n\
         {}<rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"{BACKGROUND}\"/>\n",
        escaped(label),
        light()
    );
    for (at, light) in ["#ff5f57", "#febc2e", "#28c840"].iter().enumerate() {
        let x = 22 + at * 20;
        let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"20\" r=\"6\" fill=\"{light}\"/>");
    }
    out
}

/// Draws a row of a screen with its top at `y`.
pub(crate) fn draw_row(out: &mut String, screen: &Screen, row: u16, y: f64) {
    let cells: Vec<&Cell> =
        (0..screen.size().1.get()).filter_map(|column| screen.cell(row, column)).collect();
    draw(out, &cells, y);
}

/// One row, whose top is at `y`: runs of equal looks as text, bars as rectangles.
fn draw(out: &mut String, cells: &[&Cell], y: f64) {
    let mut at = 0;
    while at < cells.len() {
        let cell = cells[at];
        let x = MARGIN.0 + at as f64 * CHAR.0;
        let bar: Vec<u32> = cells[at..].iter().map_while(|c| block(c.contents())).collect();
        if !bar.is_empty() {
            let filled = f64::from(bar.iter().sum::<u32>()) / 8.0;
            for (length, opacity) in [(bar.len() as f64, 0.2), (filled, 1.0)] {
                let _ = writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" \
                     opacity=\"{opacity}\"/>",
                    y + 3.0,
                    length * CHAR.0,
                    CHAR.1 - 6.0,
                    colour(cell)
                );
            }
            at += bar.len();
            continue;
        }
        let alike =
            |c: &&&Cell| looks(c) == looks(cell) && block(c.contents()).is_none() && !c.contents().is_empty();
        let run: String = cells[at..].iter().take_while(alike).map(|c| c.contents()).collect();
        let count = run.chars().count();
        let bold = if cell.bold() { " font-weight=\"bold\"" } else { "" };
        for (skipped, text) in words(&run) {
            let length = text.chars().count() as f64 * CHAR.0;
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" fill=\"{}\"{bold}>{}</text>",
                x + skipped as f64 * CHAR.0,
                y + 15.0,
                colour(cell),
                escaped(text)
            );
        }
        at += count.max(1);
    }
}

/// Returns the parts of a text between runs of spaces, each with the number of characters before it. Not every viewer
/// keeps more than one space.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    for part in text.split("  ") {
        let spaces = part.chars().take_while(|c| *c == ' ').count();
        if !part.trim().is_empty() {
            found.push((at + spaces, part.trim()));
        }
        at += part.chars().count() + 2;
    }
    found
}

fn looks(cell: &Cell) -> (Color, bool, bool) {
    (cell.fgcolor(), cell.bold(), cell.dim())
}

fn colour(cell: &Cell) -> &'static str {
    match cell.fgcolor() {
        _ if cell.dim() => PALETTE[0],
        Color::Idx(n) => PALETTE[usize::from(n % 8)],
        _ => FOREGROUND,
    }
}

/// Returns how many eighths of its cell a character of a bar fills from the left; `None` if it is none.
fn block(text: &str) -> Option<u32> {
    match text.chars().next()? {
        c @ '\u{2588}'..='\u{258f}' => Some(0x2590 - c as u32),
        '\u{2591}' => Some(0),
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_places_without_the_spaces_between() {
        assert_eq!(words(" a b   c  d    "), [(1, "a b"), (7, "c"), (10, "d")]);
        assert!(words("   ").is_empty());
    }

    #[test]
    fn text_colours_and_bars_are_drawn_and_nothing_escapes() {
        let picture = svg("x <y>", "\x1b[32mready & well\x1b[0m ██▌ 70 %\n", 40);
        assert!(picture.contains(">$ x &lt;y&gt;</text>"), "{picture}");
        assert!(picture.contains(&format!("fill=\"{}\">ready &amp; well</text>", PALETTE[2])), "{picture}");
        assert_eq!(picture.matches("<rect x=").count(), 2, "a bar and what it is a part of");
        assert!(!picture.contains('\x1b'));
        assert!(
            picture.contains("prefers-color-scheme:light")
                && picture.contains("[fill=\"#56d364\"]{fill:#1a7f37}")
        );
        assert_eq!(picture, svg("x <y>", "\x1b[32mready & well\x1b[0m ██▌ 70 %\n", 40));
    }
}
