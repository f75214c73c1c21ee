//! A thread goes from one account to another and back, with the real Codex: its log is blanked by the library, since no
//! command does only that.

mod job;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use codex_pool_core::codex::rollout::{EndedByLimit, Quiet, Taken, TurnState, WriterLock, blank, last_turn};
use codex_pool_core::codex::threads;
use serde_json::{Value, json};
use testkit::backend::{Limit, Step, Task, Usage, api_key_json};
use testkit::{SOON, carried_versions, has_server, wait_until};

use job::Job;

#[test]
fn next_account_finishes_the_task_and_the_first_one_can_go_on() {
    let once = || Limit::InStreamOnce("usage_limit_reached".into());
    let cases = [
        ("at the first request", 0, Limit::Refuse, false, 0),
        ("in mid-turn", 2, Limit::Refuse, false, 2),
        ("on a websocket", 2, Limit::Refuse, true, 2),
        ("right after a call", 1, Limit::Cut, false, 2),
        ("in the stream", 2, once(), false, 2),
    ];
    for version in carried_versions() {
        for (case, answers, limit, socket, done) in cases.clone() {
            let what = format!("{version}, {case}");
            let Some(world) = Job::new(&version) else { return };
            let backend = world.backend();
            if socket {
                world.use_websockets();
            }
            backend.limit_after("alice", answers, limit);
            let thread = world.begin("do the task", 1);
            assert_eq!(world.steps(), job::steps(&[("alice", done)]), "{what}");
            world.assert_limit(&what);

            // Bob comes as far as the step before the last.
            world.blank(&thread);
            world.log_in("bob");
            backend.limit_after("bob", 3 - done, Limit::Refuse);
            world.resume(&thread).expect(1);
            world.assert_limit(&what);
            assert_eq!(world.steps(), job::steps(&[("alice", done), ("bob", 3 - done)]), "{what}");

            // And back.
            world.blank(&thread);
            backend.set_usage("alice", Usage::default());
            world.log_in("alice");
            let output = world.resume(&thread).ok();
            assert_eq!(output.stdout.trim(), "done by alice", "{what}");
            assert_eq!(
                world.steps(),
                job::steps(&[("alice", done), ("bob", 3 - done), ("alice", 1)]),
                "{what}"
            );
            world.assert_whole_history(4, &what);
            assert_eq!(world.rollouts().len(), 1, "{what}: one thread");
            backend.assert_clean();
        }
    }
}

#[test]
fn history_without_blanking_is_refused() {
    for version in carried_versions() {
        let Some(world) = Job::new(&version) else { return };
        world.backend().limit_after("alice", 2, Limit::Refuse);
        let thread = world.begin("do the task", 1);
        world.log_in("bob");
        world.resume(&thread).expect(1);
        let turn = world.last_turn();
        // 0.140 does not say why.
        let silent = TurnState::Unanswered { would_say: false };
        assert_eq!(turn.state, if has_server(&version) { TurnState::Foreign } else { silent }, "{version}");
        assert_eq!(turn.ended_by_limit(true), EndedByLimit::No, "{version}");
        // It is not too late for it.
        world.blank(&thread);
        world.resume(&thread).ok().says("done by bob");
        world.assert_whole_history(4, &version);
    }
}

