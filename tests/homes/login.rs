//! `codex login` and `codex logout` run as children of the shim: however they end, no login of the pool is revoked or
//! lost, and running sessions go on.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::pty::CTRL_C;
use testkit::{Cmd, Pty, Running, SOON, World, alive, answered, children, revokes, wait_for_end, wait_until};

use crate::rpc::Editor;
use crate::world::{Homes as _, TWO, worlds};

/// Returns `codex login` by device code, through the shim.
fn login(world: &World) -> Cmd {
    world.codex(&["login", "--device-auth", "--experimental_issuer", &world.backend().url()])
}

/// Returns the same past the shim, in a CODEX_HOME of its own.
fn without_shim(world: &World) -> Cmd {
    let dir = world.home().join("apart");
    world.write_private(&dir.join("config.toml"), &world.codex_config().to_string());
    let args = ["login", "--device-auth", "--experimental_issuer", &world.backend().url()];
    world.real_codex(&args).env("CODEX_HOME", dir)
}

/// Waits until another login waits for approval.
#[track_caller]
fn wait_for_code(world: &World, before: usize) {
    wait_until("a login that waits", SOON, || world.backend().pending_logins() > before);
}

/// Starts a login and waits until it waits.
#[track_caller]
fn begin(world: &World) -> Running {
    let before = world.backend().pending_logins();
    let running = login(world).spawn();
    wait_for_code(world, before);
    running
}

/// Returns the state of an account in the pool.
fn state_of(world: &World, label: &str) -> String {
    let account = world.list().into_iter().find(|account| account["label"] == label).expect("in the pool");
    account["state"].as_str().expect("a state").to_owned()
}

/// Requires that everything is as it was: alice is live and her login good, and no login was revoked.
#[track_caller]
fn as_before(world: &World) {
    let live = world.live().unwrap_or_else(|| panic!("{}: no live login", world.version()));
    assert_eq!(world.backend().owner(&live).as_deref(), Some("alice"), "{}", world.version());
    assert!(world.backend().is_good(&live), "{}", world.version());
    assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
    answered(world.exec_as("alice").run(), "alice");
    world.assert_nothing_lost(&TWO);
}

/// Requires that no login home is left.
#[track_caller]
fn no_login_home(world: &World) {
    let folders = fs::read_dir(world.pool_home().join("homes")).into_iter().flatten().flatten();
    for home in folders.flat_map(|over| fs::read_dir(over.path()).into_iter().flatten().flatten()) {
        assert!(!home.file_name().to_string_lossy().starts_with("login-"), "{home:?} is left");
    }
}

#[test]
fn login_over_a_live_account_revokes_nothing_and_becomes_live() {
    for world in worlds(&TWO) {
        world.backend().add("carol");
        let running = begin(&world);
        // The main home is the login's meanwhile: all others work in own homes.
        for user in TWO {
            answered(world.exec_as(user).run(), user);
            assert_eq!(world.live(), None, "{}", world.version());
        }
        world.backend().approve_login("carol");
        running.wait().ok();
        assert_eq!(world.live_owner().as_deref(), Some("carol"), "{}", world.version());
        assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
        assert!(world.ids().contains_key("carol"), "{}: it is in the pool", world.version());
        for user in ["carol", "alice", "bob"] {
            answered(world.exec_as(user).run(), user);
        }
        world.assert_nothing_lost(&["alice", "bob", "carol"]);
    }
}

#[test]
fn login_to_an_account_of_the_pool_renews_it() {
    for world in worlds(&TWO) {
        let old = world.live().expect("a live login");
        let running = begin(&world);
        world.backend().approve_login("alice");
        running.wait().ok();
        assert_eq!(world.ids().len(), 2, "{}", world.version());
        assert!(world.live().expect("a live login") != old);
        as_before(&world);
    }
}

