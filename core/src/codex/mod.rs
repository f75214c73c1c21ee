//! The installed Codex: what it is asked to do, which settings it sees, where its threads are.

pub mod argv;
