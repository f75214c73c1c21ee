//! Whether a server may move, and to whom. Decides on what is on disk and which processes run; changes nothing but what the
//! pool knows of the account that has reached its limit.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account::AccountId;
use crate::carry::moves::{self, MoveRecord};
use crate::carry::{self, MOVES_A_MINUTE, Next};
use crate::codex::argv;
use crate::codex::background_server::BackgroundServer;
use crate::codex::configuration::{CodexSettings, SYSTEM_DIR, Surroundings};
use crate::config::{Settings, parse_duration_text};
use crate::env::{Env, names};
use crate::folders::FolderRules;
use crate::homes::in_use::{Processes, UserKind};
use crate::homes::{CodexHome, HomeContent};
use crate::launch::{candidates, databases};
use crate::ledger::{LaunchEntry, RecordedLaunch};
use crate::paths::PoolPaths;
use crate::pick::Candidate;
use crate::pool::Pool;
use crate::process::{self, Liveness};
use crate::store::path_of_key;

/// How seldom it may be looked whether a reset has come, seconds, and a bit.
const LOOKED_AT: i64 = 60;

/// What a server may do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The account that it answers as.
    pub(super) from: AccountId,
    /// The account that goes on. The same one after its reset, or where only a history is put right.
    pub(super) to: AccountId,
    /// The server that runs can go on as it is.
    pub(super) stays: bool,
}

/// Why a server does not move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// When the account resets that the reason ends with, Unix seconds.
    pub(super) resets_at: Option<i64>,
    /// Whether it waits for that reset.
    pub(super) waits: bool,
    /// Whether it may later.
    pub(super) later: bool,
}

impl Refusal {
    /// It may later.
    pub(super) fn later(why: impl Into<String>) -> Refusal {
        Refusal { why: why.into(), resets_at: None, waits: false, later: true }
    }

    /// It may not.
    pub(super) fn no(why: impl Into<String>) -> Refusal {
        Refusal { why: why.into(), resets_at: None, waits: false, later: false }
    }
}

/// Returns whether a launch, at the limit of its account, may go on with another one.
pub(super) fn carries_on(entry: &LaunchEntry, settings: &Settings) -> bool {
    match entry.env.get(names::CODEX_POOL_CARRY_ON).map(String::as_str) {
        None => settings.carry_on,
        Some(value) => !matches!(value, "" | "0" | "false"),
    }
}

/// Returns how long a launch waits for a reset.
fn waits(entry: &LaunchEntry, settings: &Settings) -> Duration {
    match entry.env.get(names::CODEX_POOL_CARRY_WAIT) {
        Some(text) => parse_duration_text(text).unwrap_or_default(),
        None => settings.carry_wait,
    }
}

/// Returns the open interfaces of a home's server.
pub(super) fn interfaces<'a>(processes: &'a Processes, home: &CodexHome) -> Vec<&'a RecordedLaunch> {
    let path = home.auth_json();
    let here = |launch: &&RecordedLaunch| {
        launch.liveness == Liveness::Alive
            && launch.entry.as_ref().is_some_and(|entry| entry.attached && path_of_key(&entry.home) == path)
    };
    processes.ledger.launches.iter().filter(here).collect()
}

/// What the decision rests on.
pub(super) struct Check<'a> {
    pub(super) paths: &'a PoolPaths,
    pub(super) settings: &'a Settings,
    pub(super) home: &'a CodexHome,
    pub(super) main_home: &'a CodexHome,
    pub(super) server: &'a BackgroundServer,
    /// The environment that the server has.
    pub(super) env: &'a Env,
    /// The folders of the threads that are loaded.
    pub(super) folders: Vec<PathBuf>,
    /// Since when a thread waits, Unix seconds.
    pub(super) since: i64,
    /// The history of a thread is bound to another account: the same account goes on.
    pub(super) repair: bool,
    pub(super) now: i64,
}

