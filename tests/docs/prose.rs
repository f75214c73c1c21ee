//! How the documents are written: lines that fit, the words of the glossary, messages as the programs print them, and the
//! commands that people type.

use std::fs;

use super::{documents, prose, read, repository, rust_files};

/// Words that the glossary has others for.
const AVOIDED: [&str; 9] =
    ["seat", "census", "interlude", "chimera", "mend", "standing", "nobody", "somebody", "whoever"];

/// The longest line.
const WIDTH: usize = 120;

/// Returns the text outside code.
fn plain(text: &str) -> String {
    prose(text).split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn lines_of_prose_fit() {
    for document in documents() {
        for line in prose(&read(&document)).lines().filter(|line| !line.starts_with('|')) {
            // A picture's text, and what the skill's front matter has in one line.
            let is_one_line = line.starts_with("![") || line.starts_with("description: ");
            assert!(is_one_line || line.chars().count() <= WIDTH, "{document}: {line}");
        }
    }
}

#[test]
fn prose_uses_the_words_of_the_glossary() {
    for document in documents() {
        let text = plain(&read(&document)).to_lowercase();
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            let stem = AVOIDED.iter().find(|avoided| {
                word.strip_prefix(**avoided).is_some_and(|rest| ["", "s", "ed", "ing"].contains(&rest))
            });
            assert!(stem.is_none(), "{document} says `{word}`");
        }
    }
    let architecture = read("docs/architecture.md");
    let glossary = architecture.split("\n## ").nth(1).expect("a glossary");
    assert!(glossary.starts_with("Glossary\n"), "it comes first");
    assert_eq!(glossary.lines().filter(|line| line.starts_with("| **")).count(), 10, "ten words");
}

#[test]
fn messages_are_quoted_as_the_programs_print_them() {
    let folders = ["core/src", "src", "share/src", "shim/src"];
    let files = folders.iter().flat_map(|folder| rust_files(&repository().join(folder)));
    let source: String = files.map(|file| fs::read_to_string(file).expect("a source")).collect();
    // A string may be broken into lines.
    let source = source.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let page = read("docs/troubleshooting.md");
    let mut messages = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let seen = line.split('|').nth(1).expect("a cell");
        for message in seen.split('"').skip(1).step_by(2) {
            messages += 1;
            let spoken = message.replace('…', "").replace("2 s", "{} s");
            let spoken = spoken.replace("alice", "{who}").replace("bob", "{wanted}");
            assert!(source.contains(spoken.trim()), "no program says \"{message}\"");
        }
    }
    assert!(messages >= 3);
}

#[test]
fn contributing_lists_the_commands_of_the_justfile() {
    let names = |text: &str, prefix: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        let names = lines.filter_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).next());
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let justfile = read("justfile");
    let recipes: Vec<String> = justfile
        .lines()
        .filter(|line| line.ends_with(':') && line.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(|line| line.split([' ', ':']).next().expect("a name").to_owned())
        .collect();
    assert_eq!(recipes.len(), 6, "the commands that people type");
    assert_eq!(names(&read("CONTRIBUTING.md"), "| `just "), recipes);
}
