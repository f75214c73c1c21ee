//! Attacks on an installation: by what lies beside install.sh, by other users of the machine, by archives and servers.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::releases::{self, Answer, Releases};
use testkit::{find_program, takes};

use crate::install::{assert_installed, assert_no_leftovers, fresh, server};
use crate::place::{
    NEIGHBOUR, Place, finish, finish_soon, mode, plays_others, repository, spawn, write_program,
};

const NEW: &str = "1.3.0";

/// Puts a checkout there whose scripts leave a trace in the home.
fn plant(folder: &Path) {
    for (file, text) in [
        ("Cargo.toml", "[package]\nname = \"codex-pool\"\nversion = \"6.6.6\"\n"),
        ("shim/Cargo.toml", ""),
        ("scripts/version.sh", ": >\"$HOME/evil\"; echo 6.6.6"),
        ("scripts/build.sh", ": >\"$HOME/evil\"; exit 1"),
    ] {
        let to = folder.join(file);
        fs::create_dir_all(to.parent().expect("folder")).expect("folder");
        fs::write(to, text).expect("write");
    }
}

fn with_rust(place: &mut Place) {
    place.fake_tool("cargo", ": >\"$HOME/evil\"; exit 1").fake_tool("rustc", ": >\"$HOME/evil\"; exit 1");
}

#[test]
fn published_copy_never_builds_the_files_beside_it() {
    let mut place = Place::new();
    with_rust(&mut place);
    place.fake_tool("curl", "exit 22");
    let downloads = place.home.join("Downloads");
    plant(&downloads);
    fs::write(downloads.join("install.sh"), Place::published("some/fork")).expect("write");
    for line in
        ["cd ~/Downloads && sh install.sh", "sh ~/Downloads/install.sh", "cd /; sh ~/Downloads/install.sh"]
    {
        place.sh(line).fails_with("cannot download https://github.com/some/fork/releases/latest/");
        assert!(!place.home.join("evil").exists(), "{line}");
    }
}

#[test]
fn checkout_that_others_can_write_is_not_built() {
    let chmod =
        |mode| move |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    let give = |path: &Path| chown(path, Some(NEIGHBOUR), Some(NEIGHBOUR)).expect("chown");
    type Attack<'a> = (&'a str, &'a dyn Fn(&Path), bool);
    let attacks: [Attack<'_>; 11] = [
        ("up/checkout", &chmod(0o777), false),
        ("up/checkout", &chmod(0o1777), false),
        ("up/checkout/scripts", &chmod(0o777), false),
        ("up/checkout/scripts/build.sh", &chmod(0o666), false),
        ("up/checkout/shim/Cargo.toml", &chmod(0o666), false),
        ("up", &chmod(0o777), false),
        ("up/checkout", &give, true),
        ("up/checkout/scripts/build.sh", &give, true),
        ("up/checkout/Cargo.toml", &give, true),
        ("up", &give, true),
        // A group that is not the user's alone.
        (
            "up/checkout/scripts",
            &|path| {
                chown(path, None, Some(NEIGHBOUR)).expect("chown");
                chmod(0o775)(path);
            },
            true,
        ),
    ];
    let root = plays_others();
    for (what, attack, as_root) in attacks.into_iter().filter(|attack| root || !attack.2) {
        let mut place = Place::new();
        with_rust(&mut place);
        let checkout = place.home.join("up/checkout");
        plant(&checkout);
        fs::copy(repository().join("install.sh"), checkout.join("install.sh")).expect("copy");
        attack(&place.home.join(what));
        let said = place.run(&checkout.join("install.sh"), &[]).fails_with("is not built");
        assert!(
            said.err.contains(&place.home.join(what).display().to_string()),
            "{what} {as_root}: {said:?}"
        );
        assert!(!place.home.join("evil").exists(), "{what} {as_root}: {said:?}");
    }
}

