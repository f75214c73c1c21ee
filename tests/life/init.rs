//! `init`: everything for the first time, and again to repair it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::files::{mode, set_mode, texts_below};
use testkit::pty::{CTRL_C, DOWN, ENTER};
use testkit::{Cmd, Codex, Output, SOON, Sandbox, World, bins, complains, needs};

use crate::logins::Logins as _;

/// Returns a machine on which codex-pool lies beside its shim, as unpacked or built, and nothing is set up.
pub(crate) fn fresh(codex: Codex) -> World {
    let sandbox = Sandbox::builder().codex(codex).without_pool().build();
    let folder = sandbox.home().join("unpacked");
    fs::create_dir(&folder).expect("a folder");
    for program in [bins::codex_pool(), bins::shim()] {
        let to = folder.join(program.file_name().expect("a name"));
        fs::copy(&program, &to).expect("copy a program");
    }
    World::from(sandbox)
}

/// Returns `codex-pool init`, from the folder where it was unpacked, with that shell.
pub(crate) fn init(world: &World, shell: &str, args: &[&str]) -> Cmd {
    world
        .cmd(world.home().join("unpacked/codex-pool"))
        .arg("init")
        .args(args)
        .env("SHELL", shell)
        .env("PATH", path(world))
}

/// PATH without anything of codex-pool.
pub(crate) fn path(world: &World) -> OsString {
    std::env::join_paths([world.root().join("bin"), "/usr/bin".into(), "/bin".into()]).expect("a PATH")
}

/// Runs a command in a new shell, which finds `codex` as its start files say.
pub(crate) fn in_new_shell(world: &World, shell: &Path, command: &str) -> Output {
    let home = world.home().to_owned();
    world
        .cmd(shell)
        .args(["-i", "-c", command])
        .env("PATH", path(world))
        .env("ZDOTDIR", &home)
        .env("TERM", "dumb")
        .run()
}

fn codex_tools(world: &World, users: &[&str]) -> PathBuf {
    let path = world.home().join(".local/share/com.carry.codex-tools/accounts.json");
    let entry = |user: &&str| {
        world.backend().add(user);
        let doc: Value = serde_json::from_str(&world.backend().auth_json(user)).expect("JSON");
        json!({"id": format!("tool-{user}"), "label": format!("{user} there"), "authJson": doc})
    };
    let accounts: Vec<Value> = users.iter().map(entry).collect();
    world.write_private(&path, &json!({ "accounts": accounts }).to_string());
    path
}

#[test]
fn fresh_home_is_set_up_without_questions_and_codex_goes_on() {
    let Some(bash) = needs("bash") else { return };
    let world = fresh(Codex::StandIn);
    world.backend().add("alice");
    let live = world.backend().auth_json("alice");
    world.write_live(&live);
    codex_tools(&world, &["bob"]);
    let output = init(&world, "/bin/bash", &["--yes"]).run().ok();
    let pool = world.pool_home();
    assert_eq!((mode(&pool), mode(&pool.join("env")), mode(&world.shim())), (0o700, 0o600, 0o755));
    assert_eq!(
        fs::canonicalize(pool.join("bin/codex-pool")).expect("a link"),
        world.home().join("unpacked/codex-pool")
    );
    let output = output.says("Codex 0.0.0-standin: ").says("Installed the shim: ");
    complains(&output, "adopted the login found in ");
    complains(&output, "two owners");
    complains(&output, "skipped: logging in to more accounts (`codex-pool add`)");
    let output = output.says("Live in ").says("`alice`").says("imported `bob there`");
    let commands = output.stdout.lines().filter(|l| l.starts_with("  codex-pool ")).count();
    assert_eq!(commands, 5, "{output}");
    assert_eq!(
        (world.labels(), world.live()),
        (vec!["alice".to_owned(), "bob there".to_owned()], Some(live))
    );
    for file in [".bashrc", ".profile"] {
        let text = fs::read_to_string(world.home().join(file)).expect("a start file");
        assert_eq!(text, "[ ! -f \"$HOME/.codex-pool/env\" ] || . \"$HOME/.codex-pool/env\"\n");
    }
    let found = in_new_shell(&world, &bash, "command -v codex; codex exec hi").ok();
    assert!(found.stdout.starts_with(&*world.shim().to_string_lossy()), "{found}");
    found.says("hello from alice");

    // Again: nothing to do, and nothing is done twice.
    let before = (texts_below(&pool.join("auth")), world.registry(), files_of_home(&world));
    let again =
        init(&world, "/bin/bash", &["--yes"]).run().ok().says("The shim is in place").says("type this here");
    assert!(!again.stdout.contains("Added to") && !again.stdout.contains("imported"), "{again}");
    assert_eq!((texts_below(&pool.join("auth")), world.registry(), files_of_home(&world)), before);
    world.backend().assert_clean();
}

