//! Import and export of auth.json documents and of other tools' stores.

use std::fs;

use serde_json::{Value, json};
use testkit::backend::{Fault, LoginSpec, Route};
use testkit::files::mode;
use testkit::{SOON, World, complains};

fn doc(world: &World, user: &str) -> Value {
    world.backend().add(user);
    serde_json::from_str(&world.backend().auth_json(user)).expect("JSON")
}

#[test]
fn documents_of_every_shape_are_taken_or_refused_with_the_reason() {
    let world = World::logged_in(&["alice"]);
    let dir = world.root().join("docs");
    fs::create_dir(&dir).expect("a folder");
    let bob = doc(&world, "bob");
    let mut nameless = doc(&world, "nameless");
    nameless["tokens"]["access_token"] = "opaque".into();
    nameless["tokens"]["id_token"] = "opaque".into();
    let mut external = doc(&world, "external");
    external["auth_mode"] = "chatgptAuthTokens".into();
    let files = [
        ("1-standard", bob.to_string(), None),
        ("2-flat", doc(&world, "carol")["tokens"].to_string(), None),
        ("3-wrapped", json!({"authJson": doc(&world, "dave")}).to_string(), None),
        ("4-key", json!({"OPENAI_API_KEY": "sk-fake"}).to_string(), None),
        ("5-cut", bob.to_string()[..200].to_owned(), Some("it is not whole JSON")),
        ("6-list", "[1]".to_owned(), Some("it is JSON, but not an auth.json")),
        (
            "7-empty",
            json!({"auth_mode": "chatgpt", "tokens": null}).to_string(),
            Some("neither tokens nor an API key"),
        ),
        ("8-nameless", nameless.to_string(), Some("do not say which user and account")),
        (
            "9-external",
            external.to_string(),
            Some("externally managed tokens, which codex-pool cannot manage"),
        ),
    ];
    let mut import = world.pool(&["import"]);
    for (name, text, _) in &files {
        fs::write(dir.join(name), text).expect("write it");
        import = import.arg(dir.join(name));
    }
    let output = import.arg(dir.join("absent")).run().expect(1);
    for (name, _, why) in &files {
        if let Some(why) = why {
            let line = output.stderr.lines().find(|l| l.contains(&format!("{name} was refused: ")));
            assert!(line.is_some_and(|l| l.contains(why)), "{name}: {output}");
        }
    }
    complains(&output, "absent was refused: there is no such file");
    complains(&output, "6 documents were not imported");
    complains(&output, "has two owners now");
    assert_eq!(world.labels(), ["alice", "api-key", "bob", "carol", "dave"]);
    world.assert_no_secret(&output.to_string());
    for label in ["bob", "carol", "dave"] {
        world
            .codex(&["exec", "hi"])
            .env("CODEX_POOL_ACCOUNT", label)
            .run()
            .ok()
            .says(&format!("hello from {label}"));
    }
}

#[test]
fn folder_is_imported_file_by_file_with_a_verdict_each() {
    let world = World::logged_in(&[]);
    let dir = world.root().join("logins");
    fs::create_dir_all(dir.join("inner")).expect("make folders");
    for (name, text) in [
        ("a.json", doc(&world, "bob").to_string()),
        ("b.json", doc(&world, "carol").to_string()),
        ("c.json", "{".to_owned()),
        (".hidden.json", doc(&world, "dave").to_string()),
        ("inner/d.json", doc(&world, "erin").to_string()),
    ] {
        fs::write(dir.join(name), text).expect("write it");
    }
    let output = world.pool(&["import"]).arg(&dir).run().expect(1);
    for (name, label) in [("a.json", "bob"), ("b.json", "carol")] {
        assert!(output.stdout.contains(&format!("{name}: imported `{label}`\n")), "{output}");
    }
    complains(&output, "c.json was refused: it is not whole JSON");
    complains(&output, "one document was not imported");
    assert_eq!(world.labels(), ["bob", "carol"]);
}

