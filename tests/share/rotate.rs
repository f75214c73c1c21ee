//! New keys for a pool, because a machine was lost.

use std::fs;

use serde_json::json;
use testkit::backend::{Fault, Route, refresh_token};
use testkit::postgres::{PASSWORD, Server};
use testkit::{World, complains};

use crate::world::{code, init, join, joined, machines, shared_by, status};

/// The epochs of the rows.
fn epochs(server: &Server) -> String {
    server.sql("select distinct epoch from codex_pool_records order by 1").trim().to_owned()
}

/// Lets statements of this kind fail until they are mended.
fn break_database(server: &Server, when: &str, what: &str) {
    server.sql(&format!(
        "create or replace function broken() returns trigger language plpgsql as $$ begin raise exception 'broken'; end \
         $$; create trigger broken before {when} on codex_pool_records for each row {what} execute function broken()"
    ));
}

fn mend_database(server: &Server) {
    server.sql("drop trigger broken on codex_pool_records");
}

#[test]
fn lost_machine_is_locked_out_and_has_no_token_that_is_good() {
    let Some((server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let lost = joined(&laptop, "--member", "lost");
    let desktop = joined(&laptop, "--member", "desktop");
    joined(&laptop, "--runner", "runner");
    complains(&laptop.pool(&["share", "rotate"]).run().expect(2), "only after a yes");
    let output = laptop.pool(&["share", "rotate", "--yes"]).run().ok();
    let output = output.says("new keys (epoch 2)");
    complains(&output, "desktop, lost, runner-1");
    complains(&output, "still knows the password of the database");
    assert_eq!(epochs(&server), "2");
    for user in ["alice", "bob"] {
        let good = laptop.backend().good_refresh_tokens(user);
        assert!(good.contains(&refresh_token(&laptop.stored(user))), "{user}");
        assert!(!good.contains(&refresh_token(&lost.stored(user))), "{user}");
    }
    let users = server.sql("select count(*) from pg_roles where rolname like 'codex_pool_%'");
    assert_eq!(users.trim(), "0", "the runner's user is gone");
    for command in
        [&["share", "status"][..], &["share", "code", "--member"], &["rm", "alice", "--yes", "--force"]]
    {
        complains(&lost.pool(command).run().expect(1), "new keys, which this machine does not have");
    }
    assert!(lost.labels().contains(&"alice".to_owned()));
    assert_eq!(epochs(&server), "2", "it has written nothing");

    // Those that are not lost join again, and keep their names.
    join(&desktop, &code(&laptop, "--member"), "desktop").ok();
    assert_eq!(machines(&desktop), ["desktop member", "laptop member"]);
    assert_eq!(status(&desktop)["epoch"], 2);
    assert_eq!(refresh_token(&desktop.stored("alice")), refresh_token(&laptop.stored("alice")));
    laptop.backend().assert_clean();
}

#[test]
fn database_whose_password_was_changed_is_found_by_its_new_address() {
    let Some(server) = Server::start() else { return };
    server.sql("create role pool login password 'first'; grant create on schema public to pool");
    let url =
        |password: &str| server.url().replace(&format!("owner:{PASSWORD}"), &format!("pool:{password}"));
    let laptop = World::logged_in(&["alice"]);
    init(&laptop, &url("first"), "laptop").ok();
    let lost = joined(&laptop, "--member", "lost");
    server.sql("alter role pool password 'second'");
    complains(&laptop.pool(&["share", "rotate", "--yes"]).run().expect(1), "user or password is wrong");
    let rotate = || laptop.pool(&["share", "rotate", "--yes"]).env("CODEX_POOL_SHARE_URL", url("second"));
    let output = rotate().run().ok().says("new keys (epoch 2)");
    assert!(!output.stderr.contains("still knows the password"), "{output}");
    complains(&lost.pool(&["share", "status"]).run().expect(1), "user or password is wrong");
    join(&lost, &code(&laptop, "--member"), "found").ok();
    assert_eq!(machines(&lost), ["found member", "laptop member"]);
}

#[test]
fn rotation_that_is_cut_off_anywhere_goes_on() {
    let Some(server) = Server::start() else { return };
    for (when, what) in [
        ("update", "when (new.kind = 'lease')"),
        ("insert", "when (new.kind = 'full' and new.epoch = 2)"),
        ("insert", "when (new.kind = 'machine' and new.epoch = 2)"),
        ("delete", ""),
    ] {
        let laptop = World::logged_in(&["alice", "bob"]);
        init(&laptop, &server.url(), "laptop").ok();
        break_database(&server, when, what);
        let before = laptop.stored("alice");
        complains(&laptop.pool(&["share", "rotate", "--yes"]).run().expect(1), "broken");
        assert_eq!(laptop.stored("alice"), before, "nothing is renewed before the new keys are there");
        let status_now = laptop.pool(&["share", "status", "--json"]).run().json();
        assert_eq!((&status_now["epoch"], &status_now["rotating"]), (&1.into(), &true.into()));
        laptop.pool(&["share", "status"]).run().says("member `laptop`");
        complains(&laptop.pool(&["share", "code", "--member"]).run().expect(1), "that was cut off");
        laptop.exec_as("bob").run().ok();
        mend_database(&server);
        let cut_off = fs::read_to_string(laptop.pool_home().join("share.toml")).expect("the keys");
        laptop.pool(&["share", "rotate", "--yes"]).run().ok().says("new keys (epoch 2)");
        assert_eq!(epochs(&server), "2");
        assert_eq!(status(&laptop)["rotating"], false);
        assert_ne!(refresh_token(&laptop.stored("alice")), refresh_token(&before));

        // As if it had been killed before the keys were written.
        laptop.write_private(&laptop.pool_home().join("share.toml"), &cut_off);
        laptop.pool(&["share", "rotate", "--yes"]).run().ok().says("new keys (epoch 2)");
        assert_eq!(machines(&laptop), ["laptop member"]);
        laptop.backend().assert_clean();
        server.sql("delete from codex_pool_records");
    }
}

#[test]
fn rotation_brings_no_account_back_that_another_machine_has_removed() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    desktop.pool(&["rm", "bob", "--yes"]).run().ok();
    // The laptop has not heard of it.
    laptop.pool(&["share", "rotate", "--yes"]).run().ok();
    assert_eq!(laptop.labels(), ["alice"]);
    join(&desktop, &code(&laptop, "--member"), "desktop").ok();
    for machine in [&laptop, &desktop] {
        machine.pool(&["refresh"]).run().ok();
        assert_eq!(machine.labels(), ["alice"]);
    }
    assert_eq!(joined(&laptop, "--member", "third").labels(), ["alice"]);
}

#[test]
fn hint_after_a_failed_rotation_names_what_helps_against_a_lost_machine() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let lost = joined(&laptop, "--member", "lost");
    laptop.backend().inject_times(Route::Token, None, Fault::Status(500, json!({})), 1);
    let output = laptop.pool(&["share", "rotate", "--yes"]).run().expect(1);
    complains(&output, "the tokens of 1 account could not be renewed");
    complains(&output, "run `codex-pool share rotate` again, or log in anew with `codex-pool reauth`");
    laptop.pool(&["share", "rotate", "--yes"]).run().ok().says("new keys (epoch 3)");
    for user in ["alice", "bob"] {
        let good = laptop.backend().good_refresh_tokens(user);
        assert!(!good.contains(&refresh_token(&lost.stored(user))), "{user}");
    }
}

