//! `docs/dependencies.md` gives a reason for every direct dependency, and for nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn dependencies_have_their_reasons() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut needed = BTreeSet::new();
    for manifest in
        ["Cargo.toml", "core/Cargo.toml", "share/Cargo.toml", "shim/Cargo.toml", "tests/testkit/Cargo.toml"]
    {
        let table: toml::Table = read(manifest).parse().expect("TOML");
        for section in ["dependencies", "dev-dependencies"] {
            let names =
                table.get(section).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
            needed.extend(names.cloned());
        }
    }
    needed.retain(|name| !["codex-pool-core", "codex-pool-share", "testkit"].contains(&name.as_str()));
    let page = read("docs/dependencies.md");
    // What nix is for is what is switched on of it.
    for manifest in ["Cargo.toml", "core/Cargo.toml"] {
        let table: toml::Table = read(manifest).parse().expect("TOML");
        for feature in table["dependencies"]["nix"]["features"].as_array().expect("features") {
            let feature = feature.as_str().expect("a name");
            assert!(
                page.contains(&format!("`{feature}`")),
                "docs/dependencies.md leaves out nix's {feature}"
            );
        }
    }
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let names = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split(','));
    let reasoned: BTreeSet<String> = names.map(|name| name.trim().trim_matches('`').to_owned()).collect();
    assert_eq!(needed, reasoned, "left: in the manifests, right: in docs/dependencies.md");
}
