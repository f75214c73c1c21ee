//! Renewal under the real Codex. `CODEX_POOL_TEST_VERSIONS="0.140.0 0.159.3 0.169.0"` runs more versions.

use std::time::Duration;

use testkit::backend::{LoginSpec, Step, UserSpec};
use testkit::{Codex, Pty, Sandbox, real_codex, versions};

use super::{add, refresh, refresh_token, stored};

const SOON: Duration = Duration::from_secs(60);
const EXEC: [&str; 5] = ["exec", "--skip-git-repo-check", "-s", "danger-full-access", "hi"];

/// A pool with alice alone, her access token valid for that many seconds, pinned and live.
fn alice(version: &str, expires_in: i64) -> Sandbox {
    let codex = real_codex(version).unwrap_or_else(|e| panic!("no real Codex: {e}"));
    let sandbox = Sandbox::builder().codex(Codex::Real(codex)).build();
    // Codex makes its databases at its first start, and some versions trip over each other there.
    sandbox.backend().add("somebody");
    sandbox.write_live(&sandbox.backend().auth_json("somebody"));
    sandbox.real_codex(&EXEC).timeout(SOON).run().ok();
    std::fs::remove_file(sandbox.codex_home().join("auth.json")).expect("remove the live document");
    sandbox.backend().clear_report();
    let login = LoginSpec { refreshed_ago: 864_000 - expires_in, ..LoginSpec::expires_in(expires_in) };
    add(&sandbox, "alice", UserSpec::new("alice"), &login);
    sandbox.pool(&["use", "alice"]).run().ok();
    sandbox
}

fn expires_at(auth_json: &str) -> i64 {
    let doc: serde_json::Value = serde_json::from_str(auth_json).expect("a document");
    let token = doc["tokens"]["access_token"].as_str().expect("a token");
    testkit::backend::claims(token).expect("claims")["exp"].as_i64().expect("a time")
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs().try_into().expect("a time")
}

/// Their interface asks for the token in several places at once: the first reloads the renewed one, the next
/// finds the file unchanged and renews it again. Alone and with the newest token, so nothing is lost.
const RENEW_AGAIN: [&str; 2] = ["0.140.0", "0.150.0"];

#[test]
fn two_interfaces_and_three_execs_take_over_the_token_that_the_pool_renewed() {
    for version in versions() {
        // Codex renews by itself when under five minutes are left: they begin just before that.
        let sandbox = alice(&version, 330);
        let backend = sandbox.backend();
        let old = sandbox.live().expect("live");
        let mut interfaces = [(); 2].map(|()| Pty::spawn(sandbox.codex(&[]), 40, 120));
        for ui in &interfaces {
            ui.wait_for_codex(SOON);
        }
        let hold = backend.hold("alice");
        backend.script("alice", [(); 3].map(|()| Step::Shell("true".to_owned())));
        let execs = [(); 3].map(|()| sandbox.codex(&EXEC).timeout(SOON * 2).spawn());
        hold.wait_for(3, SOON);
        assert!(now() < expires_at(&old) - 300, "{version}: this machine is too slow for this test");
        refresh(&sandbox);
        let renewed = sandbox.live().expect("live");
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
            assert_eq!(sandbox.live().as_deref(), Some(renewed.as_str()), "{version}");
        }
        backend.assert_clean();
    }
}

#[test]
fn launches_with_a_token_in_its_last_minutes_wait_for_one_renewal() {
    for version in versions() {
        let sandbox = alice(&version, 200);
        super::background::install(&sandbox);
        let all = [(); 5].map(|()| sandbox.codex(&EXEC).timeout(SOON * 2).spawn());
        for exec in all {
            exec.wait().ok().says("hello from alice");
        }
        let report = sandbox.backend().report();
        assert_eq!(report.refreshes.len(), 1, "{version}: {:?}", report.refreshes);
        let first_turn = report.turns[0].at;
        assert!(report.refreshes[0].at < first_turn, "{version}: renewed before Codex asked for anything");
        assert_eq!(
            refresh_token(&stored(&sandbox, "alice")),
            sandbox.backend().newest_refresh_token("alice")
        );
        sandbox.backend().assert_clean();
    }
}
