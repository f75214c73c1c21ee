//! A terminal session as an animated SVG picture, for documentation: commands are typed, output appears, the screen
//! scrolls, and it begins again. Style sheets alone move it, so it plays where scripts do not run, and shows its last
//! screen to people who prefer no motion. The same session gives the same picture.

use std::fmt::Write as _;
use std::num::NonZeroU16;

use crate::picture::{self, BACKGROUND, CHAR, FOREGROUND, MARGIN};

/// Rows of the window.
const ROWS: u16 = 20;
/// Seconds: one key, from Enter to the output, to read one line, and to read a step at all.
const KEY: f64 = 0.05;
const ENTER: f64 = 0.3;
const READ_LINE: f64 = 0.25;
const READ: f64 = 0.8;
/// Seconds that the last screen stays.
const LAST: f64 = 3.0;

/// What was typed and what came of it, in order.
pub struct Recording {
    columns: u16,
    steps: Vec<Step>,
}

struct Step {
    /// What stands in the first row.
    line: String,
    /// Whether it is typed.
    typed: bool,
    /// What the terminal shows after it.
    output: String,
}

impl Recording {
    /// Returns an empty recording of a terminal with so many columns.
    pub fn new(columns: u16) -> Recording {
        Recording { columns, steps: Vec::new() }
    }

    /// Adds a line that says what comes next.
    pub fn title(&mut self, text: &str) {
        self.steps.push(Step { line: format!("# {text}"), typed: false, output: String::new() });
    }

    /// Adds a command and everything that it wrote to the terminal.
    pub fn command(&mut self, command: &str, output: &str) {
        self.steps.push(Step { line: format!("$ {command}"), typed: true, output: output.to_owned() });
    }

    /// Returns how long it takes, in seconds.
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(Step::seconds).sum::<f64>() + LAST
    }

    /// Draws it.
    ///
    /// # Panics
    /// If it has no columns.
    pub fn svg(&self, label: &str) -> String {
        let size = |cells: usize| {
            NonZeroU16::new(u16::try_from(cells).unwrap_or(u16::MAX)).expect("rows and columns")
        };
        let lines: usize = self.steps.iter().map(|step| step.output.lines().count() + 3).sum();
        let mut parser = vt100::Parser::new(size(lines.max(1)), size(self.columns.into()), 0);
        let (mut style, mut text) = (String::new(), String::new());
        let mut scroll = "0%{transform:none}".to_owned();
        let (mut at, mut first, mut scrolled) = (0.0, 0, 0);
        let whole = self.seconds();
        let percent = |seconds: f64| format!("{:.2}%", seconds / whole * 100.0);
        for (number, step) in self.steps.iter().enumerate() {
            // A title has an empty row above it.
            if !step.typed && number > 0 {
                parser.process(b"\r\n");
                first += 1;
            }
            let look = if step.typed { "1" } else { "36" };
            parser.process(format!("\x1b[{look}m{}\x1b[0m\r\n", step.line).as_bytes());
            parser.process(step.output.trim_end().replace('\n', "\r\n").replace("\r\r", "\r").as_bytes());
            if parser.screen().cursor_position().1 > 0 {
                parser.process(b"\r\n");
            }
            let next = parser.screen().cursor_position().0;
            if let Some(above) = next.checked_sub(ROWS).filter(|above| *above > scrolled) {
                scrolled = above;
                let up = f64::from(above) * CHAR.1;
                let _ = write!(scroll, "{}{{transform:translateY(-{up:.0}px)}}", percent(at));
            }
            let y = |row: u16| f64::from(row) * CHAR.1;
            let _ = writeln!(text, "<g class=\"l{number}\">");
            picture::draw_row(&mut text, parser.screen(), first, y(first));
            text.push_str("</g>\n");
            appear(&mut style, &format!("l{number}"), &percent(at));
            if step.typed {
                // A cover with the cursor at its edge goes from letter to letter.
                let keys = step.line.chars().count() - 2;
                let (x, width) = (MARGIN.0 + 2.0 * CHAR.0, keys as f64 * CHAR.0);
                let _ = writeln!(
                    text,
                    "<g class=\"c{number}\" opacity=\"0\"><rect x=\"{x:.1}\" y=\"{:.1}\" width=\"100%\" \
                     height=\"{:.1}\" fill=\"{BACKGROUND}\"/><rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
                     height=\"{:.1}\" fill=\"{FOREGROUND}\"/></g>",
                    y(first),
                    CHAR.1,
                    y(first) + 2.0,
                    CHAR.0,
                    CHAR.1 - 4.0
                );
                let entered = at + keys as f64 * KEY + ENTER;
                let _ = writeln!(
                    style,
                    ".c{number}{{animation:c{number} {whole:.1}s step-end infinite}}@keyframes c{number}{{\
                     0%{{opacity:0}}{}{{opacity:1;transform:none;animation-timing-function:steps({keys})}}\
                     {}{{opacity:1;transform:translateX({width:.1}px)}}{}{{opacity:0}}}}",
                    percent(at),
                    percent(entered - ENTER),
                    percent(entered)
                );
                let _ = writeln!(text, "<g class=\"o{number}\">");
                for row in first + 1..next {
                    picture::draw_row(&mut text, parser.screen(), row, y(row));
                }
                text.push_str("</g>\n");
                appear(&mut style, &format!("o{number}"), &percent(entered));
            }
            at += step.seconds();
            first = next;
        }
        style = style.replace("WHOLE", &format!("{whole:.1}s"));
        // The rows have their margin.
        let width = f64::from(self.columns) * CHAR.0 + 2.0 * MARGIN.0;
        let height = f64::from(ROWS) * CHAR.1;
        let up = f64::from(scrolled) * CHAR.1;
        let mut out = picture::opening(label, self.columns, ROWS);
        let _ = write!(
            out,
            "<style>\n{style}.s{{transform:translateY(-{up:.0}px);animation:s {whole:.1}s step-end infinite}}\
             @keyframes s{{{scroll}}}\n@media (prefers-reduced-motion:reduce){{*{{animation:none!important}}}}\n\
             </style>\n<svg x=\"0\" y=\"{}\" width=\"{width:.0}\" height=\"{height:.0}\">\n<g class=\"s\">\n",
            MARGIN.1
        );
        out.push_str(picture::TEXT);
        out.push_str(&text);
        out.push_str("</g>\n</g>\n</svg>\n</svg>\n");
        out
    }
}

