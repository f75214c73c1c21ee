//! `export`: writes the auth.json of an account, or a bundle of logins without their refresh tokens, to a private file
//! or a pipe.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use codex_pool_core::account::{Account, AccountKind};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::files::{self, Durability};
use codex_pool_core::shared::refuse_on_runner;
use codex_pool_core::time::human_duration;
use codex_pool_core::{Error, ErrorKind, Result, env, references};
use serde_json::{Value, json};

use crate::cli::ExportArgs;
use crate::context::Context;
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &ExportArgs) -> Result<()> {
    let open = ctx.open()?;
    refuse_on_runner(open.pool.shared(), "codex-pool export")?;
    let mut exported = Vec::new();
    for reference in &args.accounts {
        let account = references::resolve(&open.pool.registry().accounts, reference)?.clone();
        let doc = open.pool.credentials().load(&account.id)?.ok_or_else(|| {
            Error::of(
                ErrorKind::LoginNeeded,
                format!("the pool has no credentials for {}", account.display()),
            )
            .hint(format!("`codex-pool reauth {}`", account.shell_ref()))
        })?;
        exported.push((account, doc));
    }
    // The pool is not locked while a pipe is slow.
    drop(open);
    let (bytes, note) = match exported.as_slice() {
        all if args.access_only => (bundle(all)?, ends(all, env::clock())?),
        [(_, doc)] => (doc.bytes().to_vec(), COPIED.to_owned()),
        _ => {
            return Err(Error::of(
                ErrorKind::Usage,
                "several accounts are exported only with `--access-only`",
            )
            .hint("add it, or export one at a time: an auth.json holds one account"));
        }
    };
    write(ctx, args, &bytes)?;
    ui::note(&note);
    Ok(())
}

/// What is said when a whole login was copied.
const COPIED: &str =
    "a copied login has two owners: the one that renews its tokens first locks the other one out";

/// Returns a store of the logins without their refresh tokens, which `import` reads.
fn bundle(accounts: &[(Account, AuthDoc)]) -> Result<Vec<u8>> {
    let entry = |(account, doc): &(Account, AuthDoc)| {
        if account.kind == AccountKind::ApiKey {
            return Err(Error::new(format!("{} is an API key, which does not end", account.label))
                .hint("export it by itself, without `--access-only`"));
        }
        let doc: Value = serde_json::from_slice(doc.clone().access_only().bytes())
            .map_err(|e| Error::new(format!("cannot export {}: {e}", account.label)))?;
        Ok(json!({"id": account.id, "label": account.label, "authJson": doc}))
    };
    let entries: Vec<Value> = accounts.iter().map(entry).collect::<Result<_>>()?;
    let text = json!({"version": 1, "accounts": entries}).to_string();
    Ok(format!("{text}\n").into_bytes())
}

/// Returns when the logins of a bundle end, for a note. `now`: Unix seconds.
///
/// # Errors
/// One has ended.
fn ends(accounts: &[(Account, AuthDoc)], now: i64) -> Result<String> {
    let mut first: Option<(i64, &str)> = None;
    for (account, doc) in accounts {
        let Some(at) = doc.expires_at() else { continue };
        if at <= now {
            let text = format!("the access token of {} has ended", account.label);
            return Err(Error::new(text).hint(format!("`codex-pool refresh {}`", account.shell_ref())));
        }
        if first.is_none_or(|(earliest, _)| at < earliest) {
            first = Some((at, &account.label));
        }
    }
    Ok(match first {
        Some((at, label)) => format!("the access of {label} ends in {}", human_duration(at - now)),
        None => "the tokens do not say when they end".to_owned(),
    })
}

/// Writes to the file that was named, or to standard output.
fn write(ctx: &Context, args: &ExportArgs, bytes: &[u8]) -> Result<()> {
    match args.out.as_deref().filter(|out| *out != Path::new("-")) {
        Some(path) => {
            let path = target(ctx, path, args.force)?;
            files::write_whole(&path, bytes, Durability::Durable).map_err(|e| {
                Error::io("write", &path, &e).hint("name a file in a folder that you may write to")
            })?;
            ui::note(&format!("wrote {} (mode 0600)", path.display()));
            Ok(())
        }
        None if std::io::stdout().is_terminal() && !args.force => {
            Err(Error::of(ErrorKind::Usage, "credentials are not printed to a terminal")
                .hint("write a file with `--out FILE`, or use `--force`"))
        }
        None => ui::raw_whole(bytes),
    }
}

/// Returns the file to write. A file that the pool manages, or that exists, is refused.
fn target(ctx: &Context, path: &Path, force: bool) -> Result<PathBuf> {
    let path = ctx.env.absolute(path).unwrap_or_else(|| path.to_owned());
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::of(ErrorKind::Usage, format!("{} is not a file name", path.display()))
            .hint("name a file, as in `--out work.json`"));
    };
    // Without links, so that a home is recognised however it is named.
    let real = fs::canonicalize(dir)
        .map_err(|e| Error::io("find", dir, &e).hint("make the folder, or name another file"))?
        .join(name);
    let pool = fs::canonicalize(ctx.paths.root()).unwrap_or_else(|_| ctx.paths.root().to_owned());
    if real.starts_with(pool) || real == ctx.main_home.auth_json() {
        return Err(Error::new(format!("{} is managed by codex-pool", real.display()))
            .hint("`codex-pool use` makes an account live; choose another file for a copy"));
    }
    match fs::symlink_metadata(&real) {
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => {
            Err(Error::new(format!("{} is not a regular file", real.display())).hint("name another file"))
        }
        Ok(_) if !force => {
            Err(Error::new(format!("{} exists", real.display())).hint("`--force` overwrites it"))
        }
        _ => Ok(real),
    }
}
