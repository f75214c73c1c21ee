//! Starting the native Codex without Node, end to end on the real programs and the launchers of the real Codex, behind
//! which the probe stands in for the native program. Each test is named after its claim.

mod changes;
mod layouts;
mod limits;
mod real;
mod safety;
mod world;
