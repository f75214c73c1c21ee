//! Starting the native Codex without Node (design, section 16), end to end on the real programs and the launchers of
//! the real Codex, behind which the probe stands in for the native program. Each test is named after the claim that
//! it would see broken.

mod changes;
mod layouts;
mod limits;
mod real;
mod safety;
mod world;
