//! `enable`: lets an account be picked again.

use codex_pool_core::Result;
use codex_pool_core::account::AccountId;

use crate::cli::RefArg;
use crate::context::{Context, OpenPool};
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &RefArg) -> Result<()> {
    let mut open = ctx.open()?;
    let id = open.resolve(&args.account)?;
    let changed = set_enabled(&mut open, &id, true);
    open.commit()?;
    let label = open.label(&id);
    ui::done(&match changed {
        true => format!("`{label}` is enabled; launches may pick it again"),
        false => format!("`{label}` is already enabled"),
    });
    Ok(())
}

/// Says in the registry whether an account may be picked. Returns whether that is a change.
pub(super) fn set_enabled(open: &mut OpenPool, id: &AccountId, enabled: bool) -> bool {
    if open.pool.registry().get(id).is_none_or(|account| account.enabled == enabled) {
        return false;
    }
    if let Some(account) = open.pool.registry_mut().get_mut(id) {
        (account.enabled, account.updated_at) = (enabled, open.now);
    }
    true
}