#[test]
fn checkout_of_the_users_alone_is_built_also_below_a_sticky_folder() {
    let mut place = Place::new();
    with_rust(&mut place);
    let checkout = place.home.join("up/checkout");
    plant(&checkout);
    fs::copy(repository().join("install.sh"), checkout.join("install.sh")).expect("copy");
    fs::set_permissions(place.home.join("up"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    // What others may do in the folder of results, and what git made, is no reason.
    fs::create_dir_all(checkout.join("target")).expect("folder");
    std::os::unix::fs::symlink("nowhere", checkout.join("link")).expect("link");
    place.run(&checkout.join("install.sh"), &[]).fails_with("the build failed");
    assert!(place.home.join("evil").exists(), "nothing was run, so the other tests show nothing");
}

#[test]
fn programs_belong_to_whoever_installs_them() {
    if !plays_others() {
        return;
    }
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in [("codex-pool", releases::tool(NEW)), ("codex", releases::shim(NEW))] {
        let mut header = tar::Header::new_gnu();
        header.set_uid(u64::from(NEIGHBOUR));
        header.set_gid(u64::from(NEIGHBOUR));
        header.set_size(bytes.len() as u64);
        // And setuid on top.
        header.set_mode(0o6777);
        header.set_cksum();
        tar.append_data(&mut header, name, &*bytes).expect("write to memory");
    }
    let archive = tar.into_inner().and_then(|gz| gz.finish()).expect("archive");
    let server = Releases::start().expect("server");
    server.publish(NEW, &releases::target(), archive);
    let mut places = vec![fresh(&server)];
    let mut other = fresh(&server);
    if other.busybox().is_some() {
        places.push(other);
    }
    for place in places {
        place.install(&[]).ok();
        assert_installed(&place, NEW);
        for program in [place.tool(), place.shim()] {
            let meta = fs::metadata(&program).expect("metadata");
            assert_eq!((meta.uid(), meta.gid()), (0, 0), "{}", program.display());
            assert_eq!(mode(&program), 0o755);
        }
    }
}

#[test]
fn archive_says_that_its_files_are_roots() {
    let place = Place::new();
    let folder = place.beside("folder");
    fs::create_dir(&folder).expect("folder");
    fs::write(folder.join("codex"), "x").expect("write");
    let archive = place.home.join("a.tar.gz");
    let mut place = place;
    place.add_tool("dirname");
    let script = repository().join("scripts/pack.sh");
    let mut command =
        place.command(&[script.as_os_str(), archive.as_os_str(), folder.as_os_str(), "codex".as_ref()]);
    if testkit::is_root() {
        // As a machine that builds releases does it: as some user.
        for path in [folder.as_path(), &folder.join("codex"), &place.home] {
            chown(path, Some(NEIGHBOUR), Some(NEIGHBOUR)).expect("chown");
        }
        fs::set_permissions(place.beside("."), fs::Permissions::from_mode(0o755)).expect("chmod");
        command.uid(NEIGHBOUR).gid(NEIGHBOUR);
    }
    let said = finish(spawn(&mut command), b"").ok();
    let bytes = fs::read(&archive).expect("archive");
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&*bytes));
    let entries: Vec<_> = tar.entries().expect("entries").map(|entry| entry.expect("entry")).collect();
    assert_eq!(entries.len(), 1, "{said:?}");
    let header = entries[0].header();
    assert_eq!((header.uid().expect("uid"), header.gid().expect("gid")), (0, 0));
    let names = (header.username().ok().flatten(), header.groupname().ok().flatten());
    assert!(matches!(names, (Some("root" | ""), Some("root" | ""))), "{names:?}");
}

#[test]
fn root_installs_nothing_into_the_home_of_another_user() {
    if !plays_others() {
        return;
    }
    let server = server();
    let theirs = |path: &Path| chown(path, Some(NEIGHBOUR), Some(NEIGHBOUR)).expect("chown");
    type Change<'a> = &'a dyn Fn(&mut Place) -> PathBuf;
    let changes: [Change<'_>; 3] = [
        &|place| place.home.clone(),
        &|place| {
            place.env("CODEX_POOL_HOME", place.home.join("pool"));
            place.home.join("pool")
        },
        &|place| {
            place.env("INSTALL_DIR", place.home.join("tools"));
            place.home.join("tools")
        },
    ];
    for change in changes {
        let mut place = fresh(&server);
        let folder = change(&mut place);
        fs::create_dir_all(&folder).expect("folder");
        // The trap: root would follow it.
        let secret = place.beside("etc-profile");
        fs::write(&secret, "root's\n").expect("write");
        std::os::unix::fs::symlink(&secret, place.home.join(".profile")).expect("link");
        theirs(&folder);
        for arguments in [&[][..], &["--uninstall", "--purge"]] {
            place.install(arguments).fails_with("belongs to another user");
        }
        assert_eq!(fs::read_to_string(&secret).expect("read"), "root's\n");
        assert!(!place.tool().exists() && !place.shim().exists());
    }
}

