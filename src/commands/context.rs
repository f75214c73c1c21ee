//! What every verb needs: surroundings, settings, the base, and the pool under its lock.

use std::path::Path;
use std::time::Duration;

use codex_pool_core::account::AccountId;
use codex_pool_core::codex::argv;
use codex_pool_core::codex::layers::{CodexSettings, SYSTEM_DIR, Surroundings};
use codex_pool_core::config::Settings;
use codex_pool_core::env::{self, Env};
use codex_pool_core::files::{self, PoolLock};
use codex_pool_core::launch;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::seats::occupants::{Census, Occupant};
use codex_pool_core::seats::{self, Base, Holding, NoBase, Seat};
use codex_pool_core::store::Migration;
use codex_pool_core::{Error, Result};

use crate::{signals, ui};

/// How long a verb waits for the pool's lock. Longer than a launch: somebody asked for the result.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Surroundings and settings, read once.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) env: &'a Env,
    pub(crate) paths: PoolPaths,
    pub(crate) settings: Settings,
    pub(crate) base: Base,
    /// Codex's own settings as a launch in this folder would see them.
    pub(crate) codex: CodexSettings,
}

/// The pool under its lock, reconciled with the shared seat and every seat in use.
pub(crate) struct Open {
    pub(crate) lock: PoolLock,
    pub(crate) pool: Pool,
    pub(crate) census: Census,
    /// What the shared seat holds.
    pub(crate) shared: Holding,
    /// When it was opened, Unix seconds: the command itself may have begun long before.
    pub(crate) now: i64,
    /// What is begun now is finished before Ctrl-C counts.
    _whole: signals::Held,
}

/// Where the pool is.
///
/// # Errors
/// Without a home there is no pool.
pub(crate) fn paths(env: &Env) -> Result<PoolPaths> {
    let root = env.pool_home().ok_or_else(|| {
        Error::new("HOME is not set, so there is no place for the pool").hint("set HOME or CODEX_POOL_HOME")
    })?;
    Ok(PoolPaths::new(root))
}

/// Takes the pool's lock, making the pool if there is none.
///
/// # Errors
/// The pool cannot be made, or somebody holds the lock for long.
pub(crate) fn lock(paths: &PoolPaths) -> Result<PoolLock> {
    let root = paths.root();
    let elsewhere = "see `codex-pool doctor`, or name another place in CODEX_POOL_HOME";
    files::create_private_dir(root).map_err(|e| Error::io("create", root, &e).hint(elsewhere))?;
    let path = paths.pool_lock();
    let lock =
        PoolLock::acquire(paths, LOCK_WAIT).map_err(|e| Error::io("lock", &path, &e).hint(elsewhere))?;
    lock.ok_or_else(|| {
        Error::new(format!("another codex-pool has held {} for {} s", path.display(), LOCK_WAIT.as_secs()))
            .hint("`codex-pool doctor` names it")
    })
}

impl<'a> Context<'a> {
    /// Reads settings; what is wrong with them is said once.
    ///
    /// # Errors
    /// Without a home there is no pool.
    pub(crate) fn new(env: &'a Env) -> Result<Self> {
        let paths = paths(env)?;
        let (settings, problems) = Settings::load(&paths.config());
        for problem in problems {
            ui::warn(&problem);
        }
        let base = Base::of_env(env, &paths).map_err(|error| match error {
            NoBase::NoHome => Error::new("neither HOME nor CODEX_HOME is set").hint("set HOME"),
            NoBase::Absent(dir) => Error::new(format!("CODEX_HOME is {}, which is no folder", dir.display()))
                .hint("create it, or unset CODEX_HOME"),
        })?;
        let around = Surroundings {
            codex_home: base.dir(),
            system_dir: Path::new(SYSTEM_DIR),
            user_home: env.home(),
            cwd: env.cwd.as_deref(),
        };
        let codex = CodexSettings::read(around, &argv::parse(&[]));
        Ok(Context { env, paths, settings, base, codex })
    }

    /// Takes the pool's lock, making the pool if there is none.
    pub(crate) fn lock(&self) -> Result<PoolLock> {
        lock(&self.paths)
    }

    /// Opens the pool and brings what the seats hold into it.
    ///
    /// # Errors
    /// The pool cannot be locked, read or written; nothing was changed then.
    pub(crate) fn open(&self) -> Result<Open> {
        let lock = self.lock()?;
        let whole = signals::hold();
        let now = env::clock();
        super::login::sweep(&lock, &self.paths, now);
        let mut pool = Pool::open(&lock, &self.paths, now)?;
        if let Some(migration) = &pool.migrated {
            tell_migration(migration, &self.paths);
        }
        let census = Census::take(Some(&lock), &self.paths, now);
        launch::login::undo_interrupted(&lock, &mut pool, &census, now)?;
        seats::reconcile_all(&lock, &mut pool, &census.ledger, now)?;
        let shared = seats::reconcile(&lock, &mut pool, &self.base.shared(), now)?;
        for id in std::mem::take(&mut pool.adopted) {
            if let Some(account) = pool.registry().get(&id) {
                ui::note(&format!(
                    "adopted the login found in {} as `{}`",
                    self.base.dir().display(),
                    account.label
                ));
            }
        }
        pool.commit(&lock)?;
        pool.learn_from_logs(&lock, &census.ledger, self.base.dir(), now);
        Ok(Open { lock, pool, census, shared, now, _whole: whole })
    }

    /// Everybody in a seat.
    pub(crate) fn occupants(&self, open: &Open, seat: &Seat) -> Vec<Occupant> {
        let databases = launch::databases(self.env, &self.codex, &self.base);
        open.census.occupants(&open.pool, &self.base, seat, &databases)
    }
}

fn tell_migration(migration: &Migration, paths: &PoolPaths) {
    let (count, old) = (migration.accounts, paths.registry_v1());
    let accounts = if count == 1 { "account was" } else { "accounts were" };
    ui::note(&format!("{count} {accounts} taken over from version 1; the old file is {}", old.display()));
    for (name, why) in &migration.set_aside {
        ui::warn(&format!(
            "{name} was not taken over, since {why}; its document is in {}",
            paths.lost_found().display()
        ));
    }
}

impl Open {
    /// The account in the shared seat.
    pub(crate) fn live(&self) -> Option<&AccountId> {
        self.shared.account()
    }

    /// Writes back what was changed.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.pool.commit(&self.lock)
    }

    /// The account's label, for messages.
    pub(crate) fn label(&self, id: &AccountId) -> String {
        self.pool.registry().get(id).map_or_else(|| id.to_string(), |a| a.label.clone())
    }
}
