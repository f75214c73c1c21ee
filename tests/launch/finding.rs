//! Finding the real Codex: by name, by PATH without any copy of the shim, never in a loop.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use testkit::files::{copy_program, write_script};
use testkit::{Cmd, Codex, World, answered, bins};

/// Returns PATH with these folders first.
fn path_with(world: &World, folders: &[PathBuf]) -> std::ffi::OsString {
    let rest = world.path_var();
    std::env::join_paths(folders.iter().cloned().chain(std::env::split_paths(&rest))).expect("a PATH")
}

#[test]
fn codex_is_found_by_environment_then_settings_then_path() {
    let world = World::new(&["alice"]);
    let named = write_script(&world.root().join("a/mine"), "echo named");
    let set = write_script(&world.root().join("b/other"), "echo set");
    answered(world.exec().run(), "alice");
    world.settings(&format!("codex_path = \"{}\"\n", set.display()));
    assert_eq!(world.exec().run().ok().stdout, "set\n");
    assert_eq!(world.exec().env("CODEX_POOL_CODEX", &named).run().ok().stdout, "named\n");
    let bare = world.exec().env("CODEX_POOL_CODEX", "mine");
    let bare = bare.env("PATH", path_with(&world, &[world.root().join("a")]));
    assert_eq!(bare.run().ok().stdout, "named\n");
}

#[test]
fn copies_of_the_shim_on_path_are_skipped() {
    let world = World::new(&["alice"]);
    let copies = world.root().join("copies");
    for folder in ["a", "b", "c"] {
        fs::create_dir_all(copies.join(folder)).expect("make a folder");
    }
    copy_program(&bins::shim(), &copies.join("a/codex"));
    fs::hard_link(world.shim(), copies.join("b/codex")).expect("hard-link the shim");
    symlink(world.shim(), copies.join("c/codex")).expect("link the shim");
    let path = path_with(&world, &[copies.join("a"), copies.join("b"), copies.join("c")]);
    for shim in [copies.join("a/codex"), copies.join("b/codex"), copies.join("c/codex"), "codex".into()] {
        let output = world.cmd(&shim).args(["exec", "hi"]).env("PATH", &path).run();
        answered(output, "alice");
    }
}

#[test]
fn folders_and_files_that_cannot_be_executed_are_passed_over() {
    let world = World::new(&["alice"]);
    let (a, b) = (world.root().join("a"), world.root().join("b"));
    fs::create_dir_all(a.join("codex")).expect("a folder named codex");
    fs::create_dir_all(&b).expect("make a folder");
    fs::write(b.join("codex"), "#!/bin/sh\necho wrong\n").expect("a file");
    answered(world.exec().env("PATH", path_with(&world, &[a, b])).run(), "alice");
}

#[test]
fn missing_codex_ends_with_127_and_how_to_install_it() {
    let world = World::with(Codex::Missing, &["alice"]);
    let output = world.exec().run().expect(127);
    assert!(output.stdout.is_empty());
    assert!(output.stderr.contains("npm install -g @openai/codex"), "{output}");
    assert_eq!(world.live(), None, "no account is placed for a Codex that does not start");
    let output = world.exec().env("CODEX_POOL_CODEX", "/nowhere/codex").run().expect(127);
    assert!(output.stderr.contains("CODEX_POOL_CODEX names /nowhere/codex"), "{output}");
    // No PATH at all.
    Cmd::new(world.shim()).env("HOME", world.home()).arg("hi").run().expect(127);
}

#[test]
fn codex_that_cannot_be_executed_ends_with_126() {
    let world = World::with(Codex::Missing, &["alice"]);
    let busy = world.root().join("bin/codex");
    copy_program(&bins::standin_codex(), &busy);
    // A file that is open for writing, as during an installation, cannot be executed.
    let _writing = fs::File::options().write(true).open(&busy).expect("open it");
    let output = world.exec().run().expect(126);
    assert!(output.stderr.contains("cannot execute") && output.stderr.contains("bin/codex"), "{output}");
}

#[test]
fn shim_named_as_the_real_codex_is_refused_with_the_way_out() {
    let world = World::new(&["alice"]);
    let output = world.exec().env("CODEX_POOL_CODEX", world.shim()).run().expect(126);
    assert!(output.stderr.contains("name the real Codex"), "{output}");
}

#[test]
fn wrapper_that_calls_codex_again_ends_with_a_clear_error() {
    let world = World::with(Codex::Missing, &["alice"]);
    write_script(&world.root().join("bin/codex"), "exec codex \"$@\"");
    let output = world.exec().run().expect(126);
    assert!(output.stderr.contains("bin/codex calls `codex`"), "{output}");
    assert!(output.stderr.contains("CODEX_POOL_CODEX") && output.stderr.lines().count() == 2, "{output}");
    assert!(world.backend().report().turns.is_empty());
    // The same for a command that needs no account, and with the pool off.
    world.codex(&["--version"]).run().expect(126);
    world.exec().env("CODEX_POOL", "off").run().expect(126);
}

