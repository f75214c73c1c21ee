//! `why`: shows the ranking of the next launch, with its numbers.

use codex_pool_core::Result;

use crate::cli::WhyArgs;
use crate::context::Context;
use crate::past::Past;
use crate::{ui, view};

pub(crate) fn run(ctx: &Context, args: &WhyArgs) -> Result<()> {
    if args.last {
        return super::log::last_launch(ctx, args.json);
    }
    let open = ctx.open()?;
    let (views, homes) = (view::accounts(ctx, &open), view::homes(ctx, &open));
    let rules = ctx.rules(&open.pool);
    let past = Past::recent(&ctx.paths, &open.pool, &ctx.settings, ctx.env.now);
    let clock = view::Clock::of_system();
    let moves = view::moves::moves(ctx, &open.pool, open.processes.me.as_ref(), &clock, ctx.env.now);
    let (sharing, shared) = (view::sharing::lines(&open.pool, ctx.env.now), view::sharing::json(&open.pool));
    // The pool is not locked while a pipe is slow.
    drop(open);
    if args.json {
        let mut answer = view::json(&views, &homes, view::Identity::of(&ctx.env), ctx.env.now, true);
        past.add_to(&mut answer, ctx.env.now);
        view::moves::add_to(&moves, &mut answer);
        answer["shared"] = shared;
        answer["carry_on"] = ctx.settings.carry_on.into();
        ui::json(&answer);
        return Ok(());
    }
    ui::table::ranking(&views, args.verbose);
    ui::table::notes(&past.lines(&clock, ctx.env.now));
    ui::table::homes(&homes);
    ui::table::moves(&moves);
    sharing.iter().for_each(|line| ui::line(line));
    if let Some(folder) = rules.folder() {
        ui::line(&format!(
            "Here only accounts of {folder} are used: `codex-pool set` says which folders an account has."
        ));
    }
    if let Some(line) = view::Identity::of(&ctx.env).line() {
        ui::line(&line);
    }
    if !ctx.settings.carry_on {
        ui::line("Work stops at an account's limit: `carry_on = false` in config.toml.");
    }
    if let Some(pinned) = views.iter().find(|v| v.pinned) {
        let label = &pinned.account.label;
        let what = match pinned.next {
            true => format!("{label} is pinned: launches use it regardless of the ranking."),
            false => format!("{label} is pinned, but a launch here does not use it: {}.", pinned.reason),
        };
        ui::line(&format!("{what} `codex-pool use --auto` unpins."));
    }
    Ok(())
}
