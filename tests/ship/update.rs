//! `codex-pool update`, the real program, against a release server on loopback.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::releases::{self, Answer, Releases};
use testkit::{Cmd, Pty, bins};

use crate::place::{Place, Said, mode, write_program};

const HERE: &str = env!("CARGO_PKG_VERSION");
const NEW: &str = "9.1.0";
const OLD: &str = "0.0.9";

/// A server where `NEW` is the newest, and `OLD` is there, too.
fn server() -> Releases {
    let server = Releases::start().expect("server");
    for version in [OLD, NEW] {
        server.publish(version, &releases::target(), releases::good_archive(version));
    }
    server
}

/// A machine where install.sh has put the real programs.
fn installed(server: &Releases) -> Place {
    let mut place = Place::new();
    for (from, to) in [(bins::codex_pool(), place.tool()), (bins::shim(), place.shim())] {
        fs::create_dir_all(to.parent().expect("folder")).expect("folder");
        if fs::hard_link(&from, &to).is_err() {
            place.sh(&format!("cp '{}' '{}'", from.display(), to.display())).ok();
        }
    }
    let receipt = format!(
        "{{\n  \"schema\": 1,\n  \"installer\": \"install.sh\",\n  \"method\": \"source\",\n  \"version\": \"{HERE}\",\n  \
         \"releases\": null,\n  \"binary\": \"{}\",\n  \"later\": [1],\n  \"installed_at\": 1\n}}\n",
        place.tool().display()
    );
    fs::write(place.pool().join("receipt.json"), receipt).expect("receipt");
    place.env("CODEX_POOL_RELEASES", server.base());
    place
}

fn update(place: &Place, args: &str) -> Said {
    place.sh(&format!("exec '{}' update {args}", place.tool().display()))
}

/// What `update` may change.
fn programs(place: &Place) -> Vec<(String, Vec<u8>)> {
    let is_ours = |path: &Path| path.starts_with(place.pool()) || path.starts_with(place.home.join(".local"));
    let files = place.files().into_iter().filter(|(path, _)| is_ours(path) && !path.ends_with("pool.lock"));
    files.map(|(path, bytes)| (path.display().to_string(), bytes)).collect()
}

#[track_caller]
fn assert_is(place: &Place, version: &str) {
    assert!(
        fs::read(place.tool()).expect("codex-pool") == releases::tool(version),
        "codex-pool is not {version}"
    );
    assert!(fs::read(place.shim()).expect("shim") == releases::shim(version), "the shim is not {version}");
    assert_eq!((mode(&place.tool()), mode(&place.shim())), (0o755, 0o755));
    let left: Vec<_> =
        programs(place).into_iter().map(|(name, _)| name).filter(|n| n.contains(".codex-pool.")).collect();
    assert_eq!(left, [] as [&str; 0]);
}

fn receipt(place: &Place) -> Value {
    serde_json::from_slice(&fs::read(place.pool().join("receipt.json")).expect("receipt")).expect("JSON")
}

#[test]
fn both_programs_become_the_newest() {
    let server = server();
    let place = installed(&server);
    let said = update(&place, "--yes").ok();
    assert_eq!(said.out, format!("codex-pool {NEW} is installed (it was {HERE})\n"));
    assert_is(&place, NEW);
    let receipt = receipt(&place);
    assert_eq!(receipt["version"], NEW);
    assert_eq!(receipt["method"], "release");
    assert_eq!(receipt["releases"], server.base());
    assert_eq!(receipt["later"][0], 1, "what a later installer noted stays");
    assert!(receipt["installed_at"].as_u64().expect("seconds") > 1_700_000_000);
    assert_eq!(mode(&place.pool().join("receipt.json")), 0o600);
    // install.sh still understands it.
    let mut elsewhere = place;
    let said = elsewhere.env("INSTALL_DIR", "").install(&["--uninstall", "--yes"]).ok();
    assert!(said.out.contains(".local/bin/codex-pool and "), "{said:?}");
}

