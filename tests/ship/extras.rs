//! The manual page and the completions: where install.sh puts them, what it leaves alone, and that they go again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use testkit::{Pty, bins, takes};

use crate::install::{assert_no_leftovers, fresh, server};
use crate::place::{NEIGHBOUR, Place, mode, plays_others, repository};

/// The files, with the folders of data and of settings.
fn extras(data: &Path, config: &Path) -> [PathBuf; 4] {
    [
        data.join("man/man1/codex-pool.1"),
        data.join("bash-completion/completions/codex-pool"),
        data.join("zsh/site-functions/_codex-pool"),
        config.join("fish/completions/codex-pool.fish"),
    ]
}

fn usual(place: &Place) -> [PathBuf; 4] {
    extras(&place.home.join(".local/share"), &place.home.join(".config"))
}

#[track_caller]
fn assert_ours(files: &[PathBuf; 4], version: &str) {
    let texts = ["man", "completions bash", "completions zsh", "completions fish"];
    for (file, what) in files.iter().zip(texts) {
        let text = fs::read_to_string(file).expect("a file for man or a shell");
        assert!(text.starts_with(&format!("{what} of {version}\n")), "{text}");
        let last = text.lines().last().expect("a line");
        let comment = if what == "man" { ".\\\" " } else { "# " };
        assert!(last.starts_with(comment) && last.contains("Written by codex-pool"), "{last}");
        assert_eq!(mode(file), 0o644);
    }
}

#[test]
fn help_for_man_and_the_shells_comes_and_goes() {
    let server = server();
    let place = fresh(&server);
    place.install(&[]).ok();
    assert_ours(&usual(&place), "1.2.3");
    server.publish("1.2.4", &testkit::releases::target(), testkit::releases::good_archive("1.2.4"));
    place.install(&[]).ok();
    assert_ours(&usual(&place), "1.2.4");
    assert_no_leftovers(&place);
    let would = place.install(&["--uninstall", "--dry-run"]).ok().out;
    for file in usual(&place) {
        assert!(would.contains(&format!("Would remove {}\n", file.display())), "{would}");
    }
    let said = place.install(&["--uninstall"]).ok();
    assert!(said.out.contains("Nothing of codex-pool is left"), "{said:?}");
    for file in usual(&place) {
        assert!(!file.exists(), "{}", file.display());
    }
    for dir in [".local/share/man", ".local/share/bash-completion", ".local/share/zsh", ".config/fish"] {
        assert!(!place.home.join(dir).exists(), "{dir} was made and is left");
    }
    let again = place.install(&["--uninstall"]).ok();
    assert_eq!((again.out.lines().count(), again.err.as_str()), (1, ""), "{again:?}");
    assert!(again.out.starts_with("Removed nothing"), "{again:?}");
}

#[test]
fn update_renews_the_help_that_is_there_and_ours() {
    let server = server();
    let place = fresh(&server);
    place.install(&[]).ok();
    for (real, put) in [(bins::codex_pool(), place.tool()), (bins::shim(), place.shim())] {
        fs::copy(real, put).expect("copy a program");
    }
    let [man, bash, zsh, fish] = usual(&place);
    let old = fs::read(&man).expect("a page");
    fs::remove_file(&bash).expect("the user wants none");
    fs::write(&zsh, "mine").expect("another tool's");
    server.publish("9.2.0", &testkit::releases::target(), testkit::releases::good_archive("9.2.0"));
    let said = place.sh(&format!("exec '{}' update --yes", place.tool().display())).ok();
    assert!(said.out.ends_with("and its help for man and the shells (man, fish)\n"), "{said:?}");
    for (file, what) in [(&man, "man"), (&fish, "completions fish")] {
        let text = fs::read_to_string(file).expect("a file for man or a shell");
        assert!(text.starts_with(&format!("{what} of 9.2.0\n")), "{text}");
        assert_eq!(
            (text.lines().last().map(|line| line.contains("Written by")), mode(file)),
            (Some(true), 0o644)
        );
    }
    assert!(fs::read(&man).expect("a page") != old && !bash.exists());
    assert_eq!(fs::read_to_string(&zsh).expect("it stays"), "mine");
    place.install(&["--uninstall"]).ok();
    assert!(!man.exists() && !fish.exists(), "they are still ours");
}

#[test]
fn help_is_found_again_where_xdg_had_it() {
    let server = server();
    let mut place = fresh(&server);
    let (data, config) = (place.home.join("my data"), place.home.join("it's \"config\""));
    place.env("XDG_DATA_HOME", &data).env("XDG_CONFIG_HOME", &config).install(&[]).ok();
    assert_ours(&extras(&data, &config), "1.2.3");
    assert!(usual(&place).iter().all(|file| !file.exists()));
    place.unset("XDG_DATA_HOME").unset("XDG_CONFIG_HOME").install(&["--uninstall"]).ok();
    assert!(extras(&data, &config).iter().all(|file| !file.exists()));

    // Another folder than before: nothing stays in the earlier one, and each file is named once.
    let mut place = fresh(&server);
    let data = place.home.join("my data");
    place.env("XDG_DATA_HOME", &data).install(&[]).ok();
    let (earlier, later) = (extras(&data, &place.home.join(".config")), usual(&place));
    place.unset("XDG_DATA_HOME");
    let would = place.install(&["--uninstall", "--dry-run"]).ok().out;
    for file in &earlier {
        assert_eq!(would.matches(&format!("Would remove {}\n", file.display())).count(), 1, "{would}");
    }
    place.install(&[]).ok();
    assert_ours(&later, "1.2.3");
    assert!(earlier[..3].iter().all(|file| !file.exists()), "they are still in the earlier folder");
    place.install(&["--uninstall"]).ok();
    assert!(later.iter().all(|file| !file.exists()));

    // The same folder by another name is the same.
    let mut place = fresh(&server);
    place.install(&[]).ok();
    let link = place.home.join("link");
    symlink(".local/share", &link).expect("link");
    place.env("XDG_DATA_HOME", &link).install(&[]).ok();
    assert_ours(&usual(&place), "1.2.3");

    // A relative folder counts as none.
    let mut place = fresh(&server);
    place.env("XDG_DATA_HOME", "data").env("XDG_CONFIG_HOME", ".").install(&[]).ok();
    assert_ours(&usual(&place), "1.2.3");
}

