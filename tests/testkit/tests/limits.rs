//! The real Codex at the usage limit and with the history of another account, against the stand-in service: both
//! behave as was seen with the real service's answers.

use std::fs;

use serde_json::Value;
use testkit::backend::{Limit, Task, Turn, Usage, api_key_json};
use testkit::{Codex, Output, Sandbox, carried_versions};

/// Flags in front of everything else, as `exec resume` needs them, too.
const FLAGS: [&str; 4] = ["exec", "--skip-git-repo-check", "-s", "danger-full-access"];

/// Returns a world with alice live, bob beside, and a task of four steps; the model thinks.
fn world(version: &str) -> Option<Sandbox> {
    let sandbox = Sandbox::builder().codex(Codex::real_of(version)?).without_pool().build();
    let backend = sandbox.backend();
    backend.add("alice");
    backend.add("bob");
    backend.think();
    backend.give_task(Task::new(4));
    sandbox.write_live(&backend.auth_json("alice"));
    Some(sandbox)
}

fn exec(sandbox: &Sandbox, args: &[&str]) -> Output {
    sandbox.real_codex(&[&FLAGS, args].concat()).run()
}

/// Returns the thread of a run with `--json`.
fn thread(output: &Output) -> String {
    let first: Value = serde_json::from_str(output.stdout.lines().next().unwrap_or_default()).expect("JSON");
    first["thread_id"].as_str().unwrap_or_else(|| panic!("no thread: {output}")).to_owned()
}

/// Returns the payloads of the only session log's events.
fn events(sandbox: &Sandbox) -> Vec<Value> {
    let [log] = &sandbox.rollouts()[..] else { panic!("not one log: {:?}", sandbox.rollouts()) };
    let text = fs::read_to_string(log).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["type"] == "event_msg").map(|mut line| line["payload"].take()).collect()
}

fn steps(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.work().join("steps.txt")).unwrap_or_default()
}

#[test]
fn limit_ends_a_run_as_it_does_with_the_service() {
    let in_stream = || Limit::InStream("usage_limit_reached".into());
    let once = || Limit::InStreamOnce("usage_limit_reached".into());
    let cases = [
        ("first", 0, Limit::Refuse, false, "", "usage_limit_exceeded"),
        ("mid-turn", 2, Limit::Refuse, false, "1 alice\n2 alice\n", "usage_limit_exceeded"),
        ("socket", 2, Limit::Refuse, true, "1 alice\n2 alice\n", "usage_limit_exceeded"),
        ("after a call", 2, Limit::Cut, false, "1 alice\n2 alice\n3 alice\n", "usage_limit_exceeded"),
        ("stream, then 429", 2, once(), false, "1 alice\n2 alice\n", "usage_limit_exceeded"),
        ("stream", 2, in_stream(), false, "1 alice\n2 alice\n", "other"),
    ];
    for version in carried_versions() {
        for (name, answers, limit, socket, done, code) in cases.clone() {
            let what = format!("{version}, {name}");
            let Some(sandbox) = world(&version) else { return };
            sandbox.backend().limit_after("alice", answers, limit);
            if socket {
                sandbox.use_websockets();
            }
            let output = exec(&sandbox, &["--json", "do the task"]).expect(1);
            let last = output.stdout.lines().last().unwrap_or_default();
            let words = if code == "other" { "limit has been reached" } else { "hit your usage limit" };
            assert!(last.starts_with(r#"{"type":"turn.failed""#) && last.contains(words), "{what}: {output}");
            assert_eq!(steps(&sandbox), done, "{what}");
            let turns = sandbox.backend().report().turns;
            assert!(turns.iter().all(|turn| turn.websocket == socket), "{what}");

            let events = events(&sandbox);
            let end = events.last().expect("events");
            assert_eq!(
                (&end["type"], &end["last_agent_message"]),
                (&"task_complete".into(), &Value::Null),
                "{what}"
            );
            // 0.140 does not say why.
            let said = if version == "0.140.0" { Value::Null } else { code.into() };
            assert_eq!(end["error"]["codex_error_info"], said, "{what}: {end}");
            let counts = events.iter().rfind(|event| event["type"] == "token_count").expect("a count");
            let limits = &counts["rate_limits"];
            assert_eq!(limits["primary"]["used_percent"], 100.0, "{what}: {limits}");
            assert_eq!(limits["limit_id"], "codex", "{what}");
        }
    }
}

#[test]
fn history_of_another_account_is_refused_and_nothing_is_lost() {
    for version in carried_versions() {
        for (socket, code) in [(false, Some("invalid_encrypted_content")), (true, None)] {
            let what = format!("{version}, socket {socket}, code {code:?}");
            let Some(sandbox) = world(&version) else { return };
            let backend = sandbox.backend();
            backend.set_encrypted_code(code);
            backend.limit_after("alice", 2, Limit::Refuse);
            if socket {
                sandbox.use_websockets();
            }
            let id = thread(&exec(&sandbox, &["--json", "do the task"]).expect(1));
            let alice = sandbox.live().expect("a login");
            sandbox.write_live(&backend.auth_json("bob"));
            let output = exec(&sandbox, &["resume", &id, "continue"]).expect(1);
            assert!(output.stderr.contains("could not be verified"), "{what}: {output}");
            let report = backend.report();
            let refused: Vec<&Turn> = report.turns_of("bob");
            assert!(refused.iter().all(|turn| turn.status == 400), "{what}: {refused:#?}");
            assert_eq!(refused[0].items("reasoning").len(), 2, "{what}");

            backend.set_usage("alice", Usage::default());
            sandbox.write_live(&alice);
            exec(&sandbox, &["resume", &id, "continue"]).ok().says("done by alice");
            assert_eq!(steps(&sandbox), "1 alice\n2 alice\n3 alice\n4 alice\n", "{what}");
        }
    }
}

/// A history that the service compacted. Only Codex's own provider asks for that, and with a ChatGPT login it insists
/// on https; so the logins are API keys.
#[test]
fn compacted_history_is_bound_as_well() {
    for version in carried_versions() {
        let Some(sandbox) = world(&version) else { return };
        let backend = sandbox.backend();
        backend.give_task(Task::new(2));
        sandbox.set_provider("name", "OpenAI");
        sandbox.edit_config(|config| {
            config.insert("model_auto_compact_token_limit".into(), 5.into());
        });
        for name in ["alice", "bob"] {
            backend.add_api_key(name, &format!("sk-test-{name}"));
        }
        sandbox.write_live(&api_key_json("sk-test-alice"));
        let id = thread(&exec(&sandbox, &["--json", "do the task"]).ok());
        sandbox.write_live(&api_key_json("sk-test-bob"));
        let output = exec(&sandbox, &["resume", &id, "go on"]).expect(1);
        assert!(output.stderr.contains("could not be verified"), "{version}: {output}");
        let report = backend.report();
        let refused = report.turns_of("bob")[0];
        assert_eq!(refused.items("compaction").len(), 1, "{version}: {refused:#?}");
        assert_eq!(steps(&sandbox), "1 alice\n2 alice\n", "{version}");
    }
}
