//! `share shut-out`: takes a runner's way into the database away.

use codex_pool_core::{Error, ErrorKind, Result};

use super::{current_member, explained};
use crate::cli::ShareShutOutArgs;
use crate::context::Context;
use crate::ui;

pub(super) fn run(ctx: &Context, args: &ShareShutOutArgs) -> Result<()> {
    let (mut shared, machines) = current_member(ctx)?;
    let Some(machine) = machines.iter().find(|machine| machine.machine == args.machine) else {
        return Err(Error::of(ErrorKind::Usage, format!("there is no machine `{}`", args.machine))
            .hint("`codex-pool share status` lists them"));
    };
    if machine.machine == shared.config().machine {
        return Err(Error::of(ErrorKind::Usage, "that is this machine").hint("`codex-pool share leave`"));
    }
    if machine.has_logins() {
        return Err(Error::new(format!(
            "`{}` is a member: it has the keys, and every login with its refresh token",
            machine.machine
        ))
        .hint(
            "`codex-pool share rotate` makes new keys and renews all logins; the other machines join again",
        ));
    }
    let had_user = machine.user.is_some();
    shared.shut_out(machine).map_err(explained)?;
    ui::done(&format!("`{}` is shut out", machine.machine));
    if !had_user && !machine.is_member() {
        ui::note("its user of the database is not of codex-pool's making: remove it, or change its password");
    }
    ui::note(
        "the access tokens that it has work until they end; `codex-pool share rotate` makes new keys, should it see the \
         database in another way",
    );
    Ok(())
}
