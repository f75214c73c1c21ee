//! `export`: one account's auth.json, to a private file or to a pipe.

use std::io::IsTerminal;

use codex_pool_core::files::{self, Durability};
use codex_pool_core::{Error, ErrorKind, Result, references};

use super::Context;
use crate::cli::ExportArgs;
use crate::ui;

pub(crate) fn run(ctx: &Context<'_>, args: &ExportArgs) -> Result<()> {
    let open = ctx.open()?;
    let account = references::resolve(&open.pool.registry().accounts, &args.account)?;
    let doc = open.pool.credentials().load(&account.id)?.ok_or_else(|| {
        Error::of(ErrorKind::LoginNeeded, format!("the pool has no credentials for {}", account.display()))
            .hint(format!("`codex-pool reauth {}`", account.label))
    })?;
    match &args.out {
        Some(path) => {
            if !args.force && path.symlink_metadata().is_ok() {
                return Err(Error::new(format!("{} exists", path.display())).hint("`--force` overwrites it"));
            }
            let path = ctx.env.absolute(path).unwrap_or_else(|| path.clone());
            files::write_whole(&path, doc.bytes(), Durability::Durable)
                .map_err(|e| Error::io("write", &path, &e))?;
            ui::note(&format!("wrote {} (mode 0600)", path.display()));
        }
        None if std::io::stdout().is_terminal() && !args.force => {
            return Err(Error::of(ErrorKind::Usage, "credentials are not printed to a terminal")
                .hint("write a file with `--out FILE`, or use `--force`"));
        }
        None => ui::raw(doc.bytes()),
    }
    ui::note("a copied login has two owners: whichever refreshes first locks the other one out");
    Ok(())
}
