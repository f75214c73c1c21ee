//! Codex homes: the folders where a running Codex reads and rewrites an `auth.json`. The main home is the user's
//! CODEX_HOME. Over it, each account can have a home of its own. Starts no program and prints nothing.

mod codex_home;
mod file;
pub mod in_use;
pub mod login_home;
pub(crate) mod mcp_logins;
pub mod own_home;
mod put;
mod reconcile;

pub use codex_home::{CodexHome, HomeKind, NoMainHome, main_home_of};
pub use file::{AuthFile, Link};
pub(crate) use put::remove_document;
pub use put::{
    being_written, clear_homes, homes_with, put, rewrite, server_account, users_of_account,
    users_of_account_and_own_homes, vacate,
};
pub(crate) use reconcile::rediscover_lost;
pub use reconcile::{
    HomeContent, clear_broken, in_ledger, known, open_pool, reconcile, reconcile_all, reconcile_whole,
    wait_until_whole,
};

#[cfg(test)]
mod tests;
