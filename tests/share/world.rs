//! A database, and machines that share a pool through it.

use serde_json::Value;
use testkit::backend::LoginSpec;
use testkit::postgres::Server;
use testkit::{Output, World};

use crate::schema::Schema;

/// A machine with these accounts, and a database for them; `None` where there is none.
#[track_caller]
pub(crate) fn shared_by(users: &[&str]) -> Option<(Server, World)> {
    let server = Server::start()?;
    let world = World::logged_in(users);
    init(&world, &server.url(), "laptop").ok();
    Some((server, world))
}

pub(crate) fn init(world: &World, url: &str, name: &str) -> Output {
    world.pool(&["share", "init", "--name", name]).env("CODEX_POOL_SHARE_URL", url).run()
}

/// A code of this machine.
pub(crate) fn code(world: &World, role: &str) -> String {
    world.pool(&["share", "code", role]).run().ok().stdout
}

pub(crate) fn join(world: &World, code: &str, name: &str) -> Output {
    world.pool(&["share", "join", "--name", name]).stdin(code).run()
}

/// Another machine, which has joined with that role.
pub(crate) fn joined(world: &World, role: &str, name: &str) -> World {
    let other = world.another();
    join(&other, &code(world, role), name).ok();
    other
}

pub(crate) fn status(world: &World) -> Value {
    let output = world.pool(&["share", "status", "--json"]).run().ok();
    let status = output.json();
    assert_eq!(Schema::read().errors("share_status", &status), [""; 0], "{status}");
    status
}

/// What the other commands know of the shared pool without the database.
pub(crate) fn known(world: &World) -> Value {
    let [list, why] = ["list", "why"].map(|command| {
        let answer = world.pool(&[command, "--json"]).run().ok().json();
        assert_eq!(Schema::read().errors(command, &answer), [""; 0], "{answer}");
        answer["shared"].clone()
    });
    assert_eq!(list, why);
    list
}

/// The names of the machines, each with its role.
pub(crate) fn machines(world: &World) -> Vec<String> {
    let status = status(world);
    let machines = status["machines"].as_array().expect("machines").iter();
    machines.map(|m| format!("{} {}", testkit::text(&m["machine"]), testkit::text(&m["role"]))).collect()
}

/// A login of that user as `codex login` makes one just now.
pub(crate) fn newer_login(world: &World, user: &str) -> String {
    world.backend().auth_json_with(user, &LoginSpec { issued_ago: Some(-5), ..LoginSpec::default() })
}
