//! The modules of the core are layers: each uses only those before it in the list.

use std::fs;
use std::path::{Path, PathBuf};

/// The lowest first. A module may use those before it.
const LAYERS: [&str; 31] = [
    "error",
    "shared",
    "time",
    "env",
    "hash",
    "seen_tokens",
    "account",
    "paths",
    "files",
    "config",
    "process",
    "auth_doc",
    "text",
    "journal",
    "references",
    "usage",
    "notices",
    "codex",
    "thread_record",
    "store",
    "folders",
    "pick",
    "pool",
    "ledger",
    "homes",
    "renewal",
    "carry",
    "launch",
    "moving",
    "attend",
    "removal",
];

/// Returns the modules that a text uses outside comments and unit tests.
fn used(text: &str) -> Vec<&str> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    paths
        .map(|path| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !path.parent().is_some_and(|dir| dir.ends_with("tests")))
        .filter(|path| path.file_name().is_some_and(|name| name != "tests.rs"))
        .collect()
}

#[test]
fn no_module_uses_one_that_is_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layer = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    let mut checked = 0;
    for path in sources(&root) {
        let inside = path.strip_prefix(&root).expect("a source of the core").with_extension("");
        let module = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        if module == "lib" {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("{module} is in no layer"));
        let text = fs::read_to_string(&path).expect("a source");
        for name in used(&text).into_iter().filter(|name| *name != module) {
            // A name that is no module is an item of the crate's root.
            let Some(other) = layer(name) else { continue };
            assert!(other < own, "{} uses {name}, which is above {module}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} uses were found");
    for layer in LAYERS {
        assert!(root.join(layer).is_dir() || root.join(layer).with_extension("rs").is_file(), "no {layer}");
    }
}

#[test]
fn uses_are_found_wherever_a_module_is_named() {
    let text = "use crate::pool::Pool;\n// crate::launch\nlet x = crate::homes::known(crate::ledger::X);\n\
                #[cfg(test)]\nmod tests {\n    use crate::removal;\n}";
    assert_eq!(used(text), ["pool", "homes", "ledger"]);
}
