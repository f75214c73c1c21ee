//! `rename`: gives an account another label.

use codex_pool_core::Result;

use crate::cli::RenameArgs;
use crate::context::Context;
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &RenameArgs) -> Result<()> {
    let mut open = ctx.open()?;
    let id = open.resolve(&args.account)?;
    let old = open.label(&id);
    open.pool.registry_mut().rename(&id, &args.label)?;
    open.commit()?;
    ui::done(&format!("`{old}` is now `{}`", open.label(&id)));
    Ok(())
}
