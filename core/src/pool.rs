//! The pool in memory: registry, usage and state, and writing back what was changed. Opening it migrates a version-1
//! registry.

use std::path::Path;

use crate::account::{Account, AccountId, AccountKind, AuthReason, AuthState, AuthStatus};
use crate::auth_doc::AuthDoc;
use crate::error::Result;
use crate::files::{Durability, PoolLock};
use crate::journal::{self, Entry, Event};
use crate::paths::PoolPaths;
use crate::seen_tokens::{SeenTokens, TokenHash};
use crate::shared::Role;
use crate::store::{
    Adoption, Credentials, FolderRecord, LostFound, Migration, Origin, Registry, State, Stored, Why,
    migrate_if_v1, path_key,
};
use crate::usage::history::{self, History, Reading};
use crate::usage::{Usage, UsageCache};

/// The most folders whose last launch is remembered.
const MOST_FOLDERS: usize = 200;
/// How exact their times are, seconds.
const FOLDER_HOUR: i64 = 3_600;

/// Registry, usage and state, as loaded and changed since.
#[derive(Debug)]
pub struct Pool {
    /// The paths of its files.
    pub paths: PoolPaths,
    registry: Registry,
    usage: UsageCache,
    state: State,
    registry_changed: bool,
    usage_changed: bool,
    state_changed: bool,
    /// The readings for the history, until the usage is saved.
    readings: Vec<Reading>,
    /// What happened, for the log, until the next commit.
    events: Vec<Entry>,
    /// The accounts that were adopted since it was opened, for a message.
    pub adopted: Vec<AccountId>,
    /// What the migration did, if there was one.
    pub migrated: Option<Migration>,
}

