//! The installed Codex: where it is, what it is asked to do, which settings it sees, where its
//! threads are, what its version supports, and its background server.

pub mod argv;
pub mod background_server;
pub mod configuration;
pub mod find;
pub mod native_start;
pub mod probe;
pub mod threads;
