//! Every path and every name of the code that a document sets as code exists: files and folders of the repository,
//! files of the pool, modules and items, tests, and any other identifier.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{code, documents, prose, read, repository, rust_files, set_as_code};

/// What the program, its tests and its tools are made of.
struct Sources {
    text: String,
    words: BTreeSet<String>,
}

impl Sources {
    fn read() -> Sources {
        let root = repository();
        let mut files: Vec<PathBuf> =
            ["benches", "core", "examples", "fuzz/fuzz_targets", "share", "shim", "src", "tests"]
                .iter()
                .flat_map(|folder| rust_files(&root.join(folder)))
                .filter(|file| !file.starts_with(root.join("tests/docs")))
                .collect();
        let others = ["Cargo.toml", "core/Cargo.toml", "tests/testkit/Cargo.toml", "install.sh", ".ci/run"];
        files.extend(others.iter().map(|file| root.join(file)));
        for folder in ["scripts", ".github/workflows"] {
            files.extend(fs::read_dir(root.join(folder)).expect(folder).flatten().map(|entry| entry.path()));
        }
        let text: String =
            files.iter().map(|file| fs::read_to_string(file).expect("a source") + "\n").collect();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        let words = words.flat_map(|word| std::iter::once(word).chain(word.split('-')));
        Sources { words: words.map(str::to_owned).collect(), text }
    }

    /// Whether there is a function of this name, a test or another.
    fn has_function(&self, name: &str) -> bool {
        self.text.contains(&format!("fn {name}(")) || self.text.contains(&format!("fn {name}<"))
    }

    /// What is wrong with a path, if it is one of the repository, beside the document, or of the pool.
    fn wrong_path(&self, document: &str, path: &str) -> Option<String> {
        let root = repository();
        if let Some(beside) = path.strip_prefix("./") {
            let file = root.join(document).with_file_name(beside);
            return (!file.exists()).then(|| format!("there is no {path}"));
        }
        let first = path.split('/').next().unwrap_or_default();
        if first.is_empty() || first == "target" || root.join(path).exists() {
            return None;
        }
        let extension = Path::new(path).extension().and_then(|ext| ext.to_str()).unwrap_or_default();
        if path.contains('/') && root.join(first).is_dir() || matches!(extension, "rs" | "md" | "sh" | "svg")
        {
            return (!matches(root, path)).then(|| format!("there is no {path}"));
        }
        let home = ["~/.codex-pool/", "~/.codex/", "~/"].iter().find_map(|home| path.strip_prefix(home));
        let is_file = home.is_some() || path.ends_with('/') || matches!(extension, "json" | "toml" | "lock");
        let known = |name: &str| name.contains('<') || self.text.contains(name);
        let mut parts = home.unwrap_or(path).split('/').filter(|part| !part.is_empty());
        (is_file && !parts.all(known)).then(|| format!("the program knows no {path}"))
    }

    /// What is wrong with a span of code, if anything.
    fn wrong_name(&self, span: &str) -> Option<String> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if span.contains("::") && span.chars().all(|c| is_word(c) || c == ':') {
            return (!is_item(span)).then(|| format!("there is no {span}"));
        }
        if !span.chars().all(is_word) {
            return None;
        }
        let is_sentence = span.matches('_').count() >= 3 && !span.contains(|c: char| c.is_ascii_uppercase());
        // A variable of another program is one that the sources quote.
        // It is of editors.
        if span == "CODEX_CLI_PATH" {
            return None;
        }
        let is_quoted = || self.text.contains(&format!("\"{span}\""));
        let exists =
            if is_sentence { self.has_function(span) || is_quoted() } else { self.words.contains(span) };
        (!exists).then(|| format!("nothing is called {span}"))
    }
}

/// Whether a path with `*` for any name exists below a folder.
fn matches(folder: &Path, path: &str) -> bool {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let next = |folder: PathBuf| folder.exists() && (rest.is_empty() || matches(&folder, rest));
    if first != "*" {
        return next(folder.join(first));
    }
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| next(entry.path()))
}

