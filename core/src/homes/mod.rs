//! Codex homes: the folders where a running Codex reads and rewrites an `auth.json`. The main home is the user's
//! CODEX_HOME. Over it, each account can have a home of its own. Starts no program and prints nothing.

mod codex_home;
mod file;
pub mod in_use;
mod known;
pub mod login_home;
pub(crate) mod mcp_logins;
pub mod own_home;
mod put;
mod reconcile;

pub use codex_home::{CodexHome, HomeKind, NoMainHome, main_home_of};
pub use file::{AuthFile, Link};
pub use known::{in_ledger, known};
pub(crate) use put::remove_document;
pub use put::{being_written, clear_homes, homes_with, put, rewrite, vacate};
pub(crate) use reconcile::note_logout;
pub use reconcile::{
    HomeContent, clear_broken, open_pool, reconcile, reconcile_all, reconcile_whole, wait_until_whole,
};

#[cfg(test)]
mod tests;
