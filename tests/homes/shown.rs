//! `list`, `why` and `use` name each home that is in use, its account and its users.

use serde_json::{Value, json};
use testkit::{Output, Pty, SOON, World, children, wait_until};

use crate::rpc::Editor;
use crate::world::{Homes as _, TWO, worlds};

/// Returns `"homes"` of `list --json`.
fn homes(world: &World) -> Vec<Value> {
    world.pool(&["list", "--json"]).run().ok().json()["homes"].as_array().expect("homes").clone()
}

/// Returns a home's users by kind: pid, and whether it has a terminal.
fn users(codex_home: &Value, kind: &str) -> Vec<(Option<u64>, bool)> {
    let users = codex_home["users"].as_array().expect("users").iter().filter(|user| user["kind"] == kind);
    users.map(|user| (user["pid"].as_u64(), user["terminal"].is_string())).collect()
}

fn pid_of(pid: u32) -> Option<u64> {
    Some(u64::from(pid))
}

/// Returns what a verb says, in a terminal of that width.
fn in_terminal(world: &World, args: &[&str], columns: u16) -> String {
    let mut terminal = Pty::spawn(world.pool(args), 40, columns);
    assert!(terminal.wait(SOON).success(), "{}", terminal.screen());
    terminal.wait_for("all of it", SOON, |screen| screen.contains("a home of its own"))
}

/// Returns the text without the breaks of its lines.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn users_of_each_home_are_shown_with_pid_and_terminal() {
    for world in worlds(&TWO) {
        assert_eq!(homes(&world), [json!(null); 0], "{}: none yet", world.version());
        let editor = Editor::open(world.real_codex(&["app-server"]));
        let native = children(editor.pid())[0];
        let mut alice = world.ui(&[]);
        world.ask(&mut alice, "alice");
        let mut bob = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "bob"));
        world.ask(&mut bob, "bob");
        let (ids, main, home) = (world.ids(), world.codex_home(), world.own_home("bob"));
        let shown = homes(&world);
        let [shared, own] = shown.as_slice() else { panic!("{}: {shown:?}", world.version()) };
        for (codex_home, dir, user, ui) in [(shared, &main, "alice", &alice), (own, &home, "bob", &bob)] {
            assert_eq!(codex_home["path"].as_str(), dir.to_str(), "{}", world.version());
            assert_eq!(
                (&codex_home["home"], &codex_home["account"]),
                (&json!(user == "bob"), &json!(ids[user]))
            );
            assert_eq!(
                users(codex_home, "session"),
                [(pid_of(ui.pid()), true)],
                "{}: {codex_home}",
                world.version()
            );
            let servers: Vec<_> = world.server(dir).into_iter().map(|pid| (pid_of(pid), false)).collect();
            assert_eq!(users(codex_home, "server"), servers, "{}: {codex_home}", world.version());
        }
        assert_eq!(users(shared, "other"), [(pid_of(native), false)], "{}: {shared}", world.version());
        assert_eq!(users(own, "other"), [], "{}: {own}", world.version());
        for (verb, columns) in [("list", 80), ("why", 100)] {
            let screen = in_terminal(&world, &[verb], columns);
            let longest = screen.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(usize::from(columns)), "{screen}");
            let (text, terminal) = (unwrapped(&screen), &shared["users"][0]["terminal"]);
            let at = format!(
                "alice in ~/.codex: codex (pid {}, {}),",
                alice.pid(),
                terminal.as_str().expect("one")
            );
            let editor = format!("codex not started through codex-pool (pid {native})");
            let own = format!("bob in a home of its own: codex (pid {}, pts/", bob.pid());
            for line in [at, editor, own] {
                assert!(text.contains(&line), "{}: no {line:?} in\n{screen}", world.version());
            }
        }
        bob.quit_codex();
        alice.quit_codex();
        editor.close();
    }
}

#[test]
fn use_names_the_sessions_it_would_disturb_and_those_elsewhere() {
    for world in worlds(&TWO) {
        let mut alice = world.ui(&[]);
        world.ask(&mut alice, "alice");
        let mut bob = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "bob"));
        world.ask(&mut bob, "bob");
        let says = |output: &Output, who: &str, pid: u32| {
            assert!(output.stderr.contains(&format!("{who} (pid {pid}")), "{}: {output}", world.version());
        };
        let later = world.pool(&["use", "bob"]).run().ok();
        let done = world.pool(&["use", "bob", "--now"]).run().ok();
        for (output, who) in [(&later, "keeps `alice` while codex"), (&done, "`alice` is in use by codex")] {
            says(output, who, alice.pid());
            if let Some(pid) = world.server(&world.codex_home()) {
                says(output, "Codex's background server", pid);
            }
        }
        says(&done, "note: bob in a home of its own: codex", bob.pid());
        // The session in the main home is still alice's.
        let shown = homes(&world);
        assert_eq!(shown[0]["account"], json!(world.ids()["bob"]), "{}", world.version());
        assert_eq!(shown[0]["users"][0]["account"], json!(world.ids()["alice"]), "{}", world.version());
        let list = world.pool(&["list"]).run().ok();
        let session = format!("bob in ~/.codex: codex (pid {}, ", alice.pid());
        let line = list.stdout.lines().find(|line| line.starts_with(&session)).unwrap_or_default();
        assert!(line.contains(") as alice"), "{}: {list}", world.version());
    }
}

#[test]
fn login_under_way_is_shown() {
    for world in worlds(&TWO) {
        let args = ["login", "--device-auth", "--experimental_issuer", &world.backend().url()];
        let login = world.codex(&args).spawn();
        wait_until("a login that waits", SOON, || world.backend().pending_logins() > 0);
        let shown = homes(&world);
        assert!(
            shown.iter().any(|codex_home| users(codex_home, "login") == [(pid_of(login.pid()), false)]),
            "{shown:?}"
        );
        drop(login);
    }
}