#[test]
fn help_of_others_stays() {
    let server = server();
    let place = fresh(&server);
    let files = usual(&place);
    let secret = place.beside("secret");
    fs::write(&secret, "secret\n# Written by codex-pool's install.sh; replaced and removed with it.\n")
        .expect("write");
    for file in &files {
        fs::create_dir_all(file.parent().expect("folder")).expect("folder");
    }
    fs::write(&files[0], "mine\n").expect("write");
    symlink(&secret, &files[1]).expect("link");
    fs::create_dir(&files[2]).expect("folder");
    nix::unistd::mkfifo(&files[3], nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
    let before = fs::read(&secret).expect("read");
    let said = place.install(&[]).ok();
    assert_eq!(said.out.matches("is not codex-pool's, so it stays").count(), 4, "{said:?}");
    let said = place.install(&["--uninstall", "--purge"]).ok();
    assert!(!said.out.contains("completions"), "{said:?}");
    assert_eq!(fs::read(&files[0]).expect("read"), b"mine\n");
    assert!(files[1].is_symlink() && files[2].is_dir() && files[3].symlink_metadata().is_ok());
    assert_eq!(fs::read(&secret).expect("read"), before);
}

#[test]
fn folder_that_others_can_change_gets_no_help() {
    let server = server();
    let mut place = fresh(&server);
    let open = place.beside("open");
    fs::create_dir(&open).expect("folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("chmod");
    let said = place.env("XDG_DATA_HOME", &open).install(&[]).ok();
    assert_eq!(said.err.matches("was left out").count(), 3, "{said:?}");
    assert_eq!(fs::read_dir(&open).expect("read").count(), 0);
    if plays_others() {
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::chown(&open, Some(NEIGHBOUR), None).expect("chown");
        place.install(&[]).ok();
        assert_eq!(fs::read_dir(&open).expect("read").count(), 0);
    }
    assert!(place.tool().exists());
}

#[test]
fn help_comes_with_every_shell() {
    let server = server();
    for shell in ["dash", "bash", "zsh", "ksh", "mksh", "yash"] {
        let Some(shell) = takes(shell) else { continue };
        let mut place = fresh(&server);
        place.shell(&[shell.as_os_str()]).install(&[]).ok();
        assert_ours(&usual(&place), "1.2.3");
        place.install(&["--uninstall"]).ok();
        assert!(usual(&place).iter().all(|file| !file.exists()), "{}", shell.display());
    }
}

/// A checkout whose build says what cargo says, and then does this.
fn checkout(place: &Place, end: &str) -> PathBuf {
    let checkout = place.beside("checkout");
    for file in ["install.sh", "scripts/version.sh", "Cargo.toml", "shim/Cargo.toml"] {
        let to = checkout.join(file);
        fs::create_dir_all(to.parent().expect("folder")).expect("folder");
        fs::copy(repository().join(file), to).expect("copy");
    }
    let build = "for n in $(seq 100); do echo \"   Compiling crate-$n v1.0.$n\" >&2; done\n";
    fs::write(checkout.join("scripts/build.sh"), format!("{build}{end}\n")).expect("write");
    checkout.join("install.sh")
}

#[test]
fn build_says_what_it_does_in_a_few_lines() {
    let mut place = Place::new();
    place.add_tool("seq").fake_tool("cargo", "").fake_tool("rustc", "");
    let script = checkout(&place, "echo 'error: no such thing' >&2; exit 1");
    let said = place.run(&script, &[]).fails_with("the build failed");
    assert!(said.out.contains("1 to 10 minutes") && said.out.contains("/checkout/target"), "{said:?}");
    assert!(said.err.contains("error: no such thing") && !said.err.contains("crate-20 "), "{said:?}");
    let said = place.run(&script, &["-v"]).fails_with("the build failed");
    assert!(said.err.contains("Compiling crate-20 v1.0.20"), "{said:?}");

    // On a terminal: one line that changes.
    let mut cmd = testkit::Cmd::new("/bin/sh").arg(&script).current_dir(&place.home);
    cmd.inner().envs(place.variables());
    let mut terminal = Pty::spawn(cmd, 60, 120);
    assert!(!terminal.wait(std::time::Duration::from_secs(30)).success());
    let raw = terminal.raw();
    assert!(raw.contains("\r  crate 100: crate-100"), "{raw}");
    assert!(!raw.contains("Compiling crate-20 "), "{raw}");
}
