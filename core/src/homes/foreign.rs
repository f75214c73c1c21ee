//! Whose a CODEX_HOME is. Other programs give their Codex one of their own, with a login of its own. The pool leaves such
//! a home alone until `init` is run there. One without a login gets the pick, and is the pool's to change from then on.

use std::path::Path;

use super::{AuthFile, CodexHome, Link, main_home_of};
use crate::account::AccountKind;
use crate::auth_doc::AuthDoc;
use crate::env::{Env, names};
use crate::paths::PoolPaths;
use crate::pool::Pool;

/// Returns whether the main home is another program's: the environment names it, it has a login that the pool never saw,
/// and the pool never put an account there.
pub fn is_foreign(pool: &Pool, env: &Env, main_home: &CodexHome) -> bool {
    let auth_json = main_home.auth_json();
    if pool.registry().manages(main_home.dir())
        || pool.state().home(&auth_json).is_some()
        || !is_named(&pool.paths, env, main_home)
    {
        return false;
    }
    let Ok(file) = AuthFile::find(&pool.paths, auth_json) else { return false };
    if file.link == Link::Ours {
        return false;
    }
    let Ok(Some(bytes)) = file.read() else { return false };
    match AuthDoc::parse(bytes) {
        Ok(doc) => !is_known(pool, &doc),
        // One that is not whole may be just written there.
        Err(_) => true,
    }
}

/// Returns whether the environment names this main home, and it is not the one that Codex has without that.
pub(crate) fn is_named(paths: &PoolPaths, env: &Env, main_home: &CodexHome) -> bool {
    let named = env.get(names::CODEX_HOME).map(Path::new);
    named.is_some_and(|named| main_home_of(paths, named).is_none()) && !main_home.is_default(env)
}

/// Returns whether the pool has had this login.
fn is_known(pool: &Pool, doc: &AuthDoc) -> bool {
    let registry = pool.registry();
    match doc.token_hash() {
        Some(token) => registry
            .accounts
            .iter()
            .any(|account| account.refresh_tokens.as_ref().is_some_and(|seen| seen.has(&token))),
        None if doc.kind() == AccountKind::ApiKey => registry.get(doc.id()).is_some(),
        None => {
            let stored = pool.credentials().load(doc.id()).ok().flatten();
            stored.is_some_and(|stored| stored.access_token() == doc.access_token())
        }
    }
}
