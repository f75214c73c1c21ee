//! What people get wrong with a shared pool, and what is wrong with databases: each is a sentence with a next step, and
//! nothing is lost.

use std::net::TcpListener;

use testkit::postgres::{PASSWORD, Server};
use testkit::{Output, World, complains};

use crate::world::{code, init, join, joined, shared_by, status};

/// The output is an error with a next step, and shows no password.
#[track_caller]
fn explains(output: &Output, what: &str) {
    complains(output, what);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!(lines[0].starts_with("error: ") && lines[1].starts_with("  next: "), "{output}");
    assert!(!output.stderr.contains(PASSWORD) && !output.stderr.contains("hunter2"), "{output}");
}

/// The machine is as it was: not shared, and its account can be used.
fn is_untouched(world: &World) {
    assert!(world.registry().get("shared").is_none());
    assert!(!world.pool_home().join("share.toml").exists());
    assert_ne!(testkit::backend::refresh_token(&world.stored("alice")), "");
    world.exec_as("alice").run().ok();
}

#[test]
fn address_that_cannot_be_used_is_explained() {
    let world = World::logged_in(&["alice"]);
    for (url, what, status) in [
        ("my database", "no address of a PostgreSQL database", 2),
        ("mysql://u:hunter2@localhost/pool", "no address of a PostgreSQL database", 2),
        ("postgres://u:hunter2@localhost", "names no database", 2),
        ("postgres://u:hunter2@db.example/pool?sslmode=disable", "asks for no TLS", 2),
        ("postgres://u:hunter2@db.example/pool?sslmode=maybe", "no sslmode `maybe`", 2),
        ("postgres://u:hunter2@localhost/pool?colour=red", "the address cannot be used", 2),
        ("postgres://u:hunter2@127.0.0.1:1/pool", "the database cannot be reached", 1),
        (
            "postgres://u:hunter2@127.0.0.1/pool?sslmode=require&sslrootcert=/nowhere",
            "cannot read the certificates",
            1,
        ),
    ] {
        explains(&init(&world, url, "laptop").expect(status), what);
    }
    explains(&world.pool(&["share", "init"]).run().expect(2), "where is the database?");
    explains(
        &world.pool(&["share", "init", "--name", " ", "postgres://localhost/pool"]).run().expect(2),
        "cannot be the name of a machine",
    );
    is_untouched(&world);
}

#[test]
fn database_that_refuses_is_explained() {
    let Some(server) = Server::start() else { return };
    let world = World::logged_in(&["alice"]);
    let url = server.url();
    explains(&init(&world, &url.replace(PASSWORD, "hunter2"), "a").expect(1), "user or password is wrong");
    let nowhere = url.replace("/postgres", "/nowhere").replace("nowhere://", "postgres://");
    explains(&init(&world, &nowhere, "a").expect(1), "there is no such database");
    server.sql("create role poor login password 'hunter2'");
    let poor = url.replace(&format!("owner:{PASSWORD}"), "poor:hunter2");
    explains(&init(&world, &poor, "a").expect(1), "may not do that");
    explains(&init(&world, &format!("{url}?sslmode=require"), "a").expect(1), "TLS");
    is_untouched(&world);

    server.sql(
        "create table codex_pool_schema (version int4 primary key); insert into codex_pool_schema values (2)",
    );
    explains(&init(&world, &url, "a").expect(1), "used by a newer version of codex-pool");
    server.sql("drop table codex_pool_schema");
    is_untouched(&world);

    // A disk that is full refuses what is written.
    init(&world, &url, "laptop").ok();
    server.sql(
        "create function full_disk() returns trigger language plpgsql as $$ begin raise exception 'could not extend \
         file' using errcode = '53100'; end $$; create trigger full_disk before insert or update on codex_pool_records \
         for each row execute function full_disk(); create trigger full_codes before insert on codex_pool_codes \
         for each row execute function full_disk()",
    );
    explains(&world.pool(&["share", "code", "--member"]).run().expect(1), "its disk is full");
    let other = World::logged_in(&["alice"]);
    explains(&other.pool(&["share", "init", "--another", &url]).run().expect(1), "its disk is full");
    server.sql("drop trigger full_disk on codex_pool_records; drop trigger full_codes on codex_pool_codes");
    // It goes on where it was.
    other.pool(&["share", "init"]).run().ok();
    assert_eq!(status(&other)["accounts"], 1);
}

