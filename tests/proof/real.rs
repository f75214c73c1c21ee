//! The main promises with the real Codex behind the shim, in every version that `CODEX_POOL_TEST_VERSIONS` names.
//! `scripts/compatibility.sh` makes the table in `docs/compatibility.md` of them.

use testkit::backend::LoginSpec;
use testkit::{Codex, SOON, versions};

use crate::lab::Lab;

/// Returns one world for each version, with Alice live and Bob the pick.
fn worlds() -> impl Iterator<Item = (String, Lab)> {
    versions().into_iter().filter_map(|version| {
        let world = Lab::with(Codex::real_of(&version)?, &["alice", "bob"], "background_refresh = false\n");
        world.reset(&LoginSpec::default());
        world.write_live(&world.document("alice"));
        Some((version, world))
    })
}

#[test]
fn launch_runs_on_the_account_that_is_asked_for() {
    for (version, world) in worlds() {
        for name in ["bob", "alice", "bob"] {
            let output = world.exec_as(name).run().ok();
            assert_eq!(output.stdout.trim(), format!("hello from {name}"), "{version}");
        }
        assert_eq!(world.backend().report().refreshes.len(), 0, "{version}");
        assert_eq!(world.breaches(), Vec::<String>::new(), "{version}");
    }
}

#[test]
fn two_sessions_run_at_once_on_two_accounts() {
    for (version, world) in worlds() {
        let hold = world.backend().hold("alice");
        let first = world.exec_as("alice").spawn();
        hold.wait_for(1, SOON);
        let second = world.exec_as("bob").run().ok();
        assert_eq!(second.stdout.trim(), "hello from bob", "{version}");
        drop(hold);
        assert_eq!(first.wait().ok().stdout.trim(), "hello from alice", "{version}");
        assert_eq!(world.breaches(), Vec::<String>::new(), "{version}");
    }
}

#[test]
fn token_near_its_end_is_renewed_before_codex_sees_it() {
    for (version, world) in worlds() {
        let old = LoginSpec { refreshed_ago: 900_000, ..LoginSpec::expires_in(200) };
        let document = world.backend().auth_json_with("alice", &old);
        world.store("alice", &document);
        world.write_live(&document);
        let output = world.exec_as("alice").run().ok();
        assert_eq!(output.stdout.trim(), "hello from alice", "{version}");
        assert_eq!(world.backend().report().refreshes_of("alice").len(), 1, "{version}");
        assert!(
            world.document("alice").contains(&world.backend().newest_refresh_token("alice")),
            "{version}"
        );
        assert_eq!(world.breaches(), Vec::<String>::new(), "{version}");
    }
}

#[test]
fn login_revokes_nothing_and_is_adopted() {
    for (version, world) in worlds() {
        let backend = world.backend();
        backend.approve_login("bob");
        let issuer = backend.url();
        world.codex(&["login", "--device-auth", "--experimental_issuer", &issuer]).run().ok();
        assert_eq!(backend.report().revocations.len(), 0, "{version}");
        let newest = backend.newest_refresh_token("bob");
        assert!(world.document("bob").contains(&newest), "{version}: the new login is not in the pool");
        assert!(world.live().is_some_and(|live| live.contains(&newest)), "{version}: it is not live");
        assert_eq!(world.lost(), Vec::<String>::new(), "{version}");
        assert_eq!(world.breaches(), Vec::<String>::new(), "{version}");
    }
}
