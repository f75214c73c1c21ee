//! The real Codex, without the shim, against the stand-in service: the kit's picture of it is right.

use std::time::Duration;

use testkit::backend::LoginSpec;
use testkit::{Codex, Pty, Sandbox, real_codex, versions};

const SOON: Duration = Duration::from_secs(60);

fn worlds() -> impl Iterator<Item = (String, Sandbox)> {
    versions().into_iter().map(|version| {
        let codex = real_codex(&version).unwrap_or_else(|e| panic!("no real Codex: {e}"));
        let sandbox = Sandbox::builder().codex(Codex::Real(codex)).build();
        sandbox.backend().add("alice");
        (version, sandbox)
    })
}

#[test]
fn exec_is_answered_by_the_live_account() {
    for (version, sandbox) in worlds() {
        sandbox.write_live(&sandbox.backend().auth_json("alice"));
        let output = sandbox.real_codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok();
        assert_eq!(output.stdout.trim(), "hello from alice", "{version}");
        let report = sandbox.backend().report();
        assert_eq!(report.turns_of("alice").len(), 1, "{version}");
        assert!(
            report.turns[0].session().is_some() && report.turns[0].prompt.is_some(),
            "{version}: {report:?}"
        );
        assert!(report.refreshes.is_empty(), "{version}");
        sandbox.backend().assert_clean();
    }
}

#[test]
fn an_expired_access_token_is_refreshed_once() {
    for (version, sandbox) in worlds() {
        let backend = sandbox.backend();
        sandbox.write_live(&backend.auth_json_with("alice", &LoginSpec::expires_in(-60)));
        for _ in 0..2 {
            sandbox.real_codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok().says("hello from alice");
        }
        assert_eq!(backend.report().refreshes_of("alice").len(), 1, "{version}");
        let live = sandbox.live().expect("a live login");
        assert!(live.contains(&backend.newest_refresh_token("alice")), "{version}");
        backend.assert_clean();
    }
}

#[test]
fn the_interface_starts_and_answers() {
    for (version, sandbox) in worlds() {
        sandbox.write_live(&sandbox.backend().auth_json("alice"));
        let mut codex = Pty::spawn(sandbox.real_codex(&[]), 40, 120);
        codex.wait_for_text("OpenAI Codex", SOON);
        codex.send_line("say something");
        codex.wait_for_text("hello from alice", SOON);
        codex.send_line("/quit");
        assert!(codex.wait(SOON).success(), "{version}");
    }
}
