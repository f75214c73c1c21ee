//! `add`: a login that leaves all other logins alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use testkit::backend::{Fault, Route, Usage, UserSpec};
use testkit::pty::CTRL_C;
use testkit::{Codex, SOON, Sandbox, World, complains, text, wait_until};

use crate::logins::Logins as _;

#[test]
fn live_login_is_neither_replaced_nor_revoked() {
    let world = World::logged_in(&["alice"]);
    let (backend, live) = (world.backend(), world.live());
    backend.add("bob");
    backend.set_usage("bob", Usage::percent(30.0, 20.0));
    let output = world.login(&["add"], "bob").ok().says("added bob <bob@example.com>").says("70 %");
    assert_eq!(world.live(), live);
    assert!(world.live_is_good());
    let report = backend.report();
    assert!(report.revocations.is_empty(), "{report:?}");
    assert_eq!(report.usage_of("bob").len(), 1);
    let bob = world.account("bob");
    assert_eq!((&bob["state"], &bob["live"]), (&"ready".into(), &false.into()));
    world.assert_no_login_home();
    world.assert_no_secret(&output.to_string());
    backend.assert_clean();
}

#[test]
fn account_of_the_pool_gets_the_new_credentials_also_where_live() {
    let world = World::logged_in(&["alice"]);
    let old = world.live().expect("a live login");
    world.login(&["add"], "alice").ok().says("alice <alice@example.com> was in the pool already");
    let new = world.live().expect("a live login");
    assert_ne!(new, old);
    assert!(world.live_is_good() && new.contains(&world.backend().newest_refresh_token("alice")));
    assert_eq!((world.labels(), world.stored("alice")), (vec!["alice".to_owned()], new));
    // No home uses it any more, but it is not lost.
    assert!(!world.pool_files_with(&old).is_empty());
    world.backend().assert_clean();
}

#[test]
fn labels_tell_workspaces_of_one_email_apart() {
    let world = World::logged_in(&["alice"]);
    let email =
        |spec: UserSpec| UserSpec { email: "alice@example.com".into(), user_id: "user-alice".into(), ..spec };
    world.backend().add_user("team", email(UserSpec::new("team").plan("team")));
    world.backend().add_user("other", email(UserSpec::new("other").plan("team").workspace("0a1b2c3d-rest")));
    world.login(&["add"], "team").ok();
    world.login(&["add"], "other").ok();
    assert_eq!(world.labels(), ["alice", "alice-0a1b2c3d", "alice-team"]);
}

#[test]
fn label_that_is_taken_is_refused_before_the_login() {
    let world = World::logged_in(&["alice", "bob"]);
    let output = world.login_cmd(&["add", "--label", "bob"]).run().expect(1);
    complains(&output, "`bob` is the label of bob <bob@example.com> already");
    let asked = |route: &str| world.backend().report().requests.iter().any(|r| r.path.ends_with(route));
    assert!(!asked("/usercode"));
    world.backend().add("carol");
    world.login(&["add", "--label", "büro 2"], "carol").ok().says("added büro 2 <carol@example.com>");
    // The label of a known account is what was asked for, too.
    world.login(&["add", "--label", "work"], "bob").ok();
    assert_eq!(world.labels(), ["alice", "büro 2", "work"]);
}

#[test]
fn ctrl_c_cancels_the_login_and_nothing_has_changed() {
    let world = World::logged_in(&["alice"]);
    let before = world.possessions();
    let mut terminal = world.pty(world.login_cmd(&["add"]));
    terminal.wait_for_text("one-time code", SOON);
    world.wait_for_login();
    terminal.send(CTRL_C);
    terminal.wait_for_text("the login was cancelled; nothing was changed", SOON);
    assert_eq!(terminal.wait(SOON).code(), Some(1));
    assert_eq!(world.possessions(), before);
    world.assert_no_login_home();
}

