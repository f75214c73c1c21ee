//! install.sh when something is wrong: it says what, and leaves everything as it was.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use testkit::releases::{self, Answer, Releases};
use testkit::{find_program, needs, takes};

use crate::install::{assert_installed, assert_no_leftovers, fresh, server};
use crate::place::{Place, finish, repository, spawn, write_program};

const OLD: &str = "1.2.3";
const NEW: &str = "1.3.0";

/// A machine with `OLD`, and a server where `NEW` is the newest.
fn upgrade() -> (Releases, Place) {
    let server = server();
    let place = fresh(&server);
    place.install(&[]).ok();
    server.publish(NEW, &releases::target(), releases::good_archive(NEW));
    (server, place)
}

fn new_archive() -> String {
    releases::archive_path(NEW, &releases::target())
}

#[test]
fn download_that_is_not_as_published_changes_nothing() {
    let good = releases::good_archive(NEW);
    let name = new_archive().rsplit('/').next().expect("name").to_owned();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let sum = format!("{}.sha256", new_archive());
    let cases: Vec<(&str, String, Option<Answer>, &str)> = vec![
        ("truncated on the way", new_archive(), Some(Answer::Truncated(good.clone())), "cannot download"),
        (
            "cut short at the source",
            new_archive(),
            Some(Answer::Whole(good[..good.len() / 2].to_vec())),
            "damaged",
        ),
        ("empty", new_archive(), Some(Answer::Whole(Vec::new())), "damaged"),
        ("one bit is wrong", new_archive(), Some(Answer::Whole(flipped)), "damaged"),
        ("missing", new_archive(), None, "cannot download"),
        ("moved elsewhere", new_archive(), Some(Answer::Redirect("http://127.0.0.1:9/x".into())), ""),
        ("no checksum", sum.clone(), None, "cannot download"),
        ("empty checksum", sum.clone(), Some(Answer::Whole(Vec::new())), "is empty"),
        ("checksum is a page", sum.clone(), Some(Answer::Whole(b"<html>".to_vec())), "is not a checksum"),
        (
            "checksum cut short",
            sum.clone(),
            Some(Answer::Whole(format!("abc123  {name}\n").into())),
            "is not a checksum",
        ),
        (
            "checksum of another file",
            sum,
            Some(Answer::Whole(releases::checksum_file(&good, "x"))),
            "is not a checksum",
        ),
        ("no newest version", "latest/download/version.txt".into(), None, "cannot download"),
        (
            "newest is a path",
            "latest/download/version.txt".into(),
            Some(Answer::Whole(b"../1.3.0\n".to_vec())),
            "is not a version",
        ),
    ];
    for downloader in ["curl", "wget"] {
        for (what, path, answer, message) in &cases {
            let (server, mut place) = upgrade();
            place.without(&["curl"]).add_tool(downloader);
            match answer.clone() {
                Some(answer) => server.put(path, answer),
                None => server.remove(path),
            }
            let before = place.files();
            let said = place.install(&[]).fails_with(message);
            assert!(before == place.files(), "{what}, {downloader}: {said:?}");
        }
    }
}

#[test]
fn programs_that_are_not_what_they_should_be_change_nothing() {
    let (tool, shim) = (releases::tool(NEW), releases::shim(NEW));
    let plain: &[u8] = b"#!/bin/sh\necho codex-shim 1.3.0\n";
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let cases: &[(Files<'_>, &str)] = &[
        (&[("codex-pool", &tool)], "cannot unpack"),
        (&[("codex", &shim)], "cannot unpack"),
        (&[("codex-pool", &releases::tool("1.3.1")), ("codex", &shim)], "says 'codex-pool 1.3.1'"),
        (&[("codex-pool", &tool), ("codex", &releases::shim("1.3.1"))], "says 'codex-shim 1.3.1'"),
        (&[("codex-pool", b"\x7fELF for another machine"), ("codex", &shim)], "does not run here"),
        (
            &[("codex-pool", &tool), ("codex", b"#!/bin/sh\n# codex-pool-shim-marker\nexit 1\n")],
            "does not run here",
        ),
        (
            &[("codex-pool", &tool), ("codex", b"#!/bin/sh\n# codex-pool-shim-marker\nexec codex\n")],
            "does not run here",
        ),
        (&[("codex-pool", &tool), ("codex", plain)], "not codex-pool's shim"),
    ];
    for (files, message) in cases {
        let (server, mut place) = upgrade();
        server.publish(NEW, &releases::target(), releases::archive(files));
        place.fake_tool("codex", ": >\"$HOME/started\"");
        let before = place.files();
        let said = place.install(&[]).fails_with(message);
        assert!(before == place.files(), "{said:?}");
    }
}

#[test]
fn link_in_an_archive_is_not_followed() {
    let (server, place) = upgrade();
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for name in ["codex-pool", "codex"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, "/bin/sh").expect("link");
    }
    let archive = tar.into_inner().and_then(|gz| gz.finish()).expect("archive");
    server.publish(NEW, &releases::target(), archive);
    let before = place.files();
    place.install(&[]).fails_with("the new codex-pool is no file");
    assert!(before == place.files());
}

