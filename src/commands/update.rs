//! `update`: replaces both programs by those of a verified release, or neither.

mod extras;
mod replace;

use std::path::PathBuf;

use codex_pool_core::codex::find::is_shim;
use codex_pool_core::env::{Env, names};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::{Error, ErrorKind, Result};
use semver::Version;

use crate::cli::UpdateArgs;
use crate::net::Net;
use crate::net::releases::{self, Source};
use crate::receipt::Receipt;
use crate::{context, programs, signals, ui};

pub(crate) fn run(env: &Env, args: &UpdateArgs) -> Result<()> {
    let source = Source::new(env.text(names::CODEX_POOL_RELEASES))?;
    let here = Version::parse(programs::VERSION).map_err(|e| Error::new(e.to_string()))?;
    let named = args.version.as_deref().map(parse).transpose()?;
    if args.check {
        return check(&source.newest(&Net::new(env)?)?, &here, args.json);
    }
    let paths = context::paths(env)?;
    let mut installed = Installed::find(&paths)?;
    let net = Net::new(env)?;
    let wanted = match named {
        Some(version) => version,
        None => {
            let newest = source.newest(&net)?;
            if newest <= here {
                return check(&newest, &here, false);
            }
            newest
        }
    };
    let target = releases::target().ok_or_else(|| {
        Error::new("releases have no programs for this platform")
            .hint("update the checkout and run its install.sh")
    })?;
    let (tool, shim) = (installed.tool.display(), installed.shim.display());
    if !args.yes
        && !ui::confirm(
            &format!("Replace codex-pool {here} by {wanted}: {tool} and {shim}?"),
            &format!("codex-pool {wanted} is installed only after a yes, nothing was changed"),
            "--yes",
        )?
    {
        return Err(Error::of(ErrorKind::Stopped, "nothing was changed"));
    }
    let bar = ui::download(&format!("codex-pool {wanted}"));
    let programs = source.fetch(&net, &wanted, target, |done, whole| bar.set(done, whole))?;
    drop(bar);

    let lock = context::lock(&paths)?;
    let _signals = signals::hold();
    let parts = [
        replace::Part { file: &installed.tool, bytes: &programs.tool, answers: replace::Answers::Tool },
        replace::Part { file: &installed.shim, bytes: &programs.shim, answers: replace::Answers::Shim },
    ];
    replace::all(&parts, &wanted.to_string(), || {
        installed.receipt.updated(&wanted.to_string(), source.base(), env.now);
        installed.receipt.save(&lock, &paths.receipt())
    })?;
    ui::done(&format!("codex-pool {wanted} is installed (it was {here})"));
    extras::renew(&installed.tool, &installed.receipt, env);
    Ok(())
}

fn check(newest: &Version, here: &Version, json: bool) -> Result<()> {
    if json {
        ui::json(&serde_json::json!({
            "schema": 1, "installed": here.to_string(), "newest": newest.to_string(), "available": newest > here,
        }));
        return Ok(());
    }
    ui::line(&match newest.cmp(here) {
        std::cmp::Ordering::Greater => {
            format!("codex-pool {newest} is available, and you have {here}; `codex-pool update` installs it")
        }
        std::cmp::Ordering::Equal => format!("codex-pool {here} is already up to date"),
        std::cmp::Ordering::Less => format!(
            "codex-pool {here} is newer than the newest release, {newest}; `codex-pool update --version {newest}` \
             would go back"
        ),
    });
    Ok(())
}

fn parse(version: &str) -> Result<Version> {
    let bare = version.strip_prefix('v').unwrap_or(version);
    Version::parse(bare).map_err(|_| {
        Error::of(ErrorKind::Usage, format!("`{version}` is not a version like 1.2.3"))
            .hint("`codex-pool update --check` names the newest")
    })
}

/// The programs that install.sh put in place.
struct Installed {
    receipt: Receipt,
    tool: PathBuf,
    shim: PathBuf,
}

impl Installed {
    /// # Errors
    /// Another installer put them in place, or they are not where the receipt says.
    fn find(paths: &PoolPaths) -> Result<Installed> {
        let path = paths.receipt();
        let receipt = Receipt::load(&path)?.ok_or_else(|| {
            Error::new(format!("install.sh did not install this codex-pool (there is no {})", path.display()))
                .hint("update it the way it was installed, or run install.sh")
        })?;
        if let Some(owner) = receipt.other_installer() {
            return Err(Error::new(format!("codex-pool was installed by {owner}"))
                .hint(format!("update it with {owner}")));
        }
        let running = programs::own_file();
        let tool = receipt.binary().ok_or_else(|| {
            Error::new(format!("{} names no binary", path.display()))
                .hint("run install.sh again; it writes a new one")
        })?;
        if running.is_none() || running != tool.canonicalize().ok() {
            let this = running.map_or_else(|| "this program".to_owned(), |p| p.display().to_string());
            return Err(Error::new(format!(
                "{this} is not what install.sh installed, which is {}",
                tool.display()
            ))
            .hint(format!("run `{} update`, or install.sh again", tool.display())));
        }
        let shim = paths.shim();
        if shim.symlink_metadata().is_ok() && !is_shim(&shim) {
            return Err(Error::new(format!(
                "{} is not codex-pool's shim, so it stays as it is",
                shim.display()
            ))
            .hint("move it away and try again"));
        }
        Ok(Installed { receipt, tool, shim })
    }
}