#[test]
fn two_members_do_not_rotate_at_once() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    break_database(&server, "insert", "when (new.epoch = 2)");
    laptop.pool(&["share", "rotate", "--yes"]).run().expect(1);
    mend_database(&server);
    complains(
        &desktop.pool(&["share", "rotate", "--yes"]).run().expect(1),
        "laptop is making new keys already",
    );
    // The laptop does not come back. What it has marked stays marked until a person decides.
    server.sql("update codex_pool_records set held_until = now() where kind = 'lease'");
    let output = desktop.pool(&["share", "rotate", "--yes"]).run();
    complains(&output, "laptop was renewing `alice`");
    assert_eq!(epochs(&server), "2");
    let sent = status(&desktop)["sent"].clone();
    assert_eq!((&sent[0]["machine"], &sent[0]["account"]), (&"laptop".into(), &desktop.id("alice").into()));
    desktop.pool(&["share", "status"]).run().ok().says("codex-pool share take-over alice");
    // When it does, its own new keys are void.
    complains(
        &laptop.pool(&["share", "rotate", "--yes"]).run().expect(1),
        "which this machine does not have",
    );
    join(&laptop, &code(&desktop, "--member"), "laptop").ok();
    assert_eq!(machines(&laptop), ["desktop member", "laptop member"]);
    laptop.backend().assert_clean();
}
