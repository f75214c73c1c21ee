//! Every error that a command line can get, word for word. Each says what is wrong and what to type next.

use std::fs;

use serde_json::json;
use testkit::{Output, World};

use crate::check_said;

/// A pool with the live account `work`, `private`, and `ci`, which is an API key. Files that a command line may name are
/// in the current folder.
fn world() -> World {
    let world = World::logged_in(&["work", "private"]);
    world.pool(&["add", "--label", "ci", "--with-api-key"]).stdin("sk-test-messages\n").run().ok();
    let here = world.work();
    fs::create_dir_all(here.join("empty")).expect("a folder");
    let backend = world.backend();
    for (name, text) in [
        ("work.json", backend.auth_json("work")),
        ("other.json", backend.auth_json("private")),
        ("broken.json", "{\"tokens\": ".to_owned()),
        ("notes.txt", "notes".to_owned()),
    ] {
        world.write_private(&here.join(name), &text);
    }
    world
}

/// Returns the words of a command line as a shell gives them; `''` is an empty one.
fn words(typed: &str) -> Vec<&str> {
    typed.split(' ').map(|word| if word == "''" { "" } else { word }).collect()
}

/// Runs the command lines, requires that each fails with what to type next, and compares it all with the snapshot.
#[track_caller]
fn fail(world: &World, name: &str, typed: &[&str]) {
    let tried = typed.iter().map(|line| (format!("codex-pool {line}"), world.pool(&words(line)).run()));
    check_errors(world, name, tried.collect());
}

/// Requires that each fails, with one error and one next step.
#[track_caller]
fn require_next(said: &[(String, Output)]) {
    for (typed, output) in said {
        assert_ne!(output.code(), Some(0), "{typed}: {output}");
        assert_eq!(output.stderr.matches("error: ").count(), 1, "{typed}: {output}");
        assert_eq!(output.stderr.matches("\n  next: ").count(), 1, "{typed}: {output}");
        assert!(!output.stderr.to_lowercase().contains("rror: error"), "{typed}: {output}");
    }
}

#[track_caller]
fn check_errors(world: &World, name: &str, said: Vec<(String, Output)>) {
    require_next(&said);
    check_said(world, name, &said);
}

#[test]
fn unknown_words_and_options_are_named_with_the_help_that_knows_better() {
    let world = World::new(&["work"]);
    let verbs = [
        "init",
        "add",
        "reauth",
        "import",
        "export",
        "rm",
        "rename",
        "enable",
        "disable",
        "set",
        "list",
        "watch",
        "refresh",
        "use",
        "run",
        "why",
        "status",
        "history",
        "log",
        "doctor",
        "update",
        "uninstall",
        "completions",
        "man",
    ];
    let lines: Vec<String> = verbs.iter().map(|verb| format!("{verb} --nonsense")).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.extend(["nonsense", "lst", "--nonsense", "--color red list", "--no-color --color never list"]);
    fail(&world, "errors-unknown-words", &lines);
}

#[test]
fn commands_without_what_they_need_say_what_that_is() {
    let world = world();
    let lines = [
        "reauth",
        "import",
        "export",
        "rm",
        "rename",
        "rename work",
        "enable",
        "disable",
        "set",
        "completions",
        "use",
    ];
    fail(&world, "errors-missing-words", &lines);
}

#[test]
fn wrong_accounts_and_labels_are_answered() {
    let world = world();
    fail(
        &world,
        "errors-accounts",
        &[
            "rename work private",
            "rename work ''",
            "enable nobody",
            "disable nobody",
            "set nobody",
            "set work --folder absent",
            "set work --folder notes.txt",
            "set work --folder empty --no-folders",
            "set work --reserve 200",
            "set work --weight heavy",
            "rm work",
            "rm private",
            "rm nobody --yes",
            "refresh nobody",
            "refresh ci",
            "history nobody",
            "log nobody",
            "reauth nobody",
            "reauth ci",
            "reauth work --with-api-key",
        ],
    );
}

#[test]
fn logins_that_cannot_be_had_are_answered() {
    let world = world();
    let mut said = Vec::new();
    for (line, stdin) in [
        ("add --label work", ""),
        ("add --label ''", ""),
        ("add --device-auth --with-api-key", ""),
        ("add --with-api-key", ""),
        ("add --with-api-key", "two words\n"),
    ] {
        said.push((format!("codex-pool {line}"), world.pool(&words(line)).stdin(stdin).run()));
    }
    world.edit_config(|config| drop(config.insert("forced_login_method".into(), "chatgpt".into())));
    said.push((
        "codex-pool add --with-api-key  (forbidden by Codex)".to_owned(),
        world.pool(&["add", "--with-api-key"]).stdin("sk-test-more\n").run(),
    ));
    let without = world.pool(&["add"]).env("CODEX_POOL_CODEX", "/nowhere/codex").run();
    said.push(("codex-pool add  (without Codex)".to_owned(), without));
    check_errors(&world, "errors-logins", said);
}

