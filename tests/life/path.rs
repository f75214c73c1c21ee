//! PATH: what a new shell finds decides, not what this one has.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::files::write_script;
use testkit::{Codex, World, complains, needs};

use crate::init::{fresh, in_new_shell, init, path};

/// Another `codex`, in a folder that installers put first on PATH.
fn other_codex(world: &World) -> PathBuf {
    let other = world.home().join(".local/bin/codex");
    write_script(&other, "#!/bin/sh\necho other\n");
    other
}

fn append(file: &Path, line: &str) {
    let text = fs::read_to_string(file).unwrap_or_default();
    fs::write(file, format!("{text}{line}\n")).expect("write a start file");
}

/// Returns a check of the doctor, who is called in a shell without the shim.
fn check(world: &World, shell: &Path, id: &str) -> Value {
    let doctor = world.cmd(world.home().join("unpacked/codex-pool")).args(["doctor", "--json"]);
    let json = doctor.env("SHELL", shell).env("PATH", path(world)).run().json();
    let checks = json["checks"].as_array().expect("checks").clone();
    checks.into_iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id}"))
}

#[test]
fn line_below_ours_is_named_by_the_doctor_and_overtaken_by_init() {
    for (shell, file) in [("bash", ".bashrc"), ("zsh", ".zshrc")] {
        let Some(shell) = needs(shell) else { continue };
        let world = fresh(Codex::StandIn);
        let name = shell.to_string_lossy();
        let rc = world.home().join(file);
        append(&rc, "alias ll='ls -l'");
        init(&world, &name, &["--yes"]).run().ok().says(&format!("Added to {}", rc.display()));
        assert_eq!(check(&world, &shell, "new-terminals")["status"], "ok");
        let other = other_codex(&world);
        append(&rc, "export PATH=\"$HOME/.local/bin:$PATH\"");

        let found = check(&world, &shell, "new-terminals");
        assert_eq!(found["status"], "fail", "{found}");
        let said = found["message"].as_str().expect("a message");
        let place = format!("line 3 of {}", rc.display());
        assert!(said.contains(&place) && said.contains(&*other.to_string_lossy()), "{said}");
        let again = init(&world, &name, &["--yes"]).run().ok();
        again.says(&format!("Moved to the end of {}", rc.display()));
        let found = in_new_shell(&world, &shell, "command -v codex").ok();
        found.says(&world.shim().to_string_lossy());
        assert_eq!(check(&world, &shell, "new-terminals")["status"], "ok");
        let text = fs::read_to_string(&rc).expect("a start file");
        assert!(text.starts_with("alias") && text.matches(".codex-pool/env").count() == 2, "{text}");
        let last = init(&world, &name, &["--yes"]).run().ok();
        assert!(!last.stdout.contains("Moved") && !last.stdout.contains("Added"), "{last}");
    }
}

#[test]
fn line_that_no_shell_reaches_is_said_with_what_wins() {
    let Some(bash) = needs("bash") else { return };
    let world = fresh(Codex::StandIn);
    let other = other_codex(&world);
    let rc = world.home().join(".bashrc");
    append(&rc, "PATH=\"$HOME/.local/bin:$PATH\"\nreturn");
    let output = init(&world, &bash.to_string_lossy(), &["--yes"]).run().ok();
    let said =
        format!("still {} in new shells, which line 1 of {} puts first", other.display(), rc.display());
    complains(&output, &said);
}

#[test]
fn commands_of_zsh_find_the_shim_and_cron_is_told_how() {
    let Some(zsh) = needs("zsh") else { return };
    let world = fresh(Codex::StandIn);
    init(&world, &zsh.to_string_lossy(), &["--yes"]).run().ok();
    let found = world.cmd(&zsh).args(["-c", "command -v codex"]).env("PATH", path(&world)).run().ok();
    found.says(&world.shim().to_string_lossy());
    fs::remove_file(world.home().join(".zshenv")).expect("remove it");
    let found = check(&world, &zsh, "new-terminals");
    assert_eq!((found["status"].as_str(), found["fix"].as_str()), (Some("warn"), Some("`codex-pool init`")));
    // Where no start file is read, `init` would not help.
    let found = check(&world, &zsh, "path");
    let fix = found["fix"].as_str().expect("a fix");
    assert!(fix.contains("crontab") && fix.contains(&*world.shim().to_string_lossy()), "{fix}");
    assert!(!fix.contains("init"), "{fix}");
}
