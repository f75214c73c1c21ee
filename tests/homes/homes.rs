//! Own homes share everything but the login with the main home: what a session changes there is there for the next
//! session in any home.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::backend::{Hold, Step};
use testkit::mcp::{self, Mcp};
use testkit::{Cmd, Output, Running, SOON, World, answered, archives, has_server, wait_for};

use crate::rpc::Editor;
use crate::world::{Homes as _, TWO, worlds, worlds_of};

/// A session of alice's in the main home, so that bob gets his own home.
struct Alice {
    hold: Hold,
    running: Running,
}

impl Alice {
    fn start(world: &World) -> Alice {
        Alice::start_with(world, &[])
    }

    /// The same without the MCP server, whose tokens the other session uses.
    fn without_mcp(world: &World) -> Alice {
        Alice::start_with(world, &["-c", "mcp_servers.lab.enabled=false"])
    }

    fn start_with(world: &World, args: &[&str]) -> Alice {
        let hold = world.backend().hold("alice");
        let running = world.exec_as("alice").args(args).spawn();
        hold.wait_for(1, SOON);
        Alice { hold, running }
    }

    #[track_caller]
    fn end(self) {
        drop(self.hold);
        answered(self.running.wait(), "alice");
    }
}

/// Puts an MCP server into the configuration and logs in to it, as the user does in a shell.
fn log_in_to_mcp(world: &World) -> Mcp {
    let mcp = Mcp::start();
    world.edit_config(|config| {
        let server = toml::Table::from_iter([("url".to_owned(), mcp.url().into())]);
        config.insert("mcp_oauth_credentials_store".into(), "file".into());
        config
            .insert("mcp_servers".into(), toml::Table::from_iter([("lab".to_owned(), server.into())]).into());
    });
    let login = world.codex(&["mcp", "login", "lab"]).env("BROWSER", "/bin/true").spawn();
    let url = wait_for("the page to agree on", SOON, || {
        let said = login.stdout() + &login.stderr();
        said.split_whitespace().find(|word| word.contains("redirect_uri=")).map(str::to_owned)
    });
    mcp::agree(&url);
    login.wait().ok();
    mcp
}

fn mcp_logins(dir: &Path) -> PathBuf {
    dir.join(".credentials.json")
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).ino()
}

#[track_caller]
fn assert_newest_mcp_login(world: &World, mcp: &Mcp) {
    let text = fs::read_to_string(mcp_logins(&world.codex_home())).expect("the MCP logins");
    assert!(text.contains(&mcp.newest()), "{}: {} is not in {text}", world.version(), mcp.newest());
    assert_eq!(mcp.reused(), [""; 0], "{}", world.version());
}

#[test]
fn mcp_login_rotated_in_an_own_home_reaches_the_main_home() {
    for world in worlds(&TWO) {
        let mcp = log_in_to_mcp(&world);
        let before = mcp.newest();
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        assert_ne!(mcp.newest(), before, "{}: it was rotated", world.version());
        assert_newest_mcp_login(&world, &mcp);
        assert_eq!(inode(&mcp_logins(&world.own_home("bob"))), inode(&mcp_logins(&world.codex_home())));
        alice.end();
        // Now in the main home, and in the own home again.
        answered(world.exec_as("bob").run(), "bob");
        assert_newest_mcp_login(&world, &mcp);
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        assert_newest_mcp_login(&world, &mcp);
        alice.end();
    }
}

#[test]
fn mcp_login_replaced_in_an_own_home_reaches_the_main_home_later() {
    // Codex writes it in place today; a client that renames breaks the hard link.
    for world in worlds(&TWO) {
        let mcp = log_in_to_mcp(&world);
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        let (home, main) = (mcp_logins(&world.own_home("bob")), mcp_logins(&world.codex_home()));
        let newest = fs::read_to_string(&home).expect("the MCP logins");
        fs::write(&main, newest.replace(&mcp.newest(), "an older one")).expect("write it");
        world.write_private(&home.with_extension("new"), &newest);
        fs::rename(home.with_extension("new"), &home).expect("rename it");
        alice.end();
        Alice::without_mcp(&world).end();
        assert_newest_mcp_login(&world, &mcp);
        assert_eq!(inode(&home), inode(&main), "{}: one file again", world.version());
        let lost = fs::read_dir(world.pool_home().join("lost+found")).into_iter().flatten().flatten();
        let kept =
            lost.map(|e| fs::read_to_string(e.path()).expect("text")).any(|t| t.contains("an older one"));
        assert!(kept, "{}: what lost is kept", world.version());
    }
}

