//! Every form of `exec`, with the limit in every place.

use std::fs;
use std::io::Write as _;

use base64::Engine as _;
use serde_json::json;
use testkit::backend::{Limit, Usage};
use testkit::{World, has_server};

use crate::world::{Carry, FLAGS, assert_one_conversation, each, newest, thread_of};

#[test]
fn plain_exec_finishes_on_the_next_account() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let output = world.exec_with(&["do the task"]).env("CODEX_POOL_VERBOSE", "1").run();
        assert_eq!(output.stdout, "done by bob\n", "{version}: {output}");
        assert_eq!(output.code(), Some(0), "{version}: {output}");
        assert!(
            output.stderr.contains("codex-pool: alice is at its limit; bob goes on\n"),
            "{version}: {output}"
        );
        assert_eq!(output.stderr.matches("bob goes on").count(), 1, "{version}: said once: {output}");
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}

#[test]
fn login_without_a_refresh_token_goes_on_like_any_other() {
    each(&["alice", "bob"], |version, world| {
        let bundle = world.pool(&["export", "--access-only", "bob"]).run().ok().stdout;
        world.pool(&["rm", "bob", "--yes"]).run().ok();
        world.pool(&["import", "-"]).stdin(bundle).run().ok();
        world.rank(&["alice", "bob"]);
        world.limit("alice", 2);
        let output = world.exec_with(&["do the task"]).run().ok();
        assert_eq!(output.stdout, "done by bob\n", "{version}: {output}");
        assert_eq!(world.account("bob")["access_only"], true, "{version}");
        assert!(world.backend().report().refreshes_of("bob").is_empty(), "{version}");
    });
}

#[test]
fn json_exec_is_one_conversation() {
    each(&["alice", "bob"], |version, world| {
        for flag in ["--json", "--experimental-json"] {
            world.forget();
            world.rank(&["alice", "bob"]);
            world.limit("alice", 2);
            let output = world.exec_with(&[flag, "do the task"]).run().ok();
            assert_one_conversation(&output, version);
            world.assert_done(&[("alice", 2), ("bob", 2)], version);
        }
    });
}

#[test]
fn answer_is_in_the_file_that_was_asked_for() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 1);
        let schema = world.root().join("schema.json");
        let text = r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;
        fs::write(&schema, text).expect("a schema");
        let out = world.root().join("answer.txt");
        fs::write(&out, "old").expect("an old answer");
        world.backend().keep_bodies();
        let (schema, out) = (schema.to_str().expect("a path"), out.to_str().expect("a path"));
        world.exec_with(&["--output-schema", schema, "-o", out, "do the task"]).run().ok();
        assert_eq!(fs::read_to_string(out).expect("an answer").trim(), "done by bob", "{version}");
        let report = world.backend().report();
        let last = report.turns.last().and_then(|turn| turn.body.as_ref()).expect("a body");
        assert_eq!(
            last["text"]["format"]["type"], "json_schema",
            "{version}: the schema counts for bob, too"
        );
        world.assert_done(&[("alice", 1), ("bob", 3)], version);
    });
}

#[test]
fn prompt_from_stdin_is_asked_once() {
    each(&["alice", "bob"], |version, world| {
        for args in [&["-"] as &[&str], &[], &["do the task"]] {
            world.forget();
            world.backend().clear_report();
            world.rank(&["alice", "bob"]);
            world.limit("alice", 2);
            let output = world.exec_with(args).stdin("from stdin\n").run().ok();
            assert_eq!(output.stdout, "done by bob\n", "{version} {args:?}");
            world.assert_done(&[("alice", 2), ("bob", 2)], version);
            let report = world.backend().report();
            let last = report.turns.last().expect("a turn");
            let asked = last.history.iter().filter(|item| item.text.contains("from stdin")).count();
            assert_eq!((asked, last.prompt.as_deref()), (1, Some("continue")), "{version} {args:?}");
        }
    });
}

