//! What commands print with `--json` is what `docs/schema.json` says, field by field.

use serde_json::Value;
use testkit::World;
use testkit::backend::Usage;

use crate::schema::Schema;

/// Two accounts that were used, an API key, and one that needs a login.
fn world() -> World {
    let world = World::logged_in(&["work", "private"]);
    world.link_admin();
    for (name, used) in [("work", 30.0), ("private", 95.0)] {
        world.backend().set_usage(name, Usage::percent(used, 20.0));
    }
    world.add("gone");
    world.backend().revoke_logins("gone");
    world.backend().reject_access_tokens("gone");
    world.import("key", &testkit::backend::api_key_json("sk-key"));
    world.pool(&["refresh"]).run();
    world.exec().run().ok();
    world
}

#[test]
fn output_of_every_command_is_what_the_schema_says() {
    let (world, schema) = (world(), Schema::read());
    let session = world.hold(world.exec_as("work"));
    let mut checked = Vec::new();
    for (definition, args) in [
        ("list", &["list"][..]),
        ("list", &["list", "--refresh"]),
        ("why", &["why"]),
        ("why_last", &["why", "--last"]),
        ("refresh", &["refresh"]),
        ("refresh", &["refresh", "work"]),
        ("set", &["set", "work", "--reserve", "10"]),
        ("use", &["use", "private"]),
        ("use", &["use", "--best"]),
        ("use", &["use", "--auto"]),
        ("doctor", &["doctor"]),
        ("doctor", &["doctor", "--fix"]),
        ("status", &["status"]),
        ("history", &["history"]),
        ("log", &["log"]),
        ("share_status", &["share", "status"]),
    ] {
        let output = world.pool(args).arg("--json").run();
        let errors = schema.errors(definition, &output.json());
        assert!(errors.is_empty(), "{args:?}: {errors:#?}\n{output}");
        checked.push(definition);
    }
    drop(session);
    assert_eq!(world.pool(&["list", "--json"]).run().ok().json()["shared"], Value::Null);
    let added = world.pool(&["add", "--label", "new", "--with-api-key", "--json"]).stdin("sk-new").run().ok();
    assert_eq!(schema.errors("add", &added.json()), [""; 0], "{added}");
    assert_eq!(added.json()["result"], "added");
    // `update --check` asks a server of releases, which the suite `ship` has.
    checked.extend(["add", "update"]);
    let documented = schema.commands(&world.pool(&["--help"]).run().ok().stdout);
    let left: Vec<&String> = documented.iter().filter(|name| !checked.contains(&name.as_str())).collect();
    assert!(left.is_empty(), "{left:?} are in the schema and not checked");
}

#[test]
fn schema_refuses_what_it_does_not_know() {
    let (world, schema) = (world(), Schema::read());
    let good = world.pool(&["list", "--json"]).run().ok().json();
    let wrong = |edit: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        edit(&mut changed);
        schema.errors("list", &changed).len()
    };
    assert_eq!(wrong(&|_| ()), 0);
    assert_eq!(wrong(&|v| v["schema"] = 2.into()), 1);
    assert_eq!(wrong(&|v| v["more"] = 1.into()), 1);
    assert_eq!(wrong(&|v| drop(v["accounts"][0].as_object_mut().expect("it").remove("low"))), 1);
    assert_eq!(wrong(&|v| v["accounts"][0]["state"] = "fine".into()), 1);
    assert_eq!(wrong(&|v| v["accounts"][0]["reason_code"] = "odd".into()), 1);
    assert_eq!(wrong(&|v| v["accounts"][0]["usage"]["fetched_at"] = 1.5.into()), 1);
}

#[test]
fn documented_queries_find_what_they_say() {
    let Some(jq) = testkit::needs("jq") else { return };
    let world = world();
    let page = crate::read("docs/json.md");
    let queries: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    codex-pool ")).collect();
    assert!(queries.len() >= 4, "{queries:?}");
    for query in queries {
        let line = format!("codex-pool {query}").replace("| jq ", &format!("| '{}' ", jq.display()));
        let output = world.cmd("/bin/sh").args(["-c", &line]).run();
        assert!(matches!(output.code(), Some(0 | 1)) && output.stderr.is_empty(), "{output}");
        if query.contains(".next") {
            assert_eq!(output.stdout, "work\n", "{output}");
        }
    }
}

#[test]
fn answer_of_add_is_alone_on_stdout() {
    let world = World::logged_in(&["work"]);
    let output = world.pool(&["add", "--label", "ci", "--with-api-key", "--json"]).stdin("sk-1").run().ok();
    assert_eq!(output.json()["accounts"][0]["label"], "ci", "{output}");
    assert!(output.stdout.lines().count() == 1 && output.stderr.contains("note: "), "{output}");
}
