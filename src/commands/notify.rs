//! `notify`: tells what is due, each notice once, by the user's command (`notify` in the settings). Other commands start
//! it beside them. It notes what it tells before it does, and ends commands that take too long.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use codex_pool_core::config::Settings;
use codex_pool_core::env::{self, Env};
use codex_pool_core::{Error, Result, homes, journal, notices};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::context;

/// How long a command of the user may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(env: &Env) -> Result<()> {
    let paths = context::paths(env)?;
    let settings = Settings::load(&paths.config()).0;
    let Some((program, args)) = settings.notify.split_first() else { return Ok(()) };
    let texts = {
        let lock = context::lock(&paths)?;
        let now = env::clock();
        let mut pool = homes::open_pool(&lock, &paths, now)?;
        let log = journal::read(&paths, now - notices::LOG);
        let (texts, told) =
            notices::due(&pool.state().told, &pool.registry().accounts, pool.usage(), &log, now);
        if pool.state().told != told {
            pool.state_mut().told = told;
            pool.commit(&lock)?;
        }
        texts
    };
    let mut failed = Ok(());
    for text in &texts {
        let mut command = Command::new(program);
        command.args(args).arg(text).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.process_group(0).spawn() {
            Ok(child) => wait(child),
            Err(e) => failed = Err(Error::new(format!("cannot run {program}, the command for notices: {e}"))),
        }
    }
    failed
}

/// Waits for a command, and ends it with all that it started if it takes too long.
fn wait(mut child: Child) {
    let start = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if start.elapsed() >= PATIENCE {
            let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
