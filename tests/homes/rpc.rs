//! Codex's app-server as an editor drives it: JSON-RPC over its standard streams.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, Stdio};

use serde_json::{Value, json};
use testkit::{Cmd, SOON, World, wait_for};

/// A connection to an app-server. Dropping it ends the process behind it.
pub(crate) struct Editor {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: File,
    sent: u64,
    thread: Option<String>,
}

impl Editor {
    /// Starts the program, `codex app-server` or a proxy to one, and greets it.
    #[track_caller]
    pub(crate) fn open(cmd: Cmd) -> Editor {
        let stdout = tempfile::tempfile().expect("make a temporary file");
        let copy = stdout.try_clone().expect("duplicate a descriptor");
        let mut command = cmd.into_inner();
        let child = command.stdin(Stdio::piped()).stdout(copy).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let stdin = child.stdin.take();
        let mut editor = Editor { child, stdin, stdout, sent: 0, thread: None };
        editor.call(
            "initialize",
            &json!({
                "clientInfo": {"name": "editor", "version": "1"}, "capabilities": {"experimentalApi": true},
            }),
        );
        editor.send(&json!({"method": "initialized"}));
        editor
    }

    /// Returns the process that was started: Codex's launcher, or the shim that became it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request and waits for its result.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        self.send(&json!({"id": id, "method": method, "params": params}));
        let answer = wait_for(&format!("the answer to {method}"), SOON, || {
            self.messages().into_iter().find(|m| m["id"] == id && m["method"].is_null())
        });
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Asks for an answer in the editor's thread, which is made the first time.
    #[track_caller]
    pub(crate) fn ask(&mut self, world: &World, answer: &str) {
        if self.thread.is_none() {
            let started = self.call("thread/start", &json!({"cwd": world.work()}));
            self.thread = started["thread"]["id"].as_str().map(str::to_owned);
        }
        let before = self.messages().len();
        let input = json!([{"type": "text", "text": "hi"}]);
        self.call("turn/start", &json!({"threadId": self.thread, "input": input}));
        let ends = |messages: &[Value]| messages.iter().any(|m| m["method"] == "turn/completed");
        let messages = wait_for("the end of the turn", SOON, || {
            let messages = self.messages().split_off(before);
            ends(&messages).then_some(messages)
        });
        assert!(messages.iter().any(|m| m.to_string().contains(answer)), "no {answer:?}: {messages:?}");
    }

    /// Makes Codex refresh its token.
    #[track_caller]
    pub(crate) fn rotate(&mut self) {
        self.call("account/read", &json!({"refreshToken": true}));
    }

    /// Hangs up, and waits for the end of the process behind.
    pub(crate) fn close(mut self) {
        self.stdin = None;
        self.child.wait().expect("wait for a child");
    }

    fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin, "{message}").expect("write to the app-server");
    }

    /// Reads whole lines only. The offset is the app-server's, so it must not move.
    fn messages(&self) -> Vec<Value> {
        let mut bytes = vec![0; usize::try_from(self.stdout.metadata().expect("stat").len()).expect("fits")];
        self.stdout.read_exact_at(&mut bytes, 0).expect("read what the app-server says");
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.stdin = None;
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