impl Check<'_> {
    /// Returns who goes on, if the server may move.
    pub(super) fn plan(&self, pool: &Pool, processes: &Processes, from: AccountId) -> Result<Plan, Refusal> {
        let interfaces = interfaces(processes, self.home);
        if interfaces.is_empty() {
            return Err(Refusal::no("no interface is open"));
        }
        let entries: Vec<&LaunchEntry> =
            interfaces.iter().filter_map(|launch| launch.entry.as_ref()).collect();
        // A history is put right for the account that is there.
        if !self.repair && entries.iter().any(|entry| !carries_on(entry, self.settings)) {
            return Err(Refusal::no("carrying on is off"));
        }
        if !self.repair && (pool.state().pin.is_some() || entries.iter().any(|entry| entry.stays)) {
            return Err(Refusal::no("the account was asked for by name, or is pinned"));
        }
        if !process::is_kin(self.server.pid) {
            return Err(Refusal::no("the background server belongs to another user or control group"));
        }
        self.nobody_else(pool, processes, &interfaces)?;
        if made_lately(&moves::last(self.paths), &entries[0].home, self.now) >= MOVES_A_MINUTE {
            return Err(Refusal::later("two accounts have reached their limits within a minute"));
        }
        let to = if self.repair { from.clone() } else { self.next(pool, processes, &interfaces, &from)? };
        let stays = !self.repair && to == from;
        Ok(Plan { from, to, stays })
    }

    /// Requires that the server's interfaces alone use the home.
    pub(super) fn nobody_else(
        &self,
        pool: &Pool,
        processes: &Processes,
        interfaces: &[&RecordedLaunch],
    ) -> Result<(), Refusal> {
        if processes.incomplete() {
            return Err(Refusal::later("the launch ledger cannot be read"));
        }
        let codex = self.codex_settings(self.env.cwd.clone(), &[]);
        let databases = databases(self.env, &codex, self.main_home);
        let expected = |pid: u32| pid == self.server.pid || interfaces.iter().any(|l| l.process.pid == pid);
        let users = processes.users_of_home(pool, self.main_home, self.home, &databases);
        let other = users.iter().find(|user| match (&user.kind, user.pid) {
            // It holds the lock of those that start a server.
            (UserKind::Foreign, Some(pid)) => pid != std::process::id(),
            (UserKind::Launch(_) | UserKind::BackgroundServer, Some(pid)) => !expected(pid),
            _ => true,
        });
        if let Some(other) = other {
            return Err(Refusal::later(format!("its home is in use by {}", other.describe())));
        }
        if processes.is_starting_in(self.paths, self.main_home, self.home) {
            return Err(Refusal::later("a Codex is starting in its home"));
        }
        let proxies = processes.proxies_in(self.paths, self.main_home, self.home);
        if proxies.is_none_or(|proxies| !proxies.is_empty()) {
            return Err(Refusal::later("a program uses its server (codex app-server proxy)"));
        }
        Ok(())
    }

    fn next(
        &self,
        pool: &Pool,
        processes: &Processes,
        interfaces: &[&RecordedLaunch],
        from: &AccountId,
    ) -> Result<AccountId, Refusal> {
        let content = HomeContent::read(self.paths, self.main_home);
        let has = |id: &AccountId| pool.credentials().has(id);
        // What an interface was started with, and the folders of its threads: each must allow the next account.
        let mut folders = self.folders.clone();
        let mut all: Vec<CodexSettings> =
            folders.iter().map(|folder| self.codex_settings(Some(folder.clone()), &[])).collect();
        for launch in interfaces {
            let words: Vec<OsString> = process::arguments(launch.process.pid).unwrap_or_default();
            let folder = launch.entry.as_ref().and_then(|entry| Some(path_of_key(entry.cwd.as_deref()?)));
            all.push(self.codex_settings(folder.clone(), &codex_words(&words)));
            folders.extend(folder);
        }
        let Some((last, others)) = all.split_last() else {
            return Err(Refusal::no("no interface is open"));
        };
        let real: Vec<PathBuf> =
            folders.into_iter().map(|folder| folder.canonicalize().unwrap_or(folder)).collect();
        let accounts = &pool.registry().accounts;
        let rules = FolderRules::at(accounts, real.iter().map(PathBuf::as_path), self.env.home());
        let of = |codex| candidates(pool, &processes.ledger, content.account(), codex, &rules, has, self.now);
        let forbidden: BTreeSet<AccountId> = others
            .iter()
            .flat_map(of)
            .filter(|candidate| !candidate.allowed)
            .map(|candidate| candidate.account.id.clone())
            .collect();
        let mut candidates: Vec<Candidate<'_>> = of(last);
        for candidate in &mut candidates {
            candidate.allowed &= !forbidden.contains(&candidate.account.id);
        }
        match carry::next(&candidates, std::slice::from_ref(from), self.now, self.settings) {
            Next::Account(to) => Ok(to),
            Next::None(first) => {
                let entries = interfaces.iter().filter_map(|launch| launch.entry.as_ref());
                let wait = entries.map(|entry| waits(entry, self.settings)).min().unwrap_or_default();
                let until = self.since.saturating_add(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
                // The account that was waited for may be the one that is there.
                if !wait.is_zero()
                    && self.now <= until.saturating_add(LOOKED_AT)
                    && carry::next(&candidates, &[], self.now, self.settings) == Next::Account(from.clone())
                {
                    return Ok(from.clone());
                }
                let first_one = first.as_ref().map(|first| format!("; {} resets first", first.label));
                let waits = first.as_ref().is_some_and(|first| first.at <= until);
                Err(Refusal {
                    why: format!("no other account can go on{}", first_one.unwrap_or_default()),
                    resets_at: first.map(|first| first.at),
                    waits,
                    later: waits,
                })
            }
        }
    }

    fn codex_settings(&self, folder: Option<PathBuf>, words: &[OsString]) -> CodexSettings {
        let around = Surroundings {
            codex_home: self.main_home.dir(),
            system_dir: Path::new(SYSTEM_DIR),
            user_home: self.env.home(),
            cwd: folder.as_deref(),
        };
        CodexSettings::read(around, &argv::parse(words))
    }
}

