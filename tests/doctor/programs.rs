//! The shim, PATH, the link to `codex-pool`, and the real Codex.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::{Cmd, Codex, Sandbox, bins};

use super::clinic::{diagnose, doctor, healthy, set_mode};

pub(crate) fn script(path: &Path, text: &str) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("make it");
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("write a script");
    set_mode(path, 0o755);
}

/// The doctor with this PATH.
fn with_path(sandbox: &Sandbox, folders: &[&Path]) -> Cmd {
    let path = std::env::join_paths(folders).expect("a PATH");
    let admin = sandbox.home().join(".local/bin/codex-pool");
    sandbox.cmd(admin).args(["doctor", "--json"]).env("PATH", path)
}

#[test]
fn a_missing_shim_is_put_back_where_a_build_has_one() {
    let sandbox = healthy();
    fs::remove_file(sandbox.shim()).expect("remove the shim");
    let diagnosis = doctor(&sandbox, &[]);
    assert!(diagnosis.has("shim", "fail", "missing").contains("install"));
    diagnosis.has("path", "fail", "the shim is not on PATH");
    let built = sandbox.cmd(bins::codex_pool()).args(["doctor", "--json", "--fix"]);
    let diagnosis = diagnose(built);
    assert!(diagnosis.mended().iter().any(|done| done.contains("put the shim in place")), "{diagnosis:#?}");
    diagnosis.well("shim");
    diagnosis.well("path");
    sandbox.codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok().says("hello from");
}

#[test]
fn a_program_in_the_shims_place_is_not_touched() {
    let sandbox = healthy();
    script(&sandbox.shim(), "echo mine");
    doctor(&sandbox, &["--fix"]).has("shim", "fail", "is not codex-pool's shim");
    assert!(fs::read_to_string(sandbox.shim()).expect("still there").contains("echo mine"));
}

#[test]
fn a_shim_of_another_version_is_named() {
    let sandbox = healthy();
    let marker = ["codex-pool-shim", "-marker 0.0.1"].concat();
    let other = sandbox.root().join("other.c");
    // Where the shim has its marker: on Linux in a note.
    let marked = if cfg!(target_os = "linux") {
        format!(
            "__asm__(\".section .note.codex-pool,\\\"a\\\",%note\\n.long 11, 2f - 1f, 1\\n\"\n\
             \".asciz \\\"codex-pool\\\"\\n.byte 0\\n1: .ascii \\\"{marker}\\\"\\n2:\\n.previous\");"
        )
    } else {
        format!("__attribute__((used)) static const char marker[] = \"{marker}\";")
    };
    let main = "int main(void) { puts(\"codex-shim 0.0.1\"); return 0; }";
    fs::write(&other, format!("#include <stdio.h>\n{marked}\n{main}\n")).expect("write a program");
    fs::remove_file(sandbox.shim()).expect("remove the shim");
    sandbox.cmd("cc").arg("-o").arg(sandbox.shim()).arg(&other).run().ok();
    let diagnosis = doctor(&sandbox, &[]);
    diagnosis.has("shim", "fail", "is version 0.0.1");
    diagnosis.has("path", "fail", "of version 0.0.1");
}

#[test]
fn a_codex_before_the_shim_on_path_is_named() {
    let sandbox = healthy();
    let (bin, real) = (sandbox.pool_home().join("bin"), sandbox.root().join("bin"));
    let system = [Path::new("/usr/bin"), Path::new("/bin")];
    let behind = diagnose(with_path(&sandbox, &[&real, &bin, system[0], system[1]]));
    assert!(behind.has("path", "fail", "comes before the shim").contains("codex-pool init"));
    fs::write(sandbox.pool_home().join("env"), "PATH=…").expect("an env file");
    let absent = diagnose(with_path(&sandbox, &[&real, system[0], system[1]]));
    let fix = absent.has("path", "fail", "the shim is not on PATH");
    assert!(fix.contains(&format!("`. '{}'`", sandbox.pool_home().join("env").display())), "{fix}");
    let nothing = diagnose(with_path(&sandbox, &[system[0], system[1]]));
    nothing.has("path", "fail", "there is no `codex` on PATH");
    nothing.has("codex", "fail", "not installed");
}

#[test]
fn the_link_to_codex_pool_is_put_right() {
    let sandbox = healthy();
    let link = sandbox.pool_home().join("bin/codex-pool");
    // As a user types it, the first `codex-pool` on PATH would be the one behind the link.
    let admin = sandbox.home().join(".local/bin/codex-pool");
    let doctor = |args: &[&str]| diagnose(sandbox.cmd(&admin).args(["doctor", "--json"]).args(args));
    fs::remove_file(&link).expect("remove the link");
    doctor(&[]).has("codex-pool", "warn", "refresh neither usage nor tokens");
    script(&sandbox.root().join("old"), "echo codex-pool 0.0.1");
    symlink(sandbox.root().join("old"), &link).expect("link an old one");
    doctor(&[]).has("codex-pool", "warn", "another codex-pool");
    doctor(&["--fix"]).well("codex-pool");
    assert_eq!(fs::canonicalize(&link).expect("a link"), fs::canonicalize(&admin).expect("a file"));
}

#[test]
fn a_codex_that_does_not_run_or_is_no_codex_is_named() {
    let sandbox = healthy();
    let codex = sandbox.root().join("bin/codex");
    script(&codex, "exit 1");
    doctor(&sandbox, &[]).has("codex", "fail", "does not say its version");
    let named = |path: &Path| diagnose(sandbox.pool(&["doctor", "--json"]).env("CODEX_POOL_CODEX", path));
    named(&sandbox.shim()).has("codex", "fail", "own shim");
    named(&sandbox.root().join("nowhere/codex")).has("codex", "fail", "cannot be executed");
}

#[test]
fn the_traps_of_the_installed_version_are_told() {
    let sandbox = healthy();
    let codex = sandbox.root().join("bin/codex");
    for (version, status, text) in [
        ("0.120.0", "warn", "cannot be noticed"),
        ("0.150.0", "ok", "revokes the old login"),
        ("0.169.0", "ok", "background server"),
    ] {
        script(&codex, &format!("echo codex-cli {version}"));
        let diagnosis = doctor(&sandbox, &[]);
        diagnosis.has("codex", "ok", version);
        diagnosis.has("traps", status, text);
    }
}

#[test]
fn without_codex_there_is_a_command_that_installs_it() {
    let sandbox = Sandbox::builder().codex(Codex::Missing).build();
    super::clinic::fill(&sandbox);
    let diagnosis = doctor(&sandbox, &[]);
    assert!(diagnosis.has("codex", "fail", "not installed").contains("npm install -g @openai/codex"));
    diagnosis.well("registry");
}