fn files_of_home(world: &World) -> Vec<String> {
    [".bashrc", ".profile"]
        .map(|file| fs::read_to_string(world.home().join(file)).unwrap_or_default())
        .to_vec()
}

#[test]
fn zsh_and_fish_find_the_shim_too() {
    for (shell, file) in [("zsh", ".zshrc"), ("fish", ".config/fish/config.fish")] {
        let Some(shell) = needs(shell) else { continue };
        let world = fresh(Codex::StandIn);
        init(&world, &shell.to_string_lossy(), &["--yes"])
            .run()
            .ok()
            .says(&format!("Added to {}", world.home().join(file).display()));
        let found = in_new_shell(&world, &shell, "command -v codex").ok();
        found.says(&world.shim().to_string_lossy());
    }
}

#[test]
fn init_without_a_terminal_asks_nothing_and_says_what_it_skipped() {
    let world = fresh(Codex::StandIn);
    codex_tools(&world, &["bob", "carol"]);
    let output = init(&world, "/bin/zsh", &[]).run().ok();
    let (rc, env) = (world.home().join(".zshrc"), world.home().join(".zshenv"));
    let files = format!("{} and {}", rc.display(), env.display());
    complains(&output, &format!("skipped without a terminal: adding a line to {files}"));
    complains(
        &output,
        "skipped without a terminal: importing 2 accounts from codex-tools (`codex-pool import codex-tools`)",
    );
    complains(&output, "skipped without a terminal: logging in (`codex-pool add`)");
    let line = "[ ! -f \"$HOME/.codex-pool/env\" ] || . \"$HOME/.codex-pool/env\"";
    output.says(&format!("Put this line at the end of {files}:\n  {line}")).says("There is no login in ");
    assert!(!rc.exists() && world.shim().exists());
    assert_eq!(world.labels(), [""; 0]);
    let hands_off = init(&world, "/bin/zsh", &["--yes"]).env("NO_MODIFY_PATH", "1").run().ok();
    hands_off.says("Put this line at the end of");
    assert!(!rc.exists() && !env.exists());
    // A runner of a shared pool gets its logins from the members.
    world.share_as("runner");
    codex_tools(&world, &["dave"]);
    let runner = init(&world, "/bin/zsh", &["--yes"]).env("NO_MODIFY_PATH", "1").run().ok();
    assert!(!runner.to_string().contains("import"), "{runner}");
    assert_eq!(world.labels(), ["bob there", "carol there"]);
}

