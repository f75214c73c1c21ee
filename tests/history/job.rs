//! Work with the real Codex, alice live and bob beside, and a model that thinks and has a task of four steps.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use codex_pool_core::codex::rollout::{Blanked, EndedByLimit, LastTurn, Quiet, blank, last_turn};
use codex_pool_core::paths::PoolPaths;
use serde_json::{Value, json};
use testkit::backend::Task;
use testkit::{Cmd, Codex, Output, Sandbox, World, has_server};

/// Flags in front of everything else, as `exec resume` needs them, too.
const FLAGS: [&str; 4] = ["exec", "--skip-git-repo-check", "-s", "danger-full-access"];

/// A world in the middle of its work.
pub(crate) struct Job {
    world: World,
}

impl std::ops::Deref for Job {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl Job {
    /// Starts with that version of Codex. `None` where there is none: the test is left out then.
    pub(crate) fn new(version: &str) -> Option<Job> {
        let sandbox = Sandbox::builder().codex(Codex::real_of(version)?).without_pool().build();
        let backend = sandbox.backend();
        backend.add("alice");
        backend.add("bob");
        backend.think();
        backend.give_task(Task::new(4));
        sandbox.write_live(&backend.auth_json("alice"));
        Some(Job { world: World::from(sandbox) })
    }

    /// Puts a login of that user in the place of the live one.
    pub(crate) fn log_in(&self, name: &str) {
        self.write_live(&self.backend().auth_json(name));
    }

    pub(crate) fn exec_cmd(&self, args: &[&str]) -> Cmd {
        self.real_codex(&[&FLAGS, args].concat())
    }

    pub(crate) fn exec(&self, args: &[&str]) -> Output {
        self.exec_cmd(args).run()
    }

    /// Begins a thread with this prompt, which ends with that status; its id.
    pub(crate) fn begin(&self, prompt: &str, status: i32) -> String {
        thread(&self.exec(&["--json", prompt]).expect(status).stdout)
    }

    pub(crate) fn resume(&self, thread: &str) -> Output {
        self.exec(&["resume", thread, "continue"])
    }

    pub(crate) fn pool_paths(&self) -> PoolPaths {
        PoolPaths::new(self.pool_home())
    }

    /// The log of the oldest thread.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.rollouts().into_iter().next().expect("a log")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).expect("a log")
    }

    /// Takes out of the log what is bound to the account. Nothing in it is unknown.
    pub(crate) fn blank(&self, thread: &str) -> Blanked {
        let blanked = blank(&self.pool_paths(), thread, &self.log_path(), Quiet::Stopped).expect("blanked");
        assert_eq!(blanked.unknown, Vec::<String>::new(), "{}", self.version());
        blanked
    }

    pub(crate) fn last_turn(&self) -> LastTurn {
        let file = fs::File::open(self.log_path()).expect("the log");
        last_turn(&file).expect("read").expect("a turn")
    }

    /// The log says that the last turn ended with the limit; 0.140 leaves it to the service to say so.
    pub(crate) fn assert_limit(&self, what: &str) {
        let expected = if has_server(self.version()) { EndedByLimit::Yes } else { EndedByLimit::Confirm };
        let turn = self.last_turn();
        assert_eq!(turn.ended_by_limit(true), expected, "{what}: {turn:?}");
    }

    /// Adds items to the log's history.
    pub(crate) fn append(&self, items: &[Value]) {
        items.iter().for_each(|item| self.append_line("response_item", item));
    }

    /// Adds a line of that type to the log.
    pub(crate) fn append_line(&self, kind: &str, payload: &Value) {
        let mut line = json!({"timestamp": "2026-11-25T21:08:43.578Z"});
        if has_server(self.version()) {
            line["ordinal"] = self.log().lines().count().into();
        }
        (line["type"], line["payload"]) = (kind.into(), payload.clone());
        let mut log = fs::File::options().append(true).open(self.log_path()).expect("the log");
        writeln!(log, "{line}").expect("written");
    }

    /// The lines that the steps have written.
    pub(crate) fn steps(&self) -> String {
        fs::read_to_string(self.work().join("steps.txt")).unwrap_or_default()
    }

    /// The last request came with every step's call and output, in order, and with nothing of another account.
    pub(crate) fn assert_whole_history(&self, steps: usize, what: &str) {
        let report = self.backend().report();
        let turn = report.turns.last().expect("a turn");
        assert_eq!(turn.status, 200, "{what}: {:?}", turn.refusal);
        let of = |kinds: [&str; 2]| {
            turn.history.iter().filter(|i| kinds.contains(&i.kind.as_str())).collect::<Vec<_>>()
        };
        let calls = of(["function_call", "custom_tool_call"]);
        let outputs = of(["function_call_output", "custom_tool_call_output"]);
        // Others, which a test has put there, do not say so.
        let finished = |text: &str| text.find("finished step ").map(|at| text[at + 14..].to_owned());
        let seen: Vec<String> = outputs
            .iter()
            .filter_map(|output| {
                Some(finished(&output.text)?.chars().take_while(char::is_ascii_digit).collect())
            })
            .collect();
        let wanted: Vec<String> = (1..=steps).map(|step| step.to_string()).collect();
        assert_eq!(seen, wanted, "{what}: {:#?}", turn.history);
        for output in outputs {
            assert!(calls.iter().any(|call| call.call_id == output.call_id), "{what}: {output:#?}");
        }
        assert!(
            !turn.history.iter().any(|item| item.text.contains("aborted")),
            "{what}: {:#?}",
            turn.history
        );
    }
}

/// The thread that a run with `--json` names.
pub(crate) fn thread(stdout: &str) -> String {
    let first: Value = serde_json::from_str(stdout.lines().next().unwrap_or_default()).expect("JSON");
    first["thread_id"].as_str().unwrap_or_else(|| panic!("no thread: {stdout}")).to_owned()
}

/// What `steps.txt` holds when these users have each done so many steps, one after the other.
pub(crate) fn steps(done: &[(&str, usize)]) -> String {
    let by = done.iter().flat_map(|(user, steps)| std::iter::repeat_n(*user, *steps));
    by.enumerate().map(|(at, user)| format!("{} {user}\n", at + 1)).collect()
}
