//! The installed Codex: where it is, what a command line asks of it, its configuration, its threads, what its version
//! supports, and its background server. Knows nothing of the pool.

pub mod argv;
pub mod background_server;
pub mod configuration;
pub mod find;
pub(crate) mod lock_file;
pub mod native_start;
pub mod probe;
pub mod rollout;
pub(crate) mod running;
pub mod threads;
