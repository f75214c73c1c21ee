//! `learn-start`: what a launch starts in the background when it does not know what Codex's launcher would start.

use codex_pool_core::codex::native_start;
use codex_pool_core::env::Env;
use codex_pool_core::{Error, Result};

use crate::cli::LearnStartArgs;
use crate::context;

pub(crate) fn run(env: &Env, args: &LearnStartArgs) -> Result<()> {
    native_start::learn(env, &context::paths(env)?, &args.launcher)
        .map_err(|why| Error::new(format!("what {} starts was not learnt: {why}", args.launcher.display())))
}