/// Only Codex's own provider asks the service for compactions, and with a ChatGPT login it insists on https; so the
/// logins are API keys.
#[test]
fn compacted_thread_gets_its_whole_history_back() {
    for version in carried_versions() {
        let Some(world) = Job::new(&version) else { return };
        let backend = world.backend();
        world.set_provider("name", "OpenAI");
        let compact_at = |tokens: i64| {
            world.edit_config(|config| {
                config.insert("model_auto_compact_token_limit".into(), tokens.into());
            });
        };
        compact_at(5);
        for name in ["alice", "bob"] {
            backend.add_api_key(name, &format!("sk-test-{name}"));
        }
        world.write_live(&api_key_json("sk-test-alice"));
        backend.give_task(Task::new(2));
        let thread = world.begin("do the task", 0);
        let compactions = world.log().matches(r#""type":"compacted""#).count();
        assert!(compactions > 0, "{version}");

        compact_at(1_000_000);
        for (task, name, compacted) in [(3, "bob", compactions), (4, "alice", 0)] {
            let blanked = world.blank(&thread);
            assert!(blanked.lines > compacted, "{version}: {blanked:?}");
            world.write_live(&api_key_json(&format!("sk-test-{name}")));
            backend.give_task(Task::new(task));
            world.resume(&thread).ok().says(&format!("done by {name}"));
            world.assert_whole_history(task, &format!("{version}, {name}"));
        }
        assert_eq!(world.steps(), "1 alice\n2 alice\n3 bob\n4 alice\n", "{version}");
    }
}

/// Codex gets such parts from hosted tools and sub-agents, which the stand-in does not have: they are put into the log.
#[test]
fn sealed_parts_of_outputs_go_and_the_outputs_stay() {
    for version in carried_versions() {
        let Some(world) = Job::new(&version) else { return };
        world.backend().give_task(Task::new(1));
        let thread = world.begin("do the task", 0);
        let part =
            json!({"type": "encrypted_content", "encrypted_content": world.backend().sealed_for("alice")});
        let text = json!({"type": "input_text", "text": "seen"});
        world.append(&[
            json!({"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c1"}),
            json!({"type": "function_call_output", "call_id": "c1", "output": [part]}),
            json!({"type": "custom_tool_call", "name": "exec", "input": "x", "call_id": "c2"}),
            json!({"type": "custom_tool_call_output", "call_id": "c2", "output": [text, part]}),
            json!({"type": "agent_message", "author": "/root", "recipient": "/root/a", "content": [part, text]}),
        ]);
        let message = json!({
            "author": "/root", "recipient": "/root/b", "other_recipients": [], "content": "heard",
            "encrypted_content": world.backend().sealed_for("alice"), "trigger_turn": false,
        });
        world.append_line("inter_agent_communication", &message);
        let blanked = world.blank(&thread);
        assert_eq!(blanked.parts, 4, "{version}: {blanked:?}");
        world.log_in("bob");
        world.resume(&thread).ok().says("done by bob");
        let report = world.backend().report();
        let turn = report.turns.last().expect("a turn");
        let outputs: Vec<_> =
            turn.history.iter().filter(|item| matches!(item.call_id.as_deref(), Some("c1" | "c2"))).collect();
        assert_eq!(outputs.len(), 4, "{version}: {outputs:#?}");
        assert!(outputs[1].text.contains("[not available]"), "{version}: {outputs:#?}");
        assert!(outputs[3].text.contains("seen") && outputs[3].text.contains("[not available]"), "{version}");
        let messages = turn.items("agent_message");
        assert!(
            messages[0].text.contains("seen") && messages[1].text.contains("heard"),
            "{version}: {messages:#?}"
        );
        world.assert_whole_history(1, &version);
    }
}

#[test]
fn fork_of_a_blanked_thread_goes_on_as_well() {
    for version in carried_versions().into_iter().filter(|version| has_server(version)) {
        let Some(world) = Job::new(&version) else { return };
        world.backend().limit_after("alice", 2, Limit::Refuse);
        let thread = world.begin("do the task", 1);
        world.blank(&thread);
        world.log_in("bob");
        world.exec(&["fork", &thread, "continue"]).ok().says("done by bob");
        assert_eq!(world.steps(), job::steps(&[("alice", 2), ("bob", 2)]), "{version}");
        world.assert_whole_history(4, &version);
    }
}

#[test]
fn codex_and_we_respect_each_others_lock_of_a_thread() {
    for version in carried_versions().into_iter().filter(|version| has_server(version)) {
        let Some(world) = Job::new(&version) else { return };
        let (home, backend) = (world.codex_home(), world.backend());
        backend.script("alice", [Step::Say("hello".to_owned())]);
        let thread = world.begin("hi", 0);

        let Ok(Taken::Held(ours)) = WriterLock::take(&home, &thread) else { panic!("{version}: not free") };
        let output = world.resume(&thread).expect(1);
        assert!(backend.report().turns.len() == 1, "{version}: {output}");
        let log = world.log_path();
        blank(&world.pool_paths(), &thread, &log, Quiet::Locked(&ours)).expect("blanked under the lock");
        drop(ours);
        let locks = home.join("thread-writer-locks").join(format!("{thread}.lock"));
        assert!(!locks.exists(), "{version}");

        let hold = backend.hold("alice");
        let running = world.exec_cmd(&["resume", &thread, "continue"]).spawn();
        hold.wait_for(1, SOON);
        assert!(matches!(WriterLock::take(&home, &thread), Ok(Taken::InUse)), "{version}");
        wait_until("a turn in flight", SOON, || world.last_turn().state == TurnState::InFlight);
        drop(hold);
        running.wait().ok().says("done by alice");
        assert_eq!(world.last_turn().state, TurnState::Answered, "{version}");
        assert!(matches!(WriterLock::take(&home, &thread), Ok(Taken::Held(_))), "{version}");
    }
}

#[test]
fn killed_run_stays_in_flight_and_can_be_carried_on() {
    for version in carried_versions() {
        let Some(world) = Job::new(&version) else { return };
        let backend = world.backend();
        backend.script("alice", [Step::Shell("echo 1 alice >> steps.txt; echo finished step 1".to_owned())]);
        let running = world.exec_cmd(&["--json", "do the task"]).spawn();
        backend.wait_for("a tool's output", SOON, |report| report.turns.len() == 2);
        // The launcher and the native program.
        running.signal_group(nix::sys::signal::Signal::SIGKILL);
        let thread = job::thread(&running.wait().stdout);
        wait_until("nobody left", SOON, || world.processes().is_empty());
        assert_eq!(world.last_turn().state, TurnState::InFlight, "{version}");
        world.blank(&thread);
        world.log_in("bob");
        world.resume(&thread).ok().says("done by bob");
        let steps = world.steps();
        assert!(steps.starts_with("1 alice\n") && steps.ends_with("4 bob\n"), "{version}: {steps}");
    }
}

/// The last line of a log is often the one that somebody was writing when the machine went down.
#[test]
fn torn_last_line_does_not_stop_the_next_account() {
    for version in carried_versions() {
        let Some(world) = Job::new(&version) else { return };
        world.backend().limit_after("alice", 2, Limit::Refuse);
        let thread = world.begin("do the task", 1);
        let mut log = fs::File::options().append(true).open(world.log_path()).expect("the log");
        log.write_all(
            br#"{"timestamp":"2026-11-25T21:08:43.578Z","type":"response_item","payload":{"type":"reas"#,
        )
        .expect("written");
        world.blank(&thread);
        world.log_in("bob");
        world.resume(&thread).ok().says("done by bob");
        world.assert_whole_history(4, &version);
    }
}

#[test]
fn review_is_a_thread_of_its_own_and_no_thread_of_the_users() {
    for version in carried_versions() {
        let Some(world) = Job::new(&version) else { return };
        world.cmd("git").args(["init", "--quiet"]).run().ok();
        fs::write(world.work().join("new"), "work").expect("a file to review");
        world.backend().script("alice", [Step::Say("{}".to_owned())]);
        world.exec(&["review", "--uncommitted"]);
        let home = world.codex_home();
        let metas: Vec<_> =
            world.rollouts().iter().filter_map(|log| threads::by_id(&home, id_of(log)?)).collect();
        let subagents = metas.iter().filter(|meta| meta.subagent).count();
        assert_eq!((metas.len(), subagents), (2, 1), "{version}: {metas:#?}");
        assert!(
            metas.iter().all(|meta| meta.model_provider.as_deref() == Some("lab")),
            "{version}: {metas:#?}"
        );
    }
}

/// The thread whose log this is, by its name.
fn id_of(log: &Path) -> Option<&str> {
    let stem = log.file_stem()?.to_str()?;
    stem.get(stem.len() - 36..)
}

/// What is read at the end of a log, and what the log itself says.
#[test]
fn end_of_every_log_is_read_right() {
    for version in carried_versions() {
        let Some(world) = Job::new(&version) else { return };
        world.backend().script("alice", [Step::Say("hello".to_owned())]);
        world.begin("hi", 0);
        let file = fs::File::open(world.log_path()).expect("the log");
        let turn = last_turn(&file).expect("read").expect("a turn");
        let last: Value = serde_json::from_str(world.log().lines().last().expect("lines")).expect("JSON");
        assert_eq!(turn.state, TurnState::Answered, "{version}");
        assert_eq!(turn.turn_id.as_deref(), last["payload"]["turn_id"].as_str(), "{version}");
        assert!(!turn.full && !turn.credits, "{version}");
    }
}
