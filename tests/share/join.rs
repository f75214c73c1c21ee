//! Sharing a pool, joining it, and leaving it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use testkit::backend::{LoginSpec, UserSpec, refresh_token};
use testkit::postgres::{PASSWORD, Server};
use testkit::{SOON, World, complains};

use crate::world::{code, init, join, joined, machines, newer_login, shared_by, status};

#[test]
fn member_has_the_accounts_of_both_machines() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let desktop = laptop.another();
    desktop.add("bob");
    let output = join(&desktop, &code(&laptop, "--member"), "desktop").ok();
    output.says("this machine is the member `desktop`").says("with 2 accounts");
    assert_eq!(desktop.labels(), ["alice", "bob"]);
    assert_eq!(refresh_token(&desktop.stored("alice")), refresh_token(&laptop.stored("alice")));
    assert_eq!(machines(&laptop), ["desktop member", "laptop member"]);
    let server_room = joined(&desktop, "--member", "laptop");
    assert_eq!(status(&server_room)["machine"], "laptop-2", "names are told apart");
    assert_eq!(server_room.labels(), ["alice", "bob"], "the second machine has put its own account there");
    let keys = laptop.pool_home().join("share.toml");
    assert_eq!(fs::metadata(&keys).expect("the keys").permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&keys).expect("the keys").contains(PASSWORD));
    drop(server);
    laptop.backend().assert_clean();
}

#[test]
fn runner_runs_with_access_tokens_and_its_user_can_only_read() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let runner = joined(&laptop, "--runner", "ignored");
    assert_eq!(status(&runner)["machine"], "runner-1", "the member names it");
    assert_eq!(refresh_token(&runner.stored("alice")), "");
    runner.exec_as("alice").run().ok().says("hello from alice");
    for command in
        [&["share", "code", "--member"][..], &["share", "rotate", "--yes"], &["rm", "alice", "--yes"]]
    {
        complains(&runner.pool(command).run().expect(1), "runner");
    }
    assert_eq!(machines(&laptop), ["laptop member", "runner-1 runner"]);
    let users = server.sql("select rolname from pg_roles where rolname like 'codex_pool_%'");
    let user = users.trim();
    let may = |what: &str| {
        server.sql(&format!("select has_table_privilege('{user}', 'codex_pool_records', '{what}')"))
    };
    assert_eq!((may("select").trim(), may("insert, update, delete, truncate").trim()), ("t", "f"));

    laptop.pool(&["share", "shut-out", "runner-1"]).run().ok().says("`runner-1` is shut out");
    assert_eq!(machines(&laptop), ["laptop member"]);
    let refused = runner.pool(&["share", "status"]).run().expect(1);
    complains(&refused, "user or password is wrong");
    complains(&laptop.pool(&["share", "shut-out", "laptop"]).run().expect(2), "that is this machine");
    complains(&laptop.pool(&["share", "shut-out", "gone"]).run().expect(2), "no machine `gone`");
}

#[test]
fn jobs_of_one_day_have_the_keys_of_one_runner() {
    let Some((_server, laptop)) = shared_by(&["alice"]) else { return };
    let runner = joined(&laptop, "--runner", "x");
    let keys = fs::read_to_string(runner.pool_home().join("share.toml")).expect("the keys");
    for _ in 0..2 {
        let job = laptop.another();
        let said = job.pool(&["share", "join"]).stdin(&*keys).run().ok();
        said.says("this machine is the runner `runner-1`");
        job.exec_as("alice").run().ok();
        complains(&job.pool(&["share", "join"]).stdin(&*keys).run().expect(1), "in that pool already");
    }
    // A member's are no ticket.
    let keys = fs::read_to_string(laptop.pool_home().join("share.toml")).expect("the keys");
    complains(&join(&laptop.another(), &keys, "x").expect(1), "no code of");
    laptop.pool(&["share", "shut-out", "runner-1"]).run().ok();
    let keys = fs::read_to_string(runner.pool_home().join("share.toml")).expect("the keys");
    let late = laptop.another();
    complains(&late.pool(&["share", "join"]).stdin(keys).run().expect(1), "user or password is wrong");
    assert!(!late.pool_home().join("share.toml").exists());
}

#[test]
fn runner_that_never_came_leaves_no_user_behind() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    code(&laptop, "--runner");
    let users = || server.sql("select count(*) from pg_roles where rolname like 'codex_pool_%'");
    assert_eq!(users().trim(), "1");
    assert_eq!(status(&laptop)["machines"][1]["joined"], false);
    laptop.pool(&["share", "status"]).run().ok().says("let in, not here yet");
    server.sql("update codex_pool_codes set ends_at = now()");
    code(&laptop, "--member");
    assert_eq!(users().trim(), "0");
    assert_eq!(machines(&laptop), ["laptop member"]);
}

