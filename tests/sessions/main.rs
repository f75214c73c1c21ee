//! Sessions go home, logins and logouts leave every account as it should be, and Codex never deletes a
//! login that the pool put in place: on the real Codex.

mod login;
mod restrictions;
mod resume;

#[path = "../launch/world.rs"]
#[expect(dead_code, reason = "shared with the launch tests")]
mod world;
