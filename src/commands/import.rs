//! `import`: documents from files, standard input, or another tool's store. Each file stands for
//! itself: what is refused says why, and the others are taken over.

use std::path::Path;

use codex_pool_core::auth_doc::{AuthDoc, MAX_BYTES};
use codex_pool_core::files;
use codex_pool_core::store::parse_foreign_store;
use codex_pool_core::{Error, ErrorKind, Result};

use super::{Context, Open};
use crate::cli::ImportArgs;
use crate::ui;

/// Stores of other tools may hold many accounts with much beside them.
const MAX_STORE: u64 = 64 << 20;

pub(crate) fn run(ctx: &Context<'_>, args: &ImportArgs) -> Result<()> {
    let from_tool = matches!(args.files.as_slice(), [one] if one.as_os_str() == "codex-tools");
    if args.path.is_some() && !from_tool {
        return Err(Error::of(ErrorKind::Usage, "`--path` goes with `import codex-tools`"));
    }
    if args.label.is_some() && (args.files.len() > 1 || from_tool) {
        return Err(Error::of(ErrorKind::Usage, "`--label` goes with one file"));
    }
    let sources = if from_tool { vec![tool_store(ctx, args)?] } else { args.files.clone() };
    // Everything is read before the pool is touched: a pipe may take its time.
    let read: Vec<_> = sources.iter().map(|path| (path, read_source(path))).collect();
    let mut open = ctx.open()?;
    let mut refused = 0;
    for (path, bytes) in read {
        refused += match bytes {
            Ok(bytes) => import(ctx, &mut open, path, &bytes, args.label.as_deref())?,
            Err(error) => {
                ui::error(&error);
                1
            }
        };
    }
    open.commit()?;
    if refused > 0 {
        return Err(Error::new(format!("{refused} of the documents could not be imported")));
    }
    ui::note(
        "an imported login has two owners now: stop using the other copy, or whichever refreshes first locks the other one out",
    );
    Ok(())
}

fn read_source(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        return files::read_stream(std::io::stdin().lock(), MAX_STORE)
            .map_err(|e| Error::new(format!("cannot read standard input: {e}")));
    }
    match files::read_small(path, MAX_STORE) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Error::new(format!("{} does not exist", path.display()))),
        Err(e) => Err(Error::io("read", path, &e)),
    }
}

/// Where codex-tools keeps its accounts.
fn tool_store(ctx: &Context<'_>, args: &ImportArgs) -> Result<std::path::PathBuf> {
    if let Some(path) = &args.path {
        return Ok(path.clone());
    }
    let data = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    let home =
        ctx.env.home().ok_or_else(|| Error::new("HOME is not set").hint("name the store with `--path`"))?;
    Ok(home.join(data).join("com.carry.codex-tools/accounts.json"))
}

/// Imports one source; says how many documents of it were refused.
fn import(
    ctx: &Context<'_>,
    open: &mut Open,
    path: &Path,
    bytes: &[u8],
    label: Option<&str>,
) -> Result<usize> {
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    if let Some(accounts) = parse_foreign_store(bytes) {
        let mut refused = 0;
        for account in accounts {
            match account.doc {
                Ok(doc) => take(ctx, open, &doc, account.label.as_deref())?,
                Err((_, why)) => {
                    let label = account.label.as_deref().unwrap_or("an account without a label");
                    ui::warn(&format!("{name}: {label} was refused: {why}"));
                    refused += 1;
                }
            }
            let _ = account.id;
        }
        return Ok(refused);
    }
    if bytes.len() as u64 > MAX_BYTES {
        ui::warn(&format!("{name} was refused: it is larger than any auth.json"));
        return Ok(1);
    }
    match AuthDoc::parse_foreign(bytes) {
        Ok(doc) => take(ctx, open, &doc.corrected(), label).map(|()| 0),
        Err(why) => {
            ui::warn(&format!("{name} was refused: {why}"));
            Ok(1)
        }
    }
}

fn take(ctx: &Context<'_>, open: &mut Open, doc: &AuthDoc, label: Option<&str>) -> Result<()> {
    let known = open.pool.registry().get(doc.id()).is_some();
    open.pool.adopt(&open.lock, doc, label, false, ctx.env.now)?;
    let label = open.label(doc.id());
    ui::done(&if known {
        format!("`{label}` was here already; the newer credentials are kept")
    } else {
        format!("imported `{label}`")
    });
    Ok(())
}
