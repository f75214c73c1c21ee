//! Starting the native program instead of its launcher (`codex::native_start`), and learning which program that is
//! after a launch that did not know it.

use std::ffi::OsStr;

use super::Program;
use super::refresh_child;
use crate::codex::native_start::{self, Known, Unknown};
use crate::config::Settings;
use crate::env::Env;
use crate::paths::PoolPaths;

/// Replaces the launcher by the program that it starts, if that is known. Returns the launcher if that can be learnt.
pub(super) fn use_known(
    env: &Env,
    settings: &Settings,
    paths: &PoolPaths,
    out: &mut Program,
) -> Option<Unknown> {
    match native_start::known(env, settings, paths, out.path()) {
        Known::Native(native) => {
            out.set_native(native);
            None
        }
        Known::Unknown(unknown) => Some(unknown),
        Known::AsItIs => None,
    }
}

/// Starts `codex-pool learn-start` and does not wait for it.
pub(super) fn learn_in_background(env: &Env, paths: &PoolPaths, out: &Program) {
    refresh_child::run_admin(env, paths, &[OsStr::new("learn-start"), out.path().as_os_str()], None);
}