#[test]
fn signal_to_codex_pool_alone_ends_the_login_too() {
    let world = World::logged_in(&["alice"]);
    let before = world.possessions();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let login = world.login_cmd(&["add"]).spawn();
        wait_until("a login that waits", SOON, || login.stderr().contains("one-time code"));
        login.signal(signal);
        complains(&login.wait().expect(1), "the login was cancelled");
        wait_until("the end of the login itself", SOON, || world.processes().is_empty());
        assert_eq!(world.possessions(), before, "{signal}");
        world.assert_no_login_home();
    }
}

#[test]
fn leftovers_of_a_killed_login_are_removed_by_the_next_command() {
    let world = World::logged_in(&["alice"]);
    let before = world.possessions();
    let login = world.login_cmd(&["add"]).spawn();
    world.wait_for_login();
    login.signal_group(Signal::SIGKILL);
    login.wait();
    assert_eq!((world.login_homes().len(), world.possessions()), (1, before));
    world.pool(&["list"]).run().ok();
    world.assert_no_login_home();
}

#[test]
fn login_that_cannot_be_taken_in_is_kept() {
    let world = World::logged_in(&["alice"]);
    world.backend().add("bob");
    let login = world.login_cmd(&["add"]).spawn();
    world.wait_for_login();
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    world.backend().approve_login("bob");
    let output = login.wait().expect(1);
    drop(lock);
    complains(&output, "another codex-pool has held");
    let kept = output.stderr.split("`codex-pool import '").nth(1).and_then(|rest| rest.split('\'').next());
    world.pool(&["import", kept.expect("where it is kept")]).run().ok().says("imported `bob`");
    world.assert_no_login_home();
    world.backend().assert_clean();
}

#[test]
fn login_that_fails_changes_nothing() {
    let world = World::logged_in(&["alice"]);
    let before = world.possessions();
    world.backend().inject_times(Route::DeviceToken, None, Fault::Status(500, serde_json::json!({})), 1);
    let output = world.login(&["add"], "alice").expect(1);
    complains(&output, "`codex login` failed (exit status: 1); nothing was changed");
    let output = world.pool(&["add", "--", "--bogus"]).run().expect(1);
    complains(&output, "unexpected argument '--bogus'");
    assert_eq!(world.possessions(), before);
    world.assert_no_login_home();
}

/// Writes what it finds to `$HOME/seen`, one section each, and asks the pool, which must not be locked.
const WITNESS: &str = r#"
    exec >"$HOME/seen" 2>&1
    echo "args: $*"
    echo "home: $CODEX_HOME"
    echo "mode: $(stat -c %a "$CODEX_HOME" 2>/dev/null || stat -f %Lp "$CODEX_HOME")"
    echo "files: $(ls -A "$CODEX_HOME" | tr '\n' ' ')"
    echo "key: ${CODEX_API_KEY-none}"
    cat "$CODEX_HOME/config.toml"
    codex-pool list --json
    "#;

#[test]
fn login_runs_in_a_login_home_while_the_pool_is_free() {
    let world = World::logged_in_with(Codex::Script(format!("{WITNESS}\nexit 3")), &["alice"]);
    world.edit_config(|config| {
        config.insert("forced_chatgpt_workspace_id".into(), "space".into());
        config.insert("cli_auth_credentials_store".into(), "keyring".into());
        config.insert("model".into(), "some-model".into());
    });
    fs::write(world.codex_home().join(".env"), "HTTPS_PROXY=x\n").expect("write it");
    let add = world.pool(&["add", "--device-auth", "--", "-c", "x=1"]).env("CODEX_API_KEY", "sk-fake");
    complains(&add.run().expect(1), "exit status: 3");
    let seen = fs::read_to_string(world.home().join("seen")).expect("the script's notes");
    let line = |name: &str| {
        seen.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name} {seen}"))
    };
    assert_eq!(line("args: "), "login --device-auth -c x=1");
    assert_eq!((line("mode: "), line("files: "), line("key: ")), ("700", ".env config.toml ", "none"));
    let home = std::path::Path::new(line("home: "));
    assert!(home.starts_with(world.pool_home()) && !home.exists(), "{}", home.display());
    assert!(seen.contains("cli_auth_credentials_store = \"file\"") && !seen.contains("keyring"), "{seen}");
    assert!(seen.contains("forced_chatgpt_workspace_id = \"space\""), "{seen}");
    assert!(seen.contains("[model_providers.lab]") && !seen.contains("some-model"), "{seen}");
    assert!(seen.contains("\"label\":\"alice\""), "the pool was locked: {seen}");
    assert!(world.codex_home().join(".env").exists());
}