#[test]
fn mcp_logout_in_the_main_home_is_not_undone_by_an_own_home() {
    for world in worlds(&TWO) {
        let _mcp = log_in_to_mcp(&world);
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        let (home, main) = (mcp_logins(&world.own_home("bob")), mcp_logins(&world.codex_home()));
        assert!(home.exists());
        world.codex(&["mcp", "logout", "lab"]).run().ok();
        assert!(!main.exists());
        answered(world.exec_as("bob").run(), "bob");
        assert!(!main.exists() && !home.exists(), "{}: it came back", world.version());
        alice.end();
    }
}

/// Returns the id that `codex exec` printed.
#[track_caller]
fn session_id(output: &Output) -> String {
    let line = output.stderr.lines().find(|line| line.to_lowercase().contains("session id"));
    let id = line.and_then(|line| line.split_whitespace().last());
    id.unwrap_or_else(|| panic!("no session id: {output}")).to_owned()
}

fn resume(world: &World, id: &str) -> Output {
    world.codex(&["exec", "--skip-git-repo-check", "resume", id, "go on"]).run()
}

/// Returns a command of Codex as a tool of a session in that home starts it.
fn in_home(world: &World, home: &Path, args: &[&str]) -> Cmd {
    world.codex(args).env("CODEX_HOME", home).env("CODEX_SQLITE_HOME", world.codex_home())
}

/// Returns whether a folder below a CODEX_HOME has that session's log.
fn has_log(dir: &Path, id: &str) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.into_iter().any(|path| path.is_dir() && has_log(&path, id) || path.to_string_lossy().contains(id))
}

/// Returns a world of each version that archives sessions.
fn worlds_that_archive() -> impl Iterator<Item = World> {
    worlds_of(archives, &TWO)
}