#[test]
fn pool_is_never_the_home_folder_or_what_is_above() {
    let server = server();
    let place = fresh(&server);
    let project = place.home.join("project/deep");
    fs::create_dir_all(&project).expect("folder");
    let linked = place.beside("link-to-home");
    std::os::unix::fs::symlink(&place.home, &linked).expect("link");
    fs::create_dir(place.home.join(".codex")).expect("folder");
    let here = |line: &str| {
        format!("cd ~/project/deep && {line} sh <'{}'", repository().join("install.sh").display())
    };
    let before = place.files();
    let modes = (mode(&place.home), mode(&project));
    for name in [
        "$HOME",
        "$HOME/",
        "$HOME/.",
        "$HOME/project/..",
        "/",
        "///",
        "$HOME/..",
        "${HOME%/*}",
        "/tmp/..",
        ".",
        "..",
        "$PWD",
        "../../project",
        "$HOME/../link-to-home",
        "$HOME/.codex",
        "$HOME/nowhere/..",
        "nowhere/../..",
    ] {
        for arguments in ["", "-s -- --uninstall", "-s -- --uninstall --purge"] {
            let line =
                here(&format!("CODEX_POOL_HOME=\"{name}\"")).replace(" sh <", &format!(" sh {arguments} <"));
            let said = place.sh(&line);
            assert_eq!(said.code, 1, "{name} {arguments}: {said:?}");
            assert!(
                said.err.contains("a folder of its own") || said.err.contains("without '..'"),
                "{name}: {said:?}"
            );
            assert!(place.files() == before, "{name} {arguments}");
            assert_eq!((mode(&place.home), mode(&project)), modes, "{name} {arguments}");
        }
    }
    place.sh(&here("CODEX_POOL_HOME=../pool")).ok();
    assert!(place.home.join("project/pool/bin/codex").exists());
}

#[test]
fn download_without_end_is_given_up() {
    let version = "latest/download/version.txt".to_owned();
    let archive = releases::archive_path(NEW, &releases::target());
    for downloader in ["curl", "wget"] {
        for (path, answer) in [
            (&version, Answer::Flood),
            (&archive, Answer::Flood),
            (&version, Answer::Drip),
            (&archive, Answer::Drip),
            (&archive, Answer::Hang),
        ] {
            if takes(downloader).is_none() {
                continue;
            }
            let server = server();
            let mut place = fresh(&server);
            place.install(&[]).ok();
            server.publish(NEW, &releases::target(), releases::good_archive(NEW));
            let flood = matches!(answer, Answer::Flood);
            server.put(path, answer);
            place.without(&["curl"]).add_tool(downloader).add_tool("timeout");
            place.env("DOWNLOAD_SECONDS", if flood { "300" } else { "2" });
            let before = place.files();
            let script = repository().join("install.sh");
            let said =
                finish_soon(spawn(&mut place.command(&[script.as_os_str()]))).fails_with("cannot download");
            assert!(before == place.files(), "{downloader}, {path}: {said:?}");
        }
    }
}

#[test]
fn archive_that_is_large_when_it_is_unpacked_is_given_up() {
    let server = server();
    let place = fresh(&server);
    place.install(&[]).ok();
    // Everything is right with it but the size.
    let large = releases::large_archive(NEW, 1 << 30);
    assert!(large.len() < 8 << 20, "{}", large.len());
    server.publish(NEW, &releases::target(), large);
    let before = place.files();
    let script = repository().join("install.sh");
    let said = finish_soon(spawn(&mut place.command(&[script.as_os_str()]))).fails_with("cannot unpack");
    assert!(before == place.files(), "{said:?}");
}