#[test]
fn login_that_leaves_nothing_usable_is_reported() {
    let nothing = World::logged_in_with(Codex::Script("exit 0".into()), &["alice"]);
    complains(&nothing.pool(&["add"]).run().expect(1), "left no login in the file");
    let script = r#"echo '{"auth_mode":"agentIdentity","agent_identity":{}}' >"$CODEX_HOME/auth.json""#;
    let unmanaged = World::logged_in_with(Codex::Script(script.into()), &["alice"]);
    let before = unmanaged.possessions();
    complains(
        &unmanaged.pool(&["add"]).run().expect(1),
        "holds an agent identity, which codex-pool cannot manage",
    );
    assert_eq!(unmanaged.possessions(), before);
    unmanaged.assert_no_login_home();
}

#[test]
fn add_without_codex_says_how_to_install_it() {
    let world = World::logged_in_with(Codex::Missing, &[]);
    complains(&world.pool(&["add"]).run().expect(1), "npm install -g @openai/codex");
}

#[test]
fn api_key_comes_from_stdin_and_goes_to_codex_by_stdin() {
    let key = "sk-fake-0123456789";
    let world = World::logged_in(&["alice"]);
    let live = world.live();
    let output =
        world.pool(&["add", "--with-api-key"]).stdin(format!("{key}\n")).run().ok().says("added api-key");
    assert!(!output.to_string().contains(key));
    let account = world.account("api-key");
    assert_eq!((&account["kind"], world.live()), (&"api_key".into(), live));
    assert!(world.stored("api-key").contains(key));
    world.pool(&["add", "--with-api-key"]).stdin(key).run().ok().says("api-key was in the pool already");
    complains(&world.pool(&["add", "--with-api-key"]).stdin(" \n").run().expect(1), "holds no API key");
    let novel = "sk".repeat(40_000);
    complains(&world.pool(&["add", "--with-api-key"]).stdin(novel).run().expect(1), "file too large");
    world.edit_config(|config| drop(config.insert("forced_login_method".into(), "chatgpt".into())));
    complains(&world.pool(&["add", "--with-api-key"]).stdin(key).run().expect(1), "forbids API keys");
}

#[test]
fn codex_that_cannot_take_a_key_by_stdin_never_gets_it_at_all() {
    let world = World::logged_in_with(Codex::Script(r#"echo "$*" >>"$HOME/calls"; exit 1"#.into()), &[]);
    world.pool(&["add", "--with-api-key", "--label", "ci"]).stdin("sk-fake-1").run().ok().says("added ci");
    let calls = fs::read_to_string(world.home().join("calls")).expect("calls");
    assert_eq!(calls, "login --help\n");
    assert!(world.stored("ci").contains("sk-fake-1"));
}

#[test]
fn api_key_is_typed_unseen() {
    let world = World::logged_in(&[]);
    let mut terminal = world.pty(world.pool(&["add", "--with-api-key"]));
    terminal.wait_for_text("API key:", SOON);
    terminal.send("sk-fake-2");
    terminal.wait_for_text("*********", SOON);
    terminal.send(testkit::pty::ENTER);
    terminal.wait_for_text("added api-key", SOON);
    assert!(terminal.wait(SOON).success());
    assert!(!terminal.raw().contains("sk-fake-2"));
}

#[test]
fn first_account_of_a_fresh_home_makes_the_pool() {
    let sandbox = Sandbox::builder().without_pool().build();
    let world = World::from(sandbox);
    fs::remove_dir_all(world.codex_home().join("nothing")).unwrap_err();
    world.backend().add("bob");
    world.login(&["add"], "bob").ok();
    assert_eq!(fs::metadata(world.pool_home()).expect("a pool").permissions().mode() & 0o777, 0o700);
    assert_eq!(text(&world.account("bob")["email"]), "bob@example.com");
    assert_eq!(world.live(), None, "what is live is up to the next launch");
}
