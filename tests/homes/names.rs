//! What the real Codex creates in a home is shared between homes, or private to each, as this list says. A name that a
//! new version of Codex brings is not in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use testkit::{SOON, World, answered};

use crate::world::{TWO, worlds};

/// Returns the names in a home, and whether each is a link to what the main home has.
fn names(dir: &Path) -> BTreeMap<String, bool> {
    let entries = fs::read_dir(dir).expect("a home").flatten();
    entries.map(|e| (e.file_name().into_string().expect("text"), e.path().is_symlink())).collect()
}

/// Does in a home what makes Codex create things there: a session, a renewal of tokens, the interface with its
/// background server.
fn use_home(world: &World, user: &str) {
    answered(world.exec_as(user).run(), user);
    world.backend().reject_access_tokens(user);
    answered(world.exec_as(user).run(), user);
    let mut ui = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", user));
    world.ask(&mut ui, user);
}

/// What the versions of Codex create, and is shared: links, in an own home.
const SHARED: [&str; 19] = [
    ".personality_migration",
    ".sandbox_migration",
    "AGENTS.md",
    "archived_sessions",
    "config.toml",
    "history.jsonl",
    "installation_id",
    "log",
    "mcp-oauth-locks",
    "packages",
    "plugins",
    "prompts",
    "rules",
    "session_index.jsonl",
    "session_index.jsonl.lock",
    "sessions",
    "skills",
    "thread-writer-locks",
    "tui-thread-reference-capabilities",
];

/// What each home has for itself.
const PRIVATE: [&str; 9] = [
    ".tmp",
    "app-server-control",
    "app-server-daemon",
    "auth.json",
    "auth.json.lock",
    "auth.lock",
    "memories",
    "shell_snapshots",
    "tmp",
];

#[test]
fn names_that_codex_creates_are_shared_or_private_as_they_must_be() {
    for world in worlds(&TWO) {
        use_home(&world, "alice");
        let alice = world.backend().hold("alice");
        let session = world.exec().spawn();
        alice.wait_for(1, SOON);
        use_home(&world, "bob");
        answered(world.exec_as("bob").run(), "bob");
        let (version, main, own) =
            (world.version(), names(&world.codex_home()), names(&world.own_home("bob")));
        let is_in = |list: &[&str], name: &str| list.contains(&name);
        let known = |name: &str| is_in(&SHARED, name) || is_in(&PRIVATE, name) || name == "version.json";
        for name in main.keys().filter(|name| !name.contains(".sqlite")) {
            assert!(known(name), "{version}: what is {name}?");
            if is_in(&SHARED, name) {
                // What the own home got first stays there while it is in use.
                let link = own.get(name);
                assert!(
                    link == Some(&true) || name.starts_with('.') && link.is_some(),
                    "{version}: {name} {link:?}"
                );
            }
        }
        for (name, link) in &own {
            assert!(known(name), "{version}: what is {name} in an own home?");
            assert!(!link || !is_in(&PRIVATE, name), "{version}: {name} is a link");
        }
        assert!(!own.keys().any(|name| name.contains(".sqlite")), "{version}: a database: {own:?}");
        drop(alice);
        answered(session.wait(), "alice");
    }
}