#[test]
fn image_is_sent_once() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        world.backend().keep_bodies();
        let png = world.root().join("a.png");
        // One red pixel.
        let bytes = base64::engine::general_purpose::STANDARD.decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC",
        );
        fs::write(&png, bytes.expect("base64")).expect("a picture");
        world.exec_with(&["do the task", "-i", png.to_str().expect("a path")]).run().ok();
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
        let report = world.backend().report();
        let last = report.turns.last().and_then(|turn| turn.body.as_ref()).expect("a body").to_string();
        assert_eq!(last.matches("data:image/png").count(), 1, "{version}");
    });
}

#[test]
fn exec_resume_and_fork_finish_on_the_next_account() {
    each(&["alice", "bob"], |version, world| {
        let begun = world.exec_with(&["--json", "do the task"]).run().ok();
        world.assert_done(&[("alice", 4)], version);
        let thread = thread_of(&begun.stdout);
        let forks: &[&str] = if has_server(version) { &["resume", "fork"] } else { &["resume"] };
        for command in forks {
            world.rank(&["alice", "bob"]);
            world.limit("alice", 0);
            let output = world.exec_with(&["--json", command, &thread, "once more"]).run().ok();
            assert_one_conversation(&output, version);
            assert!(output.stdout.contains("done by bob"), "{version} {command}: {output}");
            assert_eq!(thread_of(&output.stdout) == thread, *command == "resume", "{version}");
            // Back to alice, whose history it is no more.
            world.rank(&["alice", "bob"]);
            world.backend().set_usage("bob", Usage::percent(100.0, 40.0));
            world.cache_usage(&[("alice", 10.0, 10.0), ("bob", 100.0, 40.0)], 0);
            let output = world.exec_with(&["resume", &thread_of(&output.stdout), "again"]).run();
            assert_eq!(output.stdout, "done by alice\n", "{version} {command}: {output}");
        }
        world.assert_done(&[("alice", 4)], version);
    });
}

#[test]
fn fork_of_a_long_session_is_not_taken_for_the_session_that_it_reads() {
    let Some(world) = newest(&["alice", "bob"]) else { return };
    let begun = world.exec_with(&["--json", "do the task"]).run().ok();
    let thread = thread_of(&begun.stdout);
    // Codex reads a log of this size for a second before it has one of its own.
    let logs = world.rollouts();
    let mut log = fs::OpenOptions::new().append(true).open(&logs[0]).expect("a log");
    let text = "x".repeat(100_000);
    for ordinal in 1_000..1_400 {
        let payload = json!({"type": "agent_reasoning", "text": text});
        let line = json!({
            "timestamp": "2026-01-01T00:00:00.000Z",
            "ordinal": ordinal,
            "type": "event_msg",
            "payload": payload,
        });
        writeln!(log, "{line}").expect("write");
    }
    world.rank(&["alice", "bob"]);
    world.limit("alice", 0);
    let record = world.pool_home().join("threads").join(&thread);
    let before = fs::read(&record).ok();
    let output = world.exec_with(&["fork", &thread, "once more"]).run();
    assert_eq!(output.stdout, "done by bob\n", "{output}");
    assert_eq!(fs::read(&record).ok(), before, "the first one has not run again");
}

#[test]
fn limit_is_passed_wherever_it_comes() {
    let in_stream = || Limit::InStreamOnce("usage_limit_reached".to_owned());
    let cases = [
        ("at the first request", 0, Limit::Refuse, [("alice", 0), ("bob", 4)]),
        ("before the answer", 4, Limit::Refuse, [("alice", 4), ("bob", 0)]),
        // Codex still runs the call that was cut off.
        ("right after a call", 1, Limit::Cut, [("alice", 2), ("bob", 2)]),
        ("in the stream", 2, in_stream(), [("alice", 2), ("bob", 2)]),
    ];
    each(&["alice", "bob"], |version, world| {
        for json in [false, true] {
            for (what, answers, limit, done) in &cases {
                let what = format!("{version}: {what}, json: {json}");
                world.forget();
                world.rank(&["alice", "bob"]);
                world.limit("alice", *answers);
                world.backend().limit_after("alice", *answers, limit.clone());
                let args: &[&str] = if json { &["--json", "do the task"] } else { &["do the task"] };
                let output = world.exec_with(args).run();
                assert_eq!(output.code(), Some(0), "{what}: {output}");
                assert!(output.stdout.contains("done by bob"), "{what}: {output}");
                world.assert_done(done, &what);
            }
        }
    });
}

