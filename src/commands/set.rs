//! `set`: where an account may be used, how much of it is kept for the user, and how much it is worth.

use std::path::{Path, PathBuf};

use codex_pool_core::account::AccountId;
use codex_pool_core::folders::short;
use codex_pool_core::store::{path_key, path_of_key};
use codex_pool_core::{Error, Result};

use crate::cli::SetArgs;
use crate::context::{Context, OpenPool};
use crate::{ui, view};

pub(crate) fn run(ctx: &Context, args: &SetArgs) -> Result<()> {
    let folders: Vec<String> = args.folder.iter().map(|dir| folder(ctx, dir)).collect::<Result<_>>()?;
    let mut open = ctx.open()?;
    let id = open.resolve(&args.account)?;
    let before = open.pool.registry().get(&id).map(|account| account.folders.clone()).unwrap_or_default();
    let changes = !folders.is_empty() || args.no_folders || args.reserve.is_some() || args.weight.is_some();
    let now = open.now;
    if changes && let Some(account) = open.pool.registry_mut().get_mut(&id) {
        if !folders.is_empty() || args.no_folders {
            account.folders.clear();
            for folder in folders {
                if !account.folders.contains(&folder) {
                    account.folders.push(folder);
                }
            }
        }
        account.reserve = args.reserve.unwrap_or(account.reserve);
        account.weight = args.weight.map_or(account.weight, |weight| weight.0);
        account.updated_at = now;
    }
    open.commit()?;
    let views = view::accounts(ctx, &open);
    let notes = notes(ctx, &open, &id, &before);
    drop(open);
    if args.json {
        ui::json(&view::json_of_one(&views, &id, &[], view::Identity::of(&ctx.env), ctx.env.now));
    } else if let Some(view) = views.iter().find(|view| view.account.id == id) {
        let rules = view.rules.as_deref().unwrap_or("used wherever no other account's folder is");
        ui::done(&format!("`{}`: {rules}", view.account.label));
    }
    for note in notes {
        ui::note(&note);
    }
    Ok(())
}

/// Binds an account to one more folder, which the user typed at a prompt: no shell has read the `~`.
pub(super) fn add_folder(ctx: &Context, id: &AccountId, typed: &str) -> Result<()> {
    let dir = match (typed.strip_prefix('~'), ctx.env.home()) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(typed),
    };
    let key = folder(ctx, &dir)?;
    let mut open = ctx.open()?;
    let now = open.now;
    if let Some(account) = open.pool.registry_mut().get_mut(id)
        && !account.folders.contains(&key)
    {
        account.folders.push(key.clone());
        account.updated_at = now;
    }
    open.commit()?;
    ui::done(&format!(
        "`{}` is used only in {} now",
        open.label(id),
        short(&path_of_key(&key), ctx.env.home())
    ));
    Ok(())
}

/// Returns a folder as the registry has it: its real path, so that a link which is changed later changes nothing.
fn folder(ctx: &Context, dir: &Path) -> Result<String> {
    let path = ctx.env.absolute(dir).unwrap_or_else(|| dir.to_owned());
    let real = path
        .canonicalize()
        .map_err(|e| Error::io("find the folder", &path, &e).hint("make it first, or name another"))?;
    if !real.is_dir() {
        return Err(
            Error::new(format!("{} is not a folder", path.display())).hint("name the folder that it is in")
        );
    }
    Ok(path_key(&real))
}

/// Returns what the user may not expect: folders that are free again, and sessions that run against the rules.
fn notes(ctx: &Context, open: &OpenPool, id: &AccountId, before: &[String]) -> Vec<String> {
    let accounts = &open.pool.registry().accounts;
    let home = ctx.env.home();
    let has = |folder: &String| accounts.iter().any(|account| account.folders.contains(folder));
    let free = before.iter().filter(|folder| !has(folder));
    let mut notes: Vec<String> = free
        .map(|folder| format!("{} is no account's folder any more", short(&path_of_key(folder), home)))
        .collect();
    for launch in &open.processes.ledger.launches {
        let Some(entry) = &launch.entry else { continue };
        let rules = entry.rules(accounts, home);
        let who = entry.account.as_ref().and_then(|id| open.pool.registry().get(id));
        let (Some(who), Some(folder)) = (who, entry.works_in()) else { continue };
        if let Some(why) = rules.objection(&who.id).filter(|_| who.id == *id || rules.folder().is_some()) {
            notes.push(format!(
                "{} (pid {}) in {} goes on as `{}` until it ends ({why})",
                entry.command,
                launch.process.pid,
                short(&folder, home),
                who.label
            ));
        }
    }
    notes
}
