//! The worlds of the commands whose system calls fail, laid out anew for each call.

use std::fs;

use serde_json::json;
use testkit::Running;
use testkit::backend::{Limit, LoginSpec};

use crate::lab::Lab;
use crate::moving;

/// A command whose calls fail, and the world it runs in.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// What a launch says when it works; `None` for other commands.
    pub(crate) starts: Option<&'static str>,
    /// Also its threads and children.
    pub(crate) follow: bool,
    /// Lays out the world anew. What it returns runs meanwhile.
    pub(crate) prepare: fn(&Lab) -> Option<Running>,
    pub(crate) program: &'static str,
    pub(crate) args: &'static [&'static str],
    /// What is in its environment beside the world's.
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// Only calls between the first and the last that mention one of these fail. None: all.
    pub(crate) between: &'static [&'static str],
    /// It works on a thread, which must be usable and complete afterwards.
    pub(crate) thread: bool,
    /// Makes a program end that does not end by itself, after it has worked for a moment.
    pub(crate) end: Option<fn(&Lab)>,
    /// An interface is open whose server it moves: that must go on.
    pub(crate) moves: bool,
    /// It is killed at each call, instead of the call failing.
    pub(crate) killed: bool,
}

/// Stands in the arguments for the Codex home.
pub(crate) const HOME: &str = "HOME";

/// Lays out a world where Carol's newest token is live and nowhere else, and another account is the pick.
fn rotated(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::default());
    rotate(world);
    None
}

fn rotate(world: &Lab) {
    let backend = world.backend();
    for name in ["alice", "bob", "carol"] {
        // What the pool has is older, and used up.
        world.store(name, &backend.auth_json_with(name, &LoginSpec::expires_in(5 * 86_400)));
    }
    world.write_live(&backend.auth_json("carol"));
}

/// Lays out the same after launches that saw older tokens: Carol's, and those of the pick, which are in a home that was
/// in use until a moment ago.
fn left(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::default());
    let carol = hold(world, "carol");
    world.exec_as("alice").run().ok();
    let home = world.documents().into_iter().find(|path| path.starts_with(world.pool_home().join("homes")));
    drop(carol);
    rotate(world);
    let newest = world.backend().auth_json_with("alice", &LoginSpec::expires_in(6 * 86_400));
    world.write_private(&home.expect("Alice's home"), &newest);
    None
}

/// Lays out the first world, with a session of Carol in the main home: the pick gets its own home.
fn occupied(world: &Lab) -> Option<Running> {
    rotated(world);
    Some(hold(world, "carol"))
}

/// Returns a session of that account, until it is dropped.
fn hold(world: &Lab, name: &str) -> Running {
    world.hold(world.exec_as(name))
}

/// Lays out a world where all tokens end within the day, so that a refresh renews them, and Carol's newest is live.
fn due(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::expires_in(20_000));
    world.write_live(&world.backend().auth_json_with("carol", &LoginSpec::expires_in(40_000)));
    None
}

/// The id of [`alices_thread`].
pub(crate) const THREAD: &str = "01a2148a-1509-7203-9900-6a00d5afb701";

/// Lays out a world where Alice is at her limit, and a thread of hers has reasoning that is bound to her.
pub(crate) fn alices_thread(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::default());
    world.cache_usage(&[("alice", 100.0, 40.0), ("bob", 10.0, 10.0), ("carol", 50.0, 50.0)], 0);
    world.write_live(&world.document("carol"));
    let document = world.document("alice");
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    let claims = testkit::backend::claims(document["tokens"]["id_token"].as_str().expect("a token"));
    let auth = claims.expect("claims")["https://api.openai.com/auth"].clone();
    let account = auth["chatgpt_account_id"].as_str().expect("an account").to_owned();
    let mut lines = Vec::new();
    let mut line = |kind: &str, payload: serde_json::Value| {
        let at = lines.len();
        lines.push(
            json!({"timestamp": "2026-11-25T21:08:43.000Z", "ordinal": at, "type": kind, "payload": payload}),
        );
    };
    line(
        "session_meta",
        json!({"id": THREAD, "cwd": world.work(), "source": "exec", "model_provider": "lab",
            "creator_user_id": auth["chatgpt_user_id"], "creator_account_id": account}),
    );
    line("event_msg", json!({"type": "task_started"}));
    // Long enough for several reads, and short enough that few of the calls are alike.
    for step in 0..12 {
        let content = format!("enc-{account}-{step}-{}", "x".repeat(1_500));
        line("response_item", json!({"type": "reasoning", "summary": [], "encrypted_content": content}));
        let text = json!([{"type": "output_text", "text": format!("step {step}")}]);
        line(
            "response_item",
            json!({"type": "message", "role": "assistant", "id": format!("msg_{step}"), "content": text}),
        );
    }
    let error = json!({"message": "usage limit", "codex_error_info": "usage_limit_exceeded"});
    line("event_msg", json!({"type": "task_complete", "last_agent_message": null, "error": error}));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let log = format!("sessions/2026/11/25/rollout-2026-11-25T21-08-43-{THREAD}.jsonl");
    world.write_private(&world.codex_home().join(log), &text);
    world.write_private(&world.root().join("original"), &text);
    None
}

