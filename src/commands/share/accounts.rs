//! `share logout` and `share take-over`: what a person decides about an account for all machines.

use codex_pool_core::account::{Account, AccountId};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::{Error, ErrorKind, Result, references, shared};
use codex_pool_share::protocol::Removing;

use super::{agreed, come_into_step, current_member, explained};
use crate::cli::ShareAccountArgs;
use crate::commands::rm;
use crate::context::{Context, login};
use crate::share::Shared;
use crate::ui;

/// Tells the other machines of a shared pool that an account is removed, if this pool is shared. Returns whether they
/// know now. `live`: the homes that it may leave here.
///
/// # Errors
/// It cannot be removed here, or the database cannot be asked. Nothing may be removed then: the account would come back.
pub(in crate::commands) fn remove_for_all(ctx: &Context, id: &AccountId, live: &[String]) -> Result<bool> {
    let open = ctx.open()?;
    if open.pool.shared() != Some(shared::Role::Member) {
        return Ok(false);
    }
    rm::check(ctx, &open, id, Some(live)).map_err(rm::unchanged)?;
    drop(open);
    let (mut shared, _) = current_member(ctx).map_err(rm::unchanged)?;
    Ok(tell_removal(ctx, &mut shared, id, Some(live)).map_err(rm::unchanged)?.is_some())
}

/// Tells the other machines that an account is removed. Returns the login that it had here, which is in step with the
/// others; `None`: it had none, and nothing was told. `live`: the homes that it may leave here; `None`: all.
///
/// # Errors
/// It cannot be removed here, another machine renews it, or the database cannot be asked.
fn tell_removal(
    ctx: &Context,
    shared: &mut Shared,
    id: &AccountId,
    live: Option<&[String]>,
) -> Result<Option<AuthDoc>> {
    come_into_step(ctx, shared)?;
    let open = ctx.open()?;
    rm::check(ctx, &open, id, live)?;
    let account = open.pool.registry().get(id).cloned();
    let doc = open.pool.credentials().load(id)?;
    drop(open);
    let (Some(account), Some(doc)) = (account, doc) else { return Ok(None) };
    let login = crate::share::login(&account, &doc);
    let age = match shared.member_or_error()?.remove(&login).map_err(explained)? {
        Removing::Removed(age) => age,
        Removing::Busy(machine) => return Err(is_renewing(&account, &machine)),
    };
    // Known here, too: while the account is still here, nothing may bring it back.
    shared.save(&ctx.lock()?, |state| {
        state.removals.insert(login.account, age);
    })?;
    Ok(Some(doc))
}

fn is_renewing(account: &Account, machine: &str) -> Error {
    Error::new(format!("{machine} is renewing `{}` at this moment", account.label))
        .hint("try again in two minutes")
}

/// Ends an account's login everywhere: no machine gets it back from the database, and the issuer no longer accepts it.
pub(super) fn logout(ctx: &Context, args: &ShareAccountArgs) -> Result<()> {
    let (mut shared, _) = current_member(ctx)?;
    let (account, _) = find(ctx, &args.account)?;
    rm::check(ctx, &ctx.open()?, &account.id, None)?;
    let question =
        format!("Log out of `{}` on every machine? Only a new login brings it back.", account.label);
    let unasked = format!("`{}` is logged out only after a yes, nothing was changed", account.label);
    agreed(args.yes, &question, &unasked)?;
    // A session may have begun while the question was open.
    let doc = tell_removal(ctx, &mut shared, &account.id, None).map_err(rm::unchanged)?;
    // The others know. What fails now concerns the issuer and this machine.
    let revoked = doc.map_or(Ok(()), |doc| login::log_out(ctx, &doc));
    rm::remove(ctx, &account.id, None, true)?;
    ui::done(&format!("logged out of `{}` on every machine", account.label));
    if let Err(error) = revoked {
        ui::warn(&format!(
            "Codex could not revoke the login ({error}); copies of it work until the access token ends"
        ));
    }
    Ok(())
}

/// Makes the mark of a machine void that was renewing an account and is lost.
pub(super) fn take_over(ctx: &Context, args: &ShareAccountArgs) -> Result<()> {
    let (mut shared, _) = current_member(ctx)?;
    let (account, _) = find(ctx, &args.account)?;
    let Some(machine) = machine_that_sent(&mut shared, &account)? else {
        return Err(Error::new(format!("no machine has left a renewal of `{}` open", account.label))
            .hint(format!("`codex-pool refresh {}`", account.shell_ref())));
    };
    let question = format!(
        "Renew `{}` here? Should {machine} have renewed it already, its login ends, and only a new one helps.",
        account.label
    );
    let unasked = format!("{machine} was renewing `{}`; nothing was changed", account.label);
    agreed(args.yes, &question, &unasked)?;
    if !shared.member_or_error()?.take_over(account.id.as_str()).map_err(explained)? {
        return Err(is_renewing(&account, &machine));
    }
    shared.save(&ctx.lock()?, |_| {})?;
    ui::done(&format!("`{}` is this machine's to renew", account.label));
    ui::note(&format!("`codex-pool refresh {}` does it now", account.shell_ref()));
    Ok(())
}

fn machine_that_sent(shared: &mut Shared, account: &Account) -> Result<Option<String>> {
    let leases = shared.member_or_error()?.leases().map_err(explained)?;
    let mine = leases.into_iter().find(|view| view.lease.account == account.id.as_str() && view.is_sent());
    Ok(mine.map(|view| view.lease.machine))
}

/// Returns the account that is meant, with its login.
fn find(ctx: &Context, reference: &str) -> Result<(Account, AuthDoc)> {
    let open = ctx.open()?;
    let account = references::resolve(&open.pool.registry().accounts, reference)?.clone();
    let doc = open.pool.credentials().load(&account.id)?.ok_or_else(|| {
        Error::of(ErrorKind::LoginNeeded, format!("the pool has no credentials for {}", account.display()))
            .hint(format!("`codex-pool reauth {}`", account.shell_ref()))
    })?;
    Ok((account, doc))
}
