//! Renewal under the real Codex. `CODEX_POOL_TEST_VERSIONS="0.140.0 0.159.3 0.169.0"` runs more versions.

use testkit::backend::{LoginSpec, Step, UserSpec, refresh_token};
use testkit::{Codex, Pty, SOON, World, now, versions};

use super::refresh;

const EXEC: [&str; 5] = ["exec", "--skip-git-repo-check", "-s", "danger-full-access", "hi"];

/// Returns a pool with alice alone, her access token valid for that many seconds, pinned and live.
fn alice(version: &str, expires_in: i64) -> Option<World> {
    let world = World::with(Codex::real_of(version)?, &[]);
    // Codex makes its databases at its first start, and some versions trip over each other there.
    world.backend().add("first");
    world.write_live(&world.backend().auth_json("first"));
    world.real_codex(&EXEC).timeout(SOON).run().ok();
    std::fs::remove_file(world.codex_home().join("auth.json")).expect("remove the live document");
    world.backend().clear_report();
    let login = LoginSpec { refreshed_ago: 864_000 - expires_in, ..LoginSpec::expires_in(expires_in) };
    world.add_as("alice", UserSpec::new("alice"), &login);
    world.pool(&["use", "alice"]).run().ok();
    Some(world)
}

fn expires_at(auth_json: &str) -> i64 {
    let doc: serde_json::Value = serde_json::from_str(auth_json).expect("a document");
    let token = doc["tokens"]["access_token"].as_str().expect("a token");
    testkit::backend::claims(token).expect("claims")["exp"].as_i64().expect("a time")
}

/// The interface of these versions asks for the token in several places at once: the first reloads the renewed one, the
/// next finds the file unchanged and renews it again. It is alone and has the newest token, so nothing is lost.
const RENEW_AGAIN: [&str; 2] = ["0.140.0", "0.150.0"];

#[test]
fn sessions_take_over_the_token_that_the_pool_renewed() {
    for version in versions() {
        // Codex renews by itself when under five minutes are left: they begin just before that.
        let Some(world) = alice(&version, 330) else { return };
        let backend = world.backend();
        let old = world.live().expect("live");
        let mut interfaces = [(); 2].map(|()| Pty::spawn(world.codex(&[]), 40, 120));
        for ui in &interfaces {
            ui.wait_for_codex(SOON);
        }
        let hold = backend.hold("alice");
        backend.script("alice", [(); 3].map(|()| Step::Shell("true".to_owned())));
        let execs = [(); 3].map(|()| world.codex(&EXEC).timeout(SOON * 2).spawn());
        hold.wait_for(3, SOON);
        assert!(now() < expires_at(&old) - 300, "{version}: this machine is too slow for this test");
        refresh(&world);
        let renewed = world.live().expect("live");
        assert!(expires_at(&renewed) > now() + 86_400, "{version}");
        // Now each of them has a token in memory that it would renew.
        testkit::wait_until("the old token's last minutes", SOON, || now() > expires_at(&old) - 299);
        drop(hold);
        for exec in execs {
            exec.wait().ok().says("hello from alice");
        }
        assert_eq!(backend.report().refreshes.len(), 1, "{version}: the pool's own");
        for ui in &mut interfaces {
            ui.send_line("say something");
            ui.wait_for_text("hello from alice", SOON);
        }
        let report = backend.report();
        assert_eq!(report.turns_of("alice").iter().filter(|t| t.status == 200).count(), 8, "{version}");
        if !RENEW_AGAIN.contains(&version.as_str()) {
            assert_eq!(report.refreshes.len(), 1, "{version}: {:?}", report.refreshes);
            assert_eq!(world.live().as_deref(), Some(renewed.as_str()), "{version}");
        }
        backend.assert_clean();
    }
}

#[test]
fn launches_with_a_token_in_its_last_minutes_wait_for_one_renewal() {
    for version in versions() {
        let Some(world) = alice(&version, 200) else { return };
        world.link_admin();
        let all = [(); 5].map(|()| world.codex(&EXEC).timeout(SOON * 2).spawn());
        for exec in all {
            exec.wait().ok().says("hello from alice");
        }
        let report = world.backend().report();
        assert_eq!(report.refreshes.len(), 1, "{version}: {:?}", report.refreshes);
        let first_turn = report.turns[0].at;
        assert!(report.refreshes[0].at < first_turn, "{version}: renewed before Codex asked for anything");
        assert_eq!(refresh_token(&world.stored("alice")), world.backend().newest_refresh_token("alice"));
        world.backend().assert_clean();
    }
}
