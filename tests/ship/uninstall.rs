//! install.sh --uninstall: the programs go, the accounts only if somebody says so.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use testkit::{Cmd, Pty};

use crate::install::{fresh, server};
use crate::place::{Place, mode, repository, write_program};

/// A machine with codex-pool and an account.
fn installed() -> Place {
    let server = server();
    let mut place = fresh(&server);
    place.env("SHELL", "/bin/bash").install(&[]).ok();
    let pool = place.pool();
    for (file, text) in [("accounts.json", "{}"), ("auth/a.json", "secret"), ("config.toml", "")] {
        let file = pool.join(file);
        fs::create_dir_all(file.parent().expect("folder")).expect("folder");
        fs::write(file, text).expect("write");
    }
    place
}

#[test]
fn programs_go_and_the_accounts_stay() {
    let place = installed();
    let said = place.install(&["--uninstall"]).ok();
    assert!(said.out.contains("The accounts stay in"), "{said:?}");
    assert!(!place.tool().exists() && !place.shim().exists());
    let mut left: Vec<_> =
        fs::read_dir(place.pool()).expect("pool").map(|e| e.expect("entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["accounts.json", "auth", "config.toml"]);
    for file in [".bashrc", ".profile"] {
        assert_eq!(fs::read_to_string(place.home.join(file)).expect("start file"), "", "{file}");
    }
    // Twice does no harm.
    let again = place.install(&["--uninstall"]).ok().out;
    assert!(again.contains("Removed nothing") && again.contains("accounts stay in"), "{again}");
    assert_eq!(again.lines().count(), 1, "one thing: {again}");
}

#[test]
fn dry_run_names_what_a_removal_takes_and_touches_nothing() {
    let place = installed();
    let before = place.files();
    let said = place.install(&["--uninstall", "--dry-run"]).ok().out;
    for gone in [place.tool(), place.shim(), place.home.join(".bashrc"), place.home.join(".profile")] {
        let line =
            said.lines().find(|l| l.starts_with("Would remove ") && l.ends_with(&*gone.to_string_lossy()));
        assert!(line.is_some(), "{}: {said}", gone.display());
    }
    assert!(said.contains("The accounts would stay in"), "{said}");
    let purge = place.install(&["--uninstall", "--purge", "--dry-run"]).ok().out;
    assert!(purge.contains("Would remove the accounts"), "{purge}");
    assert_eq!(place.files(), before);
}

#[test]
fn codex_pool_removes_itself_without_a_checkout() {
    let mut place = installed();
    place.link_tool("pool-of-the-tests", &testkit::bins::codex_pool());
    let said = place.sh("pool-of-the-tests uninstall --dry-run").ok().out;
    assert!(said.contains(&format!("Would remove {}", place.tool().display())), "{said}");
    assert!(place.tool().exists());
    let said = place.sh("pool-of-the-tests uninstall --purge").ok().out;
    assert!(said.contains(&format!("Removed {}", place.pool().display())), "{said}");
    assert!(!place.tool().exists() && !place.pool().exists());
    assert!(!place.home.join(".local/share/man").exists(), "the manual page is left");
    let again = place.sh("pool-of-the-tests uninstall --dry-run").ok().out;
    assert_eq!(again.lines().count(), 1, "one thing: {again}");
}

#[test]
fn start_files_keep_everything_else() {
    let server = server();
    let mut place = fresh(&server);
    place.env("SHELL", "/bin/bash");
    let (dotfiles, bashrc) = (place.home.join("dotfiles"), place.home.join(".bashrc"));
    let mine = "# mine\n\nexport A='1  2'\n. \"$HOME/.cargo/env\"\n";
    fs::write(&dotfiles, mine).expect("write");
    symlink("dotfiles", &bashrc).expect("link");
    place.install(&[]).ok();
    fs::write(&dotfiles, fs::read_to_string(&dotfiles).expect("read") + "alias x=y\n").expect("write");
    place.install(&["--uninstall"]).ok();
    assert!(bashrc.is_symlink());
    assert_eq!(fs::read_to_string(&dotfiles).expect("read"), format!("{mine}alias x=y\n"));
}

#[test]
fn lines_of_every_shell_are_found_again() {
    for shell in ["/bin/zsh", "/usr/bin/fish", "/bin/ksh"] {
        let server = server();
        let mut place = fresh(&server);
        place.env("SHELL", shell).install(&[]).ok();
        fs::write(place.pool().join("pool.lock"), "").expect("write");
        assert!(place.files().values().any(|text| text.windows(10).any(|w| w == b".codex-poo".as_slice())));
        place.install(&["--uninstall"]).ok();
        let left: Vec<_> = place.files().into_iter().filter(|(_, text)| !text.is_empty()).collect();
        assert!(left.is_empty(), "{shell}: {left:?}");
        assert!(!place.pool().exists(), "an empty pool is no data");
    }
}

#[test]
fn programs_put_elsewhere_are_removed_there() {
    let server = server();
    let mut place = fresh(&server);
    let dir = place.beside("it's \"here\" \\ there");
    place.env("INSTALL_DIR", &dir).install(&[]).ok();
    assert!(dir.join("codex-pool").exists());
    place.env("INSTALL_DIR", "").install(&["--uninstall"]).ok();
    assert!(!dir.join("codex-pool").exists());
}

#[test]
fn foreign_codex_stays() {
    let place = installed();
    write_program(&place.shim(), b"#!/bin/sh\necho mine\n");
    place.install(&["--uninstall", "--purge"]).ok();
    assert!(!place.tool().exists());
    assert_eq!(fs::read(place.shim()).expect("read"), b"#!/bin/sh\necho mine\n");
}

/// A home of an account: private files, and links to what the Codex home shares.
fn add_home(place: &Place) {
    let codex = place.home.join(".codex");
    let home = place.pool().join("homes/abc/account");
    for dir in [codex.join("sessions"), codex.join("archived_sessions"), codex.join("log"), home.join("tmp")]
    {
        fs::create_dir_all(dir).expect("folder");
    }
    fs::write(codex.join("sessions/rollout.jsonl"), "history").expect("write");
    fs::write(codex.join("log/codex.log"), "log").expect("write");
    fs::write(home.join("auth.json"), "live secret").expect("write");
    for shared in ["sessions", "archived_sessions", "log"] {
        symlink(codex.join(shared), home.join(shared)).expect("link");
    }
    symlink(home.join("auth.json"), codex.join("auth.json")).expect("link");
}

#[track_caller]
fn assert_purged(place: &Place) {
    let files = place.files();
    let pool = place.pool();
    let home = pool.join("homes/abc/account");
    let mut left: Vec<&Path> = files.keys().map(|f| f.as_path()).filter(|f| f.starts_with(&pool)).collect();
    left.sort();
    // The link to what has no session is gone.
    assert_eq!(left, [&pool, &pool.join("homes"), &pool.join("homes/abc"), &home, &home.join("sessions")]);
    // Nothing behind a link was touched, and the login that was live still is.
    let codex = place.home.join(".codex");
    assert_eq!(fs::read(home.join("sessions/rollout.jsonl")).expect("read"), b"history");
    assert_eq!(fs::read(codex.join("log/codex.log")).expect("read"), b"log");
    assert!(!codex.join("auth.json").is_symlink());
    assert_eq!(fs::read(codex.join("auth.json")).expect("read"), b"live secret");
    assert_eq!(mode(&codex.join("auth.json")), 0o600);
}

#[test]
fn data_goes_when_it_is_said_but_not_the_sessions_or_the_live_login() {
    let place = installed();
    add_home(&place);
    place.install(&["--uninstall", "--purge"]).ok();
    assert_purged(&place);
    let again = place.install(&["--uninstall", "--purge"]).ok().out;
    assert!(again.contains("Removed nothing") && again.contains("old sessions stays in"), "{again}");
    assert_eq!(again.lines().count(), 1, "one thing: {again}");

    // Without a session there is nothing to keep for one.
    let place = installed();
    add_home(&place);
    fs::remove_file(place.home.join(".codex/sessions/rollout.jsonl")).expect("remove");
    let said = place.install(&["--uninstall", "--purge"]).ok().out;
    assert!(!place.pool().exists() && said.contains("Codex is as it was before"), "{said}");
}

#[test]
fn data_goes_when_a_person_says_yes_and_only_then() {
    for (answer, gone) in [("y\r", true), ("YES\r", true), ("\r", false), ("n\r", false), ("\u{4}", false)] {
        let place = installed();
        add_home(&place);
        let terminal = answer_on_a_terminal(&place, answer);
        assert!(terminal.contains("log in to each of them again"), "{terminal}");
        if gone {
            assert_purged(&place);
        } else {
            assert_eq!(fs::read(place.pool().join("auth/a.json")).expect("read"), b"secret", "{answer:?}");
        }
    }
    // `--yes` does not ask, and keeps.
    let place = installed();
    place.install(&["--uninstall", "--yes"]).ok();
    assert!(place.pool().join("auth/a.json").exists());
}

/// Uninstalls through a pipe, with a terminal to ask on; returns what the terminal saw.
fn answer_on_a_terminal(place: &Place, answer: &str) -> String {
    let limit = Duration::from_secs(30);
    let line = format!("sh -s -- --uninstall <'{}'", repository().join("install.sh").display());
    let mut cmd = Cmd::new("/bin/sh").arg("-c").arg(line).current_dir(&place.home);
    cmd.inner().envs(place.variables());
    let mut terminal = Pty::spawn(cmd, 24, 120);
    terminal.wait_for_text("Remove it, too?", limit);
    terminal.send(answer);
    assert!(terminal.wait(limit).success());
    terminal.raw()
}
