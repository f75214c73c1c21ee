//! `list`: shows the accounts as a table or JSON.

use codex_pool_core::Result;
use codex_pool_core::homes::HomeContent;
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::pool::Pool;

use crate::cli::ListArgs;
use crate::context::Context;
use crate::past::Past;
use crate::refresh::Scope;
use crate::{ui, view};

pub(crate) fn run(ctx: &Context, args: &ListArgs) -> Result<()> {
    if args.refresh {
        super::refresh::fetch(ctx, &Scope::All)?;
    }
    let clock = view::Clock::of_system();
    let past = |pool: &Pool| Past::recent(&ctx.paths, pool, &ctx.settings, ctx.env.now);
    let moves = |pool: &Pool, processes: &Processes| {
        view::moves::moves(ctx, pool, processes.me.as_ref(), &clock, ctx.env.now)
    };
    let sharing = |pool: &Pool| (view::sharing::lines(pool, ctx.env.now), view::sharing::json(pool));
    let (views, homes, past, moves, (sharing, shared)) = match ctx.open_if_free()? {
        // The pool is not locked while a pipe is slow.
        Some(open) => {
            let (views, homes) = (view::accounts(ctx, &open), view::homes(ctx, &open));
            (views, homes, past(&open.pool), moves(&open.pool, &open.processes), sharing(&open.pool))
        }
        None => {
            ui::warn(
                "another process has the pool locked, so this may be out of date; see `codex-pool doctor`",
            );
            let pool = Pool::peek(&ctx.paths)?;
            let processes = Processes::read(None, &ctx.paths, ctx.env.now);
            let content = HomeContent::read(&ctx.paths, &ctx.main_home);
            let views = view::of_pool(ctx, &pool, &processes.ledger, content.account(), ctx.env.now);
            (views, Vec::new(), past(&pool), moves(&pool, &processes), sharing(&pool))
        }
    };
    if args.json {
        let mut answer = view::json(&views, &homes, view::Identity::of(&ctx.env), ctx.env.now, false);
        past.add_to(&mut answer, ctx.env.now);
        view::moves::add_to(&moves, &mut answer);
        answer["shared"] = shared;
        ui::json(&answer);
    } else {
        ui::table::accounts(&views, ctx.env.now, args.verbose);
        let next = next_line(&views, view::Identity::of(&ctx.env));
        ui::table::notes(&next.into_iter().chain(past.lines(&clock, ctx.env.now)).collect::<Vec<_>>());
        view::unsaid(&views, ctx.env.now).iter().for_each(|line| ui::line(line));
        ui::table::homes(&homes);
        ui::table::moves(&moves);
        sharing.iter().for_each(|line| ui::line(line));
        if let Some(line) = view::Identity::of(&ctx.env).line() {
            ui::line(&line);
        }
    }
    Ok(())
}

/// Returns who is next, and why. With one account there is nothing to say.
fn next_line(views: &[view::AccountView], identity: view::Identity) -> Option<String> {
    let next = view::next(views, identity).filter(|_| views.len() > 1)?;
    let next = views.iter().find(|view| view.account.id == *next)?;
    let why = if next.pinned { "it is pinned" } else { &next.reason };
    Some(format!("next: {} ({why})", next.account.label))
}

/// Prints a label per line, for shell completions. Never asks and never fails.
pub(crate) fn complete_refs(ctx: &Context) -> Result<()> {
    if let Ok(registry) = codex_pool_core::store::Registry::load(&ctx.paths) {
        for account in &registry.accounts {
            ui::line(&account.label);
        }
    }
    Ok(())
}
