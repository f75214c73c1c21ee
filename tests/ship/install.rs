//! install.sh with a release that is as it should be.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use serde_json::Value;
use testkit::releases::{self, Releases};
use testkit::{needs, takes};

use crate::place::{Place, mode, repository, write_program};

const V: &str = "1.2.3";

/// fish reads file names by the locale.
const UTF8: &str = if cfg!(target_os = "macos") { "en_US.UTF-8" } else { "C.UTF-8" };

/// A release server with one good release.
pub(crate) fn server() -> Releases {
    let server = Releases::start().expect("server");
    server.publish(V, &releases::target(), releases::good_archive(V));
    server
}

/// A fresh machine that knows the server.
pub(crate) fn fresh(server: &Releases) -> Place {
    let mut place = Place::new();
    place.env("CODEX_POOL_RELEASES", server.base());
    place
}

#[track_caller]
pub(crate) fn assert_installed(place: &Place, version: &str) {
    assert_eq!(fs::read(place.tool()).expect("codex-pool"), releases::tool(version));
    assert_eq!(fs::read(place.shim()).expect("shim"), releases::shim(version));
    assert_eq!((mode(&place.tool()), mode(&place.shim())), (0o755, 0o755));
    assert_no_leftovers(place);
}

#[track_caller]
pub(crate) fn assert_no_leftovers(place: &Place) {
    let left: Vec<_> =
        place.files().into_keys().filter(|f| f.to_string_lossy().contains("-install.")).collect();
    assert_eq!(left, [] as [&Path; 0]);
}

fn receipt(place: &Place) -> Value {
    serde_json::from_slice(&fs::read(place.pool().join("receipt.json")).expect("receipt")).expect("JSON")
}

#[test]
fn release_is_installed_with_everything_that_belongs_to_it() {
    let server = server();
    let place = fresh(&server);
    let said = place.install(&[]).ok();
    assert_installed(&place, V);
    assert!(said.out.contains("Installed codex-pool 1.2.3"), "{said:?}");
    assert_eq!(mode(&place.pool()), 0o700);
    for name in ["receipt.json", "env", "env.fish"] {
        assert_eq!(mode(&place.pool().join(name)), 0o600, "{name}");
    }

    let receipt = receipt(&place);
    assert_eq!(receipt["schema"], 1);
    assert_eq!(receipt["installer"], "install.sh");
    assert_eq!(receipt["method"], "release");
    assert_eq!(receipt["version"], V);
    assert_eq!(receipt["releases"], server.base());
    assert_eq!(receipt["binary"], place.tool().to_str().expect("text"));
    assert_eq!(receipt["shim"], place.shim().to_str().expect("text"));
    assert!(receipt["installed_at"].as_u64().expect("seconds") > 1_700_000_000);

    let bin = format!("'{}'", place.pool().join("bin").display());
    for (name, template) in [("env", "env.sh"), ("env.fish", "env.fish")] {
        let written = fs::read_to_string(place.pool().join(name)).expect("env file");
        let text = fs::read_to_string(repository().join("src/shell_env").join(template)).expect("template");
        assert_eq!(written, text.replace("@BIN@", &bin), "{name} is not the text in src/shell_env");
    }
    assert_eq!(fs::read_link(place.pool().join("bin/codex-pool")).expect("link"), place.tool());
}

#[test]
fn install_works_with_every_shell_and_downloader() {
    let server = server();
    for shell in ["sh", "dash", "bash", "zsh", "ksh", "mksh", "yash"] {
        let Some(shell) = takes(shell) else { continue };
        let mut place = fresh(&server);
        place.shell(&[shell.as_os_str()]).install(&[]).ok();
        assert_installed(&place, V);
    }
    if takes("wget").is_some() {
        let mut place = fresh(&server);
        place.without(&["curl"]).add_tool("wget").install(&[]).ok();
        assert_installed(&place, V);
    }
    let mut place = fresh(&server);
    if let Some(place) = place.busybox() {
        place.install(&[]).ok();
        assert_installed(place, V);
    }
}

