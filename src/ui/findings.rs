//! The doctor's list: one line per finding, green, yellow or red, and under it what mends it.

use super::{block, colour, line, paint, printable, table};

/// How a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// As it should be.
    Ok,
    /// Worth knowing; everything works.
    Warn,
    /// It needs the user.
    Fail,
}

impl Grade {
    /// The word used in JSON and at the start of a line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Warn => "warn",
            Grade::Fail => "fail",
        }
    }
}

/// One line.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    /// What it is about, one word.
    pub(crate) about: &'static str,
    pub(crate) message: String,
    /// What to type or do.
    pub(crate) fix: Option<String>,
}

/// Prints what was mended, the findings, and how many of them need attention.
pub(crate) fn print(findings: &[Finding], mended: &[String]) {
    let colour = colour(&std::io::stdout());
    for done in mended {
        block(&format!("{} {}", paint(colour, "mended:", "32"), printable(done)));
    }
    let width = findings.iter().map(|f| f.about.len()).max().unwrap_or(0);
    for f in findings {
        let code = match f.grade {
            Grade::Ok => "32",
            Grade::Warn => "33",
            Grade::Fail => "31",
        };
        let word = paint(colour, &format!("{:<4}", f.grade.as_str()), code);
        // Word, two spaces, subject, two spaces.
        let indent = 4 + 2 + width + 2;
        let room = table::width().saturating_sub(indent);
        let mut lines = wrapped(&printable(&f.message), room).into_iter();
        block(&format!("{word}  {:<width$}  {}", f.about, lines.next().unwrap_or_default()));
        // In one piece, so that a command can be copied whole.
        let fix = f.fix.iter().map(|fix| format!("→ {}", printable(fix)));
        lines.chain(fix).for_each(|line| block(&format!("{:indent$}{line}", "")));
    }
    let count = |grade| findings.iter().filter(|f| f.grade == grade).count();
    line(&match (count(Grade::Fail), count(Grade::Warn)) {
        (0, 0) => "Everything is as it should be.".to_owned(),
        (0, 1) => "It works; 1 thing is worth a look.".to_owned(),
        (0, warnings) => format!("It works; {warnings} things are worth a look."),
        (1, _) => "1 thing needs you.".to_owned(),
        (fails, _) => format!("{fails} things need you."),
    });
}

/// Below this many characters text is not broken into lines any more.
const NARROW: usize = 30;

/// Text in lines of at most `room` characters, broken at spaces; a longer word has a line of its own.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let full = lines[last].chars().count() + 1 + word.chars().count() > room;
        if room >= NARROW && full && !lines[last].is_empty() {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces_only_and_only_where_there_is_room() {
        let text = "one two three four five six seven";
        assert_eq!(wrapped(text, usize::MAX), [text]);
        assert_eq!(wrapped(text, 30), ["one two three four five six", "seven"]);
        assert_eq!(wrapped(text, 10), [text]);
        let path = "x".repeat(40);
        assert_eq!(wrapped(&format!("see {path} now"), 30), ["see", &path, "now"]);
    }
}
