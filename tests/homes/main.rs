//! Codex homes, end to end: the shim among everything else that uses an `auth.json`, on the real Codex and the stand-in
//! service. Each test is named after its claim.
//!
//! An ordinary run takes one version of Codex; `CODEX_POOL_TEST_VERSIONS=all` takes every one in which what
//! is claimed here differs (0.140.0 has no background server and its sessions do not say whose they are; 0.159.3
//! and 0.169.0 start that server in different ways), and a list of versions takes those.

mod editor;
mod folders;
mod homes;
mod in_use;
mod locations;
mod locks;
mod login;
mod memories;
mod names;
mod nested;
mod removal;
mod restrictions;
mod rpc;
mod servers;
mod sessions;
mod shared;
mod shown;
mod unseen;
mod workspaces;
mod world;