#[test]
fn limit_that_stays_in_the_stream_is_one() {
    each(&["alice", "bob"], |version, world| {
        // 0.140 says nothing that tells it from a broken network.
        world.limit("alice", 2);
        world.backend().limit_after("alice", 2, Limit::InStream("usage_limit_reached".to_owned()));
        world.set_provider("stream_max_retries", 1);
        let output = world.exec_with(&["do the task"]).run();
        assert_eq!(output.stdout, "done by bob\n", "{version}: {output}");
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}

#[test]
fn three_accounts_in_a_row() {
    each(&["alice", "bob", "carol"], |version, world| {
        for args in [&["do the task"] as &[&str], &["--json", "do the task"]] {
            world.forget();
            world.rank(&["alice", "bob", "carol"]);
            world.limit("alice", 1);
            world.limit("bob", 2);
            let output = world.exec_with(args).run();
            assert_eq!(output.code(), Some(0), "{version}: {output}");
            world.assert_done(&[("alice", 1), ("bob", 2), ("carol", 1)], version);
            if args.len() > 1 {
                assert_one_conversation(&output, version);
            } else {
                assert_eq!(output.stdout, "done by carol\n", "{version}");
            }
            world.assert_nothing_lost(&["alice", "bob", "carol"]);
        }
    });
}

#[test]
fn websockets_make_no_difference() {
    each(&["alice", "bob"], |version, world| {
        if !has_server(version) {
            return;
        }
        world.use_websockets();
        world.limit("alice", 2);
        world.exec_with(&["do the task"]).run().ok().says("done by bob");
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}

#[test]
fn exec_that_no_account_can_continue_ends_as_codex_with_the_first_reset() {
    each(&["alice", "bob"], |version, world| {
        for json in [false, true] {
            world.forget();
            let mode: &[&str] = if json { &["--json"] } else { &[] };
            let args = [mode, &["do the task"]].concat();
            world.rank(&["alice", "bob"]);
            world.limit("alice", 1);
            world.limit("bob", 1);
            let output = world.exec_with(&args).run();
            assert_eq!(output.code(), Some(1), "{version}: {output}");
            assert!(output.stderr.contains("no other account can go on; "), "{version}: {output}");
            assert!(output.stderr.contains(" resets first, in "), "{version}: {output}");
            if json {
                let last = output.stdout.lines().last().unwrap_or_default();
                assert!(last.starts_with("{\"type\":\"turn.failed\""), "{version}: {output}");
                assert_eq!(output.stdout.matches("\"type\":\"error\"").count(), 1, "{version}: {output}");
            } else {
                assert_eq!(output.stdout, "", "{version}");
            }
            world.assert_done(&[("alice", 1), ("bob", 1)], version);
        }
    });
}

/// Whether the shim waited: as its child, Codex has another parent than as the shim's own process.
#[track_caller]
fn assert_not_carried(world: &World, what: &str, cmd: testkit::Cmd) {
    world.forget();
    world.rank(&["alice", "bob"]);
    world.limit("alice", 1);
    let output = cmd.run();
    assert_eq!(output.code(), Some(1), "{what}: {output}");
    assert!(!output.stderr.contains("goes on"), "{what}: {output}");
    let by_bob = world.backend().report().turns.iter().filter(|t| t.user.as_deref() == Some("bob")).count();
    assert_eq!(by_bob, 0, "{what}");
}

#[test]
fn not_where_it_is_not_wanted_or_not_possible() {
    each(&["alice", "bob"], |version, world| {
        let exec = |args: &[&str]| world.exec_with(&[args, &["do the task"]].concat());
        assert_not_carried(&world, "named", exec(&[]).env("CODEX_POOL_ACCOUNT", "alice"));
        assert_not_carried(&world, "off", exec(&[]).env("CODEX_POOL_CARRY_ON", "0"));
        assert_not_carried(&world, "ephemeral", exec(&["--ephemeral"]));
        assert_not_carried(
            &world,
            "run",
            world.pool(&[&["run", "alice", "--"], &FLAGS as &[&str], &["hi"]].concat()),
        );
        world.pool(&["use", "alice"]).run().ok();
        assert_not_carried(&world, "pinned", exec(&[]));
        world.pool(&["use", "--auto"]).run().ok();
        world.settings("background_refresh = false\ncarry_on = false\n");
        assert_not_carried(&world, "settings", exec(&[]));
        if has_server(version) {
            world.forget();
            world.rank(&["alice", "bob"]);
            world.limit("alice", 1);
            exec(&[]).env("CODEX_POOL_CARRY_ON", "1").run().ok().says("done by bob");
        }
        world.backend().assert_clean();
    });
}

#[test]
fn run_without_a_name_goes_on_as_well() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let run = world.pool(&[&["run", "--best", "--"], &FLAGS as &[&str], &["do the task"]].concat());
        run.run().ok().says("done by bob");
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}

#[test]
fn codex_that_checks_who_began_a_session_is_left_alone_with_one_line() {
    each(&["alice", "bob"], |version, world| {
        if version != testkit::PINNED {
            return;
        }
        let check = |on: bool| {
            world.edit_config(|config| {
                let check = ("cli_resume_account_check".to_owned(), on.into());
                config.insert("features".to_owned(), toml::Table::from_iter([check]).into());
            });
        };
        let run = || {
            world.forget();
            world.rank(&["alice", "bob"]);
            world.limit("alice", 2);
            world.exec_with(&["do the task"]).run()
        };
        // It is a setting of the user's, who may change it at any time.
        for said in [true, false, true, false] {
            if said {
                check(true);
            }
            let output = run().expect(1);
            assert_eq!(output.stderr.contains("(cli_resume_account_check)"), said, "{output}");
            world.assert_done(&[("alice", 2)], version);
            if !said {
                check(false);
                run().ok().says("done by bob");
            }
        }
    });
}

#[test]
fn input_that_can_be_read_only_once_runs_as_ever() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let schema = r#"{"type":"object","properties":{},"required":[],"additionalProperties":false}"#;
        let script = format!("exec \"$@\" --output-schema <(echo '{schema}') 'do the task'");
        let output = world.cmd("bash").args(["-c", &script, "bash", "codex"]).args(FLAGS).run().expect(1);
        assert!(!output.stderr.contains("codex-pool: alice is at its limit"), "{version}: {output}");
        world.assert_done(&[("alice", 2)], version);
    });
}

#[test]
fn sub_agents_review_and_failures_are_no_limit() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let review = world.exec_with(&["review", "--uncommitted"]).run();
        assert!(!review.stderr.contains("goes on"), "{version}: {review}");
        world.forget();
        world.rank(&["alice", "bob"]);
        world.backend().set_usage("alice", Usage::percent(10.0, 10.0));
        world.backend().inject(
            testkit::backend::Route::Responses,
            testkit::backend::Fault::Status(500, serde_json::json!({"error": {"message": "broken"}})),
        );
        world.set_provider("request_max_retries", 0);
        world.set_provider("stream_max_retries", 0);
        let output = world.exec_with(&["--json", "do the task"]).run().expect(1);
        assert!(!output.stderr.contains("goes on"), "{version}: {output}");
        assert!(
            output.stdout.lines().last().is_some_and(|line| line.contains("turn.failed")),
            "{version}: {output}"
        );
    });
}
