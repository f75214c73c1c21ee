//! Notices: when they are due, a process of its own tells them (`codex-pool notify`), so that a command of the user that
//! hangs or fails delays nothing.

use std::process::{Command, Stdio};

use codex_pool_core::pool::Pool;
use codex_pool_core::{env, journal, notices};

use crate::context::Context;

/// Returns what is to be told now, without the lock.
pub(crate) fn due(ctx: &Context) -> Vec<String> {
    if ctx.settings.notify.is_empty() {
        return Vec::new();
    }
    let Ok(pool) = Pool::peek(&ctx.paths) else { return Vec::new() };
    let now = env::clock();
    let log = journal::read(&ctx.paths, now - notices::LOG);
    notices::due(&pool.state().told, &pool.registry().accounts, pool.usage(), &log, now).0
}

/// Starts the messenger if something is to be told.
pub(crate) fn start(ctx: &Context) {
    if due(ctx).is_empty() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.arg("notify").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Signals of this terminal are not for it. What cannot be started is tried again at the next look.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    drop(command.spawn());
}
