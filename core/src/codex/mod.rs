//! The installed Codex: where it is, what it is asked to do, which settings it sees, where its
//! threads are, and what its version supports.

pub mod argv;
pub mod find;
pub mod layers;
pub mod probe;
pub mod threads;
