//! Which names of a Codex home are shared between a main home and the homes over it: the rule, and the list behind it,
//! in one place. Known names are shared or private as they must be. An unknown name is shared, since it may be a setting
//! or a part of the history, unless it looks like what only makes sense in one home: a lock, a temporary file, a socket,
//! a database, or a hidden file. Pure.

use super::{mcp_logins, memories};

/// Folders that are shared. Codex would otherwise create them in the own home, out of the main home's sight.
pub(super) const SHARED_DIRS: [&str; 10] = [
    "sessions",
    "archived_sessions",
    "skills",
    "prompts",
    "rules",
    "plugins",
    "packages",
    "thread-writer-locks",
    "mcp-oauth-locks",
    "log",
];

/// Files that are linked even while they do not exist, so that Codex creates them in the main home.
pub(super) const SHARED_FILES: [&str; 7] = [
    "config.toml",
    "history.jsonl",
    "installation_id",
    "AGENTS.md",
    "version.json",
    "session_index.jsonl",
    "session_index.jsonl.lock",
];

/// Hidden names that are shared where they exist: settings, and notes about what was done to the history.
const SHARED_HIDDEN: [&str; 6] = [
    ".env",
    ".personality_migration",
    ".sandbox_migration",
    ".codex-global-state.json",
    ".git",
    ".gitignore",
];

/// Names that each home has for itself, beyond those that the rule finds.
const PRIVATE: [&str; 6] =
    ["auth.json", "app-server-control", "app-server-daemon", "tmp", "shell_snapshots", "models_cache.json"];

/// Links that stay in the home of a removed account: Codex's database refers to old sessions through them.
pub(super) const KEPT_LINKS: [&str; 2] = ["sessions", "archived_sessions"];

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The main home has it, and the homes over it have links to it.
    Shared,
    /// Each home has its own.
    Private,
    /// The databases are in the main home only (CODEX_SQLITE_HOME): a linked one would get its `-wal` and `-shm` beside
    /// the link.
    Database,
    /// The logins of MCP servers, which [`mcp_logins`] shares in another way.
    McpLogins,
    /// Codex's memories, which [`memories`] shares in another way.
    Memories,
}

/// Returns the place of a name.
pub(super) fn place(name: &str) -> Place {
    let is_in = |list: &[&str]| list.contains(&name);
    if name == mcp_logins::NAME {
        return Place::McpLogins;
    }
    if name == memories::NAME {
        return Place::Memories;
    }
    if is_in(&SHARED_DIRS) || is_in(&SHARED_FILES) || is_in(&SHARED_HIDDEN) {
        return Place::Shared;
    }
    if name.contains(".sqlite") {
        return Place::Database;
    }
    let ends_as_private = [".lock", ".pid", ".sock", ".tmp", ".temp"].iter().any(|end| name.ends_with(end));
    if is_in(&PRIVATE) || name.starts_with('.') || ends_as_private {
        return Place::Private;
    }
    Place::Shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_temporaries_sockets_and_hidden_files_are_private_and_what_is_unknown_is_shared() {
        for name in [
            "auth.json",
            "auth.lock",
            "auth.json.lock",
            ".auth-q7XyZ1",
            ".auth.json.codex-pool.tmp",
            ".tmpAb12Cd",
            ".tmp",
            "tmp",
            "new.sock",
            "new.lock",
            "server.pid",
            "config.toml.tmp",
        ] {
            assert_eq!(place(name), Place::Private, "{name}");
        }
        for name in [
            "sessions",
            "config.toml",
            "work.config.toml",
            ".env",
            "session_index.jsonl.lock",
            "hooks.json",
            "new",
            "new.json",
        ] {
            assert_eq!(place(name), Place::Shared, "{name}");
        }
        for name in ["state_5.sqlite", "state_5.sqlite-wal", "logs.sqlite-journal"] {
            assert_eq!(place(name), Place::Database, "{name}");
        }
        assert_eq!(place(".credentials.json"), Place::McpLogins);
        assert_eq!(place("memories"), Place::Memories);
    }
}