#[test]
fn init_asks_and_lets_the_user_log_in_on_the_way() {
    let world = fresh(Codex::StandIn);
    codex_tools(&world, &["carol"]);
    world.backend().add("bob");
    let mut terminal = world.pty(init(&world, "/bin/bash", &[]));
    terminal.wait_for_text("terminals?", SOON);
    terminal.send("n\r");
    terminal.wait_for_text("Put this line at the end of", SOON);
    terminal.wait_for_text("codex-tools has one account that the pool does not have. Import?", SOON);
    terminal.send("n\r");
    terminal.wait_for_text("The pool has no account yet. Log in to one?", SOON);
    terminal.wait_for_text("> yes, with the browser here", SOON);
    terminal.send(DOWN);
    terminal.wait_for_text("> yes, with a code", SOON);
    terminal.send(ENTER);
    terminal.wait_for_text("one-time code", SOON);
    world.wait_for_login();
    // Cancelled: the question comes again.
    terminal.send(CTRL_C);
    terminal.wait_for_text("the login was cancelled; nothing was changed", SOON);
    terminal.wait_for("the question again", SOON, |s| {
        s.matches("Log in to one?").count() == 2 && s.contains("> yes, with the browser here")
    });
    terminal.send(DOWN);
    terminal.wait_for("the answer", SOON, |s| s.matches("> yes, with a code").count() >= 1);
    world.backend().approve_login("bob");
    terminal.send(ENTER);
    terminal.wait_for_text("added bob", SOON);
    terminal.wait_for_text("The pool has one account. Log in to another?", SOON);
    terminal.send(ENTER);
    terminal.wait_for_text("codex-pool doctor", SOON);
    assert!(terminal.wait(SOON).success());
    let shown = terminal.wait_for("the table", SOON, |s| s.contains("→ next"));
    let table = shown.split("check everything").nth(1).expect("it comes last");
    assert!(table.contains("bob") && table.contains("ready"), "{shown}");
    assert_eq!(world.labels(), ["bob"]);
    assert!(!world.home().join(".bashrc").exists());
    world.assert_no_login_home();
}

#[test]
fn ctrl_c_stops_init_between_two_whole_steps() {
    let world = fresh(Codex::StandIn);
    let mut terminal = world.pty(init(&world, "/bin/bash", &[]));
    terminal.wait_for_text("terminals?", SOON);
    terminal.send(CTRL_C);
    terminal.wait_for_text("`codex-pool init` continues", SOON);
    assert_eq!(terminal.wait(SOON).code(), Some(1));
    assert!(world.shim().exists() && !world.home().join(".bashrc").exists());
}

#[test]
fn pool_of_version_1_is_taken_over_and_nothing_is_lost() {
    let world = fresh(Codex::StandIn);
    world.backend().add("bob");
    let doc: Value = serde_json::from_str(&world.backend().auth_json("bob")).expect("JSON");
    let v1 = json!({"version": 1, "accounts": [
        {"id": "old-1", "label": "work", "authJson": doc}, {"id": "old-2", "label": "dead", "authJson": {}}]});
    fs::create_dir(world.pool_home()).expect("a folder");
    set_mode(&world.pool_home(), 0o755);
    fs::write(world.pool_home().join("accounts.json"), v1.to_string()).expect("write it");
    let output = init(&world, "/bin/bash", &["--yes"]).run().ok();
    complains(&output, "1 account was taken over from version 1; the old file is ");
    complains(&output, "dead was not taken over, since it holds neither tokens nor an API key");
    assert_eq!(mode(&world.pool_home()), 0o700);
    assert_eq!(
        (world.labels(), mode(&world.pool_home().join("accounts.v1.json"))),
        (vec!["work".to_owned()], 0o600)
    );
    world.pool(&["run", "old-1", "--", "exec", "hi"]).run().ok().says("hello from bob");
}

#[test]
fn init_without_codex_sets_everything_else_up() {
    let world = fresh(Codex::Missing);
    let output = init(&world, "/bin/bash", &["--yes"]).run().ok();
    complains(&output, "warning: Codex is not installed");
    assert!(!output.stdout.contains("Worth knowing"), "it stops there: {output}");
    output.says("Install Codex with `npm install -g @openai/codex`, then `codex-pool init` goes on.\n");
    assert!(world.shim().exists());
}