/// Lets the database do this when a machine enters its name.
fn on_enter(server: &Server, what: &str) {
    server.sql(&format!(
        "create or replace function at_entry() returns trigger language plpgsql as $$ begin {what} return new; end $$; \
         create or replace trigger at_entry before insert or update on codex_pool_records for each row when (new.kind = \
         'machine') execute function at_entry()"
    ));
}

#[test]
fn join_that_cannot_enter_its_name_changes_nothing_and_uses_no_code_up() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let (desktop, code) = (laptop.another(), code(&laptop, "--member"));
    on_enter(&server, "raise exception 'broken';");
    complains(&join(&desktop, &code, "desktop").expect(1), "broken");
    assert!(!desktop.pool_home().join("share.toml").exists());
    on_enter(&server, "");
    join(&desktop, &code, "desktop").ok();
    assert_eq!(machines(&laptop), ["desktop member", "laptop member"]);
    assert_eq!(status(&desktop)["machine"], "desktop");
}

#[test]
fn code_that_another_machine_uses_up_meanwhile_leaves_no_name_behind() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let desktop = laptop.another();
    let late = code(&laptop, "--member");
    on_enter(&server, "delete from codex_pool_codes;");
    complains(&join(&desktop, &late, "desktop").expect(1), "this code was used before");
    assert!(!desktop.pool_home().join("share.toml").exists());
    on_enter(&server, "");
    assert_eq!(machines(&laptop), ["laptop member"]);
    join(&desktop, &code(&laptop, "--member"), "desktop").ok();
    assert_eq!(machines(&laptop), ["desktop member", "laptop member"]);
}

#[test]
fn machine_that_has_just_joined_is_in_step() {
    let Some((_server, laptop)) = shared_by(&["alice"]) else { return };
    laptop.pool(&["share", "status"]).run().ok().says("in step with it ");
    for (role, name) in [("--member", "desktop"), ("--runner", "ci")] {
        let machine = joined(&laptop, role, name);
        machine.pool(&["share", "status"]).run().ok().says("in step with it ");
        assert!(status(&machine)["synced_at"].is_i64());
        assert!(!machine.pool(&["list"]).run().ok().stdout.contains("Shared pool:"));
    }
    laptop.pool(&["share", "rotate", "--yes"]).run().ok();
    laptop.pool(&["share", "status"]).run().ok().says("in step with it ");
}

#[test]
fn initialization_that_was_cut_off_goes_on() {
    let Some((server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    // As after a kill between the database and the registry.
    let keys = fs::read_to_string(laptop.pool_home().join("share.toml")).expect("the keys");
    let mut registry = laptop.registry();
    registry.as_object_mut().expect("an object").remove("shared").expect("it says what the machine is");
    laptop.write_private(&laptop.pool_home().join("accounts.json"), &registry.to_string());
    server.sql("delete from codex_pool_records where kind = 'access'");
    fs::remove_file(laptop.pool_home().join("share.json")).expect("what was seen");
    init(&laptop, &server.url(), "another").ok();
    assert_eq!(laptop.registry()["shared"], "member");
    assert_eq!(machines(&laptop), ["laptop member"], "it is one machine");
    let now = fs::read_to_string(laptop.pool_home().join("share.toml")).expect("the keys");
    let key = |text: &str| text.lines().find(|line| line.starts_with("key")).map(str::to_owned);
    assert_eq!(key(&now), key(&keys), "the same pool");
    assert_eq!(server.sql("select count(*) from codex_pool_records where kind = 'access'").trim(), "2");
    complains(&init(&laptop, &server.url(), "laptop").expect(1), "this pool is shared already");
    laptop.pool(&["share", "leave", "--yes"]).run().ok();
    assert_ne!(refresh_token(&laptop.stored("alice")), "", "nothing else has it");
}

#[test]
fn member_that_leaves_keeps_no_refresh_token_while_others_stay() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    // What only the laptop has goes to the others first.
    laptop.import("carol", &{
        laptop.backend().add("carol");
        laptop.backend().auth_json("carol")
    });
    complains(&laptop.pool(&["share", "leave"]).run().expect(2), "only after a yes");
    laptop.pool(&["refresh"]).run().ok();
    let knows_others =
        || fs::read_to_string(laptop.pool_home().join("usage.json")).expect("a cache").contains("sharing");
    assert!(knows_others());
    laptop.pool(&["share", "leave", "--yes"]).run().ok().says("has left the shared pool");
    assert!(!knows_others(), "what it knew of the others is of no use any more");
    for user in ["alice", "carol"] {
        assert_eq!(refresh_token(&laptop.stored(user)), "", "{user}");
    }
    assert!(laptop.registry().get("shared").is_none());
    assert!(
        !laptop.pool_home().join("share.toml").exists() && !laptop.pool_home().join("share.json").exists()
    );
    laptop.exec_as("alice").run().ok();
    assert_eq!(machines(&desktop), ["desktop member"]);
    let third = joined(&desktop, "--member", "third");
    assert!(third.labels().contains(&"carol".to_owned()), "{:?}", third.labels());
    assert_ne!(refresh_token(&third.stored("carol")), "");
    third.pool(&["share", "leave", "--yes"]).run().ok();

    desktop.pool(&["share", "leave", "--yes"]).run().ok();
    assert_ne!(refresh_token(&desktop.stored("alice")), "", "the last one keeps its logins");
    assert_eq!(server.sql("select count(*) from codex_pool_records").trim(), "0", "and nothing stays");
    complains(&desktop.pool(&["share", "status"]).run().expect(1), "this pool is not shared");
    assert_eq!(
        desktop.pool(&["share", "status", "--json"]).run().ok().json()["role"],
        serde_json::Value::Null
    );
    init(&desktop, &server.url(), "desktop").ok();
}

#[test]
fn members_that_leave_at_once_lose_no_login() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    laptop.backend().add("carol");
    laptop.import("carol", &laptop.backend().auth_json("carol"));
    // Each is asked while the other is there.
    let mut asked = [&laptop, &desktop].map(|machine| machine.pty(machine.pool(&["share", "leave"])));
    for terminal in &asked {
        terminal.wait_for_text("The other members go on", SOON);
    }
    for terminal in &mut asked {
        terminal.send_line("y");
        terminal.finish(SOON);
    }
    for user in ["alice", "carol"] {
        let kept = [&laptop, &desktop].map(|machine| refresh_token(&machine.stored(user)));
        assert_eq!(kept, [String::new(), laptop.backend().newest_refresh_token(user)], "{user}");
    }
    assert_eq!(server.sql("select count(*) from codex_pool_records").trim(), "0");
}

