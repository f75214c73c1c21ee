//! What every command needs: the environment, the settings, the main home, and the pool under its lock. Prints
//! nothing: what the user should know on the way goes to the context's `tell`.

pub(crate) mod adopt;
pub(crate) mod login;

use std::path::Path;
use std::time::Duration;

use codex_pool_core::account::AccountId;
use codex_pool_core::codex::argv;
use codex_pool_core::codex::configuration::{CodexSettings, SYSTEM_DIR, Surroundings};
use codex_pool_core::config::Settings;
use codex_pool_core::env::{self, Env};
use codex_pool_core::files::{self, PoolLock};
use codex_pool_core::folders::FolderRules;
use codex_pool_core::homes::in_use::{HomeUser, Processes};
use codex_pool_core::homes::{self, CodexHome, HomeContent, NoMainHome};
use codex_pool_core::launch;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::store::Migration;
use codex_pool_core::{Error, Result, references};

use crate::signals;

/// How long a command waits for the pool's lock. Longer than a launch does, since a person asked for the result.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long a command waits that only shows the pool, and can do so without the lock.
const GLANCE: Duration = Duration::from_millis(500);

/// Something that the user should know, beside the result of the command.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Worth knowing.
    Note(String),
    /// Not as it should be.
    Warning(String),
}

/// Shows a notice to the user.
pub(crate) type Tell = fn(&Notice);

/// Environment and settings, read once.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) env: Env,
    pub(crate) paths: PoolPaths,
    pub(crate) settings: Settings,
    pub(crate) main_home: CodexHome,
    /// Codex's own settings as a launch in this folder would see them.
    pub(crate) codex: CodexSettings,
    pub(crate) tell: Tell,
}

/// The pool under its lock, reconciled with the main home and every home in use.
pub(crate) struct OpenPool {
    pub(crate) lock: PoolLock,
    pub(crate) pool: Pool,
    pub(crate) processes: Processes,
    /// What the main home contains.
    pub(crate) in_main_home: HomeContent,
    /// When the pool was opened, Unix seconds. The command may have begun long before.
    pub(crate) now: i64,
    tell: Tell,
    /// Signals wait until the pool is closed, so that nothing is left half done.
    _signals: signals::Held,
}

/// Returns where the pool is.
///
/// # Errors
/// Neither HOME nor CODEX_POOL_HOME is set.
pub(crate) fn paths(env: &Env) -> Result<PoolPaths> {
    if let Some(owner) = files::another_user_of_root(env) {
        return Err(Error::new(format!(
            "this is root, but HOME, CODEX_HOME or the pool belongs to user {}",
            owner.uid
        ))
        .hint("`sudo -H` has a HOME of root's"));
    }
    let root = env.pool_home().ok_or_else(|| {
        Error::new("HOME is not set, so there is no place for the pool").hint("set HOME or CODEX_POOL_HOME")
    })?;
    Ok(PoolPaths::new(root))
}

/// Takes the pool's lock, and makes the pool if there is none.
///
/// # Errors
/// The pool cannot be made, or another process holds the lock for long.
pub(crate) fn lock(paths: &PoolPaths) -> Result<PoolLock> {
    let path = paths.pool_lock();
    lock_within(paths, LOCK_WAIT)?.ok_or_else(|| {
        Error::new(format!("another codex-pool has held {} for {} s", path.display(), LOCK_WAIT.as_secs()))
            .hint("`codex-pool doctor` names it")
    })
}

fn lock_within(paths: &PoolPaths, wait: Duration) -> Result<Option<PoolLock>> {
    let root = paths.root();
    let elsewhere = "see `codex-pool doctor`, or name another place in CODEX_POOL_HOME";
    files::create_private_dir(root).map_err(|e| Error::io("create", root, &e).hint(elsewhere))?;
    let path = paths.pool_lock();
    PoolLock::acquire(paths, wait).map_err(|e| Error::io("lock", &path, &e).hint(elsewhere))
}

impl Context {
    /// Reads the settings, and tells what is wrong with them.
    ///
    /// # Errors
    /// There is no place for the pool, or no main home.
    pub(crate) fn new(env: &Env, tell: Tell) -> Result<Self> {
        let paths = paths(env)?;
        let (settings, problems) = Settings::load(&paths.config());
        for problem in problems.into_iter().filter(|problem| !Settings::is_unknown_name(problem)) {
            tell(&Notice::Warning(problem));
        }
        let main_home = CodexHome::main_of_env(env, &paths).map_err(|error| match error {
            NoMainHome::NoHome => Error::new("neither HOME nor CODEX_HOME is set").hint("set HOME"),
            NoMainHome::Absent(dir) => {
                Error::new(format!("CODEX_HOME is {}, which is not a directory", dir.display()))
                    .hint("create it, or unset CODEX_HOME")
            }
        })?;
        Ok(Context::of(env, paths, settings, main_home, tell))
    }

