//! The launch, end to end on the real programs: the shim in front of the real Codex, a stand-in or a probe, and
//! `codex-pool` beside it, against the stand-in service. Each test is named after the claim that it would see broken.

mod adoption;
mod arguments;
mod background;
mod commands;
mod files;
mod finding;
mod homes;
mod inheritance;
mod large;
mod migration;
mod parallel;
mod pick;
mod rotation;
mod server;
mod transparency;
mod trouble;
mod world;
