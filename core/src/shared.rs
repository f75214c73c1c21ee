//! Whether the pool is one that several machines share, and what this machine is in it. The registry says so. How the
//! machines agree is not known here: the core talks to no database.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// What a machine is in a shared pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It has the logins, and renews their tokens.
    Member,
    /// It has access tokens alone, and runs Codex on them. So does a machine whose role only a later version knows.
    #[serde(other)]
    Runner,
}

impl Role {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Runner => "runner",
        }
    }
}

/// Refuses what only a machine with logins can do. `what`: the command, as the user types it.
///
/// # Errors
/// This machine is a runner.
pub fn refuse_on_runner(shared: Option<Role>, what: &str) -> Result<()> {
    if shared != Some(Role::Runner) {
        return Ok(());
    }
    let text =
        format!("`{what}` needs logins, and this machine is a runner of a shared pool, which has none");
    Err(Error::of(ErrorKind::Failed, text).hint(format!("run `{what}` on a member")))
}
