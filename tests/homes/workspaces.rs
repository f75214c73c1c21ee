//! A switch of the workspace inside a running Codex, which writes one workspace's access token with the other one's
//! refresh token: no login is lost.

use serde_json::{Value, json};
use testkit::backend::{LoginSpec, UserSpec, account_id};
use testkit::{Codex, World, answered};

use crate::rpc::Editor;

const BOTH: [&str; 2] = ["team-a", "team-b"];

/// Two workspaces of one user, with tokens that are due for renewal. `team-a` is live.
fn world() -> Option<World> {
    let world = World::with(Codex::real_of("0.169.0")?, &[]);
    for name in BOTH {
        let user_id = "user-ann".to_owned();
        let spec =
            UserSpec { user_id, email: "ann@example.com".to_owned(), ..UserSpec::new(name).plan("team") };
        world.add_as(name, spec, &LoginSpec::expires_in(3600));
    }
    world.make_live("team-a");
    Some(world)
}

/// Starts an app-server as an editor does, through the shim. `rotates`: it renews its tokens. Then it switches to `team-b`.
fn switched(world: &World, rotates: bool) -> Editor {
    let mut editor = Editor::open(world.codex(&["app-server"]));
    editor.ask(world, "hello from team-a");
    if rotates {
        editor.rotate();
    }
    let sessions = editor.call("accountSession/list", &json!({}));
    let to = json!({"sessionId": sessions["activeSessionId"], "accountId": account_id("team-b")});
    editor.call("accountSession/switch", &to);
    let live: Value = serde_json::from_str(&world.live().expect("a login")).expect("JSON");
    assert_eq!(live["tokens"]["account_id"], account_id("team-b"));
    assert_eq!(world.live_owner().as_deref(), Some("team-a"), "with team-a's refresh token");
    editor
}

/// Requires that both workspaces answer, by launches of their own.
#[track_caller]
fn both_answer(world: &World) {
    for label in BOTH {
        assert_eq!(world.account(label)["state"], "ready", "{label}");
        answered(world.exec_as(label).run(), label);
    }
    world.assert_nothing_lost(&BOTH);
}

#[test]
fn workspaces_keep_their_logins_after_a_switch_in_a_running_codex() {
    for order in [["team-b", "team-a"], ["team-a", "team-b"]] {
        for rotates in [false, true] {
            let Some(world) = world() else { return };
            let editor = switched(&world, rotates);
            for label in order {
                world.pool(&["refresh", label]).run().ok();
            }
            assert_eq!(world.live_owner().as_deref(), Some("team-b"), "{order:?}: with its own token");
            editor.close();
            both_answer(&world);
        }
    }
}

#[test]
fn codex_renews_with_the_own_token_after_a_switch() {
    let Some(world) = world() else { return };
    let mut editor = switched(&world, false);
    world.pool(&["refresh"]).run().ok();
    editor.rotate();
    editor.close();
    both_answer(&world);
}

#[test]
fn renewal_after_a_switch_that_names_the_other_workspace_is_filed_there() {
    for order in [["team-b", "team-a"], ["team-a", "team-b"]] {
        let Some(world) = world() else { return };
        let editor = switched(&world, false);
        world.backend().answer_renewals_as("team-a", "team-b");
        for label in order {
            world.pool(&["refresh", label]).run();
        }
        editor.close();
        assert_eq!(world.account("team-a")["state"], "reauth_required", "{order:?}");
        answered(world.exec_as("team-b").run(), "team-b");
        world.assert_nothing_lost(&["team-b"]);
    }
}
