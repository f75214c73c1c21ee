//! Homes share with their base everything but the login: what a session changes there is the user's, wherever the
//! next session sits.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use testkit::backend::Hold;
use testkit::mcp::{self, Mcp};
use testkit::{Running, wait_for};

use crate::world::{SOON, World, answered, worlds};

const TWO: [&str; 2] = ["alice", "bob"];

/// A session of alice's in the shared seat, so that bob gets his home.
struct Alice {
    hold: Hold,
    running: Running,
}

impl Alice {
    /// Without the MCP server, whose tokens are the other session's.
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
    assert!(text.contains(&mcp.newest()), "{}: {} is not in {text}", world.version, mcp.newest());
    assert_eq!(mcp.reused(), [""; 0], "{}", world.version);
}

#[test]
fn an_mcp_login_that_is_rotated_in_a_home_reaches_the_base() {
    for world in worlds(&TWO) {
        let mcp = log_in_to_mcp(&world);
        let before = mcp.newest();
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        assert_ne!(mcp.newest(), before, "{}: it was rotated", world.version);
        assert_newest_mcp_login(&world, &mcp);
        assert_eq!(inode(&mcp_logins(&world.home_of("bob"))), inode(&mcp_logins(&world.codex_home())));
        alice.end();
        // Now in the shared seat, and in the home again.
        answered(world.exec_as("bob").run(), "bob");
        assert_newest_mcp_login(&world, &mcp);
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        assert_newest_mcp_login(&world, &mcp);
        alice.end();
    }
}

#[test]
fn an_mcp_login_that_is_replaced_in_a_home_reaches_the_base_with_the_next_launch_anywhere() {
    // Codex writes it in place today; a client that renames breaks the hard link.
    for world in worlds(&TWO) {
        let mcp = log_in_to_mcp(&world);
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        let (home, base) = (mcp_logins(&world.home_of("bob")), mcp_logins(&world.codex_home()));
        let newest = fs::read_to_string(&home).expect("the MCP logins");
        fs::write(&base, newest.replace(&mcp.newest(), "an older one")).expect("write it");
        world.write_private(&home.with_extension("new"), &newest);
        fs::rename(home.with_extension("new"), &home).expect("rename it");
        alice.end();
        Alice::without_mcp(&world).end();
        assert_newest_mcp_login(&world, &mcp);
        assert_eq!(inode(&home), inode(&base), "{}: one file again", world.version);
        let lost = fs::read_dir(world.pool_home().join("lost+found")).into_iter().flatten().flatten();
        let kept =
            lost.map(|e| fs::read_to_string(e.path()).expect("text")).any(|t| t.contains("an older one"));
        assert!(kept, "{}: what lost is kept", world.version);
    }
}

#[test]
fn an_mcp_logout_in_the_base_is_not_undone_by_a_home() {
    for world in worlds(&TWO) {
        let _mcp = log_in_to_mcp(&world);
        let alice = Alice::without_mcp(&world);
        answered(world.exec_as("bob").run(), "bob");
        let (home, base) = (mcp_logins(&world.home_of("bob")), mcp_logins(&world.codex_home()));
        assert!(home.exists());
        world.codex(&["mcp", "logout", "lab"]).run().ok();
        assert!(!base.exists());
        answered(world.exec_as("bob").run(), "bob");
        assert!(!base.exists() && !home.exists(), "{}: it came back", world.version);
        alice.end();
    }
}
