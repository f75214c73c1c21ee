//! Taking a login into the pool, for `add`, `reauth`, `import` and `init`: the credentials, the registry's
//! entry, and every home that holds the account, in one transaction.

use codex_pool_core::account::AccountId;
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::files::{self, Durability};
use codex_pool_core::homes;
use codex_pool_core::renewal;
use codex_pool_core::store::Settled;
use codex_pool_core::{Error, Result, env};

use super::{Context, Open};
use crate::ui;

/// What taking a document in has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The account is new in the pool.
    New,
    /// The account was there, and has these credentials now.
    Updated,
    /// The account was there with these very credentials.
    Same,
    /// The account was there with newer credentials, which it keeps.
    Older,
}

/// Takes a document into the open pool. `label` is for a new account. The caller commits.
///
/// # Errors
/// If it could not be made durable; nothing has changed then.
pub(crate) fn take(open: &mut Open, doc: &AuthDoc, label: Option<&str>) -> Result<Taken> {
    let id = doc.id();
    let known = open.pool.registry().get(id).is_some();
    let before = open.pool.credentials().load(id).ok().flatten();
    let settled = open.pool.adopt(&open.lock, doc, label, false, open.now)?;
    // What was adopted is told by whoever asked for it.
    open.pool.adopted.clear();
    let same = before.is_some_and(|before| before.same_credentials(doc));
    let taken = match (settled, known) {
        (_, true) if same => Taken::Same,
        (Settled::Kept, true) => Taken::Older,
        (Settled::Offered, true) => Taken::Updated,
        (_, false) => Taken::New,
    };
    if !same {
        hand_out(open, id)?;
    }
    Ok(taken)
}

/// Writes the account's newest credentials into the homes that hold it, in use or not.
fn hand_out(open: &mut Open, id: &AccountId) -> Result<()> {
    for home in homes::homes_of(&open.lock, &mut open.pool, id, open.now)? {
        let Some(newest) = open.pool.credentials().load(id)? else { continue };
        if let Err(error) = homes::renew(&open.lock, &mut open.pool, &home, &newest, open.now) {
            ui::warn(&format!("{error}; the next launch there tries again"));
        }
    }
    Ok(())
}

/// Takes the result of a login that was made just now: whatever spoke against the account is over.
///
/// # Errors
/// As [`take`].
pub(crate) fn take_login(open: &mut Open, doc: &AuthDoc, label: Option<&str>) -> Result<Taken> {
    let taken = take(open, doc, label)?;
    renewal::restart(&mut open.pool, doc.id());
    // A cache need not be written for an account that is not in it.
    if open.pool.usage().accounts.contains_key(doc.id())
        && let Some(entry) = open.pool.usage_mut().accounts.get_mut(doc.id())
    {
        (entry.attempt, entry.renewal) = (None, None);
    }
    Ok(taken)
}

/// What to do when a login that was made just now could not be taken in: nobody should have to make it
/// again. It is kept, without the pool's lock since that may be what cannot be had, and the error says where.
pub(crate) fn keep_for_later(ctx: &Context<'_>, doc: &AuthDoc, error: Error) -> Error {
    let dir = ctx.paths.lost_found();
    let file = dir.join(format!("{}-{}-login.json", env::clock(), doc.id()));
    let kept = files::create_private_dir(&dir)
        .and_then(|()| files::write_whole(&file, doc.bytes(), Durability::Durable));
    match kept {
        Ok(()) => {
            error.hint(format!("the login is kept: `codex-pool import '{}'` takes it in", file.display()))
        }
        Err(_) => error,
    }
}
