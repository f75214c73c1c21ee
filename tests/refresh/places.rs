//! Tokens go only where they belong: each refusal, and the ways around it that the user may open.

use testkit::World;
use testkit::backend::{Fault, LoginSpec, Route, UserSpec};

use super::pool_of;

/// Returns one account whose tokens say that they come from `issuer`, near their end.
fn issued_by(issuer: &str) -> World {
    let world = pool_of(&[]);
    let user = UserSpec { issuer: Some(issuer.to_owned()), ..UserSpec::new("alice") };
    world.add_as("alice", user, &LoginSpec::expires_in(3_600));
    world
}

fn refresh_without_override(world: &World) -> testkit::Output {
    world.pool(&["refresh", "--json"]).env_remove("CODEX_REFRESH_TOKEN_URL_OVERRIDE").run()
}

fn error_of(world: &World) -> String {
    world.account("alice")["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn foreign_issuer_gets_no_refresh_token() {
    let elsewhere = testkit::backend::Backend::start();
    for issuer in [
        elsewhere.url(),
        "https://auth.openai.com.evil.example".to_owned(),
        "http://auth.openai.com".to_owned(),
    ] {
        let world = issued_by(&issuer);
        refresh_without_override(&world);
        let error = error_of(&world);
        assert!(error.contains("issued by") || error.contains("neither https"), "{issuer}: {error}");
        assert!(world.account("alice")["usage"].is_object(), "its access token still works");
    }
    assert_eq!(elsewhere.report().requests.len(), 0);
}

#[test]
fn issuer_that_the_user_allows_gets_it() {
    let world = pool_of(&[]);
    world.settings("min_poll_interval = \"0s\"\nallowed_issuers = [\"127.0.0.1\"]\n");
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(3_600));
    refresh_without_override(&world).ok();
    assert_eq!(world.backend().report().refreshes.len(), 1);
}

#[test]
fn override_of_the_user_is_honoured_but_not_in_the_clear() {
    let world = issued_by("https://evil.example");
    world.pool(&["refresh"]).run().ok();
    assert_eq!(world.backend().report().refreshes.len(), 1);
    let world = issued_by("https://auth.openai.com");
    world.pool(&["refresh"]).env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://192.0.2.1/oauth/token").run();
    assert!(
        error_of(&world).contains("CODEX_REFRESH_TOKEN_URL_OVERRIDE is neither https"),
        "{}",
        error_of(&world)
    );
}

#[test]
fn base_url_in_the_clear_or_malformed_gets_no_access_token() {
    for (base, why) in [
        ("http://192.0.2.1/backend-api", "neither https"),
        ("http://127.0.0.1.evil.example/backend-api", "neither https"),
        ("backend-api", "not a URL"),
        ("https://user:password@chatgpt.com", "not a plain URL"),
        ("file:///etc/passwd", "not"),
    ] {
        let world = pool_of(&["alice"]);
        world.edit_config(|config| {
            config.insert("chatgpt_base_url".into(), base.into());
        });
        let failed = world.pool(&["refresh", "alice"]).run().expect(1);
        assert!(
            failed.stderr.contains("chatgpt_base_url") && failed.stderr.contains(why),
            "{}",
            failed.stderr
        );
        assert_eq!(world.backend().report().requests.len(), 0);
    }
}

#[test]
fn redirect_is_not_followed_with_a_token() {
    let elsewhere = testkit::backend::Backend::start();
    let world = pool_of(&["alice"]);
    world.backend().inject(Route::Usage, Fault::Redirect(format!("{}/wham/usage", elsewhere.url())));
    let failed = world.pool(&["refresh", "alice"]).run().expect(1);
    assert!(failed.stderr.contains("redirect"), "{}", failed.stderr);
    let world = issued_by("https://auth.openai.com");
    world.backend().inject(Route::Token, Fault::Redirect(format!("{}/oauth/token", elsewhere.url())));
    world.pool(&["refresh"]).run();
    assert!(error_of(&world).contains("redirect"), "{}", error_of(&world));
    assert_eq!(elsewhere.report().requests.len(), 0);
}