#[test]
fn missing_file_and_label_of_an_account_that_is_here_are_each_one_error() {
    let world = World::logged_in(&["alice"]);
    let absent = world.pool(&["import", "absent.json"]).run().expect(1);
    assert_eq!(
        absent.stderr,
        "error: no such file: absent.json\n  next: name an auth.json, a folder of them, or `codex-tools`\n",
        "once"
    );
    let fresh = World::new(&[]);
    complains(&fresh.pool(&["import", "absent.json"]).run().expect(1), "no such file");
    assert!(!fresh.pool_home().join("pool.lock").exists(), "a pool was made for nothing");
    let alice = world.stored("alice");
    let again = |args: &[&str]| world.pool(&["import", "-"]).args(args).stdin(&*alice).run();
    let refused = again(&["--label", "spare"]).expect(1);
    complains(&refused, "this is `alice`, which is in the pool already; nothing was renamed");
    complains(&refused, "add `--rename`");
    assert_eq!(world.labels(), ["alice"]);
    again(&["--label", "alice"]).ok();
    again(&["--label", "spare", "--rename"]).ok().says("renamed from `alice`");
    assert_eq!(world.labels(), ["spare"]);
    // On a runner, what would help with a bad document is refused, too.
    world.share_as("runner");
    let bad = world.pool(&["import", "-"]).stdin("bad").run().expect(1);
    assert!(bad.stderr.starts_with("error: `codex-pool import` needs logins"), "{bad}");
}

#[test]
fn import_reads_stdin_and_a_pipe_with_a_label() {
    let world = World::logged_in(&[]);
    let (bob, carol) = (doc(&world, "bob").to_string(), doc(&world, "carol").to_string());
    world.pool(&["import", "-", "--label", "büro"]).stdin(bob).run().ok().says("imported `büro`");
    let file = world.root().join("carol.json");
    fs::write(&file, carol).expect("write it");
    let piped = format!("cat {} | codex-pool import /dev/stdin", file.display());
    world.cmd("/bin/sh").args(["-c", &piped]).run().ok().says("imported `carol`");
    assert_eq!(world.labels(), ["büro", "carol"]);
    complains(
        &world.pool(&["import", "-", "--label", "carol"]).stdin(world.stored("büro")).run().expect(1),
        "`carol` is the label of",
    );
    complains(
        &world.pool(&["import", "a", "b", "--label", "x"]).run().expect(2),
        "`--label` goes with one file",
    );
}

#[test]
fn known_account_keeps_the_newer_credentials_and_its_home_gets_them() {
    let world = World::logged_in(&["alice"]);
    let backend = world.backend();
    let old = LoginSpec { issued_ago: Some(1000), ..LoginSpec::default() };
    let older = backend.auth_json_with("alice", &old);
    let kept = world.live();
    world.pool(&["import", "-"]).stdin(older).run().ok().says("with newer credentials, which it keeps");
    assert_eq!(world.live(), kept);
    let newer = backend.auth_json_with("alice", &LoginSpec { issued_ago: Some(-5), ..LoginSpec::default() });
    world.pool(&["import", "-"]).stdin(&*newer).run().ok().says("it has the newer credentials now");
    assert_eq!((world.live(), world.stored("alice")), (Some(newer.clone()), newer.clone()));
    world.pool(&["import", "-"]).stdin(newer).run().ok().says("with these credentials");
    // The live file itself is no copy.
    let live = world.codex_home().join("auth.json");
    let output = world.pool(&["import"]).arg(&live).run().ok();
    assert!(!output.stderr.contains("two owners"), "{output}");
}

