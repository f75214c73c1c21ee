//! Removing an account for good (`codex-pool rm`), in the order in which a crash does no harm.

use std::path::Path;

use crate::account::AccountId;
use crate::codex::background_server::BackgroundServer;
use crate::error::Result;
use crate::files::PoolLock;
use crate::homes::{clear_homes, own_home};
use crate::pool::Pool;
use crate::store::{self, path_of_key};

/// Removes an account: from every home, with every copy of its credentials, and from the registry. The caller knows
/// that it is not in use. `codex` stops its idle background servers, which would go on with the account. Returns those
/// that could not be stopped.
///
/// # Errors
/// Something cannot be removed. The account can then be removed again.
pub fn remove_account(
    lock: &PoolLock,
    pool: &mut Pool,
    id: &AccountId,
    codex: Option<&Path>,
    now: i64,
) -> Result<Vec<BackgroundServer>> {
    let running = stop_servers(pool, id, codex);
    clear_homes(lock, pool, id, now)?;
    let state = pool.state_mut();
    state.pin = state.pin.take().filter(|pin| pin != id);
    state.marks.retain(|mark| mark.account.as_ref() != Some(id));
    pool.registry_mut().accounts.retain(|account| account.id != *id);
    own_home::retire(lock, &pool.paths, id)?;
    store::erase(lock, &pool.paths, id)?;
    // The registry last: a crash leaves an account without credentials, never credentials without an account.
    pool.commit(lock)?;
    Ok(running)
}

/// Stops the background servers of the homes that are the account's or hold it. Returns those that go on.
fn stop_servers(pool: &Pool, id: &AccountId, codex: Option<&Path>) -> Vec<BackgroundServer> {
    let mut dirs = own_home::dirs_of(&pool.paths, id);
    let holding = pool.state().homes.iter().filter(|(_, memory)| memory.account == *id);
    dirs.extend(holding.filter_map(|(key, _)| Some(path_of_key(key).parent()?.to_owned())));
    let mut running = Vec::new();
    for dir in dirs {
        if let Some(server) = BackgroundServer::of_home(&dir)
            && !codex.is_some_and(|codex| server.stop(codex))
        {
            running.push(server);
        }
    }
    running
}
