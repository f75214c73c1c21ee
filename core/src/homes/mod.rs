//! Codex homes: the folders where a running Codex reads and rewrites an `auth.json`. The main home is the user's
//! CODEX_HOME. Over it, each account can have a home of its own. Starts no program and prints nothing.

mod codex_home;
mod file;
pub mod in_use;
pub(crate) mod mcp_logins;
pub mod own_home;
mod place;
mod reconcile;

pub use codex_home::{CodexHome, HomeKind, NoMainHome, main_home_of};
pub use file::{AuthFile, Link};
pub(crate) use place::take_away;
pub use place::{
    being_written, clear_homes, homes_of, place, remove_account, renew, server_account, users_of,
    users_of_homes_and_homes, vacate,
};
pub(crate) use reconcile::rediscover_lost;
pub use reconcile::{
    HomeContent, clear_broken, known, look, open_pool, reconcile, reconcile_all, reconcile_whole,
    wait_until_whole,
};

#[cfg(test)]
mod tests;
