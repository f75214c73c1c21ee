//! The folder rules of a launch: where it works, and that it fails rather than use an account that does not belong there.
//! Writes nothing.

use std::path::{Path, PathBuf};

use super::{Launch, Locked, Trouble};
use crate::account::{Account, AccountId};
use crate::codex::argv::{Invocation, Target};
use crate::codex::threads;
use crate::env::{Env, names};
use crate::error::{Error, ErrorKind};
use crate::files;
use crate::folders::{self, FolderRules};
use crate::homes::{CodexHome, HomeContent};
use crate::paths::PoolPaths;
use crate::store::{MAX_JSON, Registry};

/// The way past a folder rule, as the end of an error.
pub(super) const PAST: &str = "with CODEX_POOL=off, Codex starts on whatever login is there";

/// Where a command works.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// The folder whose rules hold.
    pub(super) folder: Option<PathBuf>,
    /// Another folder, whose accounts alone may be used in it: the current one, in which `exec` goes on with a thread, and
    /// interfaces offer it.
    also: Option<PathBuf>,
}

impl Places {
    /// Returns where a command works: in the folder of `-C`, else in that of the thread it goes on with, else in the
    /// current one. `call`: `None` for a program that is not Codex.
    pub(super) fn of(env: &Env, call: Option<&Invocation<'_>>, codex_home: &Path) -> Places {
        let real = |dir: PathBuf| dir.canonicalize().unwrap_or(dir);
        let current = || Places { folder: env.cwd.clone(), also: None };
        let Some(call) = call else { return current() };
        if let Some(dir) = call.cd {
            return Places { folder: env.absolute(Path::new(dir)).map(real), also: None };
        }
        if !matches!(call.target, Target::Thread(_) | Target::Name(_)) {
            return current();
        }
        let Some(thread) = threads::find(codex_home, call.target) else { return current() };
        Places { folder: Some(real(thread.cwd)), also: env.cwd.clone() }
    }

    /// Returns all of them.
    pub(super) fn all(&self) -> Vec<&Path> {
        let also = self.also.as_deref().filter(|also| self.folder.as_deref() != Some(also));
        self.folder.as_deref().into_iter().chain(also).collect()
    }

    /// Returns the rules there.
    fn rules(&self, accounts: &[Account], home: Option<&Path>) -> FolderRules {
        let rules = FolderRules::at(accounts, self.folder.as_deref(), home);
        match &self.also {
            Some(also) => rules.and_among_owners_of(accounts, also, home),
            None => rules,
        }
    }
}

/// Returns the rules where a command works, and where that is. Without rules, no thread is looked for.
pub(super) fn rules_of(
    env: &Env,
    accounts: &[Account],
    call: Option<&Invocation<'_>>,
    codex_home: &Path,
) -> (FolderRules, Places) {
    if !folders::has_any(accounts) {
        let cd = call.and_then(|call| env.absolute(Path::new(call.cd?)));
        return (FolderRules::default(), Places { folder: cd.or_else(|| env.cwd.clone()), also: None });
    }
    let places = Places::of(env, call, codex_home);
    (places.rules(accounts, env.home()), places)
}

/// Returns the error of a launch that could only get an account which a folder rule forbids.
fn refusal(why: &str, against: &str) -> Error {
    Error::of(ErrorKind::NoUsableAccount, format!("{why}, and {against}")).hint(PAST)
}

/// Returns why Codex may not start without the pool, on what the home in the environment holds. `why`: the reason why it
/// would, as a sentence.
pub(super) fn against_untouched(
    env: &Env,
    paths: &PoolPaths,
    call: Option<&Invocation<'_>>,
    why: &str,
) -> Option<Error> {
    let registry = match Registry::load(paths) {
        Ok(registry) => registry,
        Err(_) => {
            // What it says is not known, but it speaks of folders.
            let bytes = files::read_small(&paths.registry(), MAX_JSON).ok()??;
            let speaks = memchr::memmem::find(&bytes, b"\"folders\"").is_some();
            return speaks.then(|| refusal(why, "some accounts are only for certain folders"));
        }
    };
    let dir = match env.get(names::CODEX_HOME) {
        Some(dir) => env.absolute(Path::new(dir))?,
        None => env.home()?.join(".codex"),
    };
    let main_home = CodexHome::main_of_env(env, paths).ok()?;
    let (rules, _) = rules_of(env, &registry.accounts, call, main_home.dir());
    let content = HomeContent::read(paths, &CodexHome::at(paths, dir));
    let account = content.account().and_then(|id| registry.get(id));
    rules.against(account).map(|against| refusal(why, &against))
}

/// Returns why Codex may not use the login of the environment, which is none of the pool's.
pub(super) fn against_identity(
    env: &Env,
    paths: &PoolPaths,
    call: &Invocation<'_>,
    variable: &str,
) -> Option<Error> {
    let registry = Registry::load(paths).ok()?;
    let main_home = CodexHome::main_of_env(env, paths).ok()?;
    let (rules, _) = rules_of(env, &registry.accounts, Some(call), main_home.dir());
    rules.against(None).map(|against| refusal(&format!("Codex takes its login from {variable}"), &against))
}

impl Launch<'_> {
    /// Returns the command, if it is Codex that runs.
    pub(super) fn codex_call(&self) -> Option<&Invocation<'_>> {
        self.is_codex.then_some(self.call)
    }
}

impl Locked<'_> {
    /// Returns why this account may not be used where the launch works. `None` for the account: a login that is not in
    /// the pool, or none.
    pub(super) fn against_here(&self, id: Option<&AccountId>) -> Option<String> {
        self.rules.against(id.and_then(|id| self.pool.registry().get(id)))
    }

    /// Fails if the launch would get this account against a folder rule. `why`: why it would, as a sentence.
    pub(super) fn obey_folders(&self, id: Option<&AccountId>, why: &str) -> Result<(), Trouble> {
        match self.against_here(id) {
            Some(against) => Err(Trouble::Fails(refusal(why, &against))),
            None => Ok(()),
        }
    }
}
