//! The shim, PATH, the link to `codex-pool`, and the real Codex.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::files::write_script;
use testkit::{Cmd, Codex, Sandbox, World, bins, needs};

use super::clinic::{diagnose, doctor, healthy};

/// Returns a command that runs the doctor with this PATH.
fn with_path(world: &World, folders: &[&Path]) -> Cmd {
    let path = std::env::join_paths(folders).expect("a PATH");
    let admin = world.home().join(".local/bin/codex-pool");
    world.cmd(admin).args(["doctor", "--json"]).env("PATH", path)
}

#[test]
fn missing_shim_is_put_back_where_a_build_has_one() {
    let world = healthy();
    fs::remove_file(world.shim()).expect("remove the shim");
    let diagnosis = doctor(&world, &[]);
    assert!(diagnosis.has("shim", "fail", "missing").contains("install"));
    diagnosis.has("path", "fail", "the shim is not on PATH");
    let built = world.cmd(bins::codex_pool()).args(["doctor", "--json", "--fix"]);
    let diagnosis = diagnose(built);
    assert!(diagnosis.fixed().iter().any(|done| done.contains("put the shim in place")), "{diagnosis:#?}");
    diagnosis.well("shim");
    diagnosis.well("path");
    world.codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok().says("hello from");
}

#[test]
fn program_in_the_shims_place_is_not_touched() {
    let world = healthy();
    write_script(&world.shim(), "echo mine");
    doctor(&world, &["--fix"]).has("shim", "fail", "is not codex-pool's shim");
    assert!(fs::read_to_string(world.shim()).expect("still there").contains("echo mine"));
}

#[test]
fn shim_of_another_version_is_named() {
    let Some(cc) = needs("cc") else { return };
    let world = healthy();
    let marker = ["codex-pool-shim", "-marker 0.0.1"].concat();
    let other = world.root().join("other.c");
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
    fs::remove_file(world.shim()).expect("remove the shim");
    world.cmd(cc).arg("-o").arg(world.shim()).arg(&other).run().ok();
    let diagnosis = doctor(&world, &[]);
    diagnosis.has("shim", "fail", "is version 0.0.1");
    diagnosis.has("path", "fail", "of version 0.0.1");
}

#[test]
fn codex_before_the_shim_on_path_is_named() {
    let world = healthy();
    let (bin, real) = (world.pool_home().join("bin"), world.root().join("bin"));
    let system = [Path::new("/usr/bin"), Path::new("/bin")];
    let behind = diagnose(with_path(&world, &[&real, &bin, system[0], system[1]]));
    assert!(behind.has("path", "fail", "comes before the shim").contains("codex-pool init"));
    fs::write(world.pool_home().join("env"), "PATH=…").expect("an env file");
    let absent = diagnose(with_path(&world, &[&real, system[0], system[1]]));
    let fix = absent.has("path", "fail", "the shim is not on PATH");
    assert!(fix.contains(&format!("`. '{}'`", world.pool_home().join("env").display())), "{fix}");
    let nothing = diagnose(with_path(&world, &[system[0], system[1]]));
    nothing.has("path", "fail", "there is no `codex` on PATH");
    nothing.has("codex", "fail", "not installed");
}

#[test]
fn link_to_codex_pool_is_put_right() {
    let world = healthy();
    let link = world.pool_home().join("bin/codex-pool");
    // As a user types it, the first `codex-pool` on PATH would be the one behind the link.
    let admin = world.home().join(".local/bin/codex-pool");
    let doctor = |args: &[&str]| diagnose(world.cmd(&admin).args(["doctor", "--json"]).args(args));
    fs::remove_file(&link).expect("remove the link");
    doctor(&[]).has("codex-pool", "warn", "refresh neither usage nor tokens");
    write_script(&world.root().join("old"), "echo codex-pool 0.0.1");
    symlink(world.root().join("old"), &link).expect("link an old one");
    doctor(&[]).has("codex-pool", "warn", "another codex-pool");
    doctor(&["--fix"]).well("codex-pool");
    assert_eq!(fs::canonicalize(&link).expect("a link"), fs::canonicalize(&admin).expect("a file"));
}

#[test]
fn codex_that_does_not_run_or_is_no_codex_is_named() {
    let world = healthy();
    let codex = world.root().join("bin/codex");
    write_script(&codex, "exit 1");
    doctor(&world, &[]).has("codex", "fail", "does not say its version");
    let named = |path: &Path| diagnose(world.pool(&["doctor", "--json"]).env("CODEX_POOL_CODEX", path));
    named(&world.shim()).has("codex", "fail", "own shim");
    named(&world.root().join("nowhere/codex")).has("codex", "fail", "cannot be executed");
}

#[test]
fn traps_of_the_installed_version_are_told() {
    let world = healthy();
    let codex = world.root().join("bin/codex");
    for (version, status, text) in [
        ("0.120.0", "warn", "cannot be seen"),
        ("0.150.0", "ok", "revokes the old login"),
        ("0.169.0", "ok", "background server"),
    ] {
        write_script(&codex, &format!("echo codex-cli {version}"));
        let diagnosis = doctor(&world, &[]);
        diagnosis.has("codex", "ok", version);
        diagnosis.has("traps", status, text);
    }
}

#[test]
fn missing_codex_is_named_with_the_command_that_installs_it() {
    let world = World::from(Sandbox::builder().codex(Codex::Missing).build());
    super::clinic::fill(&world);
    let diagnosis = doctor(&world, &[]);
    assert!(diagnosis.has("codex", "fail", "not installed").contains("npm install -g @openai/codex"));
    diagnosis.well("registry");
}