#[test]
fn install_works_with_every_checksum_tool() {
    let server = server();
    for tool in ["sha256sum", "shasum", "openssl"] {
        if takes(tool).is_none() {
            continue;
        }
        let mut place = fresh(&server);
        place.without(&["sha256sum", "shasum"]).add_tool(tool).add_tool("perl").install(&[]).ok();
        assert_installed(&place, V);
    }
}

#[test]
fn newest_version_is_taken_unless_another_is_named() {
    let server = server();
    server.publish("1.10.0", &releases::target(), releases::good_archive("1.10.0"));
    let mut place = fresh(&server);
    place.install(&[]).ok();
    assert_installed(&place, "1.10.0");
    for named in ["1.2.3", "v1.2.3"] {
        place.env("VERSION", named).install(&[]).ok();
        assert_installed(&place, V);
    }
}

#[test]
fn proxy_does_not_come_between_us_and_this_machine() {
    let server = server();
    for downloader in ["curl", "wget"] {
        let mut place = fresh(&server);
        place.without(&["curl"]).add_tool(downloader);
        place.env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
        place.install(&[]).ok();
        assert_installed(&place, V);
    }
}

#[test]
fn installing_again_replaces_by_rename_and_repeats_nothing() {
    let server = server();
    let place = fresh(&server);
    place.install(&[]).ok();
    let profile = fs::read(place.home.join(".profile")).expect("profile");
    let running = fs::File::open(place.shim()).expect("shim");
    let before = running.metadata().expect("metadata");

    server.publish("1.2.4", &releases::target(), releases::good_archive("1.2.4"));
    place.install(&[]).ok();
    assert_installed(&place, "1.2.4");
    assert_eq!(receipt(&place)["version"], "1.2.4");
    assert_ne!(
        fs::metadata(place.shim()).expect("metadata").ino(),
        before.ino(),
        "written into a running shim"
    );
    assert_eq!(running.metadata().expect("metadata").size(), before.size());
    assert_eq!(fs::read(place.home.join(".profile")).expect("profile"), profile);
}

