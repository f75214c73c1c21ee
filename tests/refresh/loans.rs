//! A document of one workspace with the refresh token of another one, as Codex writes it when it switches workspaces: no
//! login is lost, and no token is sent twice.

use serde_json::Value;
use testkit::World;
use testkit::backend::{LoginSpec, UserSpec};

const BOTH: [&str; 2] = ["team-a", "team-b"];

/// Two workspaces of one user. `team-a` is live.
fn world() -> World {
    let world = World::new(&[]);
    for name in BOTH {
        let spec = UserSpec { user_id: "user-ann".to_owned(), ..UserSpec::new(name).plan("team") };
        world.add_as(name, spec, &LoginSpec::expires_in(3600));
    }
    world.make_live("team-a");
    world
}

/// Writes what Codex writes when it switches to `team-b`: that one's tokens with this refresh token.
fn switch(world: &World, refresh_token: &str) {
    let mut doc: Value =
        serde_json::from_str(&world.backend().auth_json_with("team-b", &LoginSpec::expires_in(3600)))
            .expect("JSON");
    let own = doc["tokens"]["refresh_token"].take();
    doc["tokens"]["refresh_token"] = refresh_token.into();
    world.write_live(&doc.to_string());
    // Nobody got the token that the service made for this document.
    world.backend().forget_token(own.as_str().expect("a token"));
}

#[track_caller]
fn refresh(world: &World, label: &str) {
    world.pool(&["refresh", label]).run().ok();
}

#[test]
fn both_workspaces_keep_their_logins_after_a_switch() {
    for order in [["team-b", "team-a"], ["team-a", "team-b"]] {
        let world = world();
        switch(&world, &world.backend().newest_refresh_token("team-a"));
        for label in order {
            refresh(&world, label);
        }
        for label in BOTH {
            assert_eq!(world.account(label)["state"], "ready", "{order:?}");
            assert_eq!(world.backend().report().refreshes_of(label).len(), 1, "{order:?}");
        }
        assert_eq!(world.live_owner().as_deref(), Some("team-b"), "{order:?}: with its own token");
        world.assert_nothing_lost(&BOTH);
    }
}

#[test]
fn answer_that_names_the_other_workspace_is_filed_there() {
    for order in [["team-b", "team-a"], ["team-a", "team-b"]] {
        let world = world();
        // A token that Codex rotated before it switched: the pool does not know whose it is.
        let unseen = testkit::backend::refresh_token(&world.backend().auth_json("team-a"));
        switch(&world, &unseen);
        for label in order {
            refresh(&world, label);
        }
        for label in BOTH {
            assert_eq!(world.account(label)["state"], "ready", "{order:?}");
        }
        world.assert_nothing_lost(&BOTH);
    }
}

#[test]
fn renewal_answered_with_another_account_is_filed_there() {
    let world = world();
    world.backend().answer_renewals_as("team-a", "team-b");
    let output = world.pool(&["refresh", "team-a"]).run();
    assert!(output.stdout.contains("another account's tokens"), "{output}");
    assert_eq!(world.account("team-a")["state"], "reauth_required");
    world.assert_nothing_lost(&["team-b"]);
    world.pool(&["refresh", "team-a"]).run();
    assert_eq!(world.backend().report().refreshes_of("team-a").len(), 1, "a token is sent once");
}
