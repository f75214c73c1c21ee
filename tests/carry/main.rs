//! An `exec` goes on at its account's limit: the real Codex behind the shim, against the stand-in service, which binds
//! history to accounts. `CODEX_POOL_TEST_VERSIONS="0.140.0 0.159.3 0.169.0"` runs more versions.

mod by_hand;
mod folders;
mod forms;
mod parent;
mod sdk;
mod seen;
mod waiting;
mod world;
