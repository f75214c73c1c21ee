//! `attend`: looks after running sessions until none is left.

use std::path::Path;

use codex_pool_core::attend::{self, Pace};
use codex_pool_core::env::Env;
use codex_pool_core::{Error, Result, files};

use crate::context;

pub(crate) fn run(env: &Env) -> Result<()> {
    // The pool of another user is not root's to look after.
    if files::another_user_of_root(env).is_some() {
        return Ok(());
    }
    let paths = context::paths(env)?;
    // No folder of the user's stays busy because of it.
    let root = Path::new("/");
    std::env::set_current_dir(root).map_err(|e| Error::io("enter", root, &e))?;
    attend::run(env, &paths, &Pace::default()).map(drop)
}