#[test]
fn init_repairs_missing_and_old_parts_and_leaves_foreign_ones() {
    let Some(bash) = needs("bash") else { return };
    let world = fresh(Codex::StandIn);
    init(&world, "/bin/bash", &["--yes"]).run().ok();
    let (shim, link) = (world.shim(), world.pool_home().join("bin/codex-pool"));
    let good = fs::read(&shim).expect("the shim");
    // A shim that does not run any more, a link to nowhere, an env file that is empty.
    fs::remove_file(&shim).and_then(|()| fs::write(&shim, &good[..8192])).expect("break it");
    set_mode(&shim, 0o755);
    fs::remove_file(&link).and_then(|()| symlink("/nowhere", &link)).expect("break it");
    fs::write(world.pool_home().join("env"), "").expect("break it");
    init(&world, "/bin/bash", &["--yes"]).run().ok().says("Updated the shim");
    assert!(fs::read(&shim).expect("the shim") == good);
    assert!(
        link.canonicalize().is_ok()
            && in_new_shell(&world, &bash, "command -v codex").ok().stdout.contains(".codex-pool")
    );
    // Another program of that name.
    fs::write(&shim, "#!/bin/sh\necho mine\n").expect("replace it");
    let output = init(&world, "/bin/bash", &["--yes"]).run().expect(1);
    complains(&output, "is not codex-pool's shim, so it stays");
    complains(&output, "the shim is not in place");
    assert_eq!(fs::read_to_string(&shim).expect("a script"), "#!/bin/sh\necho mine\n");
    // No shim anywhere: the installer has to bring one.
    fs::remove_file(&shim).expect("remove it");
    fs::remove_file(world.home().join("unpacked/codex")).expect("remove it");
    complains(&init(&world, "/bin/bash", &["--yes"]).run().expect(1), "install.sh");
}

#[test]
fn login_in_the_key_ring_and_an_unmanaged_one_are_explained() {
    let world = fresh(Codex::StandIn);
    world.edit_config(|config| drop(config.insert("cli_auth_credentials_store".into(), "keyring".into())));
    complains(&init(&world, "/bin/bash", &["--yes"]).run().ok(), "cli_auth_credentials_store = \"keyring\"");
    world.write_live(r#"{"auth_mode":"agentIdentity"}"#);
    complains(
        &init(&world, "/bin/bash", &["--yes"]).run().ok(),
        "holds an agent identity, which codex-pool leaves alone",
    );
}

#[test]
fn pool_whose_name_cannot_be_on_path_is_reported() {
    let world = fresh(Codex::StandIn);
    let pool = world.home().join("a:b");
    let output = init(&world, "/bin/bash", &["--yes"]).env("CODEX_POOL_HOME", &pool).run().ok();
    complains(&output, "cannot be on PATH");
    assert!(pool.join("bin/codex").exists() && !Path::new(&world.home().join(".bashrc")).exists());
}

#[test]
fn init_makes_no_pool_of_the_home_folder_or_what_is_above() {
    let world = fresh(Codex::StandIn);
    let folder = world.home().join("project/deep");
    fs::create_dir_all(&folder).expect("a folder");
    set_mode(world.home(), 0o755);
    let before = texts_below(world.home());
    let above = world.home().parent().expect("a parent").to_owned();
    let pools = [
        world.home().to_owned(),
        above,
        folder.clone(),
        folder.join("../.."),
        "/".into(),
        world.codex_home(),
    ];
    for pool in pools {
        let init = init(&world, "/bin/sh", &["--yes"]).env("CODEX_POOL_HOME", &pool).current_dir(&folder);
        let output = init.run().expect(1);
        complains(&output, "a folder above one of them");
        complains(&output, "CODEX_POOL_HOME");
        assert_eq!(texts_below(world.home()), before, "{}", pool.display());
        assert_eq!(mode(world.home()), 0o755, "{}", pool.display());
    }
}
