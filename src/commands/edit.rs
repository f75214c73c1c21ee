//! `rm`, `rename`, `enable`, `disable`: small changes of the registry, each one transaction.

use codex_pool_core::account::AccountId;
use codex_pool_core::store;
use codex_pool_core::{Error, ErrorKind, Result, references};

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
    if let Some(account) = open.pool.registry_mut().get_mut(&id) {
        account.enabled = enabled;
        account.updated_at = ctx.env.now;
    }
    open.commit()?;
    let label = open.label(&id);
    ui::done(&if enabled {
        format!("`{label}` can be picked again")
    } else {
        format!("`{label}` is not picked any more; `codex-pool enable {label}` undoes it")
    });
    Ok(())
}

pub(crate) fn rm(ctx: &Context<'_>, args: &RmArgs) -> Result<()> {
    let open = ctx.open()?;
    let id = resolve(&open, &args.account)?;
    let label = open.label(&id);
    let live = open.live() == Some(&id);
    let pinned = open.pool.state().pin.as_ref() == Some(&id);
    if live && !args.force {
        return Err(Error::new(format!("`{label}` is live in {}", ctx.base.dir().display()))
            .hint("switch first with `codex-pool use --best`, or remove it with `--force`, which takes its login out of there, too"));
    }
    let others = in_use(ctx, &open, &id);
    if !others.is_empty() {
        return Err(Error::new(format!("`{label}` is in use: {}", others.join(", "))).hint("end it first"));
    }
    // Nobody must wait for an answer with the pool locked.
    drop(open);
    if !args.yes {
        let mut question =
            format!("Remove `{label}` and its credentials from the pool? Only a new login brings it back");
        if live {
            question.push_str("; its login leaves CODEX_HOME, too");
        }
        if pinned {
            question.push_str("; the pin ends");
        }
        if !ui::confirm(&format!("{question}."), "--yes")? {
            return Err(Error::new("nothing was removed"));
        }
    }
    let mut open = ctx.open()?;
    if open.pool.registry().get(&id).is_none() {
        return Err(Error::of(ErrorKind::NoSuchAccount, format!("`{label}` is gone already")));
    }
    if (open.live() == Some(&id)) != live || !in_use(ctx, &open, &id).is_empty() {
        return Err(Error::new(format!("`{label}` came into use meanwhile")).hint("try again"));
    }
    codex_pool_core::seats::remove_account(&open.lock, &mut open.pool, &id)?;
    store::erase(&open.lock, &ctx.paths, &id)?;
    open.commit()?;
    ui::done(&format!("removed `{label}`"));
    if live {
        ui::note("the next launch picks another account");
    }
    Ok(())
}

/// Who uses the account now, for a message.
fn in_use(ctx: &Context<'_>, open: &Open, id: &AccountId) -> Vec<String> {
    let mut users: Vec<String> = Vec::new();
    let seats = [ctx.base.shared(), ctx.base.home(&ctx.paths, id)];
    for seat in seats
        .iter()
        .filter(|seat| seat.is_home() && seat.dir().exists() || open.live() == Some(id) && !seat.is_home())
    {
        users.extend(ctx.occupants(open, seat).iter().map(|o| o.describe()));
    }
    users
}