#[test]
fn check_only_tells() {
    let server = server();
    let place = installed(&server);
    let before = programs(&place);
    assert_eq!(
        update(&place, "--check").ok().out,
        format!("codex-pool {NEW} is available, and you have {HERE}; `codex-pool update` installs it\n")
    );
    // As docs/schema.json says.
    let json: serde_json::Value =
        serde_json::from_str(&update(&place, "--check --json").ok().out).expect("JSON");
    let expected = serde_json::json!({"schema": 1, "installed": HERE, "newest": NEW, "available": true});
    assert_eq!(json, expected);
    for (newest, text) in [(HERE, "is already up to date"), (OLD, "is newer than the newest release, 0.0.9")]
    {
        server.put("latest/download/version.txt", Answer::Whole(format!("{newest}\n").into_bytes()));
        for args in ["--check", "--yes"] {
            let said = update(&place, args).ok();
            assert!(said.out.contains(text), "{args}: {said:?}");
        }
    }
    assert!(before == programs(&place));
    assert!(server.requests().iter().all(|path| path.ends_with("/version.txt")));
}

#[test]
fn older_version_only_when_it_is_named() {
    let server = server();
    for named in [OLD.to_owned(), format!("v{OLD}")] {
        let place = installed(&server);
        update(&place, &format!("--version {named} --yes")).ok();
        assert_is(&place, OLD);
    }
    let place = installed(&server);
    let said = update(&place, "--version ../../evil --yes");
    assert_eq!(said.code, 2, "{said:?}");
    let said = update(&place, "--version 1.2.3 --yes").fails_with("404");
    assert!(said.err.contains("codex-pool-1.2.3-"), "{said:?}");
}

#[test]
fn update_asks_only_at_a_terminal() {
    let server = server();
    let place = installed(&server);
    let before = programs(&place);
    let said = update(&place, "");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("--yes"), "{said:?}");
    assert!(before == programs(&place));

    let limit = Duration::from_secs(30);
    for (answer, code) in [("n\r", 1), ("y\r", 0)] {
        let mut cmd = Cmd::new(place.tool()).arg("update").current_dir(&place.home);
        cmd.inner().envs(place.variables());
        let mut terminal = Pty::spawn(cmd, 24, 200);
        terminal.wait_for_text(&format!("Replace codex-pool {HERE} by {NEW}"), limit);
        terminal.send(answer);
        assert_eq!(terminal.wait(limit).code(), Some(code), "{}", terminal.raw());
        assert_eq!(before == programs(&place), code == 1);
    }
    assert_is(&place, NEW);
}