/// Whether `a::b` is a module or an item of `core` or of `codex-pool`.
fn is_item(path: &str) -> bool {
    let parts: Vec<&str> = path.strip_prefix("core::").unwrap_or(path).split("::").collect();
    ["core/src", "src"].iter().any(|root| {
        let root = repository().join(root);
        let file = |parts: &[&str]| {
            let base = parts.iter().fold(root.clone(), |dir, part| dir.join(part));
            [base.with_extension("rs"), base.join("mod.rs")].into_iter().find(|file| file.exists())
        };
        let (item, module) = parts.split_last().expect("a name");
        let has = |file: PathBuf| {
            let source = fs::read_to_string(file).expect("a source");
            source.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == *item)
        };
        file(&parts).is_some() || !module.is_empty() && file(module).is_some_and(has)
    })
}

/// Returns what a document says that is not so.
fn wrong(sources: &Sources, document: &str, text: &str) -> Vec<String> {
    let spans = code(&prose(text));
    let mut found: Vec<String> = spans.iter().filter_map(|span| sources.wrong_name(span)).collect();
    for line in set_as_code(text) {
        let words = line.split_whitespace().filter(|word| !word.contains("://") && !word.contains('@'));
        let words: Vec<&str> = words.map(|word| word.trim_matches(['"', '\'', ',', ';', '`'])).collect();
        found.extend(words.iter().filter_map(|word| sources.wrong_path(document, word)));
        // `cargo test --test SUITE NAMES`
        for pair in words.windows(2).filter(|pair| pair[0] == "--test") {
            let suite = ["tests", "core/tests"].iter().any(|folder| {
                let suite = repository().join(folder).join(pair[1]);
                suite.join("main.rs").exists() || suite.with_extension("rs").exists()
            });
            if !suite {
                found.push(format!("there is no suite {} of tests", pair[1]));
            }
        }
        let names = words.iter().filter(|word| words.contains(&"cargo") && word.contains('_'));
        let names = names.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        found.extend(
            names
                .filter(|name| !sources.text.contains(**name))
                .map(|name| format!("no test is called {name}")),
        );
    }
    found
}

#[test]
fn documents_name_what_exists() {
    let sources = Sources::read();
    let mut found = Vec::new();
    for document in documents() {
        found.extend(
            wrong(&sources, &document, &read(&document))
                .into_iter()
                .map(|what| format!("{document}: {what}")),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn documents_that_name_what_does_not_exist_are_found() {
    let sources = Sources::read();
    for good in [
        "`core/src/pick.rs`, `tests/*/`, `docs/`, `install.sh`, `core::launch`, `launch::prepare`",
        "`auth/<id>.json`, `~/.codex-pool/config.toml`, `lost+found/`, `session_room`, `Secret`",
        "    cargo test --test proof ten_thousand_kills_lose_nothing",
    ] {
        assert_eq!(wrong(&sources, "README.md", good), [""; 0], "{good}");
    }
    for bad in [
        "`core/src/no_such_file.rs`",
        "`src/net/text.rs`",
        "`no_such_script.sh`",
        "`./no-such-file`",
        "`tests/*/no_such_file`",
        "`launch::no_such_module`",
        "`no_such_module::prepare`",
        "`no_such_setting`",
        "`NoSuchType`",
        "`no_such_test_is_there`",
        "`no-such-file.json`",
        "`~/.codex-pool/no-such-folder/`",
        "    cargo test --test no_such_suite",
        "    cargo test --test proof no_such_test",
        "```sh\nsh scripts/no-such-script.sh\n```",
    ] {
        assert_eq!(wrong(&sources, "README.md", bad).len().min(1), 1, "{bad}");
    }
}

#[test]
fn architecture_names_the_tests_of_every_invariant() {
    let text = read("docs/architecture.md");
    let invariants = text.split("\n## ").find(|part| part.starts_with("Invariants")).expect("invariants");
    let sources = Sources::read();
    let numbered = invariants.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count();
    assert_eq!(numbered, 11);
    let mut item = String::new();
    let mut checked = 0;
    for line in invariants.lines().skip_while(|line| !line.starts_with("1. ")).chain(["0. "]) {
        if line.starts_with(|c: char| c.is_ascii_digit()) && !item.is_empty() {
            let tests = code(&item).into_iter().filter(|span| sources.has_function(span)).count();
            assert!(tests > 0, "no test: {item}");
            checked += 1;
            item.clear();
        }
        item.push_str(line);
        item.push('\n');
    }
    assert_eq!(checked, numbered);
}