#[test]
fn two_logins_at_once_are_both_kept() {
    for world in worlds(&TWO) {
        let logins = [begin(&world), begin(&world)];
        for user in ["carol", "dave"] {
            world.backend().add(user);
            world.backend().approve_login(user);
        }
        for login in logins {
            login.wait().ok();
        }
        assert!(["carol", "dave"].map(str::to_owned).contains(&world.live_owner().expect("a live login")));
        assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
        no_login_home(&world);
        for user in ["carol", "dave", "alice"] {
            answered(world.exec_as(user).run(), user);
        }
        world.assert_nothing_lost(&["alice", "bob", "carol", "dave"]);
    }
}

#[test]
fn login_that_is_cancelled_changes_nothing() {
    for world in worlds(&TWO) {
        let cancel = |cmd: Cmd| {
            let before = world.backend().pending_logins();
            let mut terminal = Pty::spawn(cmd, 40, 120);
            wait_for_code(&world, before);
            terminal.send(CTRL_C);
            terminal.wait(SOON)
        };
        let without = cancel(without_shim(&world));
        assert_eq!(cancel(login(&world)), without, "{}: the end is Codex's own", world.version());
        as_before(&world);
    }
}

#[test]
fn login_that_is_told_to_end_passes_that_on() {
    for world in worlds(&TWO) {
        let end = |cmd: Cmd| {
            let before = world.backend().pending_logins();
            let running = cmd.spawn();
            wait_for_code(&world, before);
            running.signal(Signal::SIGTERM);
            running.wait().status
        };
        let without = end(without_shim(&world));
        assert_eq!(end(login(&world)), without, "{}: the end is Codex's own", world.version());
        as_before(&world);
    }
}

#[test]
fn login_that_fails_changes_nothing() {
    for world in worlds(&TWO) {
        let nowhere = "http://127.0.0.1:9";
        let args = ["login", "--device-auth", "--experimental_issuer", nowhere];
        assert!(!world.codex(&args).run().status.success(), "{}", world.version());
        as_before(&world);
    }
}

#[test]
fn usage_error_and_a_question_change_nothing() {
    for world in worlds(&TWO) {
        world.codex(&["login", "--bogus"]).run().expect(2);
        as_before(&world);
        world.codex(&["logout", "--bogus"]).run().expect(2);
        as_before(&world);
        world.codex(&["login", "status"]).run().ok();
        as_before(&world);
    }
}

#[test]
fn login_whose_shim_and_codex_were_killed_is_undone_by_the_next_launch() {
    for world in worlds(&TWO) {
        let running = begin(&world);
        running.signal_group(Signal::SIGKILL);
        running.wait();
        assert_eq!(world.live(), None, "{}", world.version());
        answered(world.exec_as("alice").run(), "alice");
        as_before(&world);
    }
}

/// Requires that no account is placed in the main home until Carol's login there, whose shim is gone, has ended.
fn goes_on_without_its_shim(world: &World, codex: u32) {
    assert!(alive(codex));
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(world.live(), None, "{}: the home is the login's", world.version());
    wait_for_code(world, 0);
    world.backend().approve_login("carol");
    wait_for_end(codex);
    answered(world.exec_as("carol").run(), "carol");
    assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
    world.assert_nothing_lost(&["alice", "bob", "carol"]);
}

