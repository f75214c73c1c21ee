//! What the program must be told of its home: environment and arguments.

use std::ffi::OsString;
use std::path::Path;

use super::exec::Program;
use super::placement::Placement;
use super::{Launch, Locked};
use crate::codex::background_server::BackgroundServer;
use crate::codex::configuration::CredentialsStore;
use crate::codex::probe;
use crate::env::{Env, names};
use crate::homes::in_use::account_of_server;
use crate::homes::{self, CodexHome, Obstacle};
use crate::paths::PoolPaths;

impl Launch<'_> {
    /// Gives the program the environment and the arguments that its home needs.
    pub(super) fn instruct(&self, locked: &mut Locked<'_>, placement: &Placement, program: &mut Program) {
        self.set_codex_home(locked, &placement.home, program);
        if !self.is_codex {
            if let Some(id) = &placement.account {
                program.set_env(names::CODEX_POOL_ACCOUNT, Some(id.as_str().as_ref()));
            }
            return;
        }
        let extra = self.extra_args(locked, placement);
        if !extra.is_empty() && self.call.attaches() {
            self.record_detached(locked, placement);
        }
        program.insert_args(self.call, self.request.args, &extra);
    }

    pub(super) fn set_codex_home(&self, locked: &Locked<'_>, home: &CodexHome, program: &mut Program) {
        let env = self.env();
        let main_home = locked.main_home;
        let inherits = || {
            let inherited = env.get(names::CODEX_HOME).map(Path::new);
            inherited.is_some_and(|dir| homes::main_home_of(&locked.pool.paths, dir).is_some())
        };
        if home != main_home {
            program.set_env(names::CODEX_HOME, Some(home.dir().as_os_str()));
            // If it is set, by the user or by the session that we are inside, it is the main home's already.
            // Databases cannot be opened in a folder that cannot be written.
            let writable = Obstacle::of_folder(main_home.dir()).is_none();
            if env.get(names::CODEX_SQLITE_HOME).is_none() && writable {
                program.set_env(names::CODEX_SQLITE_HOME, Some(main_home.dir().as_os_str()));
            }
        } else if inherits() {
            back_to_main_home(env, main_home, program);
        }
        if let Some(me) = &locked.processes.me {
            program.set_env(names::CODEX_POOL_LAUNCH, Some(me.to_string().as_ref()));
        }
    }

    /// Returns the arguments that the shim adds. There are no others.
    pub(super) fn extra_args(&self, locked: &mut Locked<'_>, placement: &Placement) -> Vec<OsString> {
        let settings = locked.codex_settings;
        let mut extra: Vec<OsString> = Vec::new();
        let store = settings.cli_auth_credentials_store.unwrap_or(CredentialsStore::File);
        if store != CredentialsStore::File && !settings.store_is_enforced {
            extra.extend(["-c".into(), "cli_auth_credentials_store=\"file\"".into()]);
        }
        if placement.home != *locked.main_home
            && let Some(hooks) = settings.hooks_override(locked.main_home.dir(), placement.home.dir())
        {
            extra.extend(["-c".into(), hooks.into()]);
        }
        let links = links_override(cfg!(target_os = "macos"), placement.home.is_own());
        extra.extend(links.iter().map(OsString::from));
        if extra.is_empty()
            && !placement.attaches
            && self.call.attaches()
            && wrong_server(locked, placement)
            && self.supports_no_daemon(locked)
        {
            extra.push("--no-daemon".into());
        }
        extra
    }

    fn supports_no_daemon(&self, locked: &mut Locked<'_>) -> bool {
        let Some(codex) = self.codex() else { return false };
        let key = probe::identity(codex);
        if let Some(known) = key.as_ref().and_then(|key| locked.pool.state().codex.get(key)) {
            return known.no_daemon;
        }
        let Some(found) = probe::ask(codex) else { return false };
        let no_daemon = found.no_daemon;
        if let Some(key) = key {
            // What an earlier installation supports is of no more use.
            locked.pool.state_mut().codex = [(key, found)].into();
        }
        no_daemon
    }
}

/// Returns the options that let Codex's sandbox write in a home of links, as an account's own home is. `macos`: the
/// sandbox there is reported to refuse such folders; on Linux it takes them. Versions before 0.159 ignore the key.
fn links_override(macos: bool, own_home: bool) -> &'static [&'static str] {
    if macos && own_home { &["-c", "allow_symlinked_codex_home=true"] } else { &[] }
}

/// Tells a program that is to leave the home of a session its main home.
fn back_to_main_home(env: &Env, main_home: &CodexHome, program: &mut Program) {
    let dir = (!main_home.is_default(env)).then(|| main_home.dir().as_os_str());
    program.set_env(names::CODEX_HOME, dir);
    if env.get(names::CODEX_SQLITE_HOME) == Some(main_home.dir().as_os_str()) {
        program.set_env(names::CODEX_SQLITE_HOME, None);
    }
}

/// Lets `codex update` leave the own home of a session: an installation in the main home, which that home has a link to,
/// knows itself only there.
pub(super) fn leave_own_home(env: &Env, paths: &PoolPaths, program: &mut Program) {
    let inherited = env.get(names::CODEX_HOME).map(Path::new);
    if let Some(dir) = inherited.and_then(|dir| homes::main_home_of(paths, dir)) {
        back_to_main_home(env, &CodexHome::main(dir), program);
    }
}

/// Returns whether the background server of the home answers as another account than the launch's, or as an unknown
/// one.
fn wrong_server(locked: &Locked<'_>, placement: &Placement) -> bool {
    let Some(server) = BackgroundServer::of_home(placement.home.dir()) else { return false };
    let record = locked.pool.state().home(&placement.home.auth_json());
    let serves = record.and_then(|record| account_of_server(record, &server));
    serves.is_none() || serves != placement.account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_homes_on_macos_allow_links() {
        assert_eq!(links_override(true, true), ["-c", "allow_symlinked_codex_home=true"]);
        assert!(links_override(true, false).is_empty() && links_override(false, true).is_empty());
    }
}
