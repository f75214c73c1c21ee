//! The pool, loaded: registry, usage and state, with what was changed written back in one go. Opening it
//! migrates a version-1 registry.

use std::cell::OnceCell;

use crate::account::AccountId;
use crate::auth_doc::AuthDoc;
use crate::error::{Error, Result};
use crate::files::{Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::standing::Standings;
use crate::store::{Credentials, FolderRecord, Migration, Registry, Sources, State, migrate_if_v1};
use crate::usage::UsageCache;

/// How many folders are remembered.
const MOST_FOLDERS: usize = 200;
/// How exactly their times are, seconds.
const FOLDER_HOUR: i64 = 3_600;

/// Registry, usage and state as loaded, plus what was changed since. After [`Pool::open_for_launch`], registry and
/// usage are read when somebody wants to see them.
#[derive(Debug)]
pub struct Pool {
    /// Where it is.
    pub paths: PoolPaths,
    registry: OnceCell<Registry>,
    usage: OnceCell<UsageCache>,
    standings: OnceCell<Standings>,
    state: State,
    registry_changed: bool,
    usage_changed: bool,
    state_changed: bool,
    /// The files that registry and usage were read from, if an index of them is missing.
    unindexed: Option<Sources>,
    /// Why the registry could not be read when it was wanted: nothing may be written then.
    unreadable: OnceCell<Error>,
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
        Ok(Pool {
            registry: registry.into(),
            usage: UsageCache::load(Some(lock), paths).into(),
            migrated,
            ..Pool::unread(paths, State::load(Some(lock), paths))
        })
    }

    /// The same for a launch, which of a large pool reads the index of its [`Standings`] alone, if it can be trusted.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub(crate) fn open_for_launch(lock: &PoolLock, paths: &PoolPaths, now: i64) -> Result<Pool> {
        let sources = Sources::look(paths);
        let Some(standings) = sources.as_ref().and_then(|sources| sources.read_index(paths)) else {
            return Ok(Pool { unindexed: sources, ..Pool::open(lock, paths, now)? });
        };
        let unread = Pool::unread(paths, State::load(Some(lock), paths));
        Ok(Pool { standings: standings.into(), ..unread })
    }

    /// Loads the pool only to look, without the lock: whole files, though perhaps of different moments.
    ///
    /// # Errors
    /// The registry cannot be used.
    pub fn peek(paths: &PoolPaths) -> Result<Pool> {
        let pool = Pool::unread(paths, State::load(None, paths));
        Ok(Pool { registry: Registry::load(paths)?.into(), ..pool })
    }

    fn unread(paths: &PoolPaths, state: State) -> Pool {
        Pool {
            paths: paths.clone(),
            registry: OnceCell::new(),
            usage: OnceCell::new(),
            standings: OnceCell::new(),
            state,
            registry_changed: false,
            usage_changed: false,
            state_changed: false,
            unindexed: None,
            unreadable: OnceCell::new(),
            adopted: Vec::new(),
            migrated: None,
        }
    }

    /// The registry. An empty one if it cannot be read now, see [`Pool::readable`].
    pub fn registry(&self) -> &Registry {
        self.registry.get_or_init(|| {
            self.read_indexed().unwrap_or_else(|error| {
                let _ = self.unreadable.set(error);
                Registry::default()
            })
        })
    }

    /// Reads the registry of which the index is.
    fn read_indexed(&self) -> Result<Registry> {
        let registry = Registry::load(&self.paths)?;
        let read = registry.accounts.iter().map(|account| &account.id);
        let same = |index: &Standings| read.eq(index.accounts.iter().map(|standing| &standing.id));
        if self.standings.get().is_none_or(same) {
            return Ok(registry);
        }
        let path = self.paths.registry();
        Err(Error::new(format!("{} was changed by somebody while we were reading it", path.display()))
            .hint("try again"))
    }

    /// The registry, if it could be read. Nothing is written if it could not.
    ///
    /// # Errors
    /// Why it could not.
    pub fn readable(&self) -> Result<&Registry> {
        let registry = self.registry();
        self.unreadable.get().map_or(Ok(registry), |error| Err(error.clone()))
    }

    /// The registry, to change it.
    pub fn registry_mut(&mut self) -> &mut Registry {
        self.registry();
        self.registry_changed = true;
        self.forget_standings();
        self.registry.get_mut().expect("it was read just now")
    }

    /// They are to be made anew, and no index of them, since what was changed may not get to the disk.
    fn forget_standings(&mut self) {
        self.unindexed = None;
        // Where the registry cannot be read, they are all that is known.
        if self.unreadable.get().is_none() {
            self.standings.take();
        }
    }

    /// What is known of the accounts' usage.
    pub fn usage(&self) -> &UsageCache {
        self.usage.get_or_init(|| UsageCache::load(None, &self.paths))
    }

    /// The same, to change it.
    pub fn usage_mut(&mut self) -> &mut UsageCache {
        self.usage();
        self.usage_changed = true;
        self.forget_standings();
        self.usage.get_mut().expect("it was read just now")
    }

    /// What decides about the accounts.
    pub fn standings(&self) -> &Standings {
        self.standings.get_or_init(|| Standings::new(self.registry(), self.usage()))
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

    /// Takes a document into the pool: durable copy first, then the registry. `stored_unchanged`: see
    /// [`Credentials::settle`].
    ///
    /// # Errors
    /// If it could not be made durable.
    pub fn adopt(
        &mut self,
        lock: &PoolLock,
        doc: &AuthDoc,
        label: Option<&str>,
        stored_unchanged: bool,
        now: i64,
    ) -> Result<crate::store::Settled> {
        let before = self.credentials().load(doc.id()).ok().flatten();
        let settled = self.credentials().settle(lock, doc, stored_unchanged, now)?;
        let known = self.standings().get(doc.id()).is_some();
        let fresh = settled == crate::store::Settled::Offered
            && before.is_none_or(|b| !b.same_credentials(doc) || b.plan() != doc.plan());
        if (!known || fresh) && self.registry_mut().enter(doc, label, now) {
            self.adopted.push(doc.id().clone());
        }
        Ok(settled)
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
        if let Some(error) = self.unreadable.get() {
            return Err(error.clone());
        }
        if self.registry_changed {
            self.registry().save(lock, &self.paths)?;
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
        if std::mem::take(&mut self.usage_changed)
            && let Some(usage) = self.usage.get_mut()
        {
            usage.save(lock, &self.paths)?;
        }
        Ok(())
    }

    /// Makes the next launch quick in a large pool, if nothing was changed.
    pub fn index(&mut self, lock: &PoolLock) {
        if let Some(sources) = self.unindexed.take() {
            sources.write_index(lock, &self.paths, self.standings());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth_doc::Secret;
    use std::time::Duration;

    /// A pool of one account as after reading an index, and somebody changes the registry.
    fn changed_under_us(change: impl Fn(&PoolPaths)) {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let doc = |key| AuthDoc::of_api_key(&Secret::new(key)).unwrap();
        let mut registry = Registry::default();
        registry.enter(&doc("there"), None, 1);
        registry.save(&lock, &paths).unwrap();
        let standings = Standings::new(&registry, &UsageCache::default());
        let mut pool = Pool { standings: standings.into(), ..Pool::unread(&paths, State::default()) };
        change(&paths);
        let before = std::fs::read(paths.registry()).ok();
        pool.adopt(&lock, &doc("new"), None, false, 1).unwrap();
        for _ in 0..2 {
            pool.commit(&lock).unwrap_err();
            pool.index(&lock);
        }
        pool.readable().unwrap_err();
        assert_eq!(std::fs::read(paths.registry()).ok(), before);
        assert!(paths.auth(doc("new").id()).exists(), "what was adopted is kept");
        assert!(pool.standings().get(doc("there").id()).is_some(), "who is known can still be picked");
    }

    #[test]
    fn a_registry_that_cannot_be_read_any_more_is_not_replaced_by_an_empty_one() {
        changed_under_us(|paths| std::fs::write(paths.registry(), "{").unwrap());
        changed_under_us(|paths| std::fs::remove_file(paths.registry()).unwrap());
        let empty = "{\"version\":2,\"accounts\":[]}";
        changed_under_us(|paths| std::fs::write(paths.registry(), empty).unwrap());
    }

    #[test]
    fn no_index_is_made_of_what_was_changed() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        std::fs::write(paths.registry(), format!("{:40000}", "{\"version\":2}")).unwrap();
        let changes: [fn(&mut Pool); 2] =
            [|pool| pool.registry_mut().accounts.clear(), |pool| pool.usage_mut().no_wait_until = None];
        for change in changes {
            let mut pool = Pool::open_for_launch(&lock, &paths, 1).unwrap();
            change(&mut pool);
            pool.index(&lock);
            assert!(!paths.standings().exists());
        }
        Pool::open_for_launch(&lock, &paths, 1).unwrap().index(&lock);
        assert!(paths.standings().exists());
    }
}
