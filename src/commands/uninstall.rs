//! `uninstall`: runs the installer's own removal, which is in this program, so that no checkout is needed.

use std::path::Path;
use std::process::{Command, ExitCode};

use codex_pool_core::{Error, Result};

use crate::cli::UninstallArgs;

/// The installer that knows what it put where.
const INSTALLER: &str = include_str!("../../install.sh");

pub(crate) fn run(args: &UninstallArgs) -> Result<ExitCode> {
    let options = [("--dry-run", args.dry_run), ("--yes", args.yes), ("--purge", args.purge)]
        .into_iter()
        .filter(|o| o.1);
    let shell = Path::new("/bin/sh");
    // On this terminal, where it asks.
    let status = Command::new(shell)
        .args(["-c", INSTALLER, "codex-pool", "--uninstall"])
        .args(options.map(|option| option.0))
        .status()
        .map_err(|e| Error::io("run", shell, &e).hint("`sh install.sh --uninstall` in a checkout"))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
