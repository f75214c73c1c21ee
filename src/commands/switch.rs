//! `use`: make an account live and pin it, make the best one live, or give the choice back to the pool.

use codex_pool_core::account::AccountId;
use codex_pool_core::launch::candidates;
use codex_pool_core::pick::pick;
use codex_pool_core::seats::{self, Holding};
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Error, ErrorKind, Result, references};

use super::{Context, Open};
use crate::cli::UseArgs;
use crate::ui;

pub(crate) fn run(ctx: &Context<'_>, args: &UseArgs) -> Result<()> {
    let mut open = ctx.open()?;
    if args.auto {
        let pin = open.pool.state_mut().pin.take();
        open.commit()?;
        ui::done(&match pin {
            Some(id) => format!("`{}` is no longer pinned; every launch picks again", open.label(&id)),
            None => "nothing was pinned; every launch picks".to_owned(),
        });
        return Ok(());
    }
    let id =
        if args.best { best(ctx, &open)? } else { named(ctx, &open, args.account.as_deref().unwrap_or(""))? };
    if open.live() != Some(&id) {
        open = make_room(ctx, open, &id, args.force)?;
        seats::place(&open.lock, &mut open.pool, &open.census, &ctx.base.shared(), &id, ctx.env.now)?;
    }
    open.pool.state_mut().pin = (!args.best).then(|| id.clone());
    open.commit()?;
    let label = open.label(&id);
    ui::done(&if args.best {
        format!("`{label}` is live; nothing is pinned, so the next launch picks again")
    } else {
        format!("`{label}` is live and pinned; `codex-pool use --auto` unpins it")
    });
    Ok(())
}

fn best(ctx: &Context<'_>, open: &Open) -> Result<AccountId> {
    let usage = UsageCache::load(None, &ctx.paths);
    let candidates = candidates(&open.pool, &usage, &open.census.ledger, open.live(), &ctx.codex);
    let ranking = pick(&candidates, ctx.env.now, &ctx.settings);
    match ranking.first().filter(|r| r.eligible()) {
        Some(best) => Ok(candidates[best.index].account.id.clone()),
        None => {
            Err(Error::of(ErrorKind::NoUsableAccount, "no account can be used").hint("see `codex-pool why`"))
        }
    }
}

fn named(ctx: &Context<'_>, open: &Open, reference: &str) -> Result<AccountId> {
    let account = references::resolve(&open.pool.registry().accounts, reference)?;
    codex_pool_core::launch::usable_by_name(&open.pool, &ctx.codex, account)?;
    Ok(account.id.clone())
}

/// Makes sure that the shared seat may change hands. Asks with the pool unlocked.
fn make_room(ctx: &Context<'_>, open: Open, id: &AccountId, force: bool) -> Result<Open> {
    match &open.shared {
        Holding::Unmanaged(kind) => {
            return Err(Error::new(format!(
                "{} holds {kind}, which is never overwritten",
                ctx.base.dir().display()
            ))
            .hint("`codex logout` first"));
        }
        Holding::Unreadable(why) => {
            return Err(Error::new(format!("{}: {why}", ctx.base.shared().auth_json().display())));
        }
        Holding::Broken { .. } => {
            seats::clear_broken(&open.lock, &open.pool, &ctx.base.shared(), ctx.env.now)?;
        }
        Holding::Empty | Holding::Account { .. } => {}
    }
    let users = ctx.occupants(&open, &ctx.base.shared());
    if users.is_empty() || force {
        return Ok(open);
    }
    let who: Vec<String> = users.iter().map(|o| o.describe()).collect();
    let live =
        open.live().map_or_else(|| "another login".to_owned(), |live| format!("`{}`", open.label(live)));
    let label = open.label(id);
    drop(open);
    ui::warn(&format!(
        "{live} is in use by {}. After a switch these sessions stop at their next token refresh with an error.",
        who.join(", ")
    ));
    if !ui::confirm(&format!("Switch to `{label}` all the same?"), "--force")? {
        return Err(Error::new("nothing was switched")
            .hint(format!("`codex-pool run {label}` starts it beside them, in a home of its own")));
    }
    ctx.open()
}
