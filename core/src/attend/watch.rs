//! The ledger as the attendant sees it: the launches of its own boot and pid namespace. The folder is listed only when
//! it changed, and an entry is read only when it changed, so that a look costs little. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use super::View;
use super::stamp::Stamp;
use crate::codex::background_server::BackgroundServer;
use crate::config::Settings;
use crate::homes::CodexHome;
use crate::ledger::{self, LaunchEntry, RecordedLaunch};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::{Liveness, ProcessId};
use crate::store::path_of_key;

/// The folder is listed at least this often, in ticks: not every file system tells of a change at once.
const LIST_EVERY: u32 = 20;
/// Whether a background server holds a thread is looked up this often, in ticks. It costs more than a stat.
const SERVERS_EVERY: u32 = 4;

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Watch {
    paths: PoolPaths,
    me: ProcessId,
    folder: Option<Stamp>,
    ticks: u32,
    launches: BTreeMap<String, (Option<Stamp>, RecordedLaunch)>,
    /// Names of entries whose launch has ended. The next launch removes them.
    gone: BTreeSet<String>,
    /// The homes that launches were in, whose servers may outlive them.
    homes: BTreeSet<PathBuf>,
    /// Those whose server holds a thread.
    served: Vec<PathBuf>,
}

impl Watch {
    pub(super) fn new(paths: PoolPaths, me: ProcessId) -> Watch {
        let homes =
            Pool::peek(&paths).map(|pool| pool.state().homes.keys().map(|k| path_of_key(k)).collect());
        Watch {
            me,
            folder: None,
            ticks: 0,
            launches: BTreeMap::new(),
            gone: BTreeSet::new(),
            homes: homes.unwrap_or_default(),
            served: Vec::new(),
            paths,
        }
    }

    /// Looks at the ledger and the background servers.
    pub(super) fn look<'a>(&'a mut self, settings: &'a Settings, now: i64) -> View<'a> {
        let mut began = false;
        let mut ended = self.forget_ended();
        for name in self.new_names() {
            let process = ProcessId::parse(&name).filter(|process| self.is_here(process));
            let Some(process) = process else { continue };
            let path = self.paths.launches().join(&name);
            let stamp = Stamp::of(&path).filter(|stamp| !stamp.is_young());
            let Some(launch) = ledger::launch(&self.paths, process, &self.me) else { continue };
            if launch.liveness == Liveness::Dead {
                // It was too short to be seen alive, and asks for the same.
                began = true;
                ended.extend(launch.entry);
                self.gone.insert(name);
                continue;
            }
            began = true;
            self.homes.extend(launch.entry.as_ref().map(|entry| path_of_key(&entry.home)));
            self.launches.insert(name, (stamp, launch));
        }
        if self.ticks.is_multiple_of(SERVERS_EVERY) {
            self.served = self.homes.iter().filter(|path| is_served(path)).cloned().collect();
        }
        self.ticks = self.ticks.wrapping_add(1);
        let launches: Vec<&RecordedLaunch> = self.launches.values().map(|(_, launch)| launch).collect();
        let used = launches.iter().filter_map(|launch| Some(path_of_key(&launch.entry.as_ref()?.home)));
        let used: BTreeSet<PathBuf> = used.chain(self.served.iter().cloned()).collect();
        let homes = used.iter().filter_map(|path| CodexHome::of_auth_json(&self.paths, path)).collect();
        View { paths: &self.paths, settings, launches, homes, ended, began, now }
    }

    /// Returns whether a launch runs, by a fresh look at the ledger.
    pub(super) fn launches_now(&self) -> bool {
        let names = self.names().unwrap_or_default();
        names.iter().filter_map(|name| ProcessId::parse(name)).filter(|process| self.is_here(process)).any(
            |process| {
                let path = self.paths.launches().join(process.to_string());
                ledger::liveness(&path, &process, &self.me) != Liveness::Dead
            },
        )
    }

    fn is_here(&self, process: &ProcessId) -> bool {
        process.boot == self.me.boot && process.pid_namespace == self.me.pid_namespace
    }

    /// Brings the known launches up to date. Returns those that ended.
    fn forget_ended(&mut self) -> Vec<LaunchEntry> {
        let (mut ended, dir) = (Vec::new(), self.paths.launches());
        for name in self.launches.keys().cloned().collect::<Vec<_>>() {
            let Some((stamp, launch)) = self.launches.get_mut(&name) else { continue };
            let path = dir.join(&name);
            let now = Stamp::of(&path);
            let alive = ledger::liveness(&path, &launch.process, &self.me) != Liveness::Dead;
            // A launch that removed its entry did not happen, is a login that is over, or goes on with another account and
            // records itself again.
            if !alive || now.is_none() {
                if let Some((_, launch)) = self.launches.remove(&name) {
                    ended.extend(launch.entry);
                }
                if !alive {
                    self.gone.insert(name);
                }
            } else if now != *stamp {
                *stamp = now.filter(|stamp| !stamp.is_young());
                if let Some(read) = ledger::launch(&self.paths, launch.process.clone(), &self.me) {
                    self.homes.extend(read.entry.as_ref().map(|entry| path_of_key(&entry.home)));
                    *launch = read;
                }
            }
        }
        ended
    }

    /// Returns the names in the ledger that were not seen before.
    fn new_names(&mut self) -> Vec<String> {
        let folder = Stamp::of(&self.paths.launches());
        if folder.is_some() && folder == self.folder && !self.ticks.is_multiple_of(LIST_EVERY) {
            return Vec::new();
        }
        let Some(names) = self.names() else { return Vec::new() };
        self.folder = folder.filter(|stamp| !stamp.is_young());
        self.gone.retain(|name| names.contains(name));
        let new = |name: &String| !self.launches.contains_key(name) && !self.gone.contains(name);
        names.iter().filter(|name| new(name)).cloned().collect()
    }

    fn names(&self) -> Option<BTreeSet<String>> {
        let entries = fs::read_dir(self.paths.launches()).ok()?.flatten();
        Some(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

/// Returns whether the background server of the home with this `auth.json` holds a thread.
fn is_served(auth_json: &std::path::Path) -> bool {
    let server = auth_json.parent().and_then(BackgroundServer::of_home);
    server.is_some_and(|server| server.holds_thread() == Some(true))
}
