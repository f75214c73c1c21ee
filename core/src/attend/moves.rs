//! The duty that lets open interfaces go on: it follows the threads of background servers, and when one has reached the
//! limit and nothing is in flight, it starts the process that moves the server to the next account (`moving`). It also
//! starts the one that ends a move which a crash has cut off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::admin::Admin;
use super::logins::lock_soon;
use super::{Duty, View};
use crate::carry::mark::{self, MoveMark};
use crate::codex::background_server::BackgroundServer;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::homes::CodexHome;
use crate::homes::in_use::account_of_server;
use crate::moving::{self, Need, Threads};
use crate::paths::PoolPaths;
use crate::pool::Pool;

/// When a move that could not be made is tried again: at once in the beginning, more and more seldom later.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

/// Starts moves.
pub(super) struct Moves {
    admin: Admin,
    homes: BTreeMap<PathBuf, Watched>,
}

/// A home whose server is followed.
struct Watched {
    threads: Threads,
    child: Option<Child>,
    not_before: Instant,
    pause: Duration,
    /// The turns of which it was said that nothing can be done: thread and turn.
    given_up: Vec<(String, String)>,
    /// Those of the move that runs.
    asked: Vec<(String, String)>,
}

impl Duty for Moves {
    fn tick(&mut self, view: &View<'_>) -> Result<()> {
        self.end_old_moves(view)?;
        let servers: Vec<(CodexHome, BackgroundServer)> = view
            .homes
            .iter()
            .filter_map(|home| Some((home.clone(), BackgroundServer::of_home(home.dir())?)))
            .collect();
        self.homes.retain(|dir, watched| {
            watched.reap();
            // Without a server, when a move that was cut off is tried again.
            let waits = Instant::now() < watched.not_before;
            waits || watched.child.is_some() || servers.iter().any(|(home, _)| home.dir() == dir)
        });
        let mut result = Ok(());
        for (home, server) in servers {
            let main_home = home.main_home(view.paths);
            let watched = self
                .homes
                .entry(home.dir().to_owned())
                .or_insert_with(|| Watched::new(Threads::of(server.clone(), main_home.dir())));
            if watched.child.is_some() {
                continue;
            }
            if *watched.threads.server() != server {
                watched.threads = Threads::of(server, main_home.dir());
            }
            watched.look();
            match watched.standing(view, &home, &main_home) {
                Ok(standing) if standing.is_empty() => watched.pause = SOONEST,
                Ok(standing) => {
                    if !watched.threads.in_flight() && Instant::now() >= watched.not_before {
                        watched.asked = standing;
                        watched.child = start(&self.admin, view.paths, &["move"], home.dir());
                    }
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn is_busy(&self) -> bool {
        self.homes.values().any(|watched| watched.child.is_some())
    }
}

impl Moves {
    /// `env`: the attendant's environment.
    pub(super) fn new(env: &Env, paths: &PoolPaths) -> Moves {
        Moves { admin: Admin::new(env, paths), homes: BTreeMap::new() }
    }

    /// Starts the end of each move that was cut off.
    fn end_old_moves(&mut self, view: &View<'_>) -> Result<()> {
        if !view.paths.moving().exists() {
            return Ok(());
        }
        for home in MoveMark::all(view.paths).iter().filter_map(|mark| mark.home(view.paths)) {
            let runs = self.homes.get_mut(home.dir()).is_some_and(|watched| {
                watched.reap();
                watched.child.is_some() || Instant::now() < watched.not_before
            });
            if runs || !mark::is_left(view.paths, &home) {
                continue;
            }
            let main_home = home.main_home(view.paths);
            let none = Threads::none(&home, main_home.dir());
            let watched = self.homes.entry(home.dir().to_owned()).or_insert_with(|| Watched::new(none));
            watched.asked.clear();
            watched.child = start(&self.admin, view.paths, &["move", "--finish"], home.dir());
        }
        Ok(())
    }
}

impl Watched {
    fn new(threads: Threads) -> Watched {
        Watched {
            threads,
            child: None,
            not_before: Instant::now(),
            pause: SOONEST,
            given_up: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Looks at the threads, and forgets what was said of others.
    fn look(&mut self) {
        self.threads.look();
        let threads = &self.threads;
        self.given_up.retain(|(id, _)| threads.loaded().any(|thread| thread.meta.id == *id));
    }

    /// Takes note of the end of a move.
    fn reap(&mut self) {
        let Some(child) = &mut self.child else { return };
        let Ok(Some(status)) = child.try_wait() else { return };
        self.child = None;
        let asked = std::mem::take(&mut self.asked);
        match status.code() {
            Some(moving::DONE) => self.pause = SOONEST,
            Some(moving::NO) => self.given_up.extend(asked),
            Some(moving::MUCH_LATER) => self.not_before = Instant::now() + LATEST,
            _ => {
                self.not_before = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LATEST);
            }
        }
    }

    /// Returns the threads that stand still, each with its turn, and notes those that do so since this look.
    fn standing(
        &self,
        view: &View<'_>,
        home: &CodexHome,
        main_home: &CodexHome,
    ) -> Result<Vec<(String, String)>> {
        let mut standing = Vec::new();
        let needs: Vec<_> = self
            .threads
            .loaded()
            .filter(|thread| !thread.meta.subagent)
            .filter_map(|thread| {
                let turn = thread.turn()?;
                Some((thread, turn, moving::need(thread, turn, main_home.dir())?))
            })
            .filter(|(thread, turn, _)| !self.given_up.contains(&(thread.meta.id.clone(), turn.name())))
            .collect();
        if needs.is_empty() {
            return Ok(standing);
        }
        let pool = Pool::peek(view.paths)?;
        let record = pool.state().home(&home.auth_json());
        let account = record.and_then(|record| account_of_server(record, self.threads.server()));
        let Some(account) = account else { return Ok(standing) };
        for (thread, turn, need) in needs {
            let name = (thread.meta.id.clone(), turn.name());
            if moving::stands_still(view.paths, thread, turn, &account) {
                standing.push(name);
                continue;
            }
            let in_vain =
                || need == Need::History && moving::repaired_in_vain(view.paths, &thread.meta, turn);
            if thread.own_turn().is_none()
                || moving::was_answered(view.paths, &thread.meta, turn)
                || in_vain()
            {
                continue;
            }
            let Some(lock) = lock_soon(view.paths)? else { continue };
            moving::note_need(&lock, view.paths, &thread.meta, turn, &account).map_err(Error::new)?;
            standing.push(name);
        }
        Ok(standing)
    }
}

fn start(admin: &Admin, paths: &PoolPaths, words: &[&str], home: &Path) -> Option<Child> {
    use std::os::unix::process::CommandExt;
    admin.command(paths).args(words).arg(home).process_group(0).spawn().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::account::AccountId;
    use crate::carry::mark::MarkLock;
    use crate::config::Settings;

    const SOON: Duration = Duration::from_secs(60);

    fn watched(dir: &Path) -> Watched {
        Watched::new(Threads::none(&CodexHome::main(dir.to_owned()), dir))
    }

    fn ends(watched: &mut Watched, status: i32) {
        let shell = std::process::Command::new("/bin/sh").args(["-c", &format!("exit {status}")]).spawn();
        watched.child = Some(shell.unwrap());
        let until = Instant::now() + SOON;
        while watched.child.is_some() {
            assert!(Instant::now() < until);
            watched.reap();
        }
    }

    fn turn(thread: &str) -> (String, String) {
        (thread.to_owned(), "turn".to_owned())
    }

    #[test]
    fn two_threads_of_which_nothing_can_be_done_are_both_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut watched = watched(dir.path());
        for thread in ["a", "b"] {
            watched.asked = vec![turn(thread)];
            ends(&mut watched, moving::NO);
        }
        assert_eq!(watched.given_up, [turn("a"), turn("b")]);
        watched.look();
        assert_eq!(watched.given_up, [], "none is loaded any more");
    }

    #[test]
    fn end_of_a_move_that_fails_at_once_is_tried_more_and_more_seldom() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        fs::create_dir(paths.root()).unwrap();
        let home = CodexHome::at(&paths, dir.path().join("codex"));
        let lock = MarkLock::take(&paths, &home, Duration::ZERO).unwrap().expect("free");
        let [alice, bob] = ["alice", "bob"].map(|name| AccountId::of_chatgpt(name, "space"));
        MoveMark::new(&home, alice, bob, (1, 1), 0).write(&lock, &paths, &home).unwrap();
        drop(lock);
        let calls = dir.path().join("calls");
        let admin = paths.admin_link();
        fs::create_dir_all(admin.parent().unwrap()).unwrap();
        fs::write(&admin, format!("#!/bin/sh\necho >> '{}'\nexit 1\n", calls.display())).unwrap();
        fs::set_permissions(&admin, fs::Permissions::from_mode(0o700)).unwrap();
        let settings = Settings::default();
        let view = View {
            paths: &paths,
            settings: &settings,
            launches: Vec::new(),
            homes: Vec::new(),
            ended: Vec::new(),
            began: false,
            now: 0,
        };
        let mut moves = Moves::new(&Env::of(&[], dir.path(), 0), &paths);
        let start = Instant::now();
        // The first is made at once, the second after a second, the third after two more.
        while fs::read(&calls).unwrap_or_default().len() < 3 {
            assert!(start.elapsed() < SOON);
            moves.tick(&view).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(start.elapsed() >= SOONEST * 3, "{:?}", start.elapsed());
    }
}