#[test]
fn database_that_is_silent_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://u:hunter2@{}/pool", silent.local_addr().expect("a port"));
    let world = World::logged_in(&["alice"]);
    explains(&init(&world, &url, "laptop").expect(1), "does not answer");
    is_untouched(&world);
}

#[test]
fn second_pool_in_a_database_is_no_accident() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let other = World::logged_in(&["alice"]);
    explains(&init(&other, &server.url(), "other").expect(1), "a pool is shared in this database already");
    is_untouched(&other);
    other.pool(&["share", "init", "--another", &server.url()]).run().ok();
    // Neither sees the other.
    assert_eq!(status(&laptop)["machines"].as_array().map(Vec::len), Some(1));
    let wrong = joined(&laptop, "--member", "desktop");
    explains(&join(&wrong, &code(&other, "--member"), "x").expect(1), "another pool's");
    assert_eq!(status(&wrong)["machine"], "desktop");
}

#[test]
fn code_that_is_wrong_used_or_late_is_explained() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let other = World::logged_in(&["alice"]);
    let good = code(&laptop, "--member");
    let try_it = |code: &str, what: &str| {
        explains(&join(&other, code, "desktop").expect(1), what);
        is_untouched(&other);
    };
    try_it("", "no code of `codex-pool share code`");
    try_it("hello", "no code of `codex-pool share code`");
    try_it(&good[..good.len() - 10], "not whole");
    try_it(&good.replacen("cpshare1-", "cpshare9-", 1), "newer version");
    // What the database has is another's.
    server.sql("update codex_pool_codes set bundle = decode(repeat('00', 400), 'hex')");
    try_it(&good, "does not open");
    let late = code(&laptop, "--member");
    server.sql("update codex_pool_codes set ends_at = now()");
    try_it(&late, "used before, or is older than 15 minutes");
    let used = code(&laptop, "--member");
    join(&laptop.another(), &used, "desktop").ok();
    try_it(&used, "used before, or is older than 15 minutes");
    // Here it would be of no use.
    explains(&join(&laptop, &code(&laptop, "--member"), "x").expect(1), "in that pool already");
    try_it(&code(&laptop, "--runner"), "a runner has no logins of its own");
    join(&other, &code(&laptop, "--member"), "third").ok();
    let mut server = server;
    server.kill();
    explains(&laptop.pool(&["share", "code", "--member"]).run().expect(1), "the database");
    explains(&laptop.pool(&["share", "status"]).run().expect(1), "the database");
    explains(&laptop.pool(&["share", "leave", "--yes"]).run().expect(1), "nothing was changed");
    explains(&laptop.pool(&["rm", "alice", "--yes", "--force"]).run().expect(1), "nothing was removed");
    laptop.exec_as("alice").run().ok();
    laptop.pool(&["share", "leave", "--yes", "--offline"]).run().ok();
}

#[test]
fn user_that_can_make_no_users_gives_runners_one_that_is_there() {
    let Some(server) = Server::start() else { return };
    server.sql(
        "create role mere login password 'hunter2'; grant create on schema public to mere; create role reader login \
         password 'hunter2'",
    );
    let world = World::logged_in(&["alice"]);
    let mere = server.url().replace(&format!("owner:{PASSWORD}"), "mere:hunter2");
    init(&world, &mere, "laptop").ok();
    explains(&world.pool(&["share", "code", "--runner"]).run().expect(1), "no user for a runner");
    let reader = mere.replace("mere:", "reader:");
    let with = |url: &str| world.pool(&["share", "code", "--runner", "--name", "ci", "--url", url]).run();
    explains(&with(&reader).expect(1), "may not do that");
    explains(&with(&mere).expect(2), "can change the records");
    server.sql(
        "grant select on codex_pool_schema, codex_pool_records, codex_pool_codes to reader; grant delete on \
         codex_pool_codes to reader",
    );
    let runner = world.another();
    join(&runner, &with(&reader).ok().stdout, "ci").ok();
    runner.exec_as("alice").run().ok();
    assert_eq!(
        status(&world)["machines"].as_array().map(Vec::len),
        Some(2),
        "no user was left without a machine"
    );
}
