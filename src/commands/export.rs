//! `export`: writes the auth.json of an account to a private file or a pipe.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use codex_pool_core::files::{self, Durability};
use codex_pool_core::{Error, ErrorKind, Result, references};

use crate::cli::ExportArgs;
use crate::context::Context;
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &ExportArgs) -> Result<()> {
    let open = ctx.open()?;
    let account = references::resolve(&open.pool.registry().accounts, &args.account)?.clone();
    let doc = open.pool.credentials().load(&account.id)?.ok_or_else(|| {
        Error::of(ErrorKind::LoginNeeded, format!("the pool has no credentials for {}", account.display()))
            .hint(format!("`codex-pool reauth {}`", account.shell_ref()))
    })?;
    // The pool is not locked while a pipe is slow.
    drop(open);
    match args.out.as_deref().filter(|out| *out != Path::new("-")) {
        Some(path) => {
            let path = target(ctx, path, args.force)?;
            files::write_whole(&path, doc.bytes(), Durability::Durable)
                .map_err(|e| Error::io("write", &path, &e))?;
            ui::note(&format!("wrote {} (mode 0600)", path.display()));
        }
        None if std::io::stdout().is_terminal() && !args.force => {
            return Err(Error::of(ErrorKind::Usage, "credentials are not printed to a terminal")
                .hint("write a file with `--out FILE`, or use `--force`"));
        }
        None => ui::raw_whole(doc.bytes())?,
    }
    ui::note("a copied login has two owners: the one that renews its tokens first locks the other one out");
    Ok(())
}

/// Returns the file to write. A file that the pool manages, or that exists, is refused.
fn target(ctx: &Context, path: &Path, force: bool) -> Result<PathBuf> {
    let path = ctx.env.absolute(path).unwrap_or_else(|| path.to_owned());
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::of(ErrorKind::Usage, format!("{} is not a file name", path.display())));
    };
    // Without links, so that a home is recognised however it is named.
    let real = fs::canonicalize(dir).map_err(|e| Error::io("find", dir, &e))?.join(name);
    let pool = fs::canonicalize(ctx.paths.root()).unwrap_or_else(|_| ctx.paths.root().to_owned());
    if real.starts_with(pool) || real == ctx.main_home.auth_json() {
        return Err(Error::new(format!("{} is managed by codex-pool", real.display()))
            .hint("`codex-pool use` makes an account live; choose another file for a copy"));
    }
    match fs::symlink_metadata(&real) {
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => {
            Err(Error::new(format!("{} is not a regular file", real.display())))
        }
        Ok(_) if !force => {
            Err(Error::new(format!("{} exists", real.display())).hint("`--force` overwrites it"))
        }
        _ => Ok(real),
    }
}
