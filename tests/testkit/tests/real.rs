//! The real Codex, without the shim, against the stand-in service: the kit's picture of it is right.

use std::fs;
use std::path::Path;

use testkit::backend::{LoginSpec, Step, Usage, api_key_json};
use testkit::{Codex, Pty, SOON, Sandbox, versions, wait_until};

fn worlds() -> impl Iterator<Item = (String, Sandbox)> {
    versions().into_iter().filter_map(|version| {
        let sandbox = Sandbox::builder().codex(Codex::real_of(&version)?).build();
        sandbox.backend().add("alice");
        Some((version, sandbox))
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
fn expired_access_token_is_refreshed_once() {
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
fn interface_starts_and_answers() {
    for (version, sandbox) in worlds() {
        sandbox.write_live(&sandbox.backend().auth_json("alice"));
        let mut codex = Pty::spawn(sandbox.real_codex(&[]), 40, 120);
        codex.wait_for_codex(SOON);
        codex.send_line("say something");
        codex.wait_for_text("hello from alice", SOON);
        codex.send_line("/quit");
        assert!(codex.wait(SOON).success(), "{version}");
    }
}

#[test]
fn tools_run_on_order() {
    for (version, sandbox) in worlds() {
        let backend = sandbox.backend();
        sandbox.write_live(&backend.auth_json("alice"));
        backend.script(
            "alice",
            [Step::Shell("echo $CODEX_THREAD_ID > thread; command -v codex > which".to_owned())],
        );
        let args = ["exec", "--skip-git-repo-check", "-s", "danger-full-access", "hi"];
        sandbox.real_codex(&args).run().ok().says("hello from alice");
        let written = |name| fs::read_to_string(sandbox.work().join(name)).expect("the tool's file");
        let report = backend.report();
        assert_eq!(report.turns[0].session(), Some(written("thread").trim()), "{version}");
        assert_eq!(Path::new(written("which").trim()), sandbox.shim(), "{version}");
        assert_eq!(report.turns.len(), 2, "{version}");
    }
}

#[test]
fn device_login_ends_the_one_before() {
    for (version, sandbox) in worlds() {
        let backend = sandbox.backend();
        backend.add("bob");
        let old = backend.auth_json("alice");
        sandbox.write_live(&old);
        let issuer = backend.url();
        let login = sandbox.real_codex(&["login", "--device-auth", "--experimental_issuer", &issuer]).spawn();
        wait_until("a login that waits", SOON, || backend.pending_logins() == 1);
        backend.approve_login("bob");
        login.wait().ok();
        assert_eq!(
            backend.owner(&sandbox.live().expect("a live login")).as_deref(),
            Some("bob"),
            "{version}"
        );
        // 0.120 did not revoke yet.
        assert_eq!(backend.is_good(&old), version.as_str() == "0.120.0", "{version}");
        sandbox.real_codex(&["logout"]).run().ok();
        assert_eq!(sandbox.live(), None, "{version}");
    }
}

#[test]
fn api_key_login_is_as_codex_writes_it() {
    for (version, sandbox) in worlds() {
        let key = "sk-test-dave";
        sandbox.backend().add_api_key("dave", key);
        sandbox.real_codex(&["login", "--with-api-key"]).stdin(key).run().ok();
        assert_eq!(sandbox.live().as_deref(), Some(api_key_json(key).as_str()), "{version}");
        sandbox.real_codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok().says("hello from dave");
    }
}

#[test]
fn limit_ends_a_turn() {
    for (version, sandbox) in worlds() {
        sandbox.backend().set_usage("alice", Usage::percent(100.0, 20.0));
        sandbox.write_live(&sandbox.backend().auth_json("alice"));
        let output = sandbox.real_codex(&["exec", "--skip-git-repo-check", "hi"]).run().expect(1);
        assert!(output.stderr.contains("hit your usage limit"), "{version}: {output}");
    }
}

#[test]
fn codex_never_leaves_loopback() {
    // 0.120 asks other hosts in every session, later versions when they are logged in with a key.
    for (version, sandbox) in worlds() {
        sandbox.backend().add_api_key("dave", "sk-test-dave");
        sandbox.write_live(&api_key_json("sk-test-dave"));
        sandbox.real_codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok();
        assert!(!sandbox.backend().report().outside.is_empty(), "{version}");
    }
}