#[test]
fn shim_is_found_in_new_shells_in_any_home() {
    let server = server();
    for name in ["home", "my home", "дом ü", "it's $HOME \"q\" \\b"] {
        for (shell, file) in
            [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish/config.fish"), ("sh", ".profile")]
        {
            let Some(program) = needs(shell) else { continue };
            let mut place = Place::named(name);
            place.env("CODEX_POOL_RELEASES", server.base()).env("SHELL", &program).env("LC_ALL", UTF8);
            place.install(&[]).ok();
            assert_installed(&place, V);
            receipt(&place);
            let dot = if shell == "fish" { "source" } else { "." };
            let line = format!(
                "{dot} \"$HOME/{file}\"; {dot} \"$HOME/{file}\"; command -v codex; command -v codex-pool"
            );
            let line = format!("{line}; /bin/sh -c 'printf \"%s\\n\" \"$PATH\"'");
            let said = place.shell(&[program.as_os_str()]).sh(&line).ok();
            let (bin, tools) = (place.pool().join("bin"), place.beside("tools"));
            let found = format!("{0}/codex\n{0}/codex-pool\n{0}:{1}\n", bin.display(), tools.display());
            assert_eq!(said.out, found, "{shell} in {name}: {said:?}");
        }
    }
}

#[test]
fn commands_of_zsh_find_the_shim_until_it_is_uninstalled() {
    let Some(zsh) = needs("zsh") else { return };
    let server = server();
    let mut place = fresh(&server);
    place.env("SHELL", &zsh).install(&[]).ok();
    let finds = |place: &mut Place| {
        let out = place.shell(&[zsh.as_os_str()]).sh("command -v codex").out;
        place.shell(&["sh".as_ref()]);
        out
    };
    assert_eq!(finds(&mut place), format!("{}/bin/codex\n", place.pool().display()));
    place.install(&["--uninstall", "--yes"]).ok();
    assert_eq!(finds(&mut place), "");
    for file in [".zshrc", ".zshenv"] {
        assert_eq!(fs::read_to_string(place.home.join(file)).expect("a start file"), "", "{file}");
    }
}

#[test]
fn folders_can_be_chosen() {
    let server = server();
    let mut place = fresh(&server);
    let (pool, dir) = (place.beside("a pool"), place.beside("some tools"));
    place.env("CODEX_POOL_HOME", &pool).env("INSTALL_DIR", &dir);
    place.install(&[]).ok();
    assert!(dir.join("codex-pool").exists() && pool.join("bin/codex").exists());
    let said = place.sh(". ~/.profile; command -v codex; command -v codex-pool").ok();
    assert_eq!(said.out, format!("{0}/bin/codex\n{0}/bin/codex-pool\n", pool.display()));
    assert!(!place.pool().exists() && !place.tool().exists());

    // The next version goes where this one is.
    server.publish("1.2.4", &releases::target(), releases::good_archive("1.2.4"));
    place.env("INSTALL_DIR", "").install(&[]).ok();
    assert_eq!(fs::read(dir.join("codex-pool")).expect("read"), releases::tool("1.2.4"));

    // A relative folder is meant from here, and stays that one.
    let mut place = fresh(&server);
    place.env("INSTALL_DIR", "here/bin/").install(&[]).ok();
    assert_eq!(place.sh(". ~/.profile; cd /; codex-pool --version").ok().out, "codex-pool 1.2.4\n");
    assert!(place.home.join("here/bin/codex-pool").exists());
}

#[test]
fn start_files_are_only_appended_to() {
    let server = server();
    let mut place = fresh(&server);
    place.env("SHELL", "/bin/bash");
    let (dotfiles, bashrc) = (place.home.join("dotfiles"), place.home.join(".bashrc"));
    fs::write(&dotfiles, "no line break").expect("write");
    symlink("dotfiles", &bashrc).expect("link");
    fs::write(place.home.join(".bash_profile"), "mine\n").expect("write");
    place.install(&[]).ok();
    let line = "[ ! -f \"$HOME/.codex-pool/env\" ] || . \"$HOME/.codex-pool/env\"";
    assert!(bashrc.is_symlink());
    assert_eq!(fs::read_to_string(&dotfiles).expect("read"), format!("no line break\n{line}\n"));
    assert_eq!(
        fs::read_to_string(place.home.join(".bash_profile")).expect("read"),
        format!("mine\n{line}\n")
    );
    assert!(!place.home.join(".profile").exists());
    // The pool is removed by hand: the shell must still start.
    fs::remove_dir_all(place.pool()).expect("remove");
    assert_eq!(place.sh(". ~/.bash_profile; echo alive").ok().out, "alive\n");
}

#[test]
fn start_files_stay_alone_when_asked() {
    let server = server();
    let mut place = fresh(&server);
    let github = place.beside("github_path");
    place.env("NO_MODIFY_PATH", "1").env("GITHUB_PATH", &github);
    let said = place.install(&[]).ok();
    assert!(!place.home.join(".profile").exists() && !github.exists());
    assert!(said.err.contains("the shim is not first on PATH"), "{said:?}");
    assert!(said.err.contains("|| . \"$HOME/.codex-pool/env\""), "{said:?}");
}

#[test]
fn runner_of_a_workflow_learns_the_folders() {
    let server = server();
    let mut place = fresh(&server);
    let github = place.beside("github_path");
    fs::write(&github, "/before\n").expect("write");
    place.env("GITHUB_PATH", &github).install(&[]).ok();
    let expected = format!("/before\n{}\n", place.pool().join("bin").display());
    assert_eq!(fs::read_to_string(&github).expect("read"), expected);
}

#[test]
fn install_says_whether_this_shell_already_uses_the_shim() {
    let server = server();
    let mut place = fresh(&server);
    place.fake_tool("codex", "echo the real one");
    let said = place.install(&[]).ok();
    assert!(said.out.contains("Open a new terminal"), "{said:?}");
    let first = format!("{}:{}", place.pool().join("bin").display(), place.beside("tools").display());
    let said = place.env("PATH", first).install(&[]).ok();
    assert!(!said.out.contains("Open a new terminal") && said.err.is_empty(), "{said:?}");
}

#[test]
fn checkout_builds_and_installs_itself() {
    let mut place = Place::new();
    let checkout = place.beside("a checkout");
    for file in [
        "install.sh",
        "rust-toolchain.toml",
        "scripts/build.sh",
        "scripts/toolchain.sh",
        "scripts/version.sh",
        "Cargo.toml",
        "shim/Cargo.toml",
    ] {
        let to = checkout.join(file);
        fs::create_dir_all(to.parent().expect("folder")).expect("folder");
        fs::copy(repository().join(file), to).expect("copy");
    }
    let version = env!("CARGO_PKG_VERSION");
    let made = place.beside("made");
    write_program(&made.join("codex-pool"), &releases::tool(version));
    write_program(&made.join("codex"), &releases::shim(version));
    place.fake_tool("rustc", "[ \"$PWD\" = / ] && echo host: some-unknown-linux-gnu");
    place.fake_tool(
        "cargo",
        &format!(
            "echo \"$PWD: $*\" >>'{made}/log'\nmkdir -p '{checkout}/target/some-unknown-linux-gnu/release'\n\
             case $* in *crt-static*) exit 1 ;; esac\n\
             cp '{made}/codex-pool' '{made}/codex' '{checkout}/target/some-unknown-linux-gnu/release/'",
            made = made.display(),
            checkout = checkout.display()
        ),
    );
    // No musl to be had, and a glibc that says it is static, and then is not: the plain build has to do.
    place.fake_tool("rustup", &format!("echo \"$PWD: $*\" >>'{}/asked'\nexit 1", made.display()));
    fs::write(made.join("libc.a"), "").expect("write");
    place.fake_tool("cc", &format!("echo '{}/libc.a'", made.display()));

    place.run(&checkout.join("install.sh"), &[]).ok();
    assert_installed(&place, version);
    assert_eq!(receipt(&place)["method"], "source");
    assert_eq!(receipt(&place)["releases"], Value::Null);
    let log = fs::read_to_string(made.join("log")).expect("log");
    // Not in the checkout: cargo and rustup would read the settings of every folder above it.
    let manifest = format!("/: rustc --manifest-path {}/Cargo.toml ", checkout.display());
    assert!(log.lines().all(|line| line.starts_with(&manifest)), "{log}");
    assert!(log.lines().all(|line| line.contains(" --release --locked ")), "{log}");
    assert_eq!(log.matches("crt-static").count(), 1, "{log}");
    let asked = fs::read_to_string(made.join("asked")).expect("rustup was asked");
    let toolchain =
        fs::read_to_string(repository().join("rust-toolchain.toml")).expect("rust-toolchain.toml");
    let toolchain = toolchain.split('"').nth(1).expect("a version");
    let run = format!("/: run {toolchain} rustc --version");
    let install = format!("/: toolchain install {toolchain} --profile minimal");
    let target = "/: target add some-unknown-linux-musl".to_owned();
    assert_eq!(asked.lines().collect::<Vec<_>>(), [run, install, target]);

    // A release asked for by version is not built.
    let server = server();
    place.env("VERSION", V).env("CODEX_POOL_RELEASES", server.base());
    place.run(&checkout.join("install.sh"), &[]).ok();
    assert_installed(&place, V);
}

#[test]
fn pipe_does_not_build_what_happens_to_lie_here() {
    let mut place = Place::new();
    fs::write(place.home.join("published.sh"), Place::published("some/fork")).expect("write");
    place.fake_tool("curl", "exit 22").fake_tool("cargo", "exit 1").fake_tool("rustc", "exit 1");
    let said = place.sh(&format!("cd '{}' && sh <~/published.sh", repository().display()));
    said.fails_with("cannot download https://github.com/some/fork/releases/");
}