/// Returns how many moves a home has made in the last minute. Where the clock was set back, those of the future are old.
fn made_lately(moves: &[MoveRecord], home: &str, now: i64) -> usize {
    let lately = |at: i64| (0..60).contains(&now.saturating_sub(at));
    moves.iter().filter(|made| made.why.is_none() && made.home == home && lately(made.at)).count()
}

/// Returns the arguments of Codex, also behind Node and its launcher.
fn codex_words(words: &[OsString]) -> Vec<OsString> {
    let is_node = words.first().is_some_and(|name| Path::new(name).file_name().is_some_and(|n| n == "node"));
    words.iter().skip(if is_node { 2 } else { 1 }).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_of_the_last_minute_count_and_those_of_the_future_do_not() {
        let made = |home: &str, at, why: Option<&str>| MoveRecord {
            at,
            home: home.to_owned(),
            from: AccountId::of_chatgpt("alice", "a"),
            to: None,
            threads: Vec::new(),
            why: why.map(ToOwned::to_owned),
            took_ms: 0,
            resets_at: None,
            waits: false,
        };
        let moves = [
            made("a", 1_000, None),
            made("a", 1_059, None),
            made("b", 1_059, None),
            made("a", 1_059, Some("no")),
        ];
        let lately = |now| made_lately(&moves, "a", now);
        assert_eq!([1_059, 1_060, 1_118, 1_119].map(lately), [2, 1, 1, 0]);
        // The clock was set back.
        assert_eq!([1_058, 999, 0].map(lately), [1, 0, 0]);
    }
}
