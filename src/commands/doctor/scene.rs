//! What the checks look at, read once and without changing anything. What cannot be had is an error
//! in its place, so that the other checks go on.

use std::path::PathBuf;

use codex_pool_core::account::{Account, AccountId};
use codex_pool_core::codex::find::{self, NoCodex};
use codex_pool_core::config::Settings;
use codex_pool_core::env::Env;
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::homes::{self, HomeContent, NoMainHome};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::pool::Pool;
use codex_pool_core::{Error, Result};

use crate::context::{self, Context};

/// The surroundings, and in them the pool as it is.
pub(super) struct Scene<'a> {
    pub(super) env: &'a Env,
    /// The real Codex.
    pub(super) program: std::result::Result<PathBuf, NoCodex>,
    pub(super) settings: Settings,
    /// What is wrong with `config.toml`.
    pub(super) settings_problems: Vec<String>,
    /// The pool, if there is a place for one.
    pub(super) place: Result<Place>,
}

/// A pool's place and what is there.
pub(super) struct Place {
    pub(super) paths: PoolPaths,
    /// The registry and the state. A missing one is empty, one of version 1 an error.
    pub(super) pool: Result<Pool>,
    pub(super) processes: Processes,
    /// The user's CODEX_HOME with what is in it.
    pub(super) codex_home: std::result::Result<CodexHome, NoMainHome>,
}

/// The user's CODEX_HOME.
pub(super) struct CodexHome {
    /// Base and Codex's settings, in the form that the other verbs use.
    pub(super) ctx: Context,
    /// What the main home holds.
    pub(super) shared: HomeContent,
}

impl<'a> Scene<'a> {
    /// Reads everything.
    pub(super) fn set(env: &'a Env) -> Scene<'a> {
        let paths = context::paths(env);
        let (settings, settings_problems) = match &paths {
            Ok(paths) => Settings::load(&paths.config()),
            Err(_) => (Settings::default(), Vec::new()),
        };
        let own = std::env::current_exe().ok();
        Scene {
            env,
            program: find::find(env, &settings, own.as_deref()),
            place: paths.map(|paths| Place::look(env, paths, &settings)),
            settings,
            settings_problems,
        }
    }

    /// The pool's place, if there is one.
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.as_ref().ok()
    }
}

impl Place {
    fn look(env: &Env, paths: PoolPaths, settings: &Settings) -> Place {
        let codex_home = homes::CodexHome::main_of_env(env, &paths)
            .map(|main_home| CodexHome::look(env, &paths, settings, main_home));
        Place {
            pool: Pool::peek(&paths),
            processes: Processes::read(None, &paths, env.now),
            codex_home,
            paths,
        }
    }

    /// Whether there is a pool at all.
    pub(super) fn exists(&self) -> bool {
        self.paths.root().is_dir()
    }

    /// The accounts, as far as they can be read.
    pub(super) fn accounts(&self) -> &[Account] {
        self.pool.as_ref().map_or(&[], |pool| &pool.registry().accounts)
    }

    /// Who holds the main home.
    pub(super) fn live(&self) -> Option<&AccountId> {
        self.codex_home.as_ref().ok()?.shared.account()
    }

    /// An account's name for messages.
    pub(super) fn label<'b>(&'b self, id: &'b AccountId) -> &'b str {
        self.accounts().iter().find(|a| a.id == *id).map_or(id.as_str(), |a| &a.label)
    }
}

impl CodexHome {
    fn look(env: &Env, paths: &PoolPaths, settings: &Settings, main_home: homes::CodexHome) -> CodexHome {
        let shared = HomeContent::read(paths, &main_home);
        let ctx = Context::of(env, paths.clone(), settings.clone(), main_home, |_| {});
        CodexHome { ctx, shared }
    }
}

/// For errors that are findings: what is wrong, and what to do.
pub(super) fn split(error: &Error) -> (String, Option<String>) {
    (error.message.clone(), error.hint.clone())
}
