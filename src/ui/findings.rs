//! The doctor's list: one line per finding, green, yellow or red, and under it what mends it.

use super::{block, colour, line, paint, printable, table, wrapped};

/// With less room than this, messages are left to the terminal to break.
const NARROW: usize = 30;

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
        let room = if room < NARROW { usize::MAX } else { room };
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