#[test]
fn sessions_are_archived_and_restored_across_main_and_own_home() {
    for world in worlds_that_archive() {
        let of_main = session_id(&answered(world.exec_as("alice").run(), "alice"));
        let alice = Alice::start(&world);
        let of_home = session_id(&answered(world.exec_as("bob").run(), "bob"));
        alice.end();
        let home = world.own_home("bob");
        let is_archived = |id: &str| {
            let (there, here) =
                (world.codex_home().join("archived_sessions"), world.codex_home().join("sessions"));
            assert_ne!(has_log(&there, id), has_log(&here, id), "{}: one or the other", world.version());
            has_log(&there, id)
        };
        world.codex(&["archive", &of_home]).run().ok();
        in_home(&world, &home, &["archive", &of_main]).run().ok();
        assert!(is_archived(&of_home) && is_archived(&of_main), "{}", world.version());
        in_home(&world, &home, &["unarchive", &of_home]).run().ok();
        world.codex(&["unarchive", &of_main]).run().ok();
        assert!(!is_archived(&of_home) && !is_archived(&of_main), "{}", world.version());
        for (id, user) in [(&of_home, "bob"), (&of_main, "alice")] {
            let go_on = ["exec", "--skip-git-repo-check", "resume", id, "go on"];
            answered(world.codex(&go_on).env("CODEX_POOL_ACCOUNT", user).run(), user);
        }
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn sessions_of_a_removed_account_can_be_resumed() {
    for world in worlds_that_archive() {
        let alice = Alice::start(&world);
        let archived = session_id(&answered(world.exec_as("bob").run(), "bob"));
        let id = session_id(&answered(world.exec_as("bob").run(), "bob"));
        alice.end();
        let home = world.own_home("bob");
        world.codex(&["archive", &archived]).run().ok();
        world.pool(&["rm", "bob", "--yes"]).run().ok();
        let output = answered(resume(&world, &id), "alice");
        let said = output.stderr.contains("an account that is not in the pool");
        assert!(
            said || !has_server(world.version()),
            "{}: older logs do not say whose: {output}",
            world.version()
        );
        let mut ui = world.ui(&["resume", &id]);
        world.ask(&mut ui, "alice");
        ui.quit_codex();
        world.codex(&["unarchive", &archived]).run().ok();
        answered(resume(&world, &archived), "alice");
        for kept in ["sessions", "archived_sessions"] {
            assert!(home.join(kept).is_dir(), "{}: {kept} is where the database says", world.version());
        }
        assert!(!home.join("auth.json").exists(), "{}: no login is left", world.version());
    }
}

#[test]
fn files_made_in_an_own_home_move_to_the_main_home_once_it_is_free() {
    const MADE: &str = "cd \"$CODEX_HOME\" && mkdir made && echo mine > made/file && echo mine > both && \
                        touch x.sqlite x.sqlite-wal x.pid x.lock";
    for world in worlds(&TWO) {
        let alice = Alice::start(&world);
        world.backend().script("bob", [Step::Shell(MADE.to_owned())]);
        let bob = ["exec", "--skip-git-repo-check", "-s", "danger-full-access", "hi"];
        answered(world.codex(&bob).env("CODEX_POOL_ACCOUNT", "bob").run(), "bob");
        let (home, main) = (world.own_home("bob"), world.codex_home());
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        assert_eq!(read(home.join("made/file")), "mine\n", "{}", world.version());
        fs::write(main.join("both"), "theirs\n").expect("write it");
        alice.end();
        // He takes the main home, and his own home is free.
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(read(main.join("made/file")), "mine\n", "{}", world.version());
        assert!(home.join("made").is_symlink(), "{}", world.version());
        assert_eq!((read(main.join("both")), read(home.join("both"))), ("theirs\n".into(), "mine\n".into()));
        for stays in ["x.sqlite", "x.sqlite-wal", "x.pid", "x.lock"] {
            assert!(home.join(stays).exists() && !main.join(stays).exists(), "{}: {stays}", world.version());
        }
    }
}

#[test]
fn trusted_hooks_run_in_an_own_home() {
    for world in worlds_that_archive() {
        let ran = |name: &str| world.root().join(name);
        let hook = |name: &str| json!([{"hooks": [{"type": "command", "command": format!("touch {}", ran(name).display())}]}]);
        let file = json!({"hooks": {"UserPromptSubmit": hook("of-file"), "Stop": hook("untrusted")}});
        fs::write(world.codex_home().join("hooks.json"), file.to_string()).expect("write the hooks");
        // The user looks at them and trusts one.
        let mut editor = Editor::open(world.real_codex(&["app-server"]));
        let found = editor.call("hooks/list", &json!({"cwds": [world.work()]}));
        editor.close();
        let hooks = found["data"][0]["hooks"].as_array().expect("hooks").clone();
        let hook = hooks.iter().find(|hook| hook["eventName"] == "userPromptSubmit").expect("the hook");
        let text = |name: &str| hook[name].as_str().expect("text").to_owned();
        world.edit_config(|config| {
            let trust = toml::Table::from_iter([("trusted_hash".to_owned(), text("currentHash").into())]);
            let state = toml::Table::from_iter([(text("key"), trust.into())]);
            config
                .insert("hooks".into(), toml::Table::from_iter([("state".to_owned(), state.into())]).into());
        });
        let alice = Alice::start(&world);
        fs::remove_file(ran("of-file")).expect("it ran in the main home, too");
        answered(world.exec_as("bob").run(), "bob");
        assert!(world.own_home("bob").join("auth.json").exists(), "{}: he was in his home", world.version());
        assert!(ran("of-file").exists(), "{}: the trusted one was skipped", world.version());
        assert!(!ran("untrusted").exists(), "{}: the other one ran", world.version());
        alice.end();
    }
}

/// What the shim adds on macOS, where Codex's sandbox is reported to refuse links. Here it can only be seen that every
/// version takes it, and goes on to work in a home of links.
#[test]
fn option_that_allows_links_is_taken_by_every_version() {
    for world in worlds(&TWO) {
        let alice = Alice::start(&world);
        let option = ["-c", "allow_symlinked_codex_home=true", "exec", "--skip-git-repo-check", "hi"];
        answered(world.codex(&option).env("CODEX_POOL_ACCOUNT", "bob").run(), "bob");
        assert!(world.own_home("bob").join("auth.json").exists(), "{}", world.version());
        alice.end();
    }
}