#[test]
fn install_without_a_checksum_tool_downloads_nothing() {
    let server = server();
    let mut place = fresh(&server);
    place.without(&["sha256sum", "shasum"]).install(&[]).fails_with("no tool to verify");
    assert_eq!(server.requests(), [] as [&str; 0]);
    assert!(place.files().is_empty(), "{:?}", place.files().keys());
}

#[test]
fn install_without_a_downloader_says_what_is_missing() {
    let server = server();
    let mut place = fresh(&server);
    place.without(&["curl"]).install(&[]).fails_with("curl or wget is needed");
    assert_no_leftovers(&place);
}

#[test]
fn releases_come_only_from_safe_places() {
    let mut place = Place::new();
    for downloader in ["curl", "wget"] {
        place.without(&["curl"]).fake_tool(downloader, "echo \"a download: $*\" >&2; exit 1");
    }
    for url in [
        "http://example.com/releases",
        "http://127.0.0.1.example.com/r",
        "http://127.0.0.1@example.com/r",
        "http://127.0.0.1:80@example.com/r",
        "http://localhost:x/r",
        "http://127.0.0.1\\@example.com/r",
        "https://user:secret@example.com/r",
        "https://",
        "ftp://example.com/r",
        "file:///tmp/r",
        "example.com/r",
        "https://example.com/r?x=1",
        "https://example.com/a b",
    ] {
        let said = place.env("CODEX_POOL_RELEASES", url).install(&[]).fails_with("releases come over https");
        assert!(!said.err.contains("a download"), "{url}: {said:?}");
        assert!(place.files().is_empty(), "{url}");
    }
    for url in
        ["https://example.com/releases/", "http://localhost:80/r", "http://[::1]/r", "http://[::1]:8080/r"]
    {
        let said = place.env("CODEX_POOL_RELEASES", url).install(&[]).fails_with("a download");
        assert!(
            said.err.contains(&format!("{}/latest/download/version.txt", url.trim_end_matches('/'))),
            "{said:?}"
        );
    }
}

#[test]
fn version_is_a_version() {
    let server = server();
    let mut place = fresh(&server);
    for version in ["../../evil", "1.2", "1.2.3/..", "latest", "1.2.3 ", "v"] {
        place.env("VERSION", version).install(&[]).fails_with("");
        assert!(place.files().is_empty(), "{version}");
    }
    assert_eq!(server.requests().iter().filter(|r| !r.ends_with("version.txt")).count(), 0);
}

#[test]
fn release_source_is_never_guessed() {
    let place = Place::new();
    place.install(&[]).fails_with("does not know where releases are");
    assert!(place.files().is_empty());
}

#[test]
fn published_copy_asks_its_own_repository_over_https() {
    let mut place = Place::new();
    let published = Place::published("some/fork");
    place.fake_tool("curl", "echo \"curl $*\" >&2; exit 22");
    let said = place.pipe(published.as_bytes(), &[]).fails_with("cannot download");
    let url = "https://github.com/some/fork/releases/latest/download/version.txt";
    let asked = said.err.lines().next().expect("a line");
    assert!(asked.starts_with("curl -fsSL --proto =https --tlsv1.2 ") && asked.ends_with(url), "{said:?}");
}

#[test]
fn wget_may_not_be_led_away_from_https() {
    let mut place = Place::new();
    place.without(&["curl"]).env("CODEX_POOL_RELEASES", "https://example.com/releases");
    place.fake_tool("wget", "echo '  Location: http://example.com/version.txt' >&2; echo 1.2.3");
    place.install(&[]).fails_with("cannot download https://example.com/releases/latest/download/version.txt");
    place.fake_tool("wget", "echo '  Location: https://cdn.example.com/x' >&2; echo not-a-version");
    place.install(&[]).fails_with("'not-a-version' is not a version");
}

