//! The documentation is true, as far as a test can tell: commands and options exist, settings are the program's own,
//! links lead somewhere, and the files, modules, functions and tests that are named exist.

mod dumps;
mod homes;
mod names;
mod prose;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use codex_pool_core::config::Settings;
use testkit::Sandbox;

/// Installs for the skill.
const SKILL_SCRIPT: &str = "skills/codex-pool/scripts/ensure-codex-pool.sh";

/// Every document of the repository, relative to its root.
fn documents() -> Vec<String> {
    let pages = fs::read_dir(repository().join("docs")).expect("docs").flatten();
    let pages = pages.filter_map(|entry| entry.file_name().into_string().ok());
    let pages = pages.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let others = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "skills/codex-pool/SKILL.md",
        "skills/codex-pool/references/commands.md",
    ];
    let mut all: Vec<String> = others.map(str::to_owned).into_iter().chain(pages).collect();
    all.sort();
    all
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Every Rust file below a folder.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

/// What is between backticks, in one line each.
fn code(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|s| !s.is_empty())
        .collect()
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

#[test]
fn links_lead_somewhere() {
    for document in &documents() {
        let text = read(document);
        let folder = Path::new(document).parent().expect("a folder");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = repository().join(folder).join(file);
            assert!(file.exists(), "{document} links to {target}");
            let headings = |text: String| text.lines().any(|line| anchor(line).as_deref() == Some(heading));
            assert!(
                heading.is_empty() || headings(fs::read_to_string(&file).expect("a document")),
                "{document} links to {target}"
            );
        }
    }
}

/// The anchor of a heading.
fn anchor(line: &str) -> Option<String> {
    let heading = line.starts_with('#').then(|| line.trim_start_matches('#').trim().to_lowercase())?;
    Some(heading.replace(' ', "-").replace(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'), ""))
}

/// Everything that is set as code: in backticks, in fenced blocks, and in lines that are indented.
fn set_as_code(text: &str) -> Vec<String> {
    let fenced = text.split("```").skip(1).step_by(2).flat_map(str::lines);
    let indented = text.lines().filter(|line| line.starts_with("    "));
    code(&prose(text)).into_iter().chain(fenced.chain(indented).map(str::to_owned)).collect()
}

#[test]
fn commands_and_their_options_exist() {
    let sandbox = Sandbox::new();
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    for document in &documents() {
        for line in set_as_code(&read(document)) {
            for (at, name) in line.match_indices("codex-pool ") {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|c| !c.is_whitespace()) {
                    continue;
                }
                let words = line[at + name.len()..].split([' ', '|', '>']).filter(|word| !word.is_empty());
                let words: Vec<&str> = words.take_while(|word| !matches!(*word, "--" | "#" | "&&")).collect();
                let Some((verb, rest)) = words.split_first() else { continue };
                if verb.starts_with('-') || verb.starts_with('<') {
                    continue;
                }
                // A verb of verbs explains itself, and each of them.
                let inner = rest.first().filter(|word| *verb == "share" && !word.starts_with('-'));
                let verbs: Vec<&str> = [Some(verb), inner].into_iter().flatten().copied().collect();
                let help = help.entry(verbs.join(" ")).or_insert_with(|| {
                    let output = sandbox.pool(&verbs).arg("--help").run();
                    assert_eq!(output.code(), Some(0), "{document} speaks of `{line}`");
                    output.stdout
                });
                for option in rest.iter().filter(|word| word.starts_with("--")) {
                    assert!(help.contains(option), "{document} speaks of {option} in `{line}`");
                }
            }
        }
    }
    assert!(help.len() > 10, "the documents show the commands");
}

#[test]
fn documented_settings_are_the_defaults_and_all_of_them() {
    let text = read("docs/configuration.md");
    let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("settings");
    let (settings, problems) = Settings::parse(block);
    assert_eq!((settings, problems), (Settings::default(), Vec::new()));
    let debug = format!("{:?}", Settings::default());
    let names = debug.split([' ', '{']).filter_map(|word| word.strip_suffix(':'));
    for name in names {
        assert!(
            block.lines().any(|line| line.trim_start_matches("# ").starts_with(name)),
            "{name} is not there"
        );
    }
}

#[test]
fn variables_exist() {
    let mut sources: String = ["core/src", "src", "tests/proof", "tests/testkit/src"]
        .iter()
        .flat_map(|dir| rust_files(&repository().join(dir)))
        .map(|f| fs::read_to_string(f).expect("a source"))
        .collect();
    for file in ["install.sh", "scripts/compatibility.sh", SKILL_SCRIPT, "tests/picture/main.rs"] {
        sources.push_str(&read(file));
    }
    for document in &documents() {
        let text = read(document);
        let words: BTreeSet<&str> = text
            .split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .filter(|word| {
                ["CODEX_", "TESTKIT_", "UPDATE_", "NO_", "PROOF_", "INSTALL_", "COMPATIBILITY_"]
                    .iter()
                    .any(|p| word.starts_with(p))
            })
            .collect();
        // That one is of editors.
        for word in words.into_iter().filter(|word| *word != "CODEX_CLI_PATH") {
            assert!(sources.contains(word), "{document} speaks of {word}");
        }
    }
}

#[test]
fn version_is_the_workspaces() {
    let version = env!("CARGO_PKG_VERSION");
    let page = read("docs/ci.md");
    for (at, _) in page.match_indices("releases/download/v") {
        let release = &page[at..];
        assert!(release.starts_with(&format!("releases/download/v{version}/")), "another release is named");
    }
    assert!(page.contains(&format!("VERSION={version} ")));
    let heading = format!("## [{version}] - ");
    let changes = read("CHANGELOG.md");
    let date = changes.lines().find_map(|line| line.strip_prefix(&heading)).expect("the version's section");
    assert!(date.parse::<jiff::civil::Date>().is_ok(), "{date} is no date");
    assert!(changes.contains("\n## [Unreleased]\n"));
}
