//! `share leave`: makes this machine's pool its own again. While other members stay, they renew the accounts, and this
//! machine keeps what works without that: two owners of one refresh token lock each other out.

use codex_pool_core::account::AccountKind;
use codex_pool_core::files;
use codex_pool_core::store::Origin;
use codex_pool_core::{Error, Result, renewal};
use codex_pool_share::code::Role;
use codex_pool_share::machines::Machine;

use super::{agreed, explained, logins_here, push, read_own_logins, shared};
use crate::cli::ShareLeaveArgs;
use crate::commands::refresh::note_removed;
use crate::context::{Context, OpenPool};
use crate::refresh::take_in;
use crate::share::Shared;
use crate::ui;

pub(super) fn run(ctx: &Context, args: &ShareLeaveArgs) -> Result<()> {
    let mut shared = shared(ctx)?;
    let others = match others(&mut shared) {
        Ok(others) => Some(others),
        Err(_) if args.offline => None,
        Err(error) => {
            return Err(Error::new(format!("{}; nothing was changed", error.message))
                .hint("`--offline` leaves without telling the others"));
        }
    };
    let is_member = shared.config().role() == Role::Member;
    // Where the database cannot be asked, others are there.
    let shares_logins =
        is_member && others.as_ref().is_none_or(|others| others.iter().any(Machine::has_logins));
    let question = match (is_member, shares_logins) {
        (_, true) => {
            "Leave the shared pool? The other members go on renewing its accounts; here they work until their access \
             tokens end."
        }
        (true, false) => {
            "Leave the shared pool? There is no other member, so it ends, and the accounts stay here."
        }
        (false, _) => "Leave the shared pool? Its accounts work here until their access tokens end.",
    };
    agreed(args.yes, question, "the pool is left only after a yes, nothing was changed")?;
    let said = shares_logins;
    // The question may have been open for long.
    let shares_logins = is_member && (others.is_none() || depart(ctx, &mut shared)?);
    let mut open = ctx.open()?;
    let given_up = if shares_logins { give_up_logins(&mut open)? } else { 0 };
    open.pool.set_shared(None);
    renewal::exchange_newest(&open.lock, &mut open.pool, open.now)?;
    open.commit()?;
    for path in [ctx.paths.share_state(), ctx.paths.share()] {
        files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
    }
    ui::done("this machine has left the shared pool");
    if given_up > 0 {
        ui::note(&format!(
            "{} here until the access token ends; `codex-pool reauth` makes a login of this machine's own",
            if given_up == 1 { "1 account works".to_owned() } else { format!("{given_up} accounts work") }
        ));
    }
    if said && !shares_logins {
        ui::note("there was no other member any more, so it has ended, and the accounts stay here");
    }
    if !is_member {
        ui::note(
            "`codex-pool share shut-out` on a member takes this machine off the list, and its way to the database",
        );
    }
    Ok(())
}

/// The other machines.
fn others(shared: &mut Shared) -> Result<Vec<Machine>> {
    shared.store().check_schema().map_err(explained)?;
    if has_ended(shared)? {
        return Ok(Vec::new());
    }
    let mut machines = shared.machines().map_err(explained)?;
    machines.retain(|machine| machine.machine != shared.config().machine);
    Ok(machines)
}

/// Returns whether nothing of the pool is in the database any more: the last member has left.
fn has_ended(shared: &mut Shared) -> Result<bool> {
    Ok(shared.store().rows_before(u32::MAX).map_err(explained)? == 0)
}

/// Takes this machine off the list. Of a pool that ends, nothing stays in the database. Returns whether other members go
/// on.
fn depart(ctx: &Context, shared: &mut Shared) -> Result<bool> {
    if has_ended(shared)? {
        return Ok(false);
    }
    // What only this machine has, the others must get.
    let logins = read_own_logins(ctx, shared)?;
    push(shared, &logins)?;
    // Only then it looks who is there. Of two that leave at once, one sees that the other has gone, and keeps its logins.
    let name = shared.config().machine.clone();
    shared.member_or_error()?.depart(&name).map_err(explained)?;
    let others = others(shared)?;
    if others.iter().any(Machine::has_logins) {
        return Ok(true);
    }
    if has_ended(shared)? {
        return Ok(false);
    }
    // A machine that is joining has seen no login yet, and finds no pool any more.
    for machine in others.iter().filter(|machine| machine.is_member()) {
        shared.member_or_error()?.depart(&machine.machine).map_err(explained)?;
    }
    // What another one has left here for the rest is this machine's to keep now.
    let pulled = shared.member_or_error()?.pull_changes().map_err(explained)?;
    let mut open = ctx.open()?;
    note_removed(&take_in(shared, &open.lock, &mut open.pool, &pulled, open.now)?);
    drop(open);
    for user in others.iter().filter_map(|runner| runner.user.as_deref()) {
        shared.store().drop_reader(user).map_err(explained)?;
    }
    shared.store().remove_before(u32::MAX).map_err(explained)?;
    Ok(false)
}

/// Takes the refresh tokens out of this pool, which the other members renew with. Returns of how many accounts.
fn give_up_logins(open: &mut OpenPool) -> Result<usize> {
    let mut logins = logins_here(open)?;
    logins.retain(|(account, _)| account.kind == AccountKind::Chatgpt);
    for (_, doc) in &logins {
        open.pool.adopt(&open.lock, &doc.clone().access_only(), None, Origin::Login, open.now)?;
    }
    Ok(logins.len())
}