#[test]
fn foreign_codex_is_never_touched() {
    let server = server();
    let place = fresh(&server);
    let foreign = place.shim();
    write_program(&foreign, b"#!/bin/sh\necho mine\n");
    let before = place.files();
    place.install(&[]).fails_with("is not codex-pool's shim");
    assert!(before == place.files());

    fs::remove_file(&foreign).expect("remove");
    symlink("/nowhere/codex", &foreign).expect("link");
    place.install(&[]).fails_with("is not codex-pool's shim");
    assert_eq!(fs::read_link(&foreign).expect("link").to_str(), Some("/nowhere/codex"));

    fs::remove_file(&foreign).expect("remove");
    fs::create_dir(&foreign).expect("folder");
    place.install(&[]).fails_with("is not codex-pool's shim");
    fs::remove_dir(&foreign).expect("remove");

    // One of ours, also behind a link, is replaced.
    write_program(&place.beside("old-shim"), &releases::shim("0.0.1"));
    symlink(place.beside("old-shim"), &foreign).expect("link");
    place.install(&[]).ok();
    assert_installed(&place, OLD);
    assert_eq!(fs::read(place.beside("old-shim")).expect("read"), releases::shim("0.0.1"));
    assert_eq!(server.requests().len(), 3, "the refused ones downloaded nothing");
}

#[test]
fn programs_of_another_installer_stay() {
    let (_server, place) = upgrade();
    let receipt = place.pool().join("receipt.json");
    let text = fs::read_to_string(&receipt).expect("receipt").replace("\"install.sh\"", "\"homebrew\"");
    fs::write(&receipt, text).expect("write");
    let before = place.files();
    place.install(&[]).fails_with("installed by homebrew");
    place.install(&["--uninstall", "--yes"]).fails_with("installed by homebrew");
    assert!(before == place.files());
}

#[test]
fn folder_that_cannot_be_written_is_named_with_the_way_out() {
    let (_server, mut place) = upgrade();
    let dir = place.home.join(".local/bin");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).expect("chmod");
    let root = nix::unistd::geteuid().is_root();
    if root {
        // Nothing stops root but a file system that has no such folders.
        place.env("INSTALL_DIR", "/proc/codex-pool");
    }
    let before = place.files();
    let said = place.install(&[]).fails_with("INSTALL_DIR=");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    assert!(before == place.files(), "{said:?}");
}

#[test]
fn full_disk_leaves_the_old_version_whole() {
    let tool = [releases::tool(NEW), b"# and much that compresses well\n".repeat(40_000)].concat();
    let small = releases::archive(&[("codex-pool", &tool), ("codex", &releases::shim(NEW))]);
    // Blocks of 512 bytes: the first two stop the download, the last one the unpacking.
    for (archive, blocks) in [(None, 1), (None, 100), (Some(small), 1000)] {
        let (server, place) = upgrade();
        if let Some(archive) = archive {
            server.publish(NEW, &releases::target(), archive);
        }
        let before = place.files();
        let script = repository().join("install.sh");
        let said = place.sh(&format!("ulimit -f {blocks}; exec sh <'{}'", script.display()));
        assert_ne!(said.code, 0, "{blocks}: {said:?}");
        assert!(before == place.files(), "{blocks}: {said:?}");
    }
}

#[test]
fn first_program_is_put_back_if_the_second_cannot_be_replaced() {
    let real = find_program("mv").expect("mv");
    // Only the last move of all ends there.
    let stage = format!("case $* in */bin/codex) exit 1 ;; esac\nexec '{}' \"$@\"", real.display());
    let (_server, mut place) = upgrade();
    let before = place.files();
    place.fake_tool("mv", &stage).install(&[]).fails_with("everything is as it was");
    assert!(before == place.files());

    // The same on a machine that had nothing.
    let server = server();
    let mut place = fresh(&server);
    place.fake_tool("mv", &stage).install(&[]).fails_with("everything is as it was");
    assert!(!place.tool().exists() && !place.shim().exists());
    assert_no_leftovers(&place);
}

#[test]
fn signal_in_the_middle_leaves_no_trace() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let (server, place) = upgrade();
        let before = place.files();
        server.put(&new_archive(), Answer::Hang);
        let script = repository().join("install.sh");
        let child = spawn(&mut place.command(&[script.as_os_str()]));
        testkit::wait_until("the archive is asked for", Duration::from_secs(30), || {
            server.requests().iter().any(|r| r.ends_with(&new_archive()))
        });
        // The group, as a terminal does it.
        killpg(Pid::from_raw(i32::try_from(child.id()).expect("pid")), signal).expect("kill");
        let said = finish(child, b"");
        assert_eq!(said.code, code, "{said:?}");
        assert!(before == place.files(), "{said:?}");
    }
}

