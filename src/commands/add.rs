//! `add`: logs in to one more account. What is live stays live.

use codex_pool_core::account::{AccountId, AccountKind};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::store::Adoption;
use codex_pool_core::{Result, env};

use super::{login, refresh};
use crate::cli::{AddArgs, LoginArgs};
use crate::context::Context;
use crate::context::adopt;
use crate::refresh::{Outcome, Scope};
use crate::{ui, view};

pub(crate) fn run(ctx: &Context, args: &AddArgs) -> Result<()> {
    add(ctx, &args.login, args.label.as_deref())
}

/// Logs in, adopts the account and shows it.
///
/// # Errors
/// The label cannot be had (found out before the login), or there was no login. Nothing has changed then.
pub(super) fn add(ctx: &Context, args: &LoginArgs, label: Option<&str>) -> Result<()> {
    // Opening the pool saves what is live before anything else happens.
    let open = ctx.open()?;
    if let Some(label) = label {
        open.pool.registry().check_label(label, None).map_err(|error| {
            error.hint(
                "choose another one; an account that is here already logs in again with `codex-pool reauth`",
            )
        })?;
    }
    drop(open);
    let login = login::log_in(ctx, args)?;
    let doc = login.doc.clone();
    adopt(ctx, &doc, label).map_err(|error| adopt::keep_for_later(ctx, &doc, error))?;
    drop(login);
    show(ctx, doc.id(), doc.kind());
    Ok(())
}

fn adopt(ctx: &Context, doc: &AuthDoc, label: Option<&str>) -> Result<()> {
    let mut open = ctx.open()?;
    let adoption = adopt::adopt_login(&mut open, doc, label)?;
    if let (Some(label), true) = (label, adoption != Adoption::New)
        && let Err(error) = open.pool.registry_mut().rename(doc.id(), label)
    {
        ui::warn(&error.to_string());
    }
    adopt::commit_login(&mut open, doc)?;
    let Some(account) = open.pool.registry().get(doc.id()) else { return Ok(()) };
    let (name, word) = (account.display(), account.shell_ref());
    ui::done(&match adoption {
        Adoption::New => format!("added {name}"),
        Adoption::Unchanged => format!("{name} was in the pool already, with this login"),
        _ => format!("{name} was in the pool already; its credentials are updated"),
    });
    if !account.enabled {
        ui::note(&format!("it is disabled; `codex-pool enable {word}` lets it be picked"));
    }
    if account.kind == AccountKind::ApiKey {
        ui::note(&format!(
            "an API key is used when it is named, as in `codex-pool use {word}`, or as the last resort with \
             api_key_fallback = true in {}",
            ctx.paths.config().display()
        ));
    }
    Ok(())
}

/// Fetches an account's usage and shows its row. The login is kept whatever comes of that.
pub(super) fn show(ctx: &Context, id: &AccountId, kind: AccountKind) {
    if kind == AccountKind::ApiKey {
        return;
    }
    match refresh::fetch(ctx, &Scope::One(id.clone())) {
        Ok(outcomes) => {
            if let Some((_, Outcome::Failed(why))) = outcomes.first() {
                ui::note(&format!("its usage is not known yet: {why}"));
            }
        }
        Err(error) => ui::note(&format!("its usage is not known yet: {error}")),
    }
    let Ok(open) = ctx.open() else { return };
    let mut views = view::accounts(ctx, &open);
    drop(open);
    views.retain(|view| view.account.id == *id);
    ui::table::accounts(&views, env::clock(), false);
}
