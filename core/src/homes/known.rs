//! Which homes there are: those that the state remembers, those that the ledger names, and the own homes on disk. The
//! state can be lost, and a launch that was killed may not have saved it.

use std::path::Path;

use super::{CodexHome, HomeKind, main_home_of, own_home};
use crate::account::AccountId;
use crate::ledger::Ledger;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::store::path_of_key;

/// Returns the homes that the state remembers, and the own homes with an `auth.json`.
pub(crate) fn known(pool: &Pool) -> Vec<CodexHome> {
    let remembered = pool.state().homes.keys();
    let mut homes: Vec<CodexHome> =
        remembered.filter_map(|key| CodexHome::of_auth_json(&pool.paths, &path_of_key(key))).collect();
    homes.extend(on_disk(&pool.paths).into_iter().filter(|home| home.is_own() && has_auth_json(home)));
    each_once(homes)
}

/// Returns the homes that a launch is in, or was in until just now.
pub(crate) fn in_ledger(paths: &PoolPaths, ledger: &Ledger) -> Vec<CodexHome> {
    ledger.auth_jsons().iter().filter_map(|path| CodexHome::of_auth_json(paths, path)).collect()
}

/// Returns the homes that held this account when they were last seen.
pub(super) fn last_seen_with(pool: &Pool, id: &AccountId) -> Vec<CodexHome> {
    let with_account = pool.state().homes.iter().filter(|(_, record)| record.account == *id);
    with_account.filter_map(|(key, _)| CodexHome::of_auth_json(&pool.paths, &path_of_key(key))).collect()
}

/// Returns the homes that held this account when they were last seen, and its own homes with an `auth.json`, whatever
/// account that is of.
pub(super) fn of_account(pool: &Pool, id: &AccountId) -> Vec<CodexHome> {
    let own = own_home::dirs_of(&pool.paths, id).into_iter().map(|dir| CodexHome::at(&pool.paths, dir));
    let mut homes = last_seen_with(pool, id);
    homes.extend(own.filter(has_auth_json));
    each_once(homes)
}

/// Returns the homes in the pool's folder, and the main home of each. Login homes are left to the login, or to
/// [`super::login_home::clear_abandoned`].
pub(super) fn on_disk(paths: &PoolPaths) -> Vec<CodexHome> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let dirs = entries(&paths.homes()).flat_map(|over| {
        let homes = entries(&over).filter(|dir| dir.is_dir());
        main_home_of(paths, &over).into_iter().chain(homes).collect::<Vec<_>>()
    });
    dirs.map(|dir| CodexHome::at(paths, dir)).filter(|home| *home.kind() != HomeKind::Login).collect()
}

fn has_auth_json(home: &CodexHome) -> bool {
    home.auth_json().symlink_metadata().is_ok()
}

pub(super) fn each_once(mut homes: Vec<CodexHome>) -> Vec<CodexHome> {
    homes.sort_unstable_by_key(CodexHome::auth_json);
    homes.dedup();
    homes
}