#[test]
fn files_that_cannot_be_read_or_written_are_answered() {
    let world = world();
    fail(
        &world,
        "errors-files",
        &[
            "import absent.json",
            "import broken.json",
            "import notes.txt",
            "import broken.json notes.txt",
            "import work.json other.json --label x",
            "import work.json --label renamed",
            "import work.json --label private --rename",
            "import work.json --rename",
            "import work.json --path x",
            "import codex-tools",
            "export nobody",
            "export work private",
            "export --access-only ci",
            "export work --out work.json",
            "export work --out empty",
            "export work --out absent/x.json",
            "export work --out ..",
            "history --svg absent/x.svg",
            "history --json --csv",
            "doctor --bundle absent/x.json",
            "man --dir notes.txt/man",
        ],
    );
}

#[test]
fn wrong_values_are_answered_with_right_ones() {
    let world = world();
    fail(
        &world,
        "errors-values",
        &[
            "use work private",
            "use work --auto",
            "use --best --auto",
            "use --auto --now",
            "run work exec hi",
            "run work --best",
            "run --carry-wait soon",
            "run --program absent",
            "run --program ./absent",
            "run --program ./notes.txt",
            "run nobody",
            "watch --interval 0",
            "refresh --usage",
            "history --days 0",
            "log --since soon",
            "status --markup html",
            "update --version newest",
            "update --json",
            "update",
            "update --check",
            "uninstall --yes --purge",
            "completions tcsh",
        ],
    );
}

#[test]
fn pools_that_cannot_be_used_are_answered() {
    let world = world();
    let mut said = Vec::new();
    let mut run = |what: &str, line: &str| {
        said.push((format!("codex-pool {line}  ({what})"), world.pool(&words(line)).run()));
    };
    let file = world.pool_home().join("accounts.json");
    let good = fs::read_to_string(&file).expect("the registry");
    for (what, text) in [("corrupt", "{".to_owned()), ("newer", json!({"version": 9}).to_string())] {
        world.write_private(&file, &text);
        for line in ["list", "use work", "run work", "add"] {
            run(what, line);
        }
    }
    world.write_private(&file, &good);
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    run("locked", "use work");
    drop(lock);
    world.pool(&["disable", "work"]).run().ok();
    world.pool(&["disable", "private"]).run().ok();
    world.pool(&["use", "--auto"]).run().ok();
    run("all are disabled", "use --best");
    check_errors(&world, "errors-pools", said);
}

#[test]
fn service_that_does_not_answer_is_an_error_with_a_next_step() {
    let world = world();
    let work = world.id("work");
    let mut registry = world.registry();
    for account in registry["accounts"].as_array_mut().expect("accounts") {
        if account["id"] == work.as_str() {
            account["auth"] = json!({"state": "reauth_required", "reason": "revoked"});
        }
    }
    world.write_private(&world.pool_home().join("accounts.json"), &registry.to_string());
    fail(&world, "errors-login-needed", &["refresh work", "run work", "use work"]);
}

#[test]
fn sharing_what_is_not_shared_is_answered_with_a_next_step() {
    let world = world();
    let lines = [
        "share nonsense",
        "share init",
        "share init mysql://db.example.com/pool",
        "share code",
        "share code --member",
        "share join",
        "share status",
        "share rotate",
        "share leave",
        "share logout work",
        "share take-over work",
    ];
    let said: Vec<(String, Output)> =
        lines.iter().map(|line| (format!("codex-pool {line}"), world.pool(&words(line)).run())).collect();
    require_next(&said);
    assert!(said[3].1.stderr.contains("needs `--member` or `--runner`"), "{}", said[3].1);
    assert!(said[3].1.stderr.contains("see `codex-pool share code --help`"), "{}", said[3].1);
}

#[test]
fn launches_that_fail_say_why_and_what_to_type() {
    let world = world();
    world.pool(&["disable", "private"]).run().ok();
    let mut said = Vec::new();
    let mut launch =
        |what: &str, cmd: testkit::Cmd| said.push((format!("codex exec hi  ({what})"), cmd.run()));
    launch("of an unknown account", world.exec_as("nobody"));
    launch("where CODEX_POOL_CODEX names nothing", world.exec().env("CODEX_POOL_CODEX", "/nowhere/codex"));
    let none = world.cmd(world.shim()).args(["exec", "hi"]).env("PATH", world.shim().parent().expect("bin"));
    launch("without Codex", none);
    let folder = world.work().join("empty");
    world.pool(&["set", "private", "--folder", "empty"]).run().ok();
    launch("in a folder of a disabled account", world.exec().current_dir(&folder));
    launch("of another account in that folder", world.exec_as("work").current_dir(&folder));
    let file = world.pool_home().join("accounts.json");
    let good = fs::read_to_string(&file).expect("the registry");
    world.write_private(&file, "{");
    launch("of a named account in a corrupt pool", world.exec_as("work"));
    world.write_private(&file, &good);
    check_errors(&world, "errors-launches", said);
}
