//! Adopting a login, for `add`, `reauth`, `import` and `init`: the credentials, the registry's entry, and every home
//! that holds the account, in one transaction.

use codex_pool_core::account::AccountId;
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::homes;
use codex_pool_core::renewal;
use codex_pool_core::store::{Adoption, LostFound, Origin};
use codex_pool_core::{Error, Result, env};

use super::{Context, Notice, OpenPool};

/// Adopts a document. `label` is for a new account. The caller commits.
///
/// # Errors
/// The document could not be made durable; nothing has changed then.
pub(crate) fn adopt(open: &mut OpenPool, doc: &AuthDoc, label: Option<&str>) -> Result<Adoption> {
    let adoption = open.pool.adopt(&open.lock, doc, label, Origin::Found, open.now)?;
    // The command tells what it adopted.
    open.pool.adopted.clear();
    if adoption != Adoption::Unchanged {
        update_homes(open, doc.id())?;
    }
    Ok(adoption)
}

/// Writes the account's newest credentials into the homes that hold it, in use or not.
fn update_homes(open: &mut OpenPool, id: &AccountId) -> Result<()> {
    for home in homes::homes_with(&open.lock, &mut open.pool, id, open.now)? {
        let Some(newest) = open.pool.credentials().load(id)? else { continue };
        if let Err(error) = homes::rewrite(&open.lock, &mut open.pool, &home, &newest, open.now) {
            warn(open, &error);
        }
    }
    Ok(())
}

fn warn(open: &OpenPool, error: &Error) {
    (open.tell)(&Notice::Warning(format!("{error}; the next launch there tries again")));
}

/// Adopts the result of a login that was made just now, whatever the pool has. What was wrong with the account is over.
///
/// # Errors
/// As [`adopt`].
pub(crate) fn adopt_login(open: &mut OpenPool, doc: &AuthDoc, label: Option<&str>) -> Result<Adoption> {
    let (adoption, problems) = homes::adopt_login(&open.lock, &mut open.pool, doc, label, open.now)?;
    open.pool.adopted.clear();
    problems.iter().for_each(|error| warn(open, error));
    renewal::forget_before_login(&mut open.pool, doc.id());
    // The cache need not be written for an account that is not in it.
    if open.pool.usage().accounts.contains_key(doc.id())
        && let Some(entry) = open.pool.usage_mut().accounts.get_mut(doc.id())
    {
        (entry.attempt, entry.renewal) = (None, None);
    }
    Ok(adoption)
}

/// Commits an adopted login, and requires that it is what the pool has.
///
/// # Errors
/// The pool could not be written, or has another login of the account.
pub(crate) fn commit_login(open: &mut OpenPool, doc: &AuthDoc) -> Result<()> {
    open.commit()?;
    if open.pool.credentials().holds(doc)? {
        return Ok(());
    }
    Err(Error::new("the pool has another login of this account than the one that was made just now")
        .hint("log in once more"))
}

/// Keeps a login that was made just now and could not be adopted, so that the user need not make it again. Works
/// without the pool's lock, which may be what cannot be had. The returned error says where the login is.
pub(crate) fn keep_for_later(ctx: &Context, doc: &AuthDoc, error: Error) -> Error {
    match LostFound::new(&ctx.paths).keep_login(doc, env::clock()) {
        Ok(file) => {
            error.hint(format!("the login is kept: `codex-pool import '{}'` takes it in", file.display()))
        }
        Err(_) => error,
    }
}
