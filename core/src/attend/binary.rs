//! The program that the attendant is: whether it was replaced by an update, and starting the new one in this process.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::stamp::Stamp;
use crate::env::{Env, names};
use crate::launch::ATTENDANT_VARIABLES;

/// The admin command as launches find it.
#[derive(Debug)]
pub(super) struct Binary {
    path: PathBuf,
    /// The file that is known: the one that runs, or one that could not be started.
    known: Option<Stamp>,
    /// A new file, as the last tick saw it.
    seen: Option<Stamp>,
}

impl Binary {
    pub(super) fn of(path: PathBuf) -> Binary {
        Binary { known: Stamp::of(&path), seen: None, path }
    }

    /// Returns whether there is another program at the path, the same for two ticks: it is not just being written.
    pub(super) fn was_replaced(&mut self) -> bool {
        let now = Stamp::of(&self.path);
        let is_new = match (&now, &self.known) {
            (Some(now), Some(known)) => !now.is_same_program(known),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let settled = is_new && self.seen == now;
        self.seen = if is_new { now } else { None };
        settled
    }

    /// Becomes the new program. Returns if that is impossible; it is not tried again with the same file. The lock is
    /// released by the start, and the new program takes it again.
    pub(super) fn start_anew(&mut self, env: &Env) {
        self.known = self.seen.take();
        let own = ATTENDANT_VARIABLES.into_iter().chain([names::CODEX_POOL_HOME]);
        let _ = Command::new(&self.path)
            .arg0(&self.path)
            .arg("attend")
            .env_clear()
            .envs(own.filter_map(|name| Some((name, env.get(name)?))))
            .exec();
    }
}
