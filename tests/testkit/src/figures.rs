//! Figures of a benchmark: a table with a line per number, which is read back to compare two commits.
//! Must not measure anything itself.

use std::fmt;
use std::ops::Range;

/// A measured number.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// `part: what`. No two spaces in a row, which end a column.
    pub name: String,
    /// Of all runs.
    pub median: f64,
    /// Below it a tenth of the runs.
    pub low: f64,
    /// Above it a tenth of the runs.
    pub high: f64,
    /// What it is counted in.
    pub unit: String,
    /// What it should keep to.
    pub limit: Option<Limit>,
}

/// What a figure should keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Less is better, and this still good.
    AtMost(f64),
    /// More is better, and this good enough.
    AtLeast(f64),
}

/// How a figure stands to an earlier one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Each median is within the other's spread, or one of them is.
    WithinSpread,
    /// Beyond the spread, to the good.
    Better,
    /// Beyond the spread, to the bad.
    Worse,
}

impl Figure {
    /// Of those runs, in any order.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(name: &str, runs: &[f64], unit: &str) -> Figure {
        let (median, low, high) = (at(runs, 50), at(runs, 10), at(runs, 90));
        Figure { name: name.into(), median, low, high, unit: unit.into(), limit: None }
    }

    /// Returns a number that is made of many runs, such as a ratio of medians: its value for all of them, and as the
    /// spread that of its values for blocks of `block` runs, one after the other.
    ///
    /// # Panics
    /// If there are no runs, or blocks of none.
    pub fn of_blocks(
        name: &str,
        runs: usize,
        block: usize,
        value: impl Fn(Range<usize>) -> f64,
        unit: &str,
    ) -> Figure {
        let blocks: Vec<f64> = (0..runs).step_by(block).map(|at| value(at..runs.min(at + block))).collect();
        Figure { median: value(0..runs), ..Figure::of(name, &blocks, unit) }
    }

    /// With a limit.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Figure {
        self.limit = Some(limit);
        self
    }

    /// Returns whether it is beyond its limit.
    pub fn misses(&self) -> bool {
        match self.limit {
            Some(Limit::AtMost(most)) => self.median > most,
            Some(Limit::AtLeast(least)) => self.median < least,
            None => false,
        }
    }

    /// Returns how it stands to an earlier one: a change counts where each median lies outside the other's spread.
    pub fn change(&self, before: &Figure) -> Change {
        let inside = |median: f64, of: &Figure| (of.low..=of.high).contains(&median);
        if self.looks_like(before) || inside(self.median, before) || inside(before.median, self) {
            return Change::WithinSpread;
        }
        let more_is_better = matches!(self.limit, Some(Limit::AtLeast(_)));
        if (self.median > before.median) == more_is_better { Change::Better } else { Change::Worse }
    }

    /// Returns whether it is written the same: what was read back has been rounded.
    fn looks_like(&self, other: &Figure) -> bool {
        number(self.median) == number(other.median)
    }

    /// Returns the part it belongs to: what is before the colon.
    fn part(&self) -> &str {
        self.name.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::AtMost(most) => write!(f, "<= {most}"),
            Limit::AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

/// Returns the middle one of some runs, in any order.
///
/// # Panics
/// If there are none.
pub fn median(runs: &[f64]) -> f64 {
    at(runs, 50)
}

/// Returns the value that a share (percent) of the runs does not exceed.
fn at(runs: &[f64], percent: usize) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Returns the table: a line per figure, columns at least two spaces apart. [`parse`] reads it.
pub fn table(figures: &[Figure]) -> String {
    let mut text = heading();
    text.push('\n');
    for figure in figures {
        text += &row(figure);
        text.push('\n');
    }
    text
}

/// Returns the table with two more columns: what it was before and how much it has changed. Changes beyond the spread
/// are marked. Figures of the same parts that are no more follow.
pub fn comparison(figures: &[Figure], before: &[Figure]) -> String {
    let mut text = format!("{}  {:>9}  change\n", heading(), "before");
    for figure in figures {
        let change = match before.iter().find(|b| b.name == figure.name && b.unit == figure.unit) {
            None => format!("{:>9}  new", "-"),
            Some(old) => {
                let percent =
                    if figure.looks_like(old) { 0.0 } else { (figure.median / old.median - 1.0) * 100.0 };
                let mark = match figure.change(old) {
                    Change::WithinSpread => "",
                    Change::Better => "  BETTER",
                    Change::Worse => "  WORSE",
                };
                format!("{:>9}  {percent:+.1}%{mark}", number(old.median))
            }
        };
        text += &format!("{}  {change}\n", row(figure));
    }
    let is_gone = |old: &&Figure| {
        figures.iter().any(|f| f.part() == old.part()) && !figures.iter().any(|f| f.name == old.name)
    };
    for gone in before.iter().filter(is_gone) {
        text += &format!("{}  is no more\n", gone.name);
    }
    text
}

/// Reads a [`table`]. Lines that begin with `#` are comments.
///
/// # Errors
/// What is wrong with which line.
pub fn parse(text: &str) -> Result<Vec<Figure>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|(at, line)| figure(line).ok_or_else(|| format!("line {}: no figure: {line}", at + 1)))
        .collect()
}

fn figure(line: &str) -> Option<Figure> {
    let columns: Vec<&str> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    let [name, median, spread, unit, limit] = columns[..] else { return None };
    let (low, high) = spread.split_once("..")?;
    let limit = match limit.split_once(' ') {
        Some(("<=", most)) => Some(Limit::AtMost(most.parse().ok()?)),
        Some((">=", least)) => Some(Limit::AtLeast(least.parse().ok()?)),
        _ if limit == "-" => None,
        _ => return None,
    };
    Some(Figure {
        name: name.into(),
        median: median.parse().ok()?,
        low: low.parse().ok()?,
        high: high.parse().ok()?,
        unit: unit.into(),
        limit,
    })
}