/// Lays out a world where Alice is the pick and reaches her limit at the first request.
pub(crate) fn limited(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::default());
    let _ = fs::remove_file(world.root().join("original"));
    // Codex without the pool has a login, too.
    world.write_live(&world.document("alice"));
    world.backend().limit_after("alice", 0, Limit::Refuse);
    None
}

/// Lays out a world with two sessions, whose tokens were rotated.
fn attended(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::expires_in(5 * 86_400));
    let alice = hold(world, "alice");
    let carol = hold(world, "carol");
    let home = world.documents().into_iter().find(|path| path.starts_with(world.pool_home().join("homes")));
    let newest = |name: &str| world.backend().auth_json_with(name, &LoginSpec::expires_in(6 * 86_400));
    world.write_live(&newest("alice"));
    world.write_private(&home.expect("Carol's home"), &newest("carol"));
    world.settings("background_refresh = false\nmin_poll_interval = \"0s\"\n");
    // Its home is taken in when it ends.
    drop(carol);
    Some(alice)
}

fn turn_off(world: &Lab) {
    world.settings("background_refresh = false\nmin_poll_interval = \"0s\"\nattend = false\n");
}

pub(crate) const LAUNCH: Scenario = Scenario {
    starts: Some("hello from"),
    follow: false,
    prepare: rotated,
    program: "codex",
    args: &["exec", "--skip-git-repo-check", "hi"],
    env: &[],
    between: &[],
    thread: false,
    end: None,
    moves: false,
    killed: false,
};

pub(crate) const LEFT: Scenario = Scenario { prepare: left, ..LAUNCH };

pub(crate) const PARALLEL: Scenario = Scenario { prepare: occupied, ..LAUNCH };

pub(crate) const REFRESH: Scenario = Scenario {
    starts: None,
    follow: true,
    prepare: due,
    program: "codex-pool",
    args: &["refresh"],
    ..LAUNCH
};

pub(crate) const USE: Scenario =
    Scenario { starts: None, prepare: rotated, program: "codex-pool", args: &["use", "bob"], ..LAUNCH };

/// Bob goes on with Alice's thread: what is bound to her is taken out.
pub(crate) const BLANK: Scenario = Scenario {
    prepare: alices_thread,
    args: &["exec", "--skip-git-repo-check", "resume", THREAD, "again"],
    env: &[("STANDIN_LOG", "1"), ("CODEX_POOL_CARRY_ON", "0")],
    between: &["thread-writer-locks", THREAD],
    thread: true,
    ..LAUNCH
};

/// Alice reaches her limit in an `exec`, and another account goes on: the calls of the process that waits for Codex, up
/// to the moment when it executes itself.
pub(crate) const CARRY: Scenario =
    Scenario { prepare: limited, env: &[("STANDIN_LOG", "1")], thread: true, ..LAUNCH };

/// The attendant takes in what sessions of Alice and Carol have rotated.
pub(crate) const ATTEND: Scenario = Scenario {
    starts: None,
    prepare: attended,
    program: "codex-pool",
    args: &["attend"],
    end: Some(turn_off),
    ..LAUNCH
};

/// The server of an interface whose thread has reached Alice's limit moves to Bob. Its guard fails in nothing.
pub(crate) const MOVE: Scenario = Scenario {
    starts: None,
    prepare: moving::standing_still,
    program: "codex-pool",
    args: &["move", HOME],
    thread: true,
    moves: true,
    ..LAUNCH
};

/// The end of a move that was cut off before anybody took the home: it is undone.
pub(crate) const UNDO: Scenario =
    Scenario { prepare: moving::cut_off, args: &["move", "--finish", HOME], ..MOVE };

/// The end of one that was cut off after Bob took the home: it is completed.
pub(crate) const COMPLETE: Scenario = Scenario { prepare: moving::cut_off_late, ..UNDO };
