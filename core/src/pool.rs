//! The pool, loaded: registry, usage and state, with what was changed written back in one go. Opening it
//! migrates a version-1 registry.

use crate::account::{AccountId, AuthReason, AuthState, AuthStatus};
use crate::auth_doc::AuthDoc;
use crate::error::Result;
use crate::files::{Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::store::{Adoption, Credentials, FolderRecord, Migration, Registry, State, migrate_if_v1};
use crate::usage::UsageCache;

/// How many folders are remembered.
const MOST_FOLDERS: usize = 200;
/// How exactly their times are, seconds.
const FOLDER_HOUR: i64 = 3_600;

/// Registry, usage and state as loaded, plus what was changed since.
#[derive(Debug)]
pub struct Pool {
    /// Where it is.
    pub paths: PoolPaths,
    registry: Registry,
    usage: UsageCache,
    state: State,
    registry_changed: bool,
    usage_changed: bool,
    state_changed: bool,
    /// Accounts that were adopted since it was opened, for a message.
    pub adopted: Vec<AccountId>,
    /// What a migration did, if there was one.
    pub migrated: Option<Migration>,
}

impl Pool {
    /// Loads the pool to change it. Of a state that was lost, the homes are to be found again: see
    /// [`crate::homes::open_pool`].
    ///
    /// # Errors
    /// The registry cannot be used (see [`Registry::load`]), or a migration failed. Nothing was changed then.
    pub(crate) fn open(lock: &PoolLock, paths: &PoolPaths, now: i64) -> Result<Pool> {
        let mut migrated = None;
        let registry = match Registry::load(paths) {
            Ok(registry) => registry,
            Err(error) => {
                migrated = migrate_if_v1(lock, paths, now)?;
                if migrated.is_none() {
                    return Err(error);
                }
                Registry::load(paths)?
            }
        };
        Ok(Pool { migrated, ..Pool::load(Some(lock), paths, registry) })
    }

    /// Loads the pool only to look, without the lock: whole files, though perhaps of different moments.
    ///
    /// # Errors
    /// The registry cannot be used.
    pub fn peek(paths: &PoolPaths) -> Result<Pool> {
        Ok(Pool::load(None, paths, Registry::load(paths)?))
    }

    fn load(lock: Option<&PoolLock>, paths: &PoolPaths, registry: Registry) -> Pool {
        Pool {
            paths: paths.clone(),
            registry,
            usage: UsageCache::load(lock, paths),
            state: State::load(lock, paths),
            registry_changed: false,
            usage_changed: false,
            state_changed: false,
            adopted: Vec::new(),
            migrated: None,
        }
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The registry, to change it.
    pub fn registry_mut(&mut self) -> &mut Registry {
        self.registry_changed = true;
        &mut self.registry
    }

    /// What is known of the accounts' usage.
    pub fn usage(&self) -> &UsageCache {
        &self.usage
    }

    /// The same, to change it.
    pub fn usage_mut(&mut self) -> &mut UsageCache {
        self.usage_changed = true;
        &mut self.usage
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, to change it.
    pub fn state_mut(&mut self) -> &mut State {
        self.state_changed = true;
        &mut self.state
    }

    /// The durable documents.
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials::new(&self.paths)
    }

    /// Adopts a document: the durable copy first, then the registry. `label` is for a new account; `stored_unchanged`:
    /// see [`Credentials::put_newer`].
    ///
    /// # Errors
    /// It could not be made durable.
    pub fn adopt(
        &mut self,
        lock: &PoolLock,
        doc: &AuthDoc,
        label: Option<&str>,
        stored_unchanged: bool,
        now: i64,
    ) -> Result<Adoption> {
        let known = self.registry.get(doc.id()).is_some();
        let adoption = self.credentials().put_newer(lock, doc, stored_unchanged, now)?;
        let changed = matches!(adoption, Adoption::New | Adoption::Updated);
        if (changed || !known) && self.registry_mut().upsert(doc, label, now) {
            self.adopted.push(doc.id().clone());
        }
        Ok(match adoption {
            Adoption::New if known => Adoption::Updated,
            Adoption::Updated | Adoption::Unchanged if !known => Adoption::New,
            adoption => adoption,
        })
    }

    /// Sets what is known of an account's credentials, if that is news. `now`: Unix seconds.
    pub fn set_auth(&mut self, id: &AccountId, state: AuthState, reason: Option<AuthReason>, now: i64) {
        let is_news = |auth: &AuthStatus| auth.state != state || auth.reason != reason;
        if self.registry.get(id).is_some_and(|account| is_news(&account.auth))
            && let Some(account) = self.registry_mut().get_mut(id)
        {
            let since = (state != AuthState::Ok).then_some(now);
            account.auth = AuthStatus { state, reason, since };
        }
    }

    /// Remembers who launched in a folder. Writes nothing when that is known already.
    pub fn remember_folder(&mut self, folder: &str, account: &AccountId, interactive: bool, now_ms: i64) {
        let lately = |m: &FolderRecord| (now_ms / 1000).saturating_sub(m.at) < FOLDER_HOUR;
        if self.state.folders.get(folder).is_some_and(|m| m.says(account, interactive) && lately(m)) {
            return;
        }
        let folders = &mut self.state_mut().folders;
        match folders.get_mut(folder) {
            Some(memory) => memory.launched(account, interactive, now_ms),
            None => drop(folders.insert(folder.to_owned(), FolderRecord::new(account, interactive, now_ms))),
        }
        if folders.len() > MOST_FOLDERS {
            let oldest = folders.iter().min_by_key(|(_, m)| m.at).map(|(folder, _)| folder.clone());
            oldest.and_then(|folder| folders.remove(&folder));
        }
    }

    /// Writes back what was changed.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn commit(&mut self, lock: &PoolLock) -> Result<()> {
        self.commit_with(lock, Durability::Fast)
    }

    /// The same; `durability`: whether the state must survive a power cut, too (a mark must).
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn commit_with(&mut self, lock: &PoolLock, durability: Durability) -> Result<()> {
        if self.registry_changed {
            self.registry.save(lock, &self.paths)?;
            self.registry_changed = false;
        }
        if self.state_changed {
            self.state.save(lock, &self.paths, durability)?;
            self.state_changed = false;
        }
        self.save_usage(lock)
    }

    /// Writes back what was changed of the usage.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_usage(&mut self, lock: &PoolLock) -> Result<()> {
        if std::mem::take(&mut self.usage_changed) {
            self.usage.save(lock, &self.paths)?;
        }
        Ok(())
    }
}
