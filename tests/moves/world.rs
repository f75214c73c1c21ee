//! A pool whose accounts reach their limits in order, and interfaces of the real Codex with a task of four steps. The first
//! launch starts the attendant.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs2::FileExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::backend::{Limit, Report, Step, Task, Turn, Usage};
use testkit::{Cmd, Codex, Pty, SOON, World, children, has_server, versions, wait_for, wait_until};

/// Options with which the interface asks for nothing.
pub(crate) const FREE: [&str; 4] = ["-s", "danger-full-access", "-a", "never"];

/// A world of each version with a background server. Alice is live and the pick; the model thinks and has a task of four
/// steps.
pub(crate) fn each(users: &[&str], test: impl Fn(&World)) {
    for version in versions().into_iter().filter(|version| has_server(version)) {
        let Some(codex) = Codex::real_of(&version) else { return };
        let world = World::with(codex, users);
        world.install_server();
        world.link_admin();
        world.settings("background_refresh = false\n");
        world.rank(users);
        world.make_live(users[0]);
        world.backend().think();
        world.backend().give_task(Task::new(4));
        test(&world);
    }
}

pub(crate) trait Moves {
    /// Starts an interface.
    fn open(&self, args: &[&str]) -> Pty;

    /// That user's limit comes after so many answers.
    fn limit(&self, user: &str, answers: usize);

    /// Waits until the task is done, by these users: each step once, nothing refused.
    fn wait_for_task(&self, done: &[(&str, usize)]);

    /// Requires that each step was done once, by these users, in that folder.
    fn wait_for_steps(&self, folder: &Path, done: &[(&str, usize)]);

    /// What became of the last moves, for messages.
    fn moves(&self) -> String;

    /// All that the pool has written of moves, and who runs, for messages.
    fn story(&self) -> String;

    /// How many moves were made, once none is under way.
    fn moved(&self) -> usize;

    /// Waits until a move was refused for a reason with these words.
    fn wait_for_refusal(&self, words: &str);

    /// Waits until that user was told so often that the limit is reached.
    fn wait_for_limit(&self, user: &str, times: usize);

    /// Asks in an interface, beside the task, who answers.
    fn hello(&self, ui: &mut Pty, user: &str);

    /// Makes another folder that Codex trusts.
    fn other_folder(&self) -> PathBuf;

    /// Waits until the model has given so many answers.
    fn wait_for_answers(&self, user: &str, answers: usize, ui: &Pty);

    /// Returns the server of the main home, once it listens.
    fn wait_for_server(&self) -> u32;

    /// Waits until that file is there.
    fn gate_command(&self, name: &str) -> String;

    /// Opens a gate that [`Moves::gate_command`] waits at.
    fn open_the_gate(&self, name: &str);

    /// Makes starts and stops of the server of the main home wait until the file is dropped.
    fn hold_starts(&self) -> File;

    /// Waits until a home is moving.
    fn wait_for_mark(&self);

    /// Returns the attendant.
    fn attendant(&self) -> Pid;

    /// Makes alice live again once no process of the last round is left.
    fn back_to_alice(&self);

    /// Brings the world back to alice, without a server.
    fn begin(&self);

    /// Stops the process that moves the server, as soon as its mark is there.
    fn catch_the_move(&self) -> Pid;

    /// Requires that one message told that session to go on.
    fn assert_told_once(&self, user: &str);
}

impl Moves for World {
    fn open(&self, args: &[&str]) -> Pty {
        self.terminal(free(self.codex(args)))
    }

    fn limit(&self, user: &str, answers: usize) {
        self.backend().set_usage(user, Usage::percent(40.0, 40.0));
        self.backend().limit_after(user, answers, Limit::Refuse);
    }

    #[track_caller]
    fn wait_for_task(&self, done: &[(&str, usize)]) {
        self.wait_for_steps(&self.work(), done);
    }

    #[track_caller]
    fn wait_for_steps(&self, folder: &Path, done: &[(&str, usize)]) {
        let by = done.iter().flat_map(|(user, steps)| std::iter::repeat_n(*user, *steps));
        let wanted: String = by.enumerate().map(|(at, user)| format!("{} {user}\n", at + 1)).collect();
        let steps = || fs::read_to_string(folder.join("steps.txt")).unwrap_or_default();
        let until = Instant::now() + SOON;
        while steps() != wanted && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(steps(), wanted, "{}: {}", self.version(), self.story());
        let turns = self.backend().report().turns;
        let refused: Vec<Turn> =
            turns.into_iter().filter(|turn| ![200, 429].contains(&turn.status)).collect();
        assert!(refused.is_empty(), "{refused:#?}");
        self.backend().assert_clean();
    }

    fn moves(&self) -> String {
        fs::read_to_string(self.pool_home().join("moves.json")).unwrap_or_default()
    }