#[test]
fn older_login_takes_the_place_of_one_that_the_issuer_refuses() {
    let world = World::logged_in(&["alice"]);
    let backend = world.backend();
    backend.revoke_logins("alice");
    world.pool(&["refresh", "alice"]).run().expect(5);
    let old = LoginSpec { issued_ago: Some(1000), ..LoginSpec::default() };
    let older = backend.auth_json_with("alice", &old);
    world.pool(&["import", "-"]).stdin(&*older).run().ok().says("it has the newer credentials now");
    assert_eq!((world.live(), world.stored("alice")), (Some(older.clone()), older));
    world.exec().run().ok().says("hello from alice");
}

#[test]
fn store_keeps_ids_as_references_dates_and_what_was_disabled() {
    let world = World::logged_in(&["alice"]);
    let store = json!({"version": 1, "accounts": [
        {"id": "acc-1", "label": "work", "addedAt": 1_700_000_000, "enabled": false, "authJson": doc(&world, "bob")},
        {"id": "acc-2", "label": "work", "addedAt": "2024-01-01T00:00:00Z", "authJson": doc(&world, "carol").to_string()},
        {"id": "acc-3", "label": "me", "authJson": doc(&world, "alice")},
        {"id": "acc-4", "label": "broken", "authJson": {"tokens": {}}},
        {"id": "acc-5", "label": "twice", "authJson": doc(&world, "bob")},
    ]});
    let path = world.home().join(".local/share/com.carry.codex-tools/accounts.json");
    world.write_private(&path, &store.to_string());
    let output = world.pool(&["import", "codex-tools"]).run().expect(1);
    complains(&output, "broken in ");
    complains(&output, "neither tokens nor an API key");
    complains(&output, "one document was not imported");
    assert_eq!(world.labels(), ["alice", "work", "work-2"]);
    let registry = world.registry();
    let entry = |label: &str| {
        registry["accounts"]
            .as_array()
            .expect("accounts")
            .iter()
            .find(|a| a["label"] == label)
            .expect("an entry")
            .clone()
    };
    assert_eq!(entry("work")["added_at"], 1_700_000_000);
    assert_eq!((&entry("work")["enabled"], &entry("work-2")["enabled"]), (&false.into(), &true.into()));
    assert_eq!(entry("work-2")["added_at"], 1_704_067_200);
    assert_eq!(entry("work")["former_ids"], json!(["acc-1", "acc-5"]));
    world.pool(&["enable", "acc-1"]).run().ok().says("`work` is enabled");
    world.pool(&["use", "acc-3"]).run().ok().says("`alice` is live and pinned");
    // Again: nothing is new, and an account that was enabled since stays so.
    world.pool(&["import", "codex-tools", "--path"]).arg(&path).run().expect(1);
    assert_eq!((world.labels().len(), &world.account("work")["enabled"]), (3, &true.into()));
    complains(
        &world.pool(&["import", "x", "--path", "y"]).run().expect(2),
        "`--path` goes with `import codex-tools`",
    );
    fs::remove_file(&path).expect("remove it");
    complains(&world.pool(&["import", "codex-tools"]).run().expect(1), "name its store with `--path`");
}

#[test]
fn registry_of_the_pool_is_no_document() {
    let world = World::logged_in(&["alice"]);
    let output = world.pool(&["import"]).arg(world.pool_home().join("accounts.json")).run().expect(1);
    complains(&output, "holds no credentials; import the files in `auth` beside it");
}