#[test]
fn newer_version_is_not_replaced_without_a_word() {
    let server = Releases::start().expect("server");
    for (here, there) in [
        ("1.2.3", "1.2.2"),
        ("1.10.0", "1.9.9"),
        ("2.0.0", "1.99.99"),
        ("1.2.3", "1.2.3-rc.1"),
        ("1.3.0-rc.1", "1.2.9"),
    ] {
        server.publish(here, &releases::target(), releases::good_archive(here));
        let mut place = fresh(&server);
        place.install(&[]).ok();
        server.publish(there, &releases::target(), releases::good_archive(there));
        let before = place.files();
        let said = place.install(&[]).fails_with(&format!("VERSION={there}"));
        assert!(before == place.files(), "{said:?}");
        // One that is asked for by name is what the user wants.
        let said = place.env("VERSION", there).install(&[]).ok();
        assert!(said.err.contains(&format!("goes back from codex-pool {here} to {there}")), "{said:?}");
        assert!(said.out.contains(&format!("Installed codex-pool {there} (it was {here})")), "{said:?}");
        assert_installed(&place, there);
        // And forward again, of which nobody has to be warned.
        let said = place.env("VERSION", here).install(&[]).ok();
        assert!(said.err.is_empty(), "{said:?}");
        assert!(!place.install(&[]).ok().out.contains("it was"), "the same version again");
    }
}

#[test]
fn version_with_a_line_break_is_none() {
    let server = server();
    let mut place = fresh(&server);
    for version in ["1.2.3\n", "1.2.3\n../../evil", "../../evil\n1.2.3", "\n1.2.3", "1.2.3\r"] {
        let said = place.env("VERSION", version).install(&[]).fails_with("is not a version");
        assert!(place.files().is_empty(), "{version:?}: {said:?}");
    }
    assert_eq!(server.requests(), [] as [&str; 0]);
}

#[test]
fn fifo_hangs_no_installation() {
    let server = server();
    for file in [
        ".profile",
        ".codex-pool/bin/codex",
        ".codex-pool/receipt.json",
        ".codex-pool/env",
        ".local/bin/codex-pool",
    ] {
        let place = fresh(&server);
        let fifo = place.home.join(file);
        fs::create_dir_all(fifo.parent().expect("folder")).expect("folder");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
        let script = repository().join("install.sh");
        let said = finish_soon(spawn(&mut place.command(&[script.as_os_str()])));
        match file {
            ".profile" => assert!(said.code == 0 && said.err.contains("is no file"), "{said:?}"),
            ".codex-pool/bin/codex" => assert!(said.err.contains("is not codex-pool's shim"), "{said:?}"),
            _ => assert_eq!(said.code, 0, "{file}: {said:?}"),
        }
        assert_no_fifo_was_read(&fifo, file);
    }
}

/// The start file and the foreign shim are still there.
fn assert_no_fifo_was_read(fifo: &Path, file: &str) {
    use std::os::unix::fs::FileTypeExt as _;
    let stays = file == ".profile" || file == ".codex-pool/bin/codex";
    assert_eq!(fs::symlink_metadata(fifo).expect("metadata").file_type().is_fifo(), stays, "{file}");
}

