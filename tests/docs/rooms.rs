//! The rooms of the programs: a file uses only rooms that come after its own in the list. So nothing climbs, and no
//! rooms form a circle.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{repository, rust_files};

/// The rooms of `src/`: a room uses those below it.
const ADMIN: [&str; 17] = [
    "main",
    "commands",
    "ui",
    "refresh",
    "notices",
    "past",
    "view",
    "share",
    "context",
    "net",
    "shell_env",
    "programs",
    "receipt",
    "inherited",
    "signals",
    "changes",
    "cli",
];

/// Returns the room of a file: the first part of its path below the source folder.
fn room(source: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(source).expect("a file of the folder");
    let first = inside.components().next().expect("a name").as_os_str().to_str().expect("UTF-8");
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the rooms that a text uses: what follows `crate::`, alone or in braces.
fn used_rooms(text: &str) -> BTreeSet<String> {
    let name =
        |text: &str| text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    // The names between the outer braces, without what is nested in them.
    let names_in_braces = |text: &str| {
        let (mut depth, mut names, mut at_start) = (0, Vec::new(), false);
        for (at, c) in text.char_indices() {
            match c {
                '{' => (depth, at_start) = (depth + 1, depth == 0),
                '}' if depth == 1 => break,
                '}' => depth -= 1,
                ',' => at_start = depth == 1,
                c if c.is_whitespace() => {}
                _ if at_start => {
                    names.push(name(&text[at..]));
                    at_start = false;
                }
                _ => {}
            }
        }
        names
    };
    let uses = text.split("crate::").skip(1);
    let rooms =
        uses.flat_map(|rest| if rest.starts_with('{') { names_in_braces(rest) } else { vec![name(rest)] });
    rooms.filter(|room| !room.is_empty()).collect()
}

#[test]
fn arrows_of_the_admin_program_never_climb() {
    let source = repository().join("src");
    let level = |room: &str| {
        let level = ADMIN.iter().position(|known| *known == room);
        level.unwrap_or_else(|| panic!("src/{room} is not in the list of rooms"))
    };
    let mut arrows = 0;
    for file in rust_files(&source) {
        let text = fs::read_to_string(&file).expect("a source");
        let from = room(&source, &file);
        for to in used_rooms(&text).into_iter().filter(|to| *to != from) {
            assert!(level(&from) < level(&to), "{} uses `{to}`, which is not below `{from}`", file.display());
            arrows += 1;
        }
    }
    assert!(arrows > 50, "there are only {arrows} arrows");
}

#[test]
fn uses_are_found_alone_and_in_braces() {
    let text =
        "use crate::a::{x, y};\nuse crate::{b, c::{self, d}, e};\nfn f() { crate::g::h(); }\nuse crate::Cli;";
    assert_eq!(used_rooms(text).into_iter().collect::<Vec<_>>(), ["a", "b", "c", "e", "g"]);
}
