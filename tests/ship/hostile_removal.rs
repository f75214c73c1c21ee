//! Attacks on what a removal may touch: start files keep every byte but our line, and only the pool's own files go.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use testkit::takes;

use crate::install::{fresh, server};
use crate::place::{Place, finish_soon, mode, repository, spawn};

const LINE: &str = "[ ! -f \"$HOME/.codex-pool/env\" ] || . \"$HOME/.codex-pool/env\"\n";

/// Start files that are no plain text.
fn odd_texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [
        &b"mine\n"[..],
        b"a\0b\nexport A=1\n\0\n",
        b"caf\xe9 \xff\xfe\n\xc3\n",
        b"\n\n\n",
        b"crlf\r\nmore\r\n",
        b"-n\n\\c %s\n",
        b"\0",
        b"\x1b]0;title\x07\n",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    texts.push((0..=255).cycle().take(70_000).chain([b'\n']).collect());
    texts.push([vec![b'x'; 300_000], b"\n".to_vec()].concat());
    texts
}

fn shells() -> Vec<std::path::PathBuf> {
    ["sh", "bash", "zsh", "ksh", "mksh", "yash"].into_iter().filter_map(takes).collect()
}

fn leftovers(place: &Place) -> Vec<std::path::PathBuf> {
    place.files().into_keys().filter(|f| f.to_string_lossy().contains("codex-pool-uninstall")).collect()
}

#[test]
fn start_files_keep_every_byte_but_our_line() {
    let server = server();
    let place = fresh(&server);
    let profile = place.home.join(".profile");
    for text in odd_texts() {
        for after in [&b""[..], b"later\0 \xff\n", b"no line break at the end"] {
            fs::write(&profile, &text).expect("write");
            place.install(&[]).ok();
            let gap: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
            let with = [&text, gap, LINE.as_bytes()].concat();
            assert!(fs::read(&profile).expect("read") == with, "{}", text.escape_ascii());
            fs::write(&profile, [&with, after].concat()).expect("write");
            place.install(&["--uninstall", "--yes"]).ok();
            let left = fs::read(&profile).expect("read");
            assert!(
                left == [&text, gap, after].concat(),
                "{} | {}",
                text.escape_ascii(),
                after.escape_ascii()
            );
        }
    }
    assert!(leftovers(&place).is_empty());
}

#[test]
fn removal_keeps_every_byte_in_every_shell() {
    let server = server();
    let run = |place: &Place| {
        let profile = place.home.join(".profile");
        let mine = b"a\0b \xff\n";
        // Twice, as two installations of old would have left it.
        fs::write(&profile, [&mine[..], LINE.as_bytes(), mine, LINE.as_bytes(), mine].concat())
            .expect("write");
        place.install(&["--uninstall", "--yes"]).ok();
        assert!(fs::read(&profile).expect("read") == mine.repeat(3));
        assert!(leftovers(place).is_empty());
    };
    for shell in shells() {
        let mut place = fresh(&server);
        run(place.shell(&[shell.as_os_str()]));
    }
    let mut place = fresh(&server);
    if let Some(place) = place.busybox() {
        run(place);
    }
}

#[test]
fn removal_keeps_links_and_modes() {
    let server = server();
    let place = fresh(&server);
    let (profile, real) = (place.home.join(".profile"), place.home.join("dotfiles/deep/profile"));
    fs::create_dir_all(real.parent().expect("folder")).expect("folder");
    fs::write(&real, [b"mine\n", LINE.as_bytes()].concat()).expect("write");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("chmod");
    symlink("dotfiles/link", &profile).expect("link");
    symlink("deep/profile", place.home.join("dotfiles/link")).expect("link");
    let before = fs::metadata(&real).expect("metadata").ino();
    place.install(&["--uninstall", "--yes"]).ok();
    assert_eq!(fs::read(&real).expect("read"), b"mine\n");
    assert!(profile.is_symlink() && place.home.join("dotfiles/link").is_symlink());
    assert_eq!(mode(&real), 0o640);
    assert_ne!(fs::metadata(&real).expect("metadata").ino(), before, "written into the file, not renamed");
}

