//! The official TypeScript SDK in front of the shim (`codexPathOverride`).

use serde_json::Value;
use testkit::backend::{Step, Task};
use testkit::{World, codex_sdk, find_program};

use crate::world::{Carry, each};

/// What the SDK is asked to do: the way, and the thread if there is one. Prints a line of JSON.
const SCRIPT: &str = r#"
const [module, shim, way, id] = process.argv.slice(1);
const { Codex } = await import(module);
const codex = new Codex({ codexPathOverride: shim });
const options = { skipGitRepoCheck: true, sandboxMode: "danger-full-access" };
const thread = id ? codex.resumeThread(id, options) : codex.startThread(options);
const said = {};
if (way === "run") {
  const turn = await thread.run("do the task");
  said.answer = turn.finalResponse;
  said.commands = turn.items.filter((item) => item.type === "command_execution").length;
} else {
  const stop = new AbortController();
  said.events = [];
  try {
    const { events } = await thread.runStreamed("do the task", { signal: stop.signal });
    for await (const event of events) {
      said.events.push(event.type);
      if (way === "abort" && event.type === "item.started") stop.abort();
      if (event.item?.type === "agent_message") said.answer = event.item.text;
    }
  } catch (error) {
    said.error = error.name;
  }
}
said.thread = thread.id;
console.log(JSON.stringify(said));
"#;

fn sdk(world: &World, way: &str, thread: Option<&str>) -> Option<Value> {
    let (module, node) = (codex_sdk()?, find_program("node")?);
    let cmd = world.cmd(node).args(["--input-type=module", "-e", SCRIPT, "--"]).arg(module).arg(world.shim());
    Some(cmd.arg(way).args(thread).run().ok().json())
}

#[test]
fn sdk_sees_one_run() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let Some(said) = sdk(&world, "run", None) else { return };
        assert_eq!(said["answer"], "done by bob", "{version}: {said}");
        if version != "0.140.0" {
            assert_eq!(said["commands"], 4, "{version}: {said}");
        }
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
        // Its next turn, on the account that has it now, and back.
        world.backend().clear_report();
        let _ = std::fs::remove_dir_all(world.pool_home().join("launches"));
        world.rank(&["bob", "alice"]);
        world.limit("bob", 0);
        let again = sdk(&world, "run", said["thread"].as_str()).expect("as before");
        assert_eq!(
            (&again["answer"], &again["thread"]),
            (&"done by alice".into(), &said["thread"]),
            "{version}"
        );
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}

#[test]
fn sdk_streams_one_turn() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let Some(said) = sdk(&world, "stream", None) else { return };
        assert_eq!(
            (&said["answer"], &said["error"]),
            (&"done by bob".into(), &Value::Null),
            "{version}: {said}"
        );
        let events = said["events"].as_array().expect("events");
        let count = |kind: &str| events.iter().filter(|event| *event == kind).count();
        let ends = ["thread.started", "turn.started", "turn.completed", "turn.failed", "error"].map(count);
        assert_eq!(ends, [1, 1, 1, 0, 0], "{version}: {said}");
    });
}

#[test]
fn sdk_aborts_a_run() {
    each(&["alice", "bob"], |version, world| {
        world.backend().give_task(Task::running(1, "sleep 600"));
        world.backend().script("alice", [Step::Shell("sleep 600".to_owned())]);
        let Some(said) = sdk(&world, "abort", None) else { return };
        assert_eq!(said["error"], "AbortError", "{version}: {said}");
        let codex = || world.processes().into_iter().filter(|p| format!("{p:?}").contains("exec")).count();
        testkit::wait_until("the end of Codex and the shim", testkit::SOON, || codex() == 0);
        assert!(world.backend().report().turns.iter().all(|turn| turn.user.as_deref() != Some("bob")));
    });
}