#[test]
fn login_whose_shim_alone_was_killed_keeps_its_home_until_it_ends() {
    for world in worlds(&TWO) {
        world.backend().add("carol");
        let running = begin(&world);
        let codex = children(running.pid())[0];
        running.signal(Signal::SIGKILL);
        wait_for_end(running.pid());
        goes_on_without_its_shim(&world, codex);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn login_whose_shim_was_killed_before_codex_began_keeps_its_home() {
    use nix::sys::signal::kill;
    use nix::unistd::Pid;
    use testkit::{Codex, needs, wait_for};

    let Some(strace) = needs("strace") else { return };
    for world in worlds(&TWO) {
        world.backend().add("carol");
        // Between fork and exec the child cannot be recognised as a login.
        let slowly = ["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "inject=execve:delay_enter=2s"];
        let issuer = world.backend().url();
        let login = ["login", "--device-auth", "--experimental_issuer", &issuer];
        let strace = world.cmd(&strace).args(slowly).arg(world.shim()).args(login);
        // Without the launcher, which is a chain of programs.
        let Codex::Real(codex) = world.codex_kind() else { unreachable!("these worlds have a real Codex") };
        let strace = strace.env("CODEX_POOL_CODEX", &codex.native).spawn();
        let (shim, codex) = wait_for("the shim's child", SOON, || {
            let pairs = |shim: u32| children(shim).into_iter().map(move |codex| (shim, codex));
            children(strace.pid()).into_iter().flat_map(pairs).next()
        });
        kill(Pid::from_raw(i32::try_from(shim).expect("a pid fits")), Signal::SIGKILL)
            .expect("kill the shim");
        wait_for_end(shim);
        goes_on_without_its_shim(&world, codex);
    }
}

#[test]
fn login_during_a_session_leaves_that_session_alone() {
    for world in worlds(&TWO) {
        world.backend().add("carol");
        let mut session = Editor::open(world.codex(&["app-server"]));
        session.ask(&world, "hello from alice");
        let running = begin(&world);
        session.ask(&world, "hello from alice");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        world.backend().approve_login("carol");
        running.wait().ok();
        session.rotate();
        session.ask(&world, "hello from alice");
        answered(world.exec_as("carol").run(), "carol");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        session.close();
        assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
        no_login_home(&world);
        world.assert_nothing_lost(&["alice", "bob", "carol"]);
    }
}

#[test]
fn login_during_a_session_that_comes_to_nothing_changes_nothing() {
    for world in worlds(&TWO) {
        let mut session = Editor::open(world.codex(&["app-server"]));
        let mut all_goes_on = || {
            assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
            session.ask(&world, "hello from alice");
            answered(world.exec_as("bob").run(), "bob");
            no_login_home(&world);
            assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
        };
        let before = world.backend().pending_logins();
        let mut terminal = Pty::spawn(login(&world), 40, 120);
        wait_for_code(&world, before);
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}: meanwhile, too", world.version());
        terminal.send(CTRL_C);
        terminal.wait(SOON);
        all_goes_on();
        let refused = ["login", "--device-auth", "--experimental_issuer", "http://127.0.0.1:9"];
        assert!(!world.codex(&refused).run().status.success(), "{}", world.version());
        all_goes_on();
        world.codex(&["login", "--bogus"]).run().expect(2);
        world.codex(&["logout", "--bogus"]).run().expect(2);
        world.codex(&["login", "status"]).run().ok();
        all_goes_on();
        let running = begin(&world);
        running.signal_group(Signal::SIGKILL);
        running.wait();
        answered(world.exec_as("bob").run(), "bob");
        all_goes_on();
        session.close();
        as_before(&world);
    }
}

#[test]
fn login_during_a_session_is_adopted_though_its_shim_was_killed() {
    for world in worlds(&TWO) {
        world.backend().add("carol");
        let session = Editor::open(world.codex(&["app-server"]));
        let running = begin(&world);
        let codex = children(running.pid())[0];
        running.signal(Signal::SIGKILL);
        wait_for_end(running.pid());
        answered(world.exec_as("bob").run(), "bob");
        world.backend().approve_login("carol");
        wait_for_end(codex);
        answered(world.exec_as("bob").run(), "bob");
        answered(world.exec_as("carol").run(), "carol");
        session.close();
        no_login_home(&world);
        world.assert_nothing_lost(&["alice", "bob", "carol"]);
    }
}

#[test]
fn logout_ends_the_live_login_and_no_other() {
    for world in worlds(&TWO) {
        let old = world.live().expect("a live login");
        world.codex(&["logout"]).run().ok();
        assert_eq!(world.live(), None, "{}", world.version());
        assert_eq!(world.backend().is_good(&old), !revokes(world.version()), "{}", world.version());
        let ids = world.ids();
        assert!(!world.pool_home().join(format!("auth/{}.json", ids["alice"])).exists());
        // A revoked login is not offered.
        answered(world.exec().run(), "bob");
        world.exec_as("alice").run().expect(5);
        world.assert_nothing_lost(&["bob"]);
    }
}

#[test]
fn logout_of_a_named_account_ends_that_one_and_no_other() {
    for world in worlds(&TWO) {
        let bob = world.backend().good_refresh_tokens("bob");
        world.codex(&["logout"]).env("CODEX_POOL_ACCOUNT", "bob").run().ok();
        assert_eq!(bob.len(), 1);
        assert_eq!(
            world.backend().good_refresh_tokens("bob").is_empty(),
            revokes(world.version()),
            "{}",
            world.version()
        );
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        answered(world.exec().run(), "alice");
        world.exec_as("bob").run().expect(5);
        world.assert_nothing_lost(&["alice"]);
    }
}

#[test]
fn logout_inside_the_interface_is_noticed() {
    for world in worlds(&TWO) {
        let mut ui = world.ui(&[]);
        world.ask(&mut ui, "alice");
        ui.send("/logout");
        ui.wait_for_text("/logout", SOON);
        std::thread::sleep(Duration::from_millis(200));
        ui.send("\r");
        wait_until("no live login", SOON, || world.live().is_none());
        ui.wait(SOON);
        answered(world.exec().run(), "bob");
        assert_eq!(state_of(&world, "alice"), "reauth_required", "{}", world.version());
        world.assert_nothing_lost(&["bob"]);
        // Whether Codex has revoked the login, a refresh finds out.
        world.pool(&["refresh", "alice"]).run();
        let state = if revokes(world.version()) { "reauth_required" } else { "ready" };
        assert_eq!(state_of(&world, "alice"), state, "{}", world.version());
    }
}

#[test]
fn login_that_vanished_is_asked_for_until_a_refresh_proves_it_good() {
    for world in worlds(&TWO) {
        fs::remove_file(world.codex_home().join("auth.json")).expect("remove the live login");
        answered(world.exec().run(), "bob");
        assert_eq!(state_of(&world, "alice"), "reauth_required", "{}", world.version());
        world.pool(&["refresh", "alice"]).run().ok();
        assert_eq!(state_of(&world, "alice"), "ready", "{}", world.version());
        answered(world.exec().run(), "alice");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn logout_inside_an_own_homes_interface_ends_that_login_alone() {
    for world in worlds(&TWO) {
        let mut session = Editor::open(world.codex(&["app-server"]));
        let mut ui = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "bob"));
        world.ask(&mut ui, "bob");
        let home = world.own_home("bob");
        ui.send("/logout");
        ui.wait_for_text("/logout", SOON);
        std::thread::sleep(Duration::from_millis(200));
        ui.send("\r");
        wait_until("no login in the home", SOON, || !home.join("auth.json").exists());
        ui.wait(SOON);
        assert_eq!(state_of(&world, "bob"), "reauth_required", "{}", world.version());
        world.exec_as("bob").run().expect(5);
        session.ask(&world, "hello from alice");
        session.close();
        answered(world.exec().run(), "alice");
        world.assert_nothing_lost(&["alice"]);
    }
}

#[test]
fn login_inside_an_own_home_concerns_the_main_home() {
    // A terminal that a session in bob's own home opened has the CODEX_HOME of that home.
    for world in worlds(&TWO) {
        world.backend().add("carol");
        let session = Editor::open(world.codex(&["app-server"]));
        answered(world.exec_as("bob").run(), "bob");
        let home = world.own_home("bob");
        session.close();
        let before = world.backend().pending_logins();
        let inherited = login(&world).env("CODEX_HOME", &home).env("CODEX_SQLITE_HOME", world.codex_home());
        let running = inherited.spawn();
        wait_for_code(&world, before);
        world.backend().approve_login("carol");
        running.wait().ok();
        assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
        assert_eq!(world.live_owner().as_deref(), Some("carol"), "{}", world.version());
        world.assert_nothing_lost(&["alice", "bob", "carol"]);
        let mut ui = world.ui(&[]);
        ui.quit_codex();
    }
}