#[test]
fn release_that_is_not_as_published_changes_nothing() {
    let path = releases::archive_path(NEW, &releases::target());
    let good = releases::good_archive(NEW);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let sum = format!("{path}.sha256");
    let (tool, shim) = (releases::tool(NEW), releases::shim(NEW));
    let named = |bytes: Vec<u8>| Some(Answer::Whole(bytes));
    let cases = [
        (path.clone(), Some(Answer::Truncated(good.clone())), "cannot download"),
        (path.clone(), named(good[..good.len() / 2].to_vec()), "is damaged"),
        (path.clone(), named(flipped), "is damaged"),
        (path.clone(), None, "404"),
        (path.clone(), Some(Answer::Redirect("http://127.0.0.1:9/x".into())), "302"),
        (sum.clone(), None, "404"),
        (sum.clone(), named(b"<html>".to_vec()), "is not a checksum"),
        (sum, named(releases::checksum_file(&good, "x")), "is not a checksum"),
        ("latest/download/version.txt".into(), named(b"../evil\n".to_vec()), "does not name a version"),
    ];
    for (path, answer, message) in cases {
        let server = server();
        match answer {
            Some(answer) => server.put(&path, answer),
            None => server.remove(&path),
        }
        let place = installed(&server);
        let before = programs(&place);
        let said = update(&place, "--yes").fails_with(message);
        assert!(before == programs(&place), "{said:?}");
    }
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let archives: [(Files<'_>, &str); 4] = [
        (&[("codex-pool", &tool)], "it does not contain both programs"),
        (&[("codex-pool", &releases::tool("9.0.0")), ("codex", &shim)], "says it is `codex-pool 9.0.0`"),
        (&[("codex-pool", &tool), ("codex", &releases::shim("9.0.0"))], "says it is `codex-shim 9.0.0`"),
        (&[("codex-pool", &tool), ("codex", b"\x7fELF for another machine")], "does not run here"),
    ];
    for (files, message) in archives {
        let server = server();
        server.publish(NEW, &releases::target(), releases::archive(files));
        let place = installed(&server);
        let before = programs(&place);
        let said = update(&place, "--yes").fails_with(message);
        assert!(before == programs(&place), "{said:?}");
    }
}

#[test]
fn programs_of_another_installer_stay_in_an_update() {
    let server = server();
    let place = installed(&server);
    let path = place.pool().join("receipt.json");
    let text = fs::read_to_string(&path).expect("receipt");
    let elsewhere = text.replace(place.tool().to_str().expect("text"), "/elsewhere/codex-pool");
    for (receipt, message) in [
        (Some(text.replace("install.sh", "homebrew")), "was installed by homebrew"),
        (Some(elsewhere), "is not what install.sh installed, which is /elsewhere/codex-pool"),
        (Some("{".to_owned()), "is damaged"),
        (None, "install.sh did not install this codex-pool"),
    ] {
        match receipt {
            Some(receipt) => fs::write(&path, receipt).expect("receipt"),
            None => fs::remove_file(&path).expect("receipt"),
        }
        let before = programs(&place);
        update(&place, "--yes").fails_with(message);
        assert!(before == programs(&place), "{message}");
    }
    // Nobody was asked for an archive.
    assert!(!server.requests().iter().any(|path| path.ends_with(".tar.gz")));
}

#[test]
fn foreign_codex_in_the_pool_is_not_replaced() {
    let server = server();
    let place = installed(&server);
    fs::remove_file(place.shim()).expect("remove");
    write_program(&place.shim(), b"#!/bin/sh\n# not codex-pool-shim-marker\n");
    let before = programs(&place);
    update(&place, "--yes").fails_with("is not codex-pool's shim");
    assert!(before == programs(&place));
    // A missing one is put back.
    fs::remove_file(place.shim()).expect("remove");
    update(&place, "--yes").ok();
    assert_is(&place, NEW);
}

#[test]
fn build_from_source_says_how_it_is_updated() {
    let server = server();
    let mut place = installed(&server);
    for args in ["--check", "--yes"] {
        let said = update(place.env("CODEX_POOL_RELEASES", ""), args).fails_with("built from source");
        assert!(said.err.contains("git pull && sh install.sh"), "{said:?}");
    }
    update(place.env("CODEX_POOL_RELEASES", "http://example.com/r"), "--check")
        .fails_with("neither https nor");
}

#[test]
fn folder_that_cannot_be_written_is_named() {
    let server = server();
    let place = installed(&server);
    // Root may write everywhere, but nobody can make a file of a name that is a folder's.
    fs::create_dir(place.home.join(".local/bin/.codex-pool.codex-pool.new")).expect("folder");
    let before = programs(&place);
    update(&place, "--yes").fails_with(".local/bin/.codex-pool.codex-pool.new");
    assert!(before == programs(&place));
}

#[test]
fn small_archive_does_not_fill_the_memory() {
    use tar::EntryType;
    for (name, kind, message) in [
        ("././@LongLink", EntryType::GNULongName, "cannot be used"),
        ("pax", EntryType::XHeader, "cannot be used"),
        ("codex-pool", EntryType::Regular, "is too large"),
        ("something", EntryType::Regular, "cannot be used"),
    ] {
        let server = server();
        let bomb = releases::bomb(name, kind, 2 << 30);
        assert!(bomb.len() < 20 << 20, "{name}: {}", bomb.len());
        server.publish(NEW, &releases::target(), bomb);
        let place = installed(&server);
        let before = programs(&place);
        let line = format!("ulimit -v 400000; exec '{}' update --yes", place.tool().display());
        let said = place.sh(&line).fails_with(message);
        assert!(!said.err.contains("memory"), "{name}: {said:?}");
        assert!(before == programs(&place), "{name}: {said:?}");
    }
}

#[test]
fn download_without_end_is_given_up() {
    for path in ["latest/download/version.txt".to_owned(), releases::archive_path(NEW, &releases::target())] {
        let server = server();
        server.put(&path, Answer::Flood);
        let place = installed(&server);
        let before = programs(&place);
        let said = update(&place, "--yes").fails_with("cannot download");
        assert!(before == programs(&place), "{path}: {said:?}");
    }
}
