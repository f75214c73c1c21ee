//! Documents that say that they were issued in the future, which nothing could ever be newer than.

use serde_json::{Value, json};
use testkit::backend::{claims, jwt};
use testkit::{World, answered, now};

/// A day, 75 years, and beyond any calendar, seconds.
const AHEAD: [i64; 3] = [86_400, 75 * 365 * 86_400, 1_000_000_000_000_000_000];

/// Returns a login that was never issued, made of a good one, and dated so far ahead.
fn forged(good: &str, ahead: i64) -> String {
    let mut doc: Value = serde_json::from_str(good).expect("JSON");
    let mut token = claims(doc["tokens"]["access_token"].as_str().expect("a token")).expect("claims");
    token["iat"] = json!(now() + ahead);
    token["exp"] = json!(now().saturating_add(ahead).saturating_add(864_000));
    doc["tokens"]["access_token"] = json!(jwt(&token));
    doc["tokens"]["refresh_token"] = json!(format!("forged-{ahead}"));
    doc.to_string()
}

/// Logs in with `codex-pool <args>`, or with `codex <args>`, through the shim.
fn log_in(world: &World, program: &str, args: &[&str]) {
    world.backend().approve_login("alice");
    world.cmd(program).args(args).arg("--device-auth").run().ok();
}

#[test]
fn login_from_the_future_does_not_replace_a_good_one() {
    for ahead in AHEAD {
        let world = World::logged_in(&["alice", "bob"]);
        world.make_live("alice");
        let forged = forged(&world.live().expect("a login"), ahead);
        world.write_live(&forged);
        world.assert_nothing_lost(&["alice", "bob"]);
        assert!(world.backend().is_good(&world.stored("alice")), "{ahead}");
        answered(world.exec_as("alice").run(), "alice");
        assert!(world.live_is_good(), "{ahead}");
        world.pool(&["import", "-"]).stdin(forged.as_str()).run();
        assert!(world.backend().is_good(&world.stored("alice")), "{ahead}");
        assert!(world.lost_found().iter().any(|(_, text)| *text == forged), "it is kept");
    }
}

#[test]
fn good_login_replaces_one_from_the_future() {
    for ahead in AHEAD {
        let world = World::new(&["bob"]);
        world.backend().add("alice");
        let good = world.backend().auth_json("alice");
        world.import("alice", &forged(&good, ahead));
        world.write_live(&good);
        world.assert_nothing_lost(&["alice", "bob"]);
        answered(world.exec_as("alice").run(), "alice");
    }
}

#[test]
fn login_that_the_user_makes_wins_over_one_from_the_future() {
    // Also over one that is not so far ahead that it is known.
    for ahead in [&AHEAD[..], &[500]].concat() {
        let ways: [(&str, &[&str]); 3] =
            [("codex-pool", &["reauth", "alice"]), ("codex-pool", &["add"]), ("codex", &["login"])];
        for (program, args) in ways {
            let world = World::new(&["bob"]);
            world.backend().add("alice");
            let forged = forged(&world.backend().auth_json("alice"), ahead);
            world.import("alice", &forged);
            world.write_live(&forged);
            world.list();
            log_in(&world, program, args);
            let context = format!("{program} {args:?}, {ahead} ahead");
            assert!(world.backend().is_good(&world.stored("alice")), "{context}: the pool has the forgery");
            assert!(world.live_is_good(), "{context}: the home has the forgery");
            world.assert_nothing_lost(&["alice", "bob"]);
            answered(world.exec_as("alice").run(), "alice");
        }
    }
}
