//! The rules of the house for the tests themselves: how they are named, and how long their files are.

use std::fs;
use std::path::{Path, PathBuf};

/// What a name may not begin with: it would not say its subject.
const NO_SUBJECT: [&str; 28] = [
    "a", "an", "after", "at", "before", "below", "by", "every", "for", "from", "if", "in", "it", "its", "no",
    "nobody", "nothing", "only", "so", "the", "then", "what", "when", "where", "who", "whoever", "with",
    "without",
];

const LONGEST_NAME: usize = 70;
const LONGEST_FILE: usize = 500;

fn files() -> Vec<(PathBuf, String)> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace");
    let folders = ["tests", "benches", "examples"].map(|folder| workspace.join(folder));
    let files = folders.iter().flat_map(|folder| testkit::files::files_below(folder));
    let files = files.filter(|file| file.extension().is_some_and(|ext| ext == "rs"));
    files.map(|file| (file.clone(), fs::read_to_string(&file).expect("a source"))).collect()
}

/// The names of the functions that follow `#[test]`.
fn tests(source: &str) -> Vec<&str> {
    let after = source.split("#[test]\n").skip(1);
    after.filter_map(|rest| rest.split_once("fn ")?.1.split_once('(').map(|(name, _)| name)).collect()
}

#[test]
fn test_names_begin_with_their_subject_and_fit() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, source) in files() {
        for name in tests(&source) {
            count += 1;
            let first = name.split('_').next().unwrap_or_default();
            if name.len() > LONGEST_NAME || NO_SUBJECT.contains(&first) {
                wrong.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(count > 500, "only {count} tests were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_of_tests_stay_short() {
    let lines = |(file, source): (PathBuf, String)| (source.lines().count(), file);
    let long: Vec<_> = files().into_iter().map(lines).filter(|(lines, _)| *lines > LONGEST_FILE).collect();
    assert!(long.is_empty(), "{long:?}");
}