#[test]
fn other_platforms_are_told_apart() {
    let server = server();
    for (system, cpu, target) in [
        ("Linux", "x86_64", Some("x86_64-unknown-linux-musl")),
        ("Linux", "amd64", Some("x86_64-unknown-linux-musl")),
        ("Linux", "aarch64", Some("aarch64-unknown-linux-musl")),
        ("Darwin", "arm64", Some("aarch64-apple-darwin")),
        ("Darwin", "x86_64", Some("x86_64-apple-darwin")),
        ("Linux", "riscv64", None),
        ("FreeBSD", "x86_64", None),
    ] {
        let mut place = fresh(&server);
        place.fake_tool("sysctl", "exit 1");
        place.fake_tool("uname", &format!("case $1 in -s) echo {system} ;; -m) echo {cpu} ;; esac"));
        let said = place.env("VERSION", "9.9.9").install(&[]).fails_with("");
        match target {
            Some(target) => {
                assert!(said.err.contains(&format!("codex-pool-9.9.9-{target}.tar.gz")), "{said:?}")
            }
            None => {
                assert!(said.err.contains("runs on Linux and macOS") && place.files().is_empty(), "{said:?}")
            }
        }
    }
    // A shell under Rosetta.
    let mut place = fresh(&server);
    place
        .fake_tool("sysctl", "echo 1")
        .fake_tool("uname", "case $1 in -s) echo Darwin ;; -m) echo x86_64 ;; esac");
    place.env("VERSION", "9.9.9").install(&[]).fails_with("9.9.9-aarch64-apple-darwin");
}

#[test]
fn unknown_argument_is_a_usage_error() {
    let place = Place::new();
    let said = place.install(&["--sudo"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("--uninstall"), "{said:?}");
    said.says_what_is_next();
    assert!(place.install(&["--help"]).ok().out.contains("NO_MODIFY_PATH"));
    assert!(place.files().is_empty());
}

/// Returns what comes after a word in quotes. `None`: none comes.
fn after_quoted(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\\', '\n']);
    match text.chars().next()? {
        '\'' => text[1..].split_once('\'').map(|(_, rest)| rest),
        '"' => {
            let mut rest = &text[1..];
            loop {
                let at = rest.find(['"', '$'])?;
                rest = match &rest[at..] {
                    end if end.starts_with('"') => return Some(&end[1..]),
                    // A command's own quotes are none of the word's.
                    command if command.starts_with("$(") => command.split_once(')')?.1,
                    variable => &variable[1..],
                };
            }
        }
        _ => None,
    }
}

#[test]
fn errors_of_the_installer_come_with_a_next_step() {
    for (file, least) in [("install.sh", 40), ("skills/codex-pool/scripts/ensure-codex-pool.sh", 10)] {
        let script = fs::read_to_string(repository().join(file)).expect(file);
        let code: Vec<&str> = script.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let code = code.join("\n");
        let ends: Vec<&str> = code.split(" die ").skip(1).collect();
        assert!(ends.len() > least, "{file}: {}", ends.len());
        for end in ends {
            let next = after_quoted(end).filter(|rest| rest.starts_with(' ')).and_then(after_quoted);
            assert!(next.is_some(), "{file}: die {}", end.lines().next().unwrap_or_default());
        }
        assert_eq!(code.matches("error: ").count(), 1, "{file}: only `die` says that something is an error");
    }
}

#[test]
fn script_cut_off_on_its_way_does_nothing() {
    let server = server();
    let place = fresh(&server);
    let script = fs::read(repository().join("install.sh")).expect("install.sh");
    assert!(script.ends_with(b"\nmain \"$@\"\n"));
    // A comment line at the cut is as good as any other byte; a prime step meets all kinds of places.
    for cut in (0..script.len() - "main \"$@\"\n".len()).step_by(509) {
        let said = place.pipe(&script[..cut], &[]);
        assert!(said.out.is_empty() && place.files().is_empty(), "cut at {cut}: {said:?}");
    }
    assert_eq!(server.requests(), [] as [&str; 0]);
}

#[test]
fn scripts_are_clean() {
    let mut scripts =
        vec!["install.sh".to_owned(), "skills/codex-pool/scripts/ensure-codex-pool.sh".to_owned()];
    for entry in fs::read_dir(repository().join("scripts")).expect("scripts") {
        let name = entry.expect("entry").file_name().into_string().expect("text");
        // The others are bash's.
        if !["compatibility.sh", "targets.sh"].contains(&name.as_str()) {
            scripts.push(format!("scripts/{name}"));
        }
    }
    if let Some(shellcheck) = needs("shellcheck") {
        let mut command = std::process::Command::new(shellcheck);
        let out = command.current_dir(repository()).args(&scripts).output().expect("shellcheck");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
    for shell in ["sh", "dash", "bash", "zsh", "ksh"].into_iter().filter_map(takes) {
        for script in &scripts {
            let mut place = Place::new();
            place.shell(&[shell.as_os_str(), OsStr::new("-n")]).run(&repository().join(script), &[]).ok();
        }
    }
}