impl Step {
    fn seconds(&self) -> f64 {
        let typing = if self.typed { (self.line.chars().count() - 2) as f64 * KEY + ENTER } else { 0.0 };
        typing + READ + self.output.lines().count() as f64 * READ_LINE
    }
}

/// Lets a class appear at a time, and stay.
fn appear(style: &mut String, class: &str, at: &str) {
    let _ = writeln!(
        style,
        ".{class}{{animation:{class} WHOLE step-end infinite}}@keyframes {class}{{0%{{opacity:0}}{at}{{opacity:1}}}}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_types_shows_scrolls_and_takes_its_time() {
        let mut recording = Recording::new(40);
        recording.title("first");
        recording.command("ls <x>", "\x1b[32mone\x1b[0m\ntwo\n");
        let short = recording.svg("a session");
        assert!(short.contains("># first</text>") && short.contains(">$ ls &lt;x&gt;</text>"), "{short}");
        assert!(short.contains(">one</text>") && short.contains(">two</text>"), "{short}");
        // Title 0.8 s; six keys, Enter, and two lines to read: 2.2 s; the last screen 3 s.
        let seconds = READ + 6.0 * KEY + ENTER + READ + 2.0 * READ_LINE + LAST;
        assert!((recording.seconds() - seconds).abs() < 0.001);
        let at = |at: f64| format!("{:.2}%{{opacity:1", at / seconds * 100.0);
        assert!(short.contains(&format!("@keyframes l1{{0%{{opacity:0}}{}", at(READ))), "{short}");
        let entered = READ + 6.0 * KEY + ENTER;
        assert!(short.contains(&format!("@keyframes o1{{0%{{opacity:0}}{}", at(entered))), "{short}");
        assert!(short.contains("steps(6)"));
        // What was typed begins behind the prompt, and is covered from there.
        let x = MARGIN.0 + 2.0 * CHAR.0;
        assert_eq!(short.matches(&format!("<rect x=\"{x:.1}\"")).count(), 2, "{short}");
        // The last column is in the window that the rows scroll in.
        let whole = format!("<svg x=\"0\" y=\"44\" width=\"{:.0}\"", 40.0 * CHAR.0 + 2.0 * MARGIN.0);
        assert!(short.contains(&whole), "{short}");
        assert!(short.contains("@keyframes s{0%{transform:none}}"), "it fits: {short}");
        recording.command("seq", &"number\n".repeat(40));
        let long = recording.svg("a session");
        // 4 rows before, the command, and 40 more.
        let up = (45.0 - f64::from(ROWS)) * CHAR.1;
        assert!(long.contains(&format!(".s{{transform:translateY(-{up:.0}px)")), "{long}");
        assert!(!long.contains("WHOLE") && long == recording.svg("a session"));
    }
}
