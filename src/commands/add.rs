//! `add`: logs in to one more account. What is live stays live.

use codex_pool_core::account::{AccountId, AccountKind};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::shared::refuse_on_runner;
use codex_pool_core::store::Adoption;
use codex_pool_core::{Result, env};

use super::{login, refresh};
use crate::cli::{AddArgs, LoginArgs};
use crate::context::Context;
use crate::context::adopt;
use crate::refresh::{Outcome, Scope};
use crate::{ui, view};

pub(crate) fn run(ctx: &Context, args: &AddArgs) -> Result<()> {
    add(ctx, &args.login, args.label.as_deref(), args.json)
}

/// Logs in, adopts the account and shows it. With `json`, the answer is all that goes to stdout.
///
/// # Errors
/// The label cannot be had (found out before the login), or there was no login. Nothing has changed then.
pub(super) fn add(ctx: &Context, args: &LoginArgs, label: Option<&str>, json: bool) -> Result<()> {
    // Opening the pool saves what is live before anything else happens.
    let open = ctx.open()?;
    refuse_on_runner(open.pool.shared(), "codex-pool add")?;
    if let Some(label) = label {
        open.pool.registry().check_label(label, None).map_err(|error| {
            error.hint(
                "choose another one; an account that is here already logs in again with `codex-pool reauth`",
            )
        })?;
    }
    drop(open);
    let login = login::log_in(ctx, args, json)?;
    let doc = login.doc.clone();
    let adoption = adopt(ctx, &doc, label, json).map_err(|error| adopt::keep_for_later(ctx, &doc, error))?;
    drop(login);
    if !json {
        show(ctx, doc.id(), doc.kind());
        return Ok(());
    }
    fetch(ctx, doc.id(), doc.kind());
    let open = ctx.open()?;
    let views = view::accounts(ctx, &open);
    drop(open);
    let mut answer = view::json_of_one(&views, doc.id(), &[], view::Identity::of(&ctx.env), env::clock());
    answer["result"] = match adoption {
        Adoption::New => "added",
        Adoption::Unchanged => "unchanged",
        _ => "updated",
    }
    .into();
    ui::json(&answer);
    Ok(())
}

fn adopt(ctx: &Context, doc: &AuthDoc, label: Option<&str>, json: bool) -> Result<Adoption> {
    let mut open = ctx.open()?;
    let adoption = adopt::adopt_login(&mut open, doc, label)?;
    if let (Some(label), true) = (label, adoption != Adoption::New)
        && let Err(error) = open.pool.registry_mut().rename(doc.id(), label)
    {
        ui::warn(&error.to_string());
    }
    adopt::commit_login(&mut open, doc)?;
    let Some(account) = open.pool.registry().get(doc.id()) else { return Ok(adoption) };
    let (name, word) = (account.display(), account.shell_ref());
    let said = match adoption {
        Adoption::New => format!("added {name}"),
        Adoption::Unchanged => format!("{name} was in the pool already, with this login"),
        _ => format!("{name} was in the pool already; its credentials are updated"),
    };
    if !json {
        ui::done(&said);
    }
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
    Ok(adoption)
}

/// Fetches an account's usage and shows its row. The login is kept whatever comes of that.
pub(super) fn show(ctx: &Context, id: &AccountId, kind: AccountKind) {
    fetch(ctx, id, kind);
    if kind == AccountKind::ApiKey {
        return;
    }
    let Ok(open) = ctx.open() else { return };
    let mut views = view::accounts(ctx, &open);
    drop(open);
    views.retain(|view| view.account.id == *id);
    ui::table::accounts(&views, env::clock(), false);
}

/// Fetches an account's usage, and says if that failed.
fn fetch(ctx: &Context, id: &AccountId, kind: AccountKind) {
    if kind == AccountKind::ApiKey {
        return;
    }
    let word = id.as_str();
    let unknown = |why: String| {
        ui::note(&format!("its usage is not known yet: {why}; `codex-pool refresh {word}` tries again"));
    };
    match refresh::fetch(ctx, &Scope::One(id.clone())) {
        Ok(outcomes) => {
            if let Some((_, Outcome::Failed(why))) = outcomes.first() {
                unknown(why.clone());
            }
        }
        Err(error) => unknown(error.to_string()),
    }
}