fn heading() -> String {
    format!("{:<34}  {:>9}  {:<17}  {:<8}  {:<7}", "# name", "median", "p10..p90", "unit", "limit")
}

fn row(figure: &Figure) -> String {
    let spread = format!("{}..{}", number(figure.low), number(figure.high));
    let limit = figure.limit.map_or_else(|| "-".into(), |limit| limit.to_string());
    format!("{:<34}  {:>9}  {spread:<17}  {:<8}  {limit:<7}", figure.name, number(figure.median), figure.unit)
}

/// Four digits that count; no more are ever sure.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v < 10.0 => 3,
        v if v < 100.0 => 2,
        v if v < 1000.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(name: &str, low: f64, median: f64, high: f64) -> Figure {
        Figure { name: name.into(), median, low, high, unit: "ms".into(), limit: None }
    }

    #[test]
    fn figure_is_the_middle_of_its_runs_and_their_tenths() {
        let runs: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(Figure::of("a: b", &runs, "ms"), spread("a: b", 10.0, 50.0, 90.0));
        assert_eq!(Figure::of("a: b", &[7.0], "ms"), spread("a: b", 7.0, 7.0, 7.0));
    }

    #[test]
    fn figure_of_blocks_is_that_of_all_runs_with_the_spread_of_the_blocks() {
        let runs = [1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 6.0];
        let figure = Figure::of_blocks("a: b", runs.len(), 3, |block| median(&runs[block]), "ms");
        assert_eq!(figure, spread("a: b", 1.0, 5.0, 5.0));
    }

    #[test]
    fn saved_figures_are_read_again() {
        let long = "a part: with a name that is longer than its column";
        let figures = [
            spread("launch: pick, 10 accounts", 1.25, 1.5, 2.75).limit(Limit::AtMost(1.6)),
            spread("refresh: times sooner", 80.25, 90.5, 100.5).limit(Limit::AtLeast(50.0)),
            spread(long, -0.125, 1234.0, 99_999_999.0),
        ];
        let text = format!("# commit abc\n{}", table(&figures));
        assert_eq!(parse(&text).as_deref(), Ok(&figures[..]));
    }

    #[test]
    fn line_that_is_no_figure_is_named() {
        let bad =
            ["nonsense", "a: b  1.0  1.0..  ms  -", "a: b  1.0  1.0..2.0  ms  < 3", "a: b  x  1..2  ms  -"];
        for line in bad {
            let error = parse(&format!("# heading\n{line}\n")).expect_err(line);
            assert!(error.starts_with("line 2: "), "{error}");
        }
    }

    #[test]
    fn change_is_marked_only_beyond_both_spreads() {
        let before = spread("a: b", 9.0, 10.0, 11.0);
        assert_eq!(spread("a: b", 10.5, 10.9, 12.0).change(&before), Change::WithinSpread);
        assert_eq!(
            spread("a: b", 8.0, 20.0, 30.0).change(&before),
            Change::WithinSpread,
            "too unsteady to say"
        );
        assert_eq!(spread("a: b", 11.5, 12.0, 13.0).change(&before), Change::Worse);
        assert_eq!(spread("a: b", 7.0, 8.0, 8.5).change(&before), Change::Better);
        let more = spread("a: b", 11.5, 12.0, 13.0).limit(Limit::AtLeast(5.0));
        assert_eq!(more.change(&before), Change::Better, "more of this is better");
    }

    #[test]
    fn rounded_figure_has_not_changed_since_it_was_saved() {
        let now = [Figure::of("a: size", &[1.490_944], "MB")];
        let text = comparison(&now, &parse(&table(&now)).expect("a table"));
        assert!(text.trim_end().ends_with("1.491  +0.0%"), "{text}");
    }

    #[test]
    fn comparison_tells_the_change_what_is_new_and_what_is_gone() {
        let before = [
            spread("a: same", 1.0, 2.0, 3.0),
            spread("a: slow", 9.0, 10.0, 11.0),
            spread("a: old", 1.0, 1.0, 1.0),
            spread("other: not run", 1.0, 1.0, 1.0),
        ];
        let now = [before[0].clone(), spread("a: slow", 14.0, 15.0, 16.0), spread("a: fresh", 0.0, 0.0, 0.0)];
        let text = comparison(&now, &before);
        let line = |name: &str| text.lines().find(|l| l.starts_with(name)).expect(name).trim_end().to_owned();
        assert!(line("a: same").ends_with("2.000  +0.0%"), "{text}");
        assert!(line("a: slow").ends_with("10.00  +50.0%  WORSE"), "{text}");
        assert!(line("a: fresh").ends_with("-  new"), "{text}");
        assert_eq!(line("a: old"), "a: old  is no more");
        assert!(!text.contains("other"), "{text}");
    }

    #[test]
    fn limit_is_missed_beyond_it_on_its_own_side() {
        let figure = spread("a: b", 1.0, 2.0, 3.0);
        assert!(!figure.misses());
        for (limit, misses) in [
            (Limit::AtMost(2.0), false),
            (Limit::AtMost(1.9), true),
            (Limit::AtLeast(2.0), false),
            (Limit::AtLeast(2.1), true),
        ] {
            assert_eq!(figure.clone().limit(limit).misses(), misses, "{limit}");
        }
    }
}
