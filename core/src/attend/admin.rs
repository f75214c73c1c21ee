//! Calls of the admin command by the attendant: with its own environment alone, in no folder, and without a word.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::env::{Env, names};
use crate::launch::ATTENDANT_VARIABLES;
use crate::paths::PoolPaths;

/// The admin command, and the environment that it gets.
pub(super) struct Admin {
    program: PathBuf,
    base: Vec<(&'static str, OsString)>,
}

impl Admin {
    /// `env`: the attendant's environment.
    pub(super) fn new(env: &Env, paths: &PoolPaths) -> Admin {
        let base = ATTENDANT_VARIABLES.iter().filter_map(|name| Some((*name, env.get(name)?.to_owned())));
        Admin { base: base.collect(), program: paths.admin_link() }
    }

    /// Returns a call without arguments. Where the program is missing or just being replaced, its start fails: the next
    /// look tries again.
    pub(super) fn command(&self, paths: &PoolPaths) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.base.iter().map(|(name, value)| (name, value)));
        command.env(names::CODEX_POOL_HOME, paths.root()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}
