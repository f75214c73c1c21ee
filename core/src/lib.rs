//! codex-pool's heart: accounts, their credentials, the homes where Codex uses them, and which
//! account comes next. No network, no terminal, no command line: those are `src/` of the admin
//! command. The shim links this crate alone.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod account;
pub mod attend;
pub mod auth_doc;
pub mod carry;
pub mod codex;
pub mod config;
pub mod env;
pub mod error;
pub mod files;
pub mod folders;
mod hash;
pub mod homes;
pub mod journal;
pub mod launch;
pub mod ledger;
pub mod moving;
pub mod notices;
pub mod paths;
pub mod pick;
pub mod pool;
pub mod process;
pub mod references;
pub mod removal;
pub mod renewal;
pub mod seen_tokens;
pub mod shared;
pub mod store;
pub mod text;
pub mod thread_record;
pub mod time;
pub mod usage;

pub use error::{Error, ErrorKind, Result};
