//! `reauth`: logs in again to an account of the pool. The login must be of the same user in the same workspace.

use codex_pool_core::account::{Account, AccountKind};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::shared::refuse_on_runner;
use codex_pool_core::{Error, ErrorKind, Result, references};

use super::{add, login};
use crate::cli::ReauthArgs;
use crate::context::{Context, adopt};
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &ReauthArgs) -> Result<()> {
    let open = ctx.open()?;
    refuse_on_runner(open.pool.shared(), "codex-pool reauth")?;
    let account = references::resolve(&open.pool.registry().accounts, &args.account)?.clone();
    drop(open);
    if account.kind == AccountKind::ApiKey {
        return Err(Error::new(format!(
            "`{}` is an API key, and another key is another account",
            account.label
        ))
        .hint("`codex-pool add --with-api-key` adds the new one"));
    }
    if args.login.with_api_key {
        return Err(Error::of(
            ErrorKind::Usage,
            format!("`{}` is a ChatGPT login, which an API key cannot renew", account.label),
        )
        .hint(format!("`codex-pool reauth {}`", account.shell_ref())));
    }
    ui::note(&format!("log in as {}", who(&account)));
    let login = login::log_in(ctx, &args.login, false)?;
    let doc = &login.doc;
    if *doc.id() != account.id {
        return Err(Error::new(format!(
            "you logged in as {}, but `{}` is {}; nothing was changed",
            who_of(doc),
            account.label,
            who(&account)
        ))
        .hint(format!(
            "try again with `codex-pool reauth {}`; `codex-pool add` takes another account in",
            account.shell_ref()
        )));
    }
    let live = adopt(ctx, &account, doc).map_err(|error| adopt::keep_for_later(ctx, doc, error))?;
    drop(login);
    ui::done(&format!(
        "`{}` is logged in again{}",
        account.label,
        if live { "; it is live, and its running sessions continue with the new login" } else { "" }
    ));
    add::show(ctx, &account.id, account.kind);
    Ok(())
}

/// Adopts the new login. Returns whether the account is live.
fn adopt(ctx: &Context, account: &Account, doc: &AuthDoc) -> Result<bool> {
    let mut open = ctx.open()?;
    if open.pool.registry().get(&account.id).is_none() {
        return Err(Error::of(
            ErrorKind::NoSuchAccount,
            format!("`{}` was removed from the pool meanwhile", account.label),
        )
        .hint("`codex-pool add` takes it in again"));
    }
    adopt::adopt_login(&mut open, doc, None)?;
    adopt::commit_login(&mut open, doc)?;
    Ok(open.live() == Some(&account.id))
}

/// Returns who an account is: its email and workspace, since one email can be in several.
fn who(account: &Account) -> String {
    describe(account.email.as_deref(), account.account_id.as_deref(), account.plan.as_deref())
}

fn who_of(doc: &AuthDoc) -> String {
    match doc.identity() {
        Some(who) => describe(doc.email(), Some(&who.account_id), doc.plan()),
        None => "an API key".to_owned(),
    }
}

fn describe(email: Option<&str>, workspace: Option<&str>, plan: Option<&str>) -> String {
    let email = email.unwrap_or("an account without email");
    let plan = plan.map_or_else(String::new, |plan| format!("{plan}, "));
    format!("{email} ({plan}workspace {})", workspace.unwrap_or("unknown"))
}
