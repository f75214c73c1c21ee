//! The pool while a launch has it locked and brought up to date. Does not choose an account.

use std::time::Duration;

use super::placement::Placement;
use super::refresh_child::{self, Due};
use super::{LOCK_WAIT, Launch, SEE_DOCTOR, Trouble, folder_rule, learn_from_logs, login};
use crate::account::{Account, AccountId};
use crate::codex::configuration::CodexSettings;
use crate::error::Error;
use crate::files::PoolLock;
use crate::folders::FolderRules;
use crate::homes::in_use::Processes;
use crate::homes::{self, CodexHome, HomeContent};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::usage::{FIVE_HOURS, NO_WAIT, longest, of_length};

/// How long the later run of an `exec` that is carried on waits for the pool's lock: its work has begun, and many may go on
/// at once.
const LATER_LOCK_WAIT: Duration = Duration::from_secs(30);

/// The pool while a launch has it locked.
pub(super) struct Locked<'a> {
    pub(super) lock: PoolLock,
    pub(super) pool: Pool,
    pub(super) processes: Processes,
    /// What the age of the usage data asks for.
    pub(super) due: Due,
    pub(super) main_home: &'a CodexHome,
    /// Codex's own settings.
    pub(super) codex_settings: &'a CodexSettings,
    /// What the main home holds.
    pub(super) content: HomeContent,
    /// Which accounts may be used where the launch works.
    pub(super) rules: FolderRules,
    /// Where that is.
    pub(super) places: folder_rule::Places,
}

impl Launch<'_> {
    /// Locks the pool and brings it up to date: interrupted logins are undone, and what the homes in use hold is taken
    /// in. Where it must wait for Codex or for usage data, it does so once, without the lock.
    pub(super) fn lock<'a>(
        &self,
        paths: &PoolPaths,
        main_home: &'a CodexHome,
        codex_settings: &'a CodexSettings,
    ) -> Result<Locked<'a>, Trouble> {
        let env = self.env();
        let (mut waited_for_codex, mut waited_for_usage) = (false, false);
        loop {
            let lock = lock_pool(paths, if self.round.is_some() { LATER_LOCK_WAIT } else { LOCK_WAIT })?;
            let mut pool = homes::open_pool(&lock, paths, env.now)?;
            if homes::is_foreign(&pool, env, main_home) {
                pool.commit(&lock)?;
                return Err(Trouble::Foreign);
            }
            let processes = Processes::read(Some(&lock), paths, env.now);
            login::undo_interrupted(&lock, &mut pool, &processes, env.now)?;
            let content = homes::reconcile(&lock, &mut pool, main_home, env.now)?;
            // Every home, not only those of launches: a program may write an older login over what was rotated there.
            homes::reconcile_all_but(&lock, &mut pool, &processes.ledger, Some(main_home), env.now)?;
            if content == HomeContent::BeingWritten && !waited_for_codex {
                drop(lock);
                homes::wait_until_whole(paths, main_home);
                waited_for_codex = true;
                continue;
            }
            learn_from_logs(&mut pool, &lock, &processes.ledger, main_home.dir(), env.now);
            let mut due = refresh_child::due(pool.registry(), pool.usage(), self.settings, env.now);
            let wait = due.wait(self.settings, self.named().is_some());
            if let Some(limit) = wait.filter(|_| !waited_for_usage) {
                // Noted before the wait, so that the next launch does not repeat a wait in vain.
                pool.usage_mut().no_wait_until = Some(env.now + NO_WAIT);
                pool.commit(&lock)?;
                drop(lock);
                refresh_child::and_wait(env, paths, limit);
                waited_for_usage = true;
                continue;
            }
            if waited_for_usage {
                due = Due::Nothing;
            }
            let accounts = &pool.registry().accounts;
            let (rules, places) = folder_rule::rules_of(env, accounts, self.codex_call(), main_home.dir());
            return Ok(Locked {
                lock,
                pool,
                processes,
                due,
                main_home,
                codex_settings,
                content,
                rules,
                places,
            });
        }
    }
}

fn lock_pool(paths: &PoolPaths, wait: Duration) -> Result<PoolLock, Trouble> {
    match PoolLock::acquire(paths, wait) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Trouble::Pool(format!(
            "the pool was locked for {} s by another process{SEE_DOCTOR}",
            wait.as_secs()
        ))),
        Err(e) => Err(Error::io("lock", &paths.pool_lock(), &e).into()),
    }
}

impl Locked<'_> {
    /// Returns the account in the main home.
    pub(super) fn live(&self) -> Option<&AccountId> {
        self.content.account()
    }

    /// Returns the label of an account, for messages.
    pub(super) fn label_of<'a>(&'a self, id: &'a AccountId) -> &'a str {
        self.pool.registry().get(id).map_or(id.as_str(), |account| &account.label)
    }

    /// Returns what is known to be left of an account: `90 % of 5 h left`.
    pub(super) fn left(&self, id: &AccountId, now: i64) -> Option<String> {
        let usage = self.pool.usage().usage(id).filter(|usage| usage.known(now))?;
        let (window, name) = match of_length(&usage.windows, FIVE_HOURS) {
            Some(window) => (window, "5 h".to_owned()),
            None => longest(&usage.windows).map(|window| (window, window.name()))?,
        };
        Some(format!("{:.0} % of {name} left", window.left_percent(now)))
    }

    /// Returns the account of a launch if its tokens must be renewed before Codex starts on them.
    pub(super) fn account_to_renew(&self, placement: Placement, now: i64) -> Option<Account> {
        let id = placement.account?;
        let record = self.pool.state().home(&placement.home.auth_json());
        // The state knows when they expire, so that the document need not be read.
        let expires_at = record.and_then(|record| record.expires_at);
        if expires_at.is_some_and(|at| at.saturating_sub(now) >= refresh_child::TOKEN_WAITS_BELOW) {
            return None;
        }
        let doc = self.pool.credentials().load(&id).ok().flatten()?;
        let account = self.pool.registry().get(&id)?;
        refresh_child::token_needs_renewal(&doc, account.renewed_by_members(), now).then(|| account.clone())
    }
}
