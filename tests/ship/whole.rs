//! The real programs through the real installer: what install.sh puts in place, the programs find in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use testkit::bins;
use testkit::releases::{self, Releases};

use crate::place::Place;

#[test]
fn installation_is_found_in_order_by_init_and_doctor() {
    let version = env!("CARGO_PKG_VERSION");
    let server = Releases::start().expect("server");
    let read = |file: PathBuf| fs::read(file).expect("a program");
    let archive =
        releases::archive(&[("codex-pool", &read(bins::codex_pool())), ("codex", &read(bins::shim()))]);
    server.publish(version, &releases::target(), archive);
    let mut place = Place::named("new user ü");
    place.env("CODEX_POOL_RELEASES", server.base()).env("SHELL", "/bin/bash");
    place.fake_tool("codex", "echo codex-cli 0.169.0");
    place.install(&[]).ok();

    // As in a new terminal.
    let path = format!("{}:{}", place.pool().join("bin").display(), place.beside("tools").display());
    place.env("PATH", path);
    assert_eq!(place.sh("codex-pool --version").ok().out, format!("codex-pool {version}\n"));
    assert_eq!(place.sh("codex --version").ok().out, "codex-cli 0.169.0\n", "the shim steps aside");
    let ours = |place: &Place| -> BTreeMap<PathBuf, Vec<u8>> {
        let ours = [".bashrc", ".profile", "env", "env.fish", "receipt.json", "codex", "codex-pool"];
        place.files().into_iter().filter(|(file, _)| ours.iter().any(|name| file.ends_with(name))).collect()
    };
    let before = ours(&place);
    assert_eq!(before.len(), 9, "{:?}", before.keys());
    let said = place.sh("codex-pool init --yes").ok();
    assert!(
        said.out.contains("The shim is in place") && said.out.contains("It is first on PATH"),
        "{said:?}"
    );
    assert!(before == ours(&place), "init found something to repair: {said:?}");

    let doctor: Value = serde_json::from_str(&place.sh("codex-pool doctor --json").out).expect("JSON");
    for id in ["shim", "path", "codex-pool", "codex", "pool", "permissions"] {
        let check = doctor["checks"].as_array().expect("checks").iter().find(|check| check["id"] == id);
        assert_eq!(check.expect(id)["status"], "ok", "{check:?}");
    }
    assert_eq!(
        place.sh("codex-pool update --check").ok().out,
        format!("codex-pool {version} is already up to date\n")
    );

    let share = place.home.join(".local/share");
    let extras = [
        (share.join("man/man1/codex-pool.1"), ".TH codex-pool 1"),
        (share.join("bash-completion/completions/codex-pool"), "complete -F _codex_pool_with_labels"),
        (share.join("zsh/site-functions/_codex-pool"), "#compdef codex-pool"),
        (place.home.join(".config/fish/completions/codex-pool.fish"), "complete -c codex-pool"),
    ];
    for (file, part) in &extras {
        let text = fs::read_to_string(file).expect("a file for man or a shell");
        assert!(text.contains(part), "{}: {text}", file.display());
    }
    place.install(&["--uninstall"]).ok();
    assert!(!place.shim().exists() && !place.tool().exists());
    assert!(extras.iter().all(|(file, _)| !file.exists()));
    assert_eq!(place.sh("codex --version").ok().out, "codex-cli 0.169.0\n", "the real Codex is first again");
}