/// A start file as it was, and what the removal says about it.
#[track_caller]
fn assert_stays(place: &Place, file: &Path, text: &[u8]) {
    let said = place.install(&["--uninstall", "--yes"]).ok();
    assert!(fs::read(file).expect("read") == text, "{said:?}");
    let name = place.home.join(".profile");
    assert!(said.err.contains(&format!("{} stays as it is", name.display())), "{said:?}");
    assert!(said.err.contains(LINE.trim_end()), "it does not say which line: {said:?}");
    // The removal went on.
    assert!(!place.tool().exists() && !place.shim().exists() && !place.pool().exists(), "{said:?}");
    assert!(leftovers(place).is_empty());
}

#[test]
fn start_file_in_doubt_stays_and_the_line_is_named() {
    let server = server();
    let text = [b"mine\n", LINE.as_bytes()].concat();
    let installed = || {
        let place = fresh(&server);
        fs::write(place.home.join(".profile"), b"mine\n").expect("write");
        place.install(&[]).ok();
        place
    };
    // Our line without its end is not what we wrote.
    let place = installed();
    let cut = &text[..text.len() - 1];
    fs::write(place.home.join(".profile"), cut).expect("write");
    assert_stays(&place, &place.home.join(".profile"), cut);
    // Another name of the file would go on with the old content.
    let place = installed();
    fs::hard_link(place.home.join(".profile"), place.home.join("other-name")).expect("link");
    assert_stays(&place, &place.home.join("other-name"), &text);
    // Tools that do not do what they should.
    for (tool, script) in [
        ("tail", "cat >/dev/null; echo garbage"),
        ("head", "cat >/dev/null; echo 2:"),
        ("mv", "case $* in */.profile) exit 1 ;; esac; exec /bin/mv \"$@\""),
        ("mktemp", "exit 1"),
        ("cp", "exit 1"),
        ("sha256sum", "exit 1"),
    ] {
        let mut place = installed();
        place.fake_tool(tool, script);
        assert_stays(&place, &place.home.join(".profile"), &text);
    }
    // No tool to compare with.
    let mut place = installed();
    place.without(&["sha256sum", "shasum"]);
    assert_stays(&place, &place.home.join(".profile"), &text);
    // One that may not be written; nothing is unwritable for root, but one of another user is doubtful, too.
    let place = installed();
    let profile = place.home.join(".profile");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&profile, Some(crate::place::NEIGHBOUR), None).expect("chown");
    } else {
        fs::set_permissions(&profile, fs::Permissions::from_mode(0o444)).expect("chmod");
    }
    assert_stays(&place, &profile, &text);
    // A ring of links, and a link to nowhere, are no start files.
    let place = installed();
    let profile = place.home.join(".profile");
    fs::remove_file(&profile).expect("remove");
    symlink(".profile", &profile).expect("link");
    place.install(&["--uninstall", "--yes"]).ok();
    assert!(profile.is_symlink() && !place.pool().exists());
}

#[test]
fn start_file_that_is_read_only_does_not_end_the_removal_half_way() {
    let server = server();
    let mut place = fresh(&server);
    place.env("SHELL", "/bin/bash").install(&[]).ok();
    // Whoever may do everything may still not put a file in a folder's place.
    place.fake_tool("mv", "case $* in */.bashrc) exit 1 ;; esac; exec /bin/mv \"$@\"");
    let said = place.install(&["--uninstall", "--yes"]).ok();
    assert!(said.err.contains(".bashrc stays as it is"), "{said:?}");
    assert_eq!(
        fs::read_to_string(place.home.join(".profile")).expect("read"),
        "",
        "the next one was forgotten"
    );
    assert!(!place.pool().exists(), "{said:?}");
}

