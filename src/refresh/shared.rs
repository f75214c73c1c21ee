//! The database of a shared pool, as a refresh uses it: what is newer there comes here and the other way round (`sync`),
//! nothing is renewed without a lease (`lease`), and one machine asks the service for all (`usage`). Nothing of it
//! happens while the pool is locked. Once the database did not answer, this process does not ask it again.

mod lease;
mod sync;
mod usage;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codex_pool_core::files::PoolLock;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::{Error, Result};
use codex_pool_share::postgres::Postgres;
use codex_pool_share::protocol::{Share, ShareError};
use codex_pool_share::pull::Pulled;
use codex_pool_share::store::StoreError;

use crate::share::{ShareState, Shared, explain};

pub(super) use lease::Permission;
pub(crate) use sync::{take_in, take_login};
pub(super) use usage::Asker;

/// How long the database is waited for at each call. A launch may be waiting.
const LIMIT: Duration = Duration::from_secs(5);

/// The database.
pub(super) struct Sharing(Mutex<Inner>);

struct Inner {
    /// `Ok(None)`: this machine has no keys.
    shared: Result<Option<Shared>>,
    /// Why the database is not asked any more.
    down: Option<String>,
}

impl Sharing {
    /// Reads this machine's keys. The connection is made when it is needed.
    pub(super) fn of(paths: &PoolPaths) -> Sharing {
        let mut shared = Shared::open(paths);
        if let Ok(Some(shared)) = &mut shared {
            shared.store().set_limit(LIMIT);
        }
        Sharing(Mutex::new(Inner { shared, down: None }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the database.
    ///
    /// # Errors
    /// It does not answer, or says what is not believed. The text is for a person.
    fn ask<T>(&self, work: impl FnOnce(&mut Shared) -> Result<T, ShareError>) -> Result<T, String> {
        let mut inner = self.inner();
        if let Some(why) = &inner.down {
            return Err(why.clone());
        }
        let shared = match &mut inner.shared {
            Ok(Some(shared)) => shared,
            Ok(None) => return Err(no_keys().to_string()),
            Err(error) => return Err(error.to_string()),
        };
        match work(shared) {
            Ok(done) => Ok(done),
            Err(error) => {
                let why = explain(&error).message;
                if matches!(error, ShareError::Store(StoreError::Down(_) | StoreError::Unknown(_))) {
                    inner.down = Some(why.clone());
                }
                Err(why)
            }
        }
    }

    /// Asks the database as a member. A runner has nothing to write there.
    fn as_member<T>(
        &self,
        work: impl FnOnce(&mut Share<Postgres>) -> Result<T, ShareError>,
    ) -> Result<T, String> {
        self.ask(|shared| work(shared.member().ok_or(ShareError::Malformed)?))
    }

    /// Keeps what was seen in the database. What was pulled must be in the pool already.
    fn save(&self, lock: &PoolLock, note: impl FnOnce(&mut ShareState)) -> Result<()> {
        match &self.inner().shared {
            Ok(Some(shared)) => shared.save(lock, note),
            _ => Ok(()),
        }
    }

    /// Takes in what other machines have written. Returns the labels of accounts that were removed.
    fn take_in(&self, lock: &PoolLock, pool: &mut Pool, pulled: &Pulled, now: i64) -> Result<Vec<String>> {
        match &self.inner().shared {
            Ok(Some(shared)) => sync::take_in(shared, lock, pool, pulled, now),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns what this machine keeps beside the pool.
    pub(super) fn state(&self) -> ShareState {
        match &self.inner().shared {
            Ok(Some(shared)) => shared.state(),
            _ => ShareState::default(),
        }
    }
}

fn no_keys() -> Error {
    Error::new("the pool is shared, and this machine has no keys to it (`share.toml`)")
        .hint("`codex-pool share join`, or `codex-pool share leave`")
}
