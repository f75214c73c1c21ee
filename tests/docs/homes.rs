//! docs/homes.md: each transition of the drawing is in the table, with code that is there and a test that is there.

use std::collections::BTreeSet;
use std::fs;

use super::{code, prose, read, repository, rust_files};

const DOCUMENT: &str = "docs/homes.md";

/// Every file of these folders in one text.
fn sources(folders: &[&str]) -> String {
    let files = folders.iter().flat_map(|folder| rust_files(&repository().join(folder)));
    files.map(|file| fs::read_to_string(file).expect("a source")).collect()
}

/// Whether `a::b::c` is a function of `core/src/a/b.rs`.
fn is_function(path: &str) -> bool {
    let Some((module, function)) = path.rsplit_once("::") else { return false };
    let file = repository().join("core/src").join(module.replace("::", "/"));
    let source =
        [file.with_extension("rs"), file.join("mod.rs")].into_iter().find_map(|f| fs::read_to_string(f).ok());
    source.is_some_and(|source| {
        [format!("fn {function}("), format!("fn {function}<")].iter().any(|start| source.contains(start))
    })
}

#[test]
fn page_of_homes_names_code_and_tests_that_are_there() {
    let text = read(DOCUMENT);
    let tests = sources(&["tests", "core/src"]);
    let mut rows = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, word, _, functions, attacks, _] = cells[..] else { panic!("{line}") };
        assert!(!code(functions).is_empty() && !code(attacks).is_empty(), "{line}");
        for function in code(functions) {
            assert!(is_function(&function), "there is no function {function}");
        }
        for test in code(attacks) {
            assert!(tests.contains(&format!("fn {test}()")), "there is no test {test}");
        }
        rows.insert((number.parse::<u32>().expect("a number"), word.to_owned()));
    }
    // Outside the table, too.
    for span in code(&prose(&text)) {
        assert!(!span.contains("::") || is_function(&span), "there is no function {span}");
        let is_test = span.matches('_').count() >= 3 && !span.contains("::");
        assert!(!is_test || tests.contains(&format!("fn {span}()")), "there is no test {span}");
    }
    let drawing = text.split("```").nth(1).expect("a drawing");
    let words: Vec<&str> = drawing.split_whitespace().collect();
    let numbers =
        words.windows(2).filter_map(|pair| Some((pair[0].parse().ok()?, pair[1].trim_end_matches(':'))));
    let drawn: BTreeSet<(u32, &str)> = numbers.collect();
    for (number, word) in &rows {
        let first = word.split(' ').next().expect("a word");
        assert!(drawn.contains(&(*number, first)), "{number} {word} is not in the drawing");
    }
    let numbers = |set: BTreeSet<u32>| set.into_iter().collect::<Vec<_>>();
    let in_rows = numbers(rows.iter().map(|(number, _)| *number).collect());
    assert_eq!(numbers(drawn.iter().map(|(number, _)| *number).collect()), in_rows);
    assert_eq!(in_rows, (1..=u32::try_from(rows.len()).expect("few")).collect::<Vec<_>>());
}
