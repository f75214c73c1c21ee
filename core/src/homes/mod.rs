//! Codex homes: the folders where a running Codex reads and rewrites an `auth.json`. The main home is the user's
//! CODEX_HOME. Over it, each account can have a home of its own. Starts no program and prints nothing.

mod codex_home;
mod codex_locks;
pub mod elsewhere;
mod exchange;
mod file;
mod foreign;
pub mod in_use;
mod known;
pub mod login_home;
pub(crate) mod mcp_logins;
pub(crate) mod memories;
mod names;
mod obstacle;
pub mod own_home;
mod put;
mod reconcile;
pub mod signs;

pub use codex_home::{CodexHome, HomeKind, NoMainHome, main_home_of};
pub use codex_locks::unusable_lock;
pub use file::{AuthFile, Link};
pub use foreign::is_foreign;
pub(crate) use foreign::is_named;
pub(crate) use known::known;
pub use obstacle::Obstacle;
pub use put::{adopt_login, homes_with, put, put_in_free, rewrite};
pub(crate) use put::{being_written, clear_homes, remove_document, vacate};
pub use reconcile::{HomeContent, clear_broken, open_pool, reconcile, reconcile_all, wait_until_whole};
pub(crate) use reconcile::{note_logout, reconcile_all_but, reconcile_whole};

#[cfg(test)]
mod tests;
