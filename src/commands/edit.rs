//! `rm`, `rename`, `enable`, `disable`: small changes of the registry, each one transaction.

use std::path::PathBuf;

use codex_pool_core::account::AccountId;
use codex_pool_core::codex::{background_server, find};
use codex_pool_core::homes::{self, in_use, own_home};
use codex_pool_core::{Error, ErrorKind, Result, references, store};

use super::{Context, Open};
use crate::cli::{RefArg, RenameArgs, RmArgs};
use crate::ui;

fn resolve(open: &Open, reference: &str) -> Result<AccountId> {
    Ok(references::resolve(&open.pool.registry().accounts, reference)?.id.clone())
}

pub(crate) fn rename(ctx: &Context<'_>, args: &RenameArgs) -> Result<()> {
    let mut open = ctx.open()?;
    let id = resolve(&open, &args.account)?;
    let old = open.label(&id);
    open.pool.registry_mut().rename(&id, &args.label)?;
    open.commit()?;
    ui::done(&format!("`{old}` is now `{}`", open.label(&id)));
    Ok(())
}

pub(crate) fn enable(ctx: &Context<'_>, args: &RefArg, enabled: bool) -> Result<()> {
    let mut open = ctx.open()?;
    let id = resolve(&open, &args.account)?;
    let now = open.now;
    let Some(account) = open.pool.registry_mut().get_mut(&id) else { return Ok(()) };
    let changed = account.enabled != enabled;
    if changed {
        (account.enabled, account.updated_at) = (enabled, now);
    }
    let (label, word) = (account.label.clone(), account.word().to_owned());
    let (live, pinned) = (open.live() == Some(&id), open.pool.state().pin.as_ref() == Some(&id));
    open.commit()?;
    drop(open);
    ui::done(&match (enabled, changed) {
        (true, true) => format!("`{label}` can be picked again"),
        (true, false) => format!("`{label}` could be picked already"),
        (false, true) => format!("`{label}` is not picked any more; `codex-pool enable {word}` undoes it"),
        (false, false) => format!("`{label}` was disabled already; `codex-pool enable {word}` undoes it"),
    });
    if !enabled && pinned {
        ui::note("it is pinned, so launches use it all the same; `codex-pool use --auto` unpins it");
    } else if !enabled && live {
        ui::note("it stays live until the next launch picks another account");
    }
    Ok(())
}

pub(crate) fn rm(ctx: &Context<'_>, args: &RmArgs) -> Result<()> {
    let open = ctx.open()?;
    let id = resolve(&open, &args.account)?;
    let label = open.label(&id);
    let live = live_in(ctx, &open, &id);
    let pinned = open.pool.state().pin.as_ref() == Some(&id);
    if !live.is_empty() && !args.force {
        return Err(Error::new(format!("`{label}` is live in {}", live.join(" and "))).hint(
            "switch first, with `codex-pool use --best`; or `--force` takes its login out of there, too",
        ));
    }
    refuse_in_use(ctx, &open, &id)?;
    // Nobody must wait for an answer with the pool locked.
    drop(open);
    if !args.yes {
        let mut question = format!("Remove `{label}` and its credentials? Only a new login brings it back");
        if !live.is_empty() {
            question.push_str(&format!("; it is live, and its login leaves {}, too", live.join(" and ")));
        }
        if pinned {
            question.push_str("; it is pinned, and the pin ends");
        }
        if !ui::confirm(&format!("{question}."), "--yes")? {
            return Err(Error::new("nothing was removed"));
        }
    }
    let mut open = ctx.open()?;
    if open.pool.registry().get(&id).is_none() {
        return Err(Error::of(ErrorKind::NoSuchAccount, format!("`{label}` is gone already")));
    }
    if live_in(ctx, &open, &id) != live {
        return Err(
            Error::new(format!("`{label}` was switched meanwhile; nothing was removed")).hint("try again")
        );
    }
    refuse_in_use(ctx, &open, &id)?;
    stop_idle_servers(ctx, &open, &id);
    homes::remove_account(&open.lock, &mut open.pool, &id, open.now)?;
    own_home::retire(&open.lock, &ctx.paths, &id)?;
    store::erase(&open.lock, &ctx.paths, &id)?;
    // The registry last: what a crash leaves is an account without credentials, not the reverse.
    open.commit()?;
    drop(open);
    ui::done(&format!("removed `{label}` and its credentials"));
    if !live.is_empty() {
        ui::note(&format!(
            "{} has no login now; the next launch puts another account there",
            live.join(" and ")
        ));
    }
    if pinned {
        ui::note("nothing is pinned any more; every launch picks");
    }
    ui::note("the login was not revoked; copies of it elsewhere still work");
    Ok(())
}

/// The folders whose auth.json is this account's.
fn dirs_with(open: &Open, id: &AccountId) -> Vec<PathBuf> {
    let codex_homes = open.pool.state().homes.iter().filter(|(_, memory)| memory.account == *id);
    codex_homes.filter_map(|(key, _)| Some(store::path_of_key(key).parent()?.to_owned())).collect()
}

/// The CODEX_HOMEs in which the account is live.
fn live_in(ctx: &Context<'_>, open: &Open, id: &AccountId) -> Vec<String> {
    let dirs = dirs_with(open, id).into_iter().filter(|dir| !dir.starts_with(ctx.paths.homes()));
    dirs.map(|dir| dir.display().to_string()).collect()
}

fn refuse_in_use(ctx: &Context<'_>, open: &Open, id: &AccountId) -> Result<()> {
    let mut users = homes::users_of_homes_and_homes(&open.pool, &open.processes, id);
    if open.live() == Some(id) {
        // This CODEX_HOME's databases may be elsewhere; only here that is known.
        users.extend(ctx.users_of_home(open, &ctx.main_home));
    }
    let mut names: Vec<String> = users.iter().map(in_use::HomeUser::describe).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("`{}` is in use by {}", open.label(id), names.join(", "))).hint("end that first"))
}

/// A background server without threads is in nobody's use, but it would go on with the account.
fn stop_idle_servers(ctx: &Context<'_>, open: &Open, id: &AccountId) {
    let mut dirs = own_home::dirs_of(&ctx.paths, id);
    dirs.extend(dirs_with(open, id));
    for dir in dirs {
        if let Some(server) = in_use::server(&dir)
            && let Ok(codex) = find::find(ctx.env, &ctx.settings, None)
            && !background_server::stop(&codex, &dir, &server)
        {
            ui::warn(&format!("Codex's background server (pid {}) could not be stopped", server.pid));
        }
    }
}