#[test]
fn macos_programs_are_signed_and_free_of_quarantine_before_they_run() {
    let target = format!("{}-apple-darwin", std::env::consts::ARCH);
    let server = Releases::start().expect("server");
    let log = "\"$HOME/log\"";
    let tool =
        format!("#!/bin/sh\necho run tool >>{log}\n[ \"$1\" = --version ] && echo 'codex-pool {NEW}'\n");
    let shim = format!("#!/bin/sh\n# codex-pool-shim-marker\necho 'codex-shim {NEW}'\n");
    server.publish(
        NEW,
        &target,
        releases::archive(&[("codex-pool", tool.as_bytes()), ("codex", shim.as_bytes())]),
    );
    let mut place = fresh(&server);
    let cpu = std::env::consts::ARCH;
    place.fake_tool("sysctl", "exit 1");
    place.fake_tool("uname", &format!("case $1 in -s) echo Darwin ;; -m) echo {cpu} ;; esac"));
    for name in ["codesign", "xattr"] {
        place.fake_tool(name, &format!("echo \"{name} $*\" >>{log}"));
    }
    place.install(&[]).ok();
    let said = fs::read_to_string(place.home.join("log")).expect("log");
    let lines: Vec<_> =
        said.lines().map(|line| line.rsplit_once('/').map_or(line, |(_, name)| name)).collect();
    assert_eq!(lines[..4], ["codex-pool", "codex-pool", "codex", "codex"], "{said}");
    assert!(lines.len() > 4 && lines[4..].iter().all(|line| *line == "run tool"), "{said}");
    let begins = ["xattr -d com.apple.quarantine /", "codesign --force --sign - /"];
    for (line, begin) in said.lines().zip(begins.iter().cycle()).take(4) {
        // In the stage, so that what runs is never written to.
        assert!(line.starts_with(begin) && line.contains("-install."), "{said}");
    }
    // Elsewhere nobody is asked, and where the tools are missing or fail, it does without.
    fs::remove_file(place.home.join("log")).expect("remove");
    place.fake_tool("xattr", "exit 1").without(&["codesign"]).install(&[]).ok();
    let said = place.fake_tool("codesign", "exit 1").install(&[]).ok();
    assert!(said.err.contains("cannot sign"), "{said:?}");
    assert_no_leftovers(&place);
    fs::remove_file(place.home.join("log")).expect("remove");
    let other = Releases::start().expect("server");
    other.publish(NEW, &releases::target(), releases::good_archive(NEW));
    let mut linux = fresh(&other);
    linux.fake_tool("uname", &format!("case $1 in -s) echo Linux ;; -m) echo {cpu} ;; esac"));
    linux.fake_tool("codesign", ": >\"$HOME/asked\"").fake_tool("xattr", ": >\"$HOME/asked\"");
    if cfg!(target_os = "linux") {
        linux.install(&[]).ok();
        assert!(!linux.home.join("asked").exists());
    }
}

#[test]
fn program_that_runs_is_replaced_and_not_written_to() {
    let server = server();
    let place = fresh(&server);
    // Real programs: a script is read bit by bit, a program's file cannot be opened for writing while it runs.
    let sleep = find_program("sleep").expect("sleep");
    for program in [place.tool(), place.shim()] {
        write_program(&program, &fs::read(&sleep).expect("sleep"));
    }
    let marked = [fs::read(&sleep).expect("sleep"), b"codex-pool-shim-marker".to_vec()].concat();
    write_program(&place.shim(), &marked);
    let mut running = [place.tool(), place.shim()].map(|program| Sleeper::start(&program));
    place.install(&[]).ok();
    assert_installed(&place, "1.2.3");
    for sleeper in &mut running {
        assert!(sleeper.0.try_wait().expect("wait").is_none(), "it ended");
    }
}

#[test]
fn terminal_gets_no_escape_sequences_of_others() {
    let escape = "\u{1b}]0;title\u{7}\u{1b}[2J";
    let server = server();
    let version = "latest/download/version.txt";
    server.put(version, Answer::Whole(format!("{escape}\n").into_bytes()));
    let mut place = fresh(&server);
    let mut said = vec![place.install(&[]).fails_with("is not a version")];
    let archive = releases::archive(&[
        ("codex-pool", format!("#!/bin/sh\nprintf '{escape}'\n").as_bytes()),
        ("codex", &releases::shim(NEW)),
    ]);
    server.publish(NEW, &releases::target(), archive);
    said.push(place.install(&[]).fails_with("the new codex-pool says"));
    said.push(place.env("VERSION", escape).install(&[]).fails_with("is not a version"));
    said.push(
        place
            .env("CODEX_POOL_RELEASES", format!("https://{escape}"))
            .install(&[])
            .fails_with("come over https"),
    );
    place.without(&["curl"]).env("CODEX_POOL_RELEASES", "https://example.com/r").env("VERSION", NEW);
    place.fake_tool("wget", &format!("printf '  Server: {escape}\n' >&2; exit 8"));
    said.push(place.install(&[]).fails_with("cannot download"));
    for said in said {
        assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "{said:?}");
    }
}

/// A program that sleeps until this is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(program: &Path) -> Sleeper {
        let mut command = Command::new(program);
        let quiet = command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Sleeper(quiet.spawn().expect("start"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