    /// The context of settings and a main home that are known. Reads Codex's own settings.
    pub(crate) fn of(
        env: &Env,
        paths: PoolPaths,
        settings: Settings,
        main_home: CodexHome,
        tell: Tell,
    ) -> Self {
        let around = Surroundings {
            codex_home: main_home.dir(),
            system_dir: Path::new(SYSTEM_DIR),
            user_home: env.home(),
            cwd: env.cwd.as_deref(),
        };
        let codex = CodexSettings::read(around, &argv::parse(&[]));
        Context { env: env.clone(), paths, settings, main_home, codex, tell }
    }

    /// Returns which accounts may be used in the current folder.
    pub(crate) fn rules(&self, pool: &Pool) -> FolderRules {
        FolderRules::at(&pool.registry().accounts, self.env.cwd.as_deref(), self.env.home())
    }

    /// Takes the pool's lock, and makes the pool if there is none.
    ///
    /// # Errors
    /// As [`lock`].
    pub(crate) fn lock(&self) -> Result<PoolLock> {
        lock(&self.paths)
    }

    /// Opens the pool and brings what the homes hold into it.
    ///
    /// # Errors
    /// The pool cannot be locked, read or written.
    pub(crate) fn open(&self) -> Result<OpenPool> {
        self.open_as(self.lock()?, false)
    }

    /// Opens the pool, if its lock is free. `None`: another process holds it for longer than a launch does.
    ///
    /// # Errors
    /// As [`Context::open`].
    pub(crate) fn open_if_free(&self) -> Result<Option<OpenPool>> {
        lock_within(&self.paths, GLANCE)?.map(|lock| self.open_as(lock, false)).transpose()
    }

    /// As [`Context::open`]. The main home is the pool's to change from now on, whatever login it has.
    ///
    /// # Errors
    /// As [`Context::open`].
    pub(crate) fn open_to_manage(&self) -> Result<OpenPool> {
        self.open_as(self.lock()?, true)
    }

    fn open_as(&self, lock: PoolLock, manages: bool) -> Result<OpenPool> {
        let signals = signals::hold();
        let now = env::clock();
        let mut pool = homes::open_pool(&lock, &self.paths, now)?;
        if let Some(migration) = &pool.migrated {
            self.tell_migration(migration);
        }
        if manages {
            pool.manage(self.main_home.dir());
        }
        let processes = Processes::read(Some(&lock), &self.paths, now);
        launch::login::undo_interrupted(&lock, &mut pool, &processes, now)?;
        homes::login_home::clear_abandoned(&lock, &mut pool, &processes, now);
        homes::reconcile_all(&lock, &mut pool, &processes.ledger, now)?;
        let in_main_home = match homes::is_foreign(&pool, &self.env, &self.main_home) {
            true => HomeContent::Foreign,
            false => homes::reconcile(&lock, &mut pool, &self.main_home, now)?,
        };
        for id in std::mem::take(&mut pool.adopted) {
            if let Some(account) = pool.registry().get(&id) {
                let text = format!(
                    "adopted the login found in {} as `{}`",
                    self.main_home.dir().display(),
                    account.label
                );
                (self.tell)(&Notice::Note(text));
            }
        }
        pool.commit(&lock)?;
        launch::learn_from_logs(&mut pool, &lock, &processes.ledger, self.main_home.dir(), now);
        Ok(OpenPool { lock, pool, processes, in_main_home, now, tell: self.tell, _signals: signals })
    }

    /// Returns the processes that use a home which is about to change hands.
    pub(crate) fn users_before_change(&self, open: &OpenPool, codex_home: &CodexHome) -> Vec<HomeUser> {
        let databases = launch::databases(&self.env, &self.codex, &self.main_home);
        open.processes.users_before_change(&open.pool, &self.main_home, codex_home, &databases)
    }

    fn tell_migration(&self, migration: &Migration) {
        let (count, old) = (migration.accounts, self.paths.registry_v1());
        let accounts = if count == 1 { "account was" } else { "accounts were" };
        let text = format!("{count} {accounts} taken over from version 1; the old file is {}", old.display());
        (self.tell)(&Notice::Note(text));
        for (name, why) in &migration.set_aside {
            (self.tell)(&Notice::Warning(format!(
                "{name} was not taken over, since {why}; its document is in {}",
                self.paths.lost_found().display()
            )));
        }
    }
}

impl OpenPool {
    /// Returns the account in the main home.
    pub(crate) fn live(&self) -> Option<&AccountId> {
        self.in_main_home.account()
    }

    /// Writes what was changed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.pool.commit(&self.lock)
    }

    /// Returns the account that the user means.
    ///
    /// # Errors
    /// No account matches, or several do.
    pub(crate) fn resolve(&self, reference: &str) -> Result<AccountId> {
        Ok(references::resolve(&self.pool.registry().accounts, reference)?.id.clone())
    }

    /// Returns the account's label, for messages.
    pub(crate) fn label(&self, id: &AccountId) -> String {
        self.pool.registry().get(id).map_or_else(|| id.to_string(), |a| a.label.clone())
    }
}