#[test]
fn machine_that_joins_while_the_last_member_is_asked_goes_on() {
    let Some((_server, laptop)) = shared_by(&["alice"]) else { return };
    let mut terminal = laptop.pty(laptop.pool(&["share", "leave"]));
    terminal.wait_for_text("There is no other member", SOON);
    let desktop = joined(&laptop, "--member", "desktop");
    terminal.send_line("y");
    terminal.finish(SOON);
    assert_eq!(machines(&desktop), ["desktop member"]);
    let newest = laptop.backend().newest_refresh_token("alice");
    assert_eq!(
        (refresh_token(&laptop.stored("alice")), refresh_token(&desktop.stored("alice"))),
        (String::new(), newest)
    );
    desktop.pool(&["refresh"]).run().ok();
}

#[test]
fn machine_whose_clock_is_behind_takes_the_newest_login() {
    let Some(server) = Server::start() else { return };
    let laptop = World::new(&[]);
    // To the desktop, this login is from the future.
    let newest = LoginSpec { issued_ago: Some(-3_600), ..LoginSpec::default() };
    laptop.add_as("alice", UserSpec::new("alice"), &newest);
    init(&laptop, &server.url(), "laptop").ok();
    let desktop = laptop.another();
    desktop.import("alice", &laptop.backend().auth_json_with("alice", &LoginSpec::default()));
    join(&desktop, &code(&laptop, "--member"), "desktop").ok();
    assert_eq!(desktop.stored("alice"), laptop.stored("alice"));
}

#[test]
fn account_that_is_removed_goes_from_every_machine() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let bob = laptop.stored("bob");
    laptop.pool(&["rm", "bob", "--yes"]).run().ok();
    let desktop = joined(&laptop, "--member", "desktop");
    assert_eq!(desktop.labels(), ["alice"], "it does not come back");
    // A machine that had an older login on its own does not lose it by joining.
    let older = laptop.another();
    older.import("bob", &bob);
    let refused = join(&older, &code(&laptop, "--member"), "older").expect(1);
    complains(&refused, "was removed from that pool");
    complains(&refused, "then join; or remove it here, too: `codex-pool rm bob`");
    assert_eq!((older.labels(), older.stored("bob")), (vec!["bob".to_owned()], bob));
    // A login that is newer begins it again.
    let third = laptop.another();
    third.import("bob", &newer_login(&laptop, "bob"));
    join(&third, &code(&laptop, "--member"), "third").ok();
    assert_eq!(joined(&desktop, "--member", "fourth").labels(), ["alice", "bob"]);
}