#[test]
fn wrapper_that_calls_the_real_codex_works_with_one_switch() {
    let world = World::new(&["alice", "bob"]);
    let wrapper = write_script(&world.root().join("wrap/codex"), "exec \"$REAL\" \"$@\"");
    let path =
        path_with(&world, &[world.pool_home().join("bin"), wrapper.parent().expect("a folder").to_owned()]);
    let exec = world.exec_as("bob").env("PATH", path).env("REAL", world.real_path());
    answered(exec.run(), "bob");
}

/// Returns the text of a wrapper of another tool, which runs a `codex` on PATH in one of the usual ways, as its child or
/// in its place.
fn wrapper(way: &str, run: &str) -> String {
    let others = "me=$(readlink -f \"$0\"); dir=$(dirname \"$me\"); IFS=:; rest=; past=";
    let find = match way {
        "the first that is not me" => {
            "for d in $PATH; do [ -x \"$d/codex\" ] && [ \"$(readlink -f \"$d/codex\")\" != \"$me\" ] && \
             { next=$d/codex; break; }; done"
        }
        "the next after my place" => {
            "for d in $PATH; do [ -n \"$past\" ] && [ -x \"$d/codex\" ] && { next=$d/codex; break; }; \
             [ \"$d\" = \"$dir\" ] && past=1; done"
        }
        _ => "for d in $PATH; do [ \"$d\" = \"$dir\" ] || rest=$rest:$d; done; PATH=${rest#:}; next=codex",
    };
    format!("{others}; {find}; unset IFS; export PATH\n{run} \"$next\" \"$@\"")
}

#[test]
fn wrappers_of_other_tools_work_before_and_behind_the_shim() {
    for way in ["the first that is not me", "the next after my place", "without my folder"] {
        for run in ["exec", ""] {
            for behind in [false, true] {
                let world = World::new(&["alice", "bob"]);
                let tool = write_script(&world.root().join("tool/codex"), &wrapper(way, run));
                let folder = tool.parent().expect("a folder").to_owned();
                let mut folders = vec![folder, world.pool_home().join("bin")];
                let first = if behind { world.shim() } else { tool };
                if behind {
                    folders.reverse();
                }
                let cmd = world.cmd(&first).args(["exec", "hi"]).env("PATH", path_with(&world, &folders));
                let output = cmd.env("CODEX_POOL_ACCOUNT", "bob").run();
                assert_eq!(output.stdout, "hello from bob\n", "{way}, {run:?}, behind: {behind}: {output}");
            }
        }
    }
}

#[test]
fn wrapper_that_renamed_the_real_codex_works_before_and_behind_the_shim() {
    for behind in [false, true] {
        let world = World::new(&["alice"]);
        let tool =
            write_script(&world.root().join("tool/codex"), "exec \"$(dirname \"$0\")/codex.real\" \"$@\"");
        copy_program(&world.real_path(), &tool.with_file_name("codex.real"));
        let mut folders = vec![tool.parent().expect("a folder").to_owned(), world.pool_home().join("bin")];
        if behind {
            folders.reverse();
        }
        world.make_live("alice");
        let cmd = world.cmd("codex").args(["exec", "hi"]).env("PATH", path_with(&world, &folders));
        answered(cmd.run(), "alice");
    }
}

#[test]
fn two_wrappers_that_call_codex_again_lead_to_the_real_one() {
    let world = World::new(&["alice"]);
    for name in ["one", "two"] {
        write_script(&world.root().join(name).join("codex"), "codex \"$@\"");
    }
    let bin = world.pool_home().join("bin");
    let path = path_with(&world, &[bin, world.root().join("one"), world.root().join("two")]);
    answered(world.exec().env("PATH", &path).run(), "alice");
    // One that the settings name is a wrapper, too.
    let named = world.exec().env("PATH", &path).env("CODEX_POOL_CODEX", world.root().join("two/codex"));
    answered(named.run(), "alice");
}

#[test]
fn depth_starts_again_in_a_new_thread() {
    let world = World::new(&["alice"]);
    world.exec().env("CODEX_POOL_DEPTH", "50").run().expect(126);
    world.exec().env("CODEX_POOL_DEPTH", "50:t1").env("CODEX_THREAD_ID", "t1").run().expect(126);
    let fresh = world.exec().env("CODEX_POOL_DEPTH", "50:t1").env("CODEX_THREAD_ID", "t2");
    answered(fresh.run(), "alice");
}

#[test]
fn real_codex_answers_behind_two_copies_of_the_shim() {
    let Some(world) = World::real(&["alice"]) else { return };
    let copies = world.root().join("copies");
    copy_program(&bins::shim(), &copies.join("codex"));
    answered(world.exec().env("PATH", path_with(&world, &[copies])).run(), "alice");
}
