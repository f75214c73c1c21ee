//! What the checks look at, read once and without changing anything. What cannot be read is an error in its place, so
//! that the other checks can be made.

use std::path::PathBuf;

use codex_pool_core::account::{Account, AccountId};
use codex_pool_core::codex::find::{self, NoCodex};
use codex_pool_core::config::Settings;
use codex_pool_core::env::Env;
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::homes::{self, CodexHome, HomeContent, NoMainHome};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::{Error, Result};

use crate::context::{self, Context};

/// Everything that is read.
pub(super) struct Facts<'a> {
    pub(super) env: &'a Env,
    /// The real Codex.
    pub(super) codex: std::result::Result<PathBuf, NoCodex>,
    pub(super) settings: Settings,
    /// What is wrong with `config.toml`.
    pub(super) settings_problems: Vec<String>,
    /// The pool's folder. An error: there is no place for one.
    folder: Result<PoolFacts>,
}

/// The pool's folder and what is in it.
pub(super) struct PoolFacts {
    pub(super) paths: PoolPaths,
    /// The registry and the state. Missing files are empty; a registry of version 1 is an error.
    pub(super) pool: Result<Pool>,
    pub(super) processes: Processes,
    pub(super) main_home: std::result::Result<MainHomeFacts, NoMainHome>,
}

/// The main home.
pub(super) struct MainHomeFacts {
    /// The main home and Codex's settings, as other commands have them.
    pub(super) ctx: Context,
    pub(super) content: HomeContent,
}

impl<'a> Facts<'a> {
    pub(super) fn read(env: &'a Env) -> Facts<'a> {
        let paths = context::paths(env);
        let (settings, settings_problems) = match &paths {
            Ok(paths) => Settings::load(&paths.config()),
            Err(_) => (Settings::default(), Vec::new()),
        };
        let own = std::env::current_exe().ok();
        Facts {
            env,
            codex: find::find(env, &settings, own.as_deref()),
            folder: paths.map(|paths| PoolFacts::read(env, paths, &settings)),
            settings,
            settings_problems,
        }
    }

    /// The pool's folder, which may not exist yet.
    ///
    /// # Errors
    /// There is no place for one.
    pub(super) fn folder(&self) -> std::result::Result<&PoolFacts, &Error> {
        self.folder.as_ref()
    }

    /// The pool's folder, if it exists.
    pub(super) fn existing_folder(&self) -> Option<&PoolFacts> {
        self.folder().ok().filter(|folder| folder.paths.root().is_dir())
    }
}

impl PoolFacts {
    fn read(env: &Env, paths: PoolPaths, settings: &Settings) -> PoolFacts {
        let pool = Pool::peek(&paths);
        let main_home = CodexHome::main_of_env(env, &paths).map(|main_home| {
            let foreign = pool.as_ref().is_ok_and(|pool| homes::is_foreign(pool, env, &main_home));
            let content = if foreign { HomeContent::Foreign } else { HomeContent::read(&paths, &main_home) };
            let ctx = Context::of(env, paths.clone(), settings.clone(), main_home, |_| {});
            MainHomeFacts { ctx, content }
        });
        PoolFacts { pool, processes: Processes::read(None, &paths, env.now), main_home, paths }
    }

    /// The accounts, as far as they can be read.
    pub(super) fn accounts(&self) -> &[Account] {
        self.pool.as_ref().map_or(&[], |pool| &pool.registry().accounts)
    }

    /// The account in the main home.
    pub(super) fn live(&self) -> Option<&AccountId> {
        self.main_home.as_ref().ok()?.content.account()
    }

    /// An account's name for messages.
    pub(super) fn label<'b>(&'b self, id: &'b AccountId) -> &'b str {
        self.accounts().iter().find(|a| a.id == *id).map_or(id.as_str(), |a| &a.label)
    }
}
