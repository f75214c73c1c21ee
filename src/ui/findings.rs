//! The doctor's list: a line for each finding, green, yellow or red, and below it what to do.

use super::style::{Span, Tone, rendered};
use super::{block, colour, line, printable, table, wrapped};

/// With fewer columns than this for messages, the terminal breaks their lines.
const NARROW: usize = 30;

/// The grade of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// As it should be.
    Ok,
    /// Worth knowing. Everything works.
    Warn,
    /// A problem.
    Fail,
}

impl Grade {
    /// Returns the word in JSON and at the start of a line.
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
    /// What it is about, in one word.
    pub(crate) about: &'static str,
    pub(crate) message: String,
    /// What to type or do.
    pub(crate) advice: Option<String>,
}

/// Prints what was fixed, the findings, and how many problems and warnings there are.
pub(crate) fn print(findings: &[Finding], fixed: &[String]) {
    let colour = colour(&std::io::stdout());
    for done in fixed {
        block(&format!("{} {}", paint(colour, "fixed:", Tone::Good), printable(done)));
    }
    let width = findings.iter().map(|f| f.about.len()).max().unwrap_or(0);
    for f in findings {
        let tone = match f.grade {
            Grade::Ok => Tone::Good,
            Grade::Warn => Tone::Middling,
            Grade::Fail => Tone::Bad,
        };
        let grade = paint(colour, &format!("{:<4}", f.grade.as_str()), tone);
        // Grade, two spaces, subject, two spaces.
        let indent = 4 + 2 + width + 2;
        let room = table::width().saturating_sub(indent);
        let room = if room < NARROW { usize::MAX } else { room };
        let mut lines = wrapped(&printable(&f.message), room).into_iter();
        block(&format!("{grade}  {:<width$}  {}", f.about, lines.next().unwrap_or_default()));
        // In one piece, so that a command can be copied whole.
        let advice = f.advice.iter().map(|advice| format!("→ {}", printable(advice)));
        lines.chain(advice).for_each(|line| block(&format!("{:indent$}{line}", "")));
    }
    let count = |grade| findings.iter().filter(|f| f.grade == grade).count();
    line(&summary(count(Grade::Fail), count(Grade::Warn)));
}

fn paint(colour: bool, text: &str, tone: Tone) -> String {
    let trimmed = text.trim_end();
    let painted = rendered(&[Span { tone, ..Span::plain(trimmed.to_owned()) }], colour);
    format!("{painted}{}", &text[trimmed.len()..])
}

/// Returns `1 problem, 2 warnings`, without what there is none of.
fn summary(problems: usize, warnings: usize) -> String {
    let counted = |n: usize, what: &str| match n {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let parts: Vec<String> =
        [counted(problems, "problem"), counted(warnings, "warning")].into_iter().flatten().collect();
    if parts.is_empty() { "No problems".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_there_is() {
        assert_eq!(summary(0, 0), "No problems");
        assert_eq!(summary(1, 0), "1 problem");
        assert_eq!(summary(0, 1), "1 warning");
        assert_eq!(summary(1, 2), "1 problem, 2 warnings");
        assert_eq!(summary(3, 1), "3 problems, 1 warning");
    }
}