impl Pool {
    /// Loads the pool to change it. Without a state, the caller must find the homes again: see
    /// [`crate::homes::open_pool`].
    ///
    /// # Errors
    /// The registry cannot be used (see [`Registry::load`]), or a migration failed. Nothing has changed then.
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
        let mut pool = Pool { migrated, ..Pool::load(Some(lock), paths, registry) };
        pool.see_all();
        Ok(pool)
    }

    /// Loads the pool to read it, without the lock. Each file is whole, though they may be of different moments.
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
            readings: Vec::new(),
            events: Vec::new(),
            adopted: Vec::new(),
            migrated: None,
        }
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The registry, to be changed.
    pub fn registry_mut(&mut self) -> &mut Registry {
        self.registry_changed = true;
        &mut self.registry
    }

    /// Notes that a main home is the pool's to change, whatever login it has.
    pub fn manage(&mut self, main_home: &Path) {
        if !self.registry.manages(main_home) {
            self.registry_mut().homes.push(path_key(main_home));
        }
    }

    /// Returns what this machine is in the pool that it shares with others; `None`: the pool is its alone.
    pub fn shared(&self) -> Option<Role> {
        self.registry.shared
    }

    /// Notes that the pool is shared from now on, or not any more. The homes have the documents of before until
    /// [`crate::renewal::exchange_newest`].
    pub fn set_shared(&mut self, role: Option<Role>) {
        let registry = self.registry_mut();
        registry.shared = role;
        for access in registry.accounts.iter_mut().filter_map(|account| account.access_only.as_mut()) {
            access.by_members = role == Some(Role::Runner);
        }
        if role.is_none() && self.usage.sharing.is_some() {
            // Other machines' sessions are nothing to it any more, nor is a database that does not answer.
            self.usage_mut().sharing = None;
        }
    }

    /// Returns the document that a Codex home gets of an account's document in the pool: in a shared pool the one
    /// without its refresh token, since the machines renew tokens only by agreement.
    pub fn for_home(&self, doc: AuthDoc) -> AuthDoc {
        match self.shared() {
            Some(_) if doc.refresh_token().is_some() => doc.access_only(),
            _ => doc,
        }
    }

    /// The cached usage.
    pub fn usage(&self) -> &UsageCache {
        &self.usage
    }

    /// The cached usage, to be changed.
    pub fn usage_mut(&mut self) -> &mut UsageCache {
        self.usage_changed = true;
        &mut self.usage
    }

    /// Sets what is known of an account's usage. The history gets it if it says something new.
    pub fn set_usage(&mut self, id: &AccountId, usage: Usage) {
        let entry = self.usage_mut().accounts.entry(id.clone()).or_default();
        let before = entry.usage.replace(usage);
        if let Some(usage) = entry.usage.as_ref().filter(|usage| history::changed(before.as_ref(), usage)) {
            let now = usage.fetched_at;
            let was_full = before.as_ref().is_some_and(|before| before.exhausted_until(now).is_some());
            let is_full = usage.exhausted_until(now).is_some();
            let reading = Reading::of(id, usage);
            self.readings.push(reading);
            if is_full && !was_full {
                self.note(Entry::new(now, Event::Limit, Some(id)));
            }
        }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, to be changed.
    pub fn state_mut(&mut self) -> &mut State {
        self.state_changed = true;
        &mut self.state
    }

    /// The stored credentials.
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials::new(&self.paths)
    }

    /// Adopts a document: the durable copy first, then the registry. `label` is for a new account. Of a loan, a document
    /// with another account's refresh token, only the access token is taken, and only where the account has no login of
    /// its own. The refresh token goes to the account that it belongs to, if it is new there.
    ///
    /// # Errors
    /// The document could not be made durable.
    pub fn adopt(
        &mut self,
        lock: &PoolLock,
        doc: &AuthDoc,
        label: Option<&str>,
        origin: Origin,
        now: i64,
    ) -> Result<Adoption> {
        let stored = self.credentials().stored(doc.id())?;
        if self.is_unwanted(doc) {
            let differs = stored.document().is_none_or(|stored| stored.bytes() != doc.bytes());
            if differs {
                LostFound::new(&self.paths).keep(lock, doc.bytes(), Why::Replaced, Some(doc.id()), now)?;
            }
            return Ok(Adoption::KeptNewer);
        }
        let Some(token) = doc.token_hash() else {
            return self.adopt_access(lock, stored, doc, label, origin, now);
        };
        let stored_token = stored.document().and_then(AuthDoc::token_hash);
        let seen = |account: &Account| account.refresh_tokens.as_ref().is_some_and(|seen| seen.has(&token));
        let of_another =
            self.registry.accounts.iter().any(|account| account.id != *doc.id() && seen(account));
        let known_here = self.registry.get(doc.id()).is_some_and(seen);
        if of_another || !known_here && self.give_back(lock, doc, now)? {
            return self.adopt_access(lock, stored, &doc.clone().access_only(), label, origin, now);
        }
        let other = stored_token.filter(|stored| *stored != token);
        if other.is_some() && self.is_used(doc) {
            // An older login was written over a newer one, whatever its dates say.
            return Ok(Adoption::KeptNewer);
        }
        // The issuer refuses the pool's login for good: one that it has not seen can only be better.
        let wins = other.is_some() && !known_here && self.login_is_over(doc.id());
        let origin = if wins { Origin::Login } else { origin };
        let adoption = self.adopt_own(lock, stored, doc, label, origin, now)?;
        self.see(doc);
        let displaced = other.filter(|_| adoption == Adoption::Updated);
        if let (Some(old), Some(account)) = (displaced, self.registry.get_mut(doc.id())) {
            let seen = account.refresh_tokens.get_or_insert_default();
            if origin == Origin::Successor { seen.mark_used(&old) } else { seen.mark_displaced(&old) }
        }
        Ok(adoption)
    }

    /// Returns whether this machine takes no such login: a runner has access tokens alone.
    pub(crate) fn is_unwanted(&self, doc: &AuthDoc) -> bool {
        self.shared() == Some(Role::Runner) && !doc.is_access_only()
    }

    /// Adopts a document without a refresh token. It never takes the place of a login that can still be renewed.
    fn adopt_access(
        &mut self,
        lock: &PoolLock,
        stored: Stored,
        doc: &AuthDoc,
        label: Option<&str>,
        origin: Origin,
        now: i64,
    ) -> Result<Adoption> {
        let full = stored.document().filter(|stored| doc.is_access_only() && !stored.is_access_only());
        let Some(full) = full else {
            return self.adopt_own(lock, stored, doc, label, origin, now);
        };
        if origin != Origin::Login && (self.shared().is_some() || doc.compare_age(full).is_le()) {
            // The pool's login has this access token, or a later one. In a shared pool every home has such a document, and
            // none of them is newer than what it was made from.
            return Ok(Adoption::KeptNewer);
        }
        let origin = if self.login_is_over(doc.id()) { Origin::Login } else { origin };
        self.adopt_own(lock, stored, doc, label, origin, now)
    }

    /// Returns whether the issuer refuses an account's login for good. One that the user logged out is not over: what is
    /// found elsewhere does not log it in again.
    fn login_is_over(&self, id: &AccountId) -> bool {
        let auth = self.registry.get(id).map(|account| &account.auth);
        auth.is_some_and(|auth| {
            auth.state == AuthState::ReauthRequired && auth.reason != Some(AuthReason::LoggedOut)
        })
    }

    /// Gives the refresh token of a loan to the account that the id token names: Codex renewed its tokens there before it
    /// switched the workspace. Returns whether there is such an account.
    fn give_back(&mut self, lock: &PoolLock, doc: &AuthDoc, now: i64) -> Result<bool> {
        let Some((lender, token)) = doc.lender().zip(doc.refresh_token()) else { return Ok(false) };
        let Ok(Some(own)) = self.credentials().load(lender) else { return Ok(false) };
        let Ok(renewed) = own.with_refresh_token(token) else { return Ok(false) };
        self.adopt(lock, &renewed, None, Origin::Successor, now)?;
        Ok(true)
    }

    fn adopt_own(
        &mut self,
        lock: &PoolLock,
        stored: Stored,
        doc: &AuthDoc,
        label: Option<&str>,
        origin: Origin,
        now: i64,
    ) -> Result<Adoption> {
        let known = self.registry.get(doc.id()).is_some();
        let adoption = self.credentials().put_over(lock, stored, doc, origin, now)?;
        let changed = matches!(adoption, Adoption::New | Adoption::Updated);
        if (changed || !known) && self.registry_mut().upsert(doc, label, now) {
            self.adopted.push(doc.id().clone());
        }
        let adoption = match adoption {
            Adoption::New if known => Adoption::Updated,
            Adoption::Updated | Adoption::Unchanged if !known => Adoption::New,
            adoption => adoption,
        };
        self.note_adoption(adoption, doc.id(), origin, now);
        Ok(adoption)
    }

    fn note_adoption(&mut self, adoption: Adoption, id: &AccountId, origin: Origin, now: i64) {
        let (event, why) = match (adoption, origin) {
            (Adoption::Unchanged | Adoption::KeptNewer, _) => return,
            (_, Origin::Answer) => (Event::Renewal, "new tokens from the issuer"),
            (Adoption::Updated, Origin::Successor) => (Event::Renewal, "Codex renewed its tokens"),
            (_, Origin::Login) => (Event::Adoption, "a new login"),
            (_, Origin::Found | Origin::Successor) => (Event::Adoption, "a login that was found"),
        };
        self.note(Entry::new(now, event, Some(id)).why(why));
    }

    /// Returns whether the refresh token of this document is known as used under its account.
    pub fn is_used(&self, doc: &AuthDoc) -> bool {
        self.token_of(doc).is_some_and(|(seen, token)| seen.is_used(&token))
    }

    /// Returns the refresh token of a document, and those seen under its account.
    fn token_of(&self, doc: &AuthDoc) -> Option<(&SeenTokens, TokenHash)> {
        self.registry.get(doc.id())?.refresh_tokens.as_ref().zip(doc.token_hash())
    }

    /// Enters the refresh token of a document under its account.
    pub fn see(&mut self, doc: &AuthDoc) {
        let Some(token) = doc.token_hash() else { return };
        if let Some(account) = self.registry.get_mut(doc.id()) {
            self.registry_changed |= account.refresh_tokens.get_or_insert_default().see(&token);
        }
    }

    /// Notes that the refresh token of a document was sent and answered.
    pub fn mark_used(&mut self, doc: &AuthDoc) {
        let Some(token) = doc.token_hash() else { return };
        if let Some(account) = self.registry_mut().get_mut(doc.id()) {
            account.refresh_tokens.get_or_insert_default().mark_used(&token);
        }
    }

    /// Returns whether a document made room for one of another origin, and may still be good.
    pub fn is_displaced(&self, doc: &AuthDoc) -> bool {
        self.token_of(doc).is_some_and(|(seen, token)| seen.is_displaced(&token))
    }

    /// Notes that the refresh token of a document, which was used, is another account's.
    pub fn give_token_to(&mut self, doc: &AuthDoc, owner: &AccountId) {
        let Some(token) = doc.token_hash() else { return };
        for account in &mut self.registry_mut().accounts {
            if account.id == *owner {
                account.refresh_tokens.get_or_insert_default().mark_used(&token);
            } else if let Some(seen) = &mut account.refresh_tokens {
                seen.forget(&token);
            }
        }
    }

    /// Enters the refresh tokens of the accounts for which that was not done yet.
    fn see_all(&mut self) {
        let unseen =
            |account: &&Account| account.refresh_tokens.is_none() && account.kind == AccountKind::Chatgpt;
        let ids: Vec<AccountId> =
            self.registry.accounts.iter().filter(unseen).map(|a| a.id.clone()).collect();
        for id in ids {
            let Ok(doc) = self.credentials().load(&id) else { continue };
            if let Some(account) = self.registry_mut().get_mut(&id) {
                let seen = account.refresh_tokens.get_or_insert_default();
                doc.as_ref().and_then(AuthDoc::token_hash).map(|token| seen.see(&token));
            }
        }
    }

    /// Notes what happened, for the log. The next commit writes it.
    pub fn note(&mut self, entry: Entry) {
        self.events.push(entry);
    }

    /// Sets the state of an account's credentials, if it differs. `now`: Unix seconds.
    pub fn set_auth(&mut self, id: &AccountId, state: AuthState, reason: Option<AuthReason>, now: i64) {
        let differs = |auth: &AuthStatus| auth.state != state || auth.reason != reason;
        if self.registry.get(id).is_some_and(|account| differs(&account.auth))
            && let Some(account) = self.registry_mut().get_mut(id)
        {
            let since = (state != AuthState::Ok).then_some(now);
            account.auth = AuthStatus { state, reason, since };
            let event = match state {
                AuthState::ReauthRequired => Some(Event::LoginEnded),
                state if state.is_refusal() => Some(Event::Refusal),
                _ => None,
            };
            let why = account.auth.explain().unwrap_or_default();
            self.events.extend(event.map(|event| Entry::new(now, event, Some(id)).why(why)));
        }
    }

    /// Remembers the account of a launch in a folder. Writes nothing if that is known already.
    pub fn remember_folder(&mut self, folder: &str, account: &AccountId, interactive: bool, now_ms: i64) {
        let lately = |record: &FolderRecord| (now_ms / 1000).saturating_sub(record.at) < FOLDER_HOUR;
        if self
            .state
            .folders
            .get(folder)
            .is_some_and(|record| record.says(account, interactive) && lately(record))
        {
            return;
        }
        let folders = &mut self.state_mut().folders;
        match folders.get_mut(folder) {
            Some(record) => record.launched(account, interactive, now_ms),
            None => drop(folders.insert(folder.to_owned(), FolderRecord::new(account, interactive, now_ms))),
        }
        if folders.len() > MOST_FOLDERS {
            let oldest = folders.iter().min_by_key(|(_, record)| record.at).map(|(folder, _)| folder.clone());
            oldest.and_then(|folder| folders.remove(&folder));
        }
    }

    /// Writes back what was changed.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn commit(&mut self, lock: &PoolLock) -> Result<()> {
        self.commit_with(lock, Durability::Fast)
    }

    /// As [`Pool::commit`]. `durability` is that of the state, since a mark must survive a power failure.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn commit_with(&mut self, lock: &PoolLock, durability: Durability) -> Result<()> {
        if self.registry_changed {
            self.registry.save(lock, &self.paths)?;
            self.registry_changed = false;
        }
        if self.state_changed {
            self.state.save(lock, &self.paths, durability)?;
            self.state_changed = false;
        }
        self.save_usage(lock)?;
        // Whatever is wrong with the log, nothing depends on it.
        let _ = journal::append(&self.paths, Some(lock), &std::mem::take(&mut self.events));
        Ok(())
    }

    /// Writes back the usage if it was changed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_usage(&mut self, lock: &PoolLock) -> Result<()> {
        if std::mem::take(&mut self.usage_changed) {
            self.usage.save(lock, &self.paths)?;
        }
        let readings = std::mem::take(&mut self.readings);
        if let Some(now) = readings.iter().map(|reading| reading.at).max() {
            let known = |id: &AccountId| self.registry.get(id).is_some();
            // A history with a gap is better than a launch that fails.
            let _ = History::new(&self.paths).add(lock, &readings, known, now);
        }
        Ok(())
    }
}
