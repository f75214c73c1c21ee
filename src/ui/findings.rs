//! The doctor's list: a line for each finding, green, yellow or red, and below it what to do.

use std::path::Path;

use super::style::{Span, Tone, rendered};
use super::wrap::{fitted, wrapped};
use super::{block, colour, printable, table};

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

/// How findings are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show<'a> {
    /// Those that are as they should be, too.
    pub(crate) all: bool,
    /// The user's home, which is written `~`.
    pub(crate) home: Option<&'a Path>,
}

/// Prints the verdict, what was fixed, what is not as it should be, and how much is.
pub(crate) fn print(findings: &[Finding], fixed: &[String], show: Show<'_>) {
    let colour = colour(&std::io::stdout());
    let count = |grade| findings.iter().filter(|f| f.grade == grade).count();
    let (fails, warns, fine) = (count(Grade::Fail), count(Grade::Warn), count(Grade::Ok));
    let tone = match (fails, warns) {
        (0, 0) => Tone::Good,
        (0, _) => Tone::Middling,
        _ => Tone::Bad,
    };
    block(&paint(colour, &verdict(fails, warns), tone));
    for done in fixed {
        let done = fitted(&format!("fixed: {}", tilde(&printable(done), show.home)), table::width());
        block(&format!("{}{}", paint(colour, "fixed:", Tone::Good), done.trim_start_matches("fixed:")));
    }
    let shown = in_order(findings, show.all);
    let width = shown.iter().map(|f| f.about.len()).max().unwrap_or(0);
    for (at, finding) in shown.iter().enumerate() {
        let tone = match finding.grade {
            Grade::Ok => Tone::Good,
            Grade::Warn => Tone::Middling,
            Grade::Fail => Tone::Bad,
        };
        let grade = paint(colour, &format!("{:<4}", finding.grade.as_str()), tone);
        // Grade, two spaces, subject, two spaces.
        let beside = 4 + 2 + width + 2;
        let (indent, gap) = match table::width().saturating_sub(beside) {
            room if room >= NARROW => (beside, "  "),
            _ => (6, ""),
        };
        let room = table::width().saturating_sub(indent);
        let lines = wrapped(&tilde(&printable(&finding.message), show.home), room);
        let lines = lines.join(&format!("\n{:indent$}", ""));
        let break_line = if gap.is_empty() { format!("\n{:indent$}", "") } else { String::new() };
        let about =
            if gap.is_empty() { finding.about.to_owned() } else { format!("{:<width$}", finding.about) };
        block(&format!("{grade}  {about}{gap}{break_line}{lines}"));
        // What several have in common is said once, behind the last of them.
        let again = shown.get(at + 1).is_some_and(|next| next.advice == finding.advice);
        if let Some(advice) = finding.advice.as_ref().filter(|_| !again) {
            let lines = wrapped(&tilde(&printable(advice), show.home), room.saturating_sub(2));
            block(&format!("{:indent$}→ {}", "", lines.join(&format!("\n{:indent$}  ", ""))));
        }
    }
    if fine > 0 && !show.all {
        let checks = if fine == 1 { "1 check" } else { &format!("{fine} checks") };
        block(&format!("{checks} fine (-v shows them)"));
    }
}

/// Returns what is shown: problems, then warnings, then the rest. Those that are fixed in the same way follow each other.
fn in_order(findings: &[Finding], all: bool) -> Vec<&Finding> {
    let mut left: Vec<&Finding> = findings.iter().filter(|f| all || f.grade != Grade::Ok).collect();
    left.sort_by_key(|f| match f.grade {
        Grade::Fail => 0,
        Grade::Warn => 1,
        Grade::Ok => 2,
    });
    let mut ordered: Vec<&Finding> = Vec::new();
    while !left.is_empty() {
        let first = left.remove(0);
        let alike = |f: &&Finding| f.advice.is_some() && f.advice == first.advice;
        ordered.push(first);
        ordered.extend(left.extract_if(.., |f| alike(f)));
    }
    ordered
}

/// Writes the user's home as `~`, but not in commands, where quotes may be around it.
fn tilde(text: &str, home: Option<&Path>) -> String {
    let Some(home) = home.and_then(Path::to_str).filter(|home| home.len() > 1) else {
        return text.to_owned();
    };
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => part.replace(&format!("{home}/"), "~/"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

fn paint(colour: bool, text: &str, tone: Tone) -> String {
    let trimmed = text.trim_end();
    let painted = rendered(&[Span { tone, ..Span::plain(trimmed.to_owned()) }], colour);
    format!("{painted}{}", &text[trimmed.len()..])
}

/// Returns `1 problem to fix, 2 warnings`, without what there is none of.
fn verdict(problems: usize, warnings: usize) -> String {
    let counted = |n: usize, what: &str| match n {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let problems = counted(problems, "problem").map(|problems| format!("{problems} to fix"));
    let parts: Vec<String> = [problems, counted(warnings, "warning")].into_iter().flatten().collect();
    if parts.is_empty() { "No problems".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_counts_what_there_is() {
        assert_eq!(verdict(0, 0), "No problems");
        assert_eq!(verdict(1, 0), "1 problem to fix");
        assert_eq!(verdict(0, 1), "1 warning");
        assert_eq!(verdict(1, 2), "1 problem to fix, 2 warnings");
        assert_eq!(verdict(3, 1), "3 problems to fix, 1 warning");
    }

    #[test]
    fn home_is_a_tilde_except_in_commands() {
        let home = Some(Path::new("/home/ada"));
        assert_eq!(tilde("see /home/ada/x and /home/adam/y", home), "see ~/x and /home/adam/y");
        assert_eq!(tilde("`rm '/home/ada/x'` of /home/ada/x", home), "`rm '/home/ada/x'` of ~/x");
        assert_eq!(tilde("/a", Some(Path::new("/"))), "/a");
    }

    #[test]
    fn problems_come_first_and_the_same_fix_follows() {
        let finding = |grade, about, advice: Option<&str>| Finding {
            grade,
            about,
            message: String::new(),
            advice: advice.map(str::to_owned),
        };
        let all = [
            finding(Grade::Ok, "a", None),
            finding(Grade::Warn, "b", Some("x")),
            finding(Grade::Fail, "c", Some("y")),
            finding(Grade::Warn, "d", None),
            finding(Grade::Warn, "e", Some("y")),
            finding(Grade::Warn, "f", None),
        ];
        let about = |all_of_them| in_order(&all, all_of_them).iter().map(|f| f.about).collect::<String>();
        assert_eq!((about(false), about(true)), ("cebdf".to_owned(), "cebdfa".to_owned()));
    }
}