#[test]
fn export_writes_a_private_file_or_a_pipe_and_nothing_else() {
    let world = World::logged_in(&["alice", "bob"]);
    let out = world.root().join("bob.json");
    let output = world.pool(&["export", "bob", "--out"]).arg(&out).run().ok();
    complains(&output, "two owners");
    assert_eq!((mode(&out), fs::read_to_string(&out).expect("a file")), (0o600, world.stored("bob")));
    complains(&world.pool(&["export", "bob", "--out"]).arg(&out).run().expect(1), "exists");
    fs::write(&out, "old").expect("write it");
    world.pool(&["export", "bob", "--force", "--out"]).arg(&out).run().ok();
    assert_eq!(fs::read_to_string(&out).expect("a file"), world.stored("bob"));
    assert_eq!(world.pool(&["export", "bob"]).run().ok().stdout, world.stored("bob"));
    assert_eq!(world.pool(&["export", "bob", "--out", "-"]).run().ok().stdout, world.stored("bob"));
    for managed in [world.codex_home().join("auth.json"), world.pool_home().join("auth/x.json")] {
        let output = world.pool(&["export", "bob", "--force", "--out"]).arg(&managed).run().expect(1);
        complains(&output, "is managed by codex-pool");
    }
    complains(
        &world.pool(&["export", "bob", "--force", "--out"]).arg(world.root()).run().expect(1),
        "is not a regular file",
    );
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    complains(&world.pool(&["export", "stranger"]).run().expect(3), "no account matches");
    fs::remove_file(world.stored_path("bob")).expect("remove it");
    complains(&world.pool(&["export", "bob"]).run().expect(5), "`codex-pool reauth bob`");
}

#[test]
fn credentials_reach_a_terminal_only_by_force() {
    let world = World::logged_in(&["alice"]);
    let mut terminal = world.pty(world.pool(&["export", "alice"]));
    terminal.wait_for_text("credentials are not printed to a terminal", SOON);
    assert_eq!(terminal.wait(SOON).code(), Some(2));
    world.assert_no_secret(&terminal.raw());
    let mut terminal = world.pty(world.pool(&["export", "alice", "--force"]));
    assert!(terminal.wait(SOON).success());
    terminal.wait_for_text("refresh_token", SOON);
}

#[test]
fn document_without_an_id_token_gets_one_or_is_refused() {
    let world = World::logged_in(&[]);
    let without = |user: &str| {
        let mut doc = doc(&world, user);
        doc["tokens"].as_object_mut().expect("tokens").remove("id_token");
        doc
    };
    let import = |doc: &Value, label: &str| {
        world.pool(&["import", "-", "--label", label]).stdin(doc.to_string()).run()
    };
    import(&without("bob"), "bob").ok();
    let stored: Value = serde_json::from_str(&world.stored("bob")).expect("JSON");
    assert!(stored["tokens"]["id_token"].is_string(), "{stored}");
    assert_eq!(world.backend().report().refreshes_of("bob").len(), 1);
    // Later is as good.
    world.backend().inject_times(Route::Token, None, Fault::Status(503, json!({})), 1);
    let output = import(&without("carol"), "carol").ok();
    complains(&output, "`carol` has no id_token, so Codex is refused until its tokens are renewed");
    world.pool(&["refresh", "carol"]).run().ok();
    assert!(world.stored("carol").contains("id_token"));
    let mut last = without("dave");
    last["tokens"]["refresh_token"] = "".into();
    complains(&import(&last, "dave").expect(1), "no id_token, without which the service refuses Codex");
    assert_eq!(world.labels(), ["bob", "carol"]);
    world.assert_nothing_lost(&["bob", "carol"]);
}

#[test]
fn last_refresh_that_is_no_text_is_put_right() {
    let world = World::logged_in(&[]);
    let numeric = |user: &str| {
        let mut doc = doc(&world, user);
        doc["last_refresh"] = json!(1_795_651_924.5);
        doc.to_string()
    };
    let is_text = |doc: &str| serde_json::from_str::<Value>(doc).expect("JSON")["last_refresh"].is_string();
    world.import("bob", &numeric("bob"));
    assert!(is_text(&world.stored("bob")));
    // Codex itself cannot read such a document.
    world.write_live(&numeric("carol"));
    world.codex(&["exec", "hi"]).env("CODEX_POOL_ACCOUNT", "carol").run().ok().says("hello from carol");
    assert!(is_text(&world.live().expect("a login")) && is_text(&world.stored("carol")));
    world.assert_nothing_lost(&["bob", "carol"]);
}
