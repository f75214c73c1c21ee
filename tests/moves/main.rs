//! Open interfaces of the real Codex that reach the limit of their account: they go on with the next one, in the same
//! window. Each test is named after its claim.

mod base;
mod flight;
mod killed;
mod middle;
mod stays;
mod waiting;
mod world;