#[test]
fn fifo_hangs_no_removal() {
    let server = server();
    for file in [
        ".profile",
        ".bashrc",
        ".config/fish/config.fish",
        ".codex-pool/bin/codex",
        ".codex-pool/receipt.json",
        ".codex-pool/env",
    ] {
        let place = fresh(&server);
        place.install(&[]).ok();
        let fifo = place.home.join(file);
        fs::create_dir_all(fifo.parent().expect("folder")).expect("folder");
        let _ = fs::remove_file(&fifo);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
        let script = repository().join("install.sh");
        let command =
            &mut place.command(&[script.as_os_str(), OsStr::new("--uninstall"), OsStr::new("--yes")]);
        finish_soon(spawn(command)).ok();
        assert!(!place.tool().exists(), "{file}");
        assert!(fs::symlink_metadata(&fifo).expect("metadata").file_type().is_fifo(), "{file} is not ours");
    }
}

/// A folder that looks like a project, with names that the pool has, too.
fn project(folder: &Path) {
    for file in [
        "config.toml",
        "auth/login.rs",
        "bin/codex",
        "env",
        "homes/a/b",
        "history/x",
        "state.json",
        ".git/HEAD",
    ] {
        let to = folder.join(file);
        fs::create_dir_all(to.parent().expect("folder")).expect("folder");
        fs::write(to, "mine").expect("write");
    }
}

#[test]
fn folder_without_registry_or_receipt_is_not_purged() {
    let server = server();
    let mut place = fresh(&server);
    let folder = place.home.join("project");
    project(&folder);
    place.env("CODEX_POOL_HOME", &folder);
    let before = place.files();
    place.install(&["--uninstall", "--purge"]).fails_with("has neither a registry nor a receipt");
    assert!(before == place.files());
    for arguments in [&["--uninstall"][..], &["--uninstall", "--yes"]] {
        place.install(arguments).ok();
        assert!(before == place.files(), "{arguments:?}");
    }
}

#[test]
fn purge_removes_what_the_pool_made_and_nothing_else() {
    let server = server();
    let mut place = fresh(&server);
    let pool = place.home.join("pool");
    place.env("CODEX_POOL_HOME", &pool).install(&[]).ok();
    let mine = ["notes.txt", ".hidden", "authors/x", "src/auth/a.rs", "accounts.json.orig", "bin/other"];
    let made = [
        "accounts.json",
        "auth/a.json",
        "usage.json",
        "lost+found/x",
        "launches/1",
        ".state.json.codex-pool.tmp",
    ];
    for file in mine.iter().chain(&made) {
        let to = pool.join(file);
        fs::create_dir_all(to.parent().expect("folder")).expect("folder");
        fs::write(to, "x").expect("write");
    }
    // Links in the pool lead out of it; what is behind them stays.
    symlink(place.home.join(".ssh"), pool.join("threads")).expect("link");
    fs::create_dir(place.home.join(".ssh")).expect("folder");
    fs::write(place.home.join(".ssh/key"), "secret").expect("write");
    let said = place.install(&["--uninstall", "--purge"]).ok();
    assert!(said.out.contains("What is not codex-pool's stays"), "{said:?}");
    for file in mine {
        assert!(pool.join(file).exists(), "{file} is gone");
    }
    for file in made.iter().chain(&["threads", "auth", "launches", "receipt.json", "env", "bin/codex"]) {
        assert!(pool.join(file).symlink_metadata().is_err(), "{file} is still there");
    }
    assert_eq!(fs::read(place.home.join(".ssh/key")).expect("read"), b"secret");
}

#[test]
fn purge_knows_every_name_that_the_pool_uses() {
    let paths = fs::read_to_string(repository().join("core/src/paths.rs")).expect("paths.rs");
    let script = fs::read_to_string(repository().join("install.sh")).expect("install.sh");
    let known = script.split_once("POOL_NAMES=\"").expect("names").1.split_once('"').expect("end").0;
    let known: Vec<&str> = known.split_whitespace().collect();
    let mut names: Vec<&str> = paths
        .split("root.join(\"")
        .skip(1)
        .map(|rest| rest.split(['"', '/']).next().expect("a name"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 12, "{names:?}");
    // These go with the programs.
    for name in names.into_iter().filter(|name| !["bin", "receipt.json"].contains(name)) {
        assert!(known.contains(&name), "install.sh --uninstall --purge would leave {name}");
    }
}