    fn story(&self) -> String {
        let mut story = format!("{}\n", self.moves());
        let folders = ["", "moving", "threads"].map(|name| self.pool_home().join(name));
        for file in folders.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path()) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if file.parent() != Some(&self.pool_home()) || name == "log.jsonl" {
                story += &format!("{name}: {}\n", fs::read_to_string(&file).unwrap_or_default());
            }
        }
        format!("{story}{:#?}", self.processes())
    }

    fn moved(&self) -> usize {
        let marks = || fs::read_dir(self.pool_home().join("moving")).into_iter().flatten().flatten();
        wait_until("the end of a move", SOON, || marks().all(|entry| entry.path().extension().is_some()));
        self.moves().matches("\"to\":").count()
    }

    #[track_caller]
    fn wait_for_refusal(&self, words: &str) {
        let until = Instant::now() + SOON;
        while !self.moves().contains(words) {
            let all: Vec<_> = self.processes().into_iter().map(|process| process.argv).collect();
            assert!(Instant::now() < until, "not {words:?}: {} {all:#?}", self.moves());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn wait_for_limit(&self, user: &str, times: usize) {
        let of = |turn: &&Turn| turn.status == 429 && turn.user.as_deref() == Some(user);
        self.backend().wait_for("the limit", SOON, |r| r.turns.iter().filter(of).count() >= times);
    }

    #[track_caller]
    fn hello(&self, ui: &mut Pty, user: &str) {
        self.backend().script(user, [Step::Say(format!("hello from {user}"))]);
        self.ask(ui, user);
    }

    fn other_folder(&self) -> PathBuf {
        let folder = self.root().join("other");
        fs::create_dir(&folder).expect("make a folder");
        let name = folder.to_str().expect("a path").to_owned();
        self.edit_config(|config| {
            let trusted = toml::Table::from_iter([("trust_level".to_owned(), "trusted".into())]);
            let projects = config.entry("projects").or_insert_with(|| toml::Table::new().into());
            projects.as_table_mut().expect("a table").insert(name, trusted.into());
        });
        folder
    }

    #[track_caller]
    fn wait_for_answers(&self, user: &str, answers: usize, ui: &Pty) {
        let of = |turn: &&Turn| turn.done && turn.status == 200 && turn.user.as_deref() == Some(user);
        let until = Instant::now() + SOON;
        while self.backend().report().turns.iter().filter(of).count() < answers {
            assert!(Instant::now() < until, "{answers} answers of {user}: {}\n{}", self.moves(), ui.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn wait_for_server(&self) -> u32 {
        let socket = self.codex_home().join("app-server-control/app-server-control.sock");
        wait_for("a server that listens", SOON, || {
            self.server(&self.codex_home()).filter(|_| socket.exists())
        })
    }

    fn gate_command(&self, name: &str) -> String {
        format!("while [ ! -e {} ]; do sleep 0.05; done", self.root().join(name).display())
    }

    fn open_the_gate(&self, name: &str) {
        fs::write(self.root().join(name), "").expect("open the gate");
    }

    #[track_caller]
    fn hold_starts(&self) -> File {
        let lock = File::open(self.codex_home().join("app-server-daemon/daemon.pid.lock")).expect("a lock");
        lock.lock_exclusive().expect("take the lock");
        lock
    }

    #[track_caller]
    fn wait_for_mark(&self) {
        let marks = || fs::read_dir(self.pool_home().join("moving")).into_iter().flatten().flatten();
        wait_for("a mark", SOON, || marks().find(|entry| entry.path().extension().is_none()));
    }

    #[track_caller]
    fn attendant(&self) -> Pid {
        let is = |argv: &[String]| argv.get(1).is_some_and(|arg| arg == "attend");
        let pid = wait_for("the attendant", SOON, || self.processes().into_iter().find(|p| is(&p.argv)));
        Pid::from_raw(pid.pid)
    }

    fn back_to_alice(&self) {
        self.rank(&["alice", "bob"]);
        wait_until("alice in the main home", SOON, || {
            self.pool(&["use", "alice"]).run().ok();
            self.live_owner().as_deref() == Some("alice")
        });
        self.pool(&["use", "--auto"]).run().ok();
    }

    #[track_caller]
    fn begin(&self) {
        self.codex(&["app-server", "daemon", "stop"]).run().ok();
        let _ = fs::remove_file(self.work().join("steps.txt"));
        let _ = fs::remove_file(self.pool_home().join("moves.json"));
        self.back_to_alice();
        self.backend().clear_report();
    }

    fn catch_the_move(&self) -> Pid {
        let (attendant, until) = (self.attendant(), Instant::now() + SOON);
        let attendant = u32::try_from(attendant.as_raw()).expect("a pid fits");
        let folder = self.pool_home().join("moving");
        loop {
            let mut marks = fs::read_dir(&folder).into_iter().flatten().flatten();
            if marks.any(|entry| entry.path().extension().is_none()) {
                let mover = children(attendant).into_iter().find(|pid| {
                    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"/.codex\0"))
                });
                let mover = Pid::from_raw(i32::try_from(mover.expect("a mover")).expect("a pid fits"));
                kill(mover, Signal::SIGSTOP).expect("stop it");
                let stat = || fs::read_to_string(format!("/proc/{mover}/stat")).unwrap_or_default();
                wait_until("it to stand still", SOON, || stat().contains(") T "));
                return mover;
            }
            assert!(Instant::now() < until, "no move: {}", self.moves());
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    #[track_caller]
    fn assert_told_once(&self, user: &str) {
        let turns = self.backend().report().turns;
        let last = turns.iter().rfind(|turn| turn.user.as_deref() == Some(user)).expect("a turn");
        let told = last.history.iter().filter(|item| item.text.contains("\"text\":\"continue\"")).count();
        assert_eq!(told, 1, "{:#?}", last.history);
    }
}

/// An interface that asks for nothing.
pub(crate) fn free(cmd: Cmd) -> Cmd {
    cmd.args(FREE)
}

/// Seconds from the last answer that says limit to a user's first request.
pub(crate) fn seconds_to_go_on(report: &Report, from: &str, to: &str) -> f64 {
    let of = |turn: &&Turn| turn.status == 429 && turn.user.as_deref() == Some(from);
    let limit = report.turns.iter().rfind(of).expect("a limit");
    let next = report.turns.iter().find(|t| t.at > limit.at && t.user.as_deref() == Some(to));
    next.expect("a request").at - limit.at
}

/// Lets the machine look often enough to see what must not happen.
pub(crate) fn some_looks_pass() {
    let until = Instant::now() + Duration::from_millis(2_500);
    wait_until("some looks", SOON, || Instant::now() >= until);
}
