//! Recording a launch in the ledger. The entry comes before anything else happens to the home: without it, the next
//! launch could change the account under this one.

use std::path::Path;

use super::placement::Placement;
use super::{Launch, Locked, Trouble};
use crate::account::AccountId;
use crate::codex::argv::Command;
use crate::env::names;
use crate::homes::{self, CodexHome};
use crate::ledger::{self, KEPT_VARIABLES, LaunchEntry, LaunchKind};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::ProcessId;
use crate::store::path_key;

impl Launch<'_> {
    /// Records the launch in this home.
    pub(super) fn record(
        &self,
        locked: &Locked<'_>,
        home: &CodexHome,
        account: Option<&AccountId>,
    ) -> Result<(), Trouble> {
        let Some(me) = &locked.processes.me else {
            return Err(Trouble::Pool("the system does not tell which processes run".to_owned()));
        };
        Ok(ledger::record(&locked.pool.paths, me, &self.entry(home, account, Some(locked)))?)
    }

    /// Records that an option of ours keeps this launch off the background server.
    pub(super) fn record_detached(&self, locked: &Locked<'_>, placement: &Placement) {
        let entry = self.entry(&placement.home, placement.account.as_ref(), Some(locked));
        let entry = LaunchEntry { attached: false, ..entry };
        if let Some(me) = &locked.processes.me {
            // If it fails, the launch only counts as one that moves with the server.
            let _ = ledger::record(&locked.pool.paths, me, &entry);
        }
    }

    /// Records a launch that goes on without the pool, so that its home does not change hands. If even that is
    /// impossible, Codex starts all the same.
    pub(super) fn record_untouched(&self, paths: &PoolPaths) {
        let main_home = CodexHome::main_of_env(self.env(), paths);
        let (Ok(me), Ok(main_home), true) = (ProcessId::of_self(), main_home, paths.root().is_dir()) else {
            return;
        };
        // The next launch takes in what the homes in the ledger hold.
        let foreign = match Pool::peek(paths) {
            Ok(pool) => homes::is_foreign(&pool, self.env(), &main_home),
            Err(_) => homes::is_named(paths, self.env(), &main_home),
        };
        if foreign {
            return;
        }
        let inherited = self.env().get(names::CODEX_HOME).map(Path::new);
        let inherited = inherited.filter(|dir| homes::main_home_of(paths, dir).is_some());
        let home = inherited.map_or(main_home, |dir| CodexHome::at(paths, dir.to_owned()));
        let _ = ledger::record(paths, &me, &self.entry(&home, None, None));
    }

    /// Takes back what [`Launch::record_untouched`] has recorded.
    pub(super) fn forget(&self, paths: &PoolPaths) {
        if let Ok(me) = ProcessId::of_self() {
            ledger::remove(paths, &me);
        }
    }

    /// Returns what it runs, for people.
    pub(super) fn command(&self) -> String {
        match &self.request.program {
            None => self.call.describe().to_owned(),
            Some(program) => program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// `locked`: `None` for a launch without the pool.
    fn entry(
        &self,
        home: &CodexHome,
        account: Option<&AccountId>,
        locked: Option<&Locked<'_>>,
    ) -> LaunchEntry {
        let pinned = locked.is_some_and(|locked| locked.pool.state().pin.is_some() && !self.request.best);
        let folders = locked.map(|locked| locked.places.all()).unwrap_or_default();
        LaunchEntry {
            account: account.cloned(),
            home: path_key(&home.auth_json()),
            cwd: self.env().cwd.as_deref().map(path_key),
            folders: match folders.as_slice() {
                [folder] if Some(*folder) == self.env().cwd.as_deref() => Vec::new(),
                folders => folders.iter().map(|folder| path_key(folder)).collect(),
            },
            started_at: self.env().now,
            command: self.command(),
            kind: match self.call.command {
                Command::Login if self.is_codex => LaunchKind::Login,
                Command::Logout if self.is_codex => LaunchKind::Logout,
                _ => LaunchKind::Session,
            },
            attached: self.is_codex && self.call.attaches(),
            stays: self.named().is_some() || pinned,
            env: KEPT_VARIABLES.iter().filter_map(|name| self.kept(name)).collect(),
        }
    }

    /// Returns a variable as the entry keeps it. An empty one counts for `CODEX_POOL_CARRY_ON` alone: it is off.
    fn kept(&self, name: &str) -> Option<(String, String)> {
        let off =
            name == names::CODEX_POOL_CARRY_ON && self.env().is_set(name) && self.env().get(name).is_none();
        let value = self.env().text(name).or_else(|| off.then_some(""))?;
        Some((name.to_owned(), value.to_owned()))
    }
}
