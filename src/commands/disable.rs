//! `disable`: keeps an account, but lets no launch pick it.

use codex_pool_core::Result;

use super::enable::set_enabled;
use crate::cli::RefArg;
use crate::context::Context;
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &RefArg) -> Result<()> {
    let mut open = ctx.open()?;
    let id = open.resolve(&args.account)?;
    let changed = set_enabled(&mut open, &id, false);
    let (live, pinned) = (open.live() == Some(&id), open.pool.state().pin.as_ref() == Some(&id));
    open.commit()?;
    let Some(account) = open.pool.registry().get(&id) else { return Ok(()) };
    let (label, word) = (&account.label, account.shell_ref());
    ui::done(&match changed {
        true => {
            format!("`{label}` is disabled: launches do not pick it; `codex-pool enable {word}` undoes it")
        }
        false => format!("`{label}` is already disabled; `codex-pool enable {word}` undoes it"),
    });
    if pinned {
        ui::note("it is pinned, so launches use it all the same; `codex-pool use --auto` unpins it");
    } else if live {
        ui::note("it stays live until the next launch picks another account");
    }
    Ok(())
}
