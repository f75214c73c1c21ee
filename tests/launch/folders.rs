//! Accounts with folders: they are used there and nowhere else, nothing else is used there, and a launch fails rather
//! than fall back on an account that does not belong.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use testkit::{Cmd, Output, World, answered};

/// Who is in most of the pools. Work has a folder.
const TWO: [&str; 2] = ["private", "work"];

/// Work belongs to `acme` in the user's home. Private is live and ranks first.
fn world() -> (World, PathBuf) {
    let world = World::new(&TWO);
    let acme = folder(&world, "acme");
    set(&world, "work", &acme);
    world.rank(&TWO);
    world.make_live("private");
    (world, acme)
}

fn folder(world: &World, name: &str) -> PathBuf {
    let folder = world.home().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn set(world: &World, label: &str, folder: &Path) {
    world.pool(&["set", label, "--folder"]).arg(folder).run().ok();
}

fn exec_in(world: &World, folder: impl AsRef<Path>) -> Cmd {
    world.exec().current_dir(folder)
}

/// Requires that the launch failed for want of an account of the folder, and says the way past.
#[track_caller]
fn refused(output: Output, why: &str) {
    let output = output.expect(4);
    assert!(output.stderr.contains(why), "{output}");
    assert!(output.stderr.contains("with CODEX_POOL=off"), "{output}");
    assert_eq!(output.stderr.lines().count(), 2, "what and next: {output}");
}

#[test]
fn account_with_a_folder_is_used_there_and_nowhere_else() {
    let (world, acme) = world();
    let deep = folder(&world, "acme/src/deep");
    let other = folder(&world, "acme-other");
    for place in [&acme, &deep] {
        answered(exec_in(&world, place).run(), "work");
    }
    world.rank(&["work", "private"]);
    for place in [&other, &world.home().to_owned(), &world.work()] {
        answered(exec_in(&world, place).run(), "private");
    }
    world.pool(&["set", "work", "--no-folders"]).run().ok();
    answered(exec_in(&world, &other).run(), "work");
    world.assert_nothing_lost(&TWO);
}

#[test]
fn working_root_is_what_the_command_line_says() {
    let (world, acme) = world();
    let exec = ["exec", "--skip-git-repo-check"];
    for cd in [vec!["-C", "acme"], vec!["--cd=acme"], vec!["-C", acme.to_str().expect("UTF-8")]] {
        let args: Vec<&str> = exec.into_iter().chain(cd).chain(["hi"]).collect();
        answered(world.codex(&args).current_dir(world.home()).run(), "work");
        answered(world.pool(&["run", "--"]).args(&args).current_dir(world.home()).run(), "work");
    }
    let args = [exec[0], exec[1], "-C", "..", "hi"];
    answered(world.codex(&args).current_dir(&acme).run(), "private");
}

#[test]
fn deepest_folder_decides() {
    let (world, _) = world();
    world.add("lab");
    world.rank(&["private", "lab", "work"]);
    let lab = folder(&world, "acme/lab");
    set(&world, "lab", &lab);
    answered(exec_in(&world, folder(&world, "acme/lab/src")).run(), "lab");
    answered(exec_in(&world, folder(&world, "acme/src")).run(), "work");
    answered(exec_in(&world, world.home()).run(), "private");
    let output = exec_in(&world, &lab).env("CODEX_POOL_ACCOUNT", "work").run();
    refused(output, "~/acme/lab is for lab");
}

#[test]
fn folder_is_known_through_links_and_with_any_name() {
    let (world, acme) = world();
    let link = world.home().join("link");
    symlink(&acme, &link).expect("a link");
    answered(exec_in(&world, &link).run(), "work");
    let args = ["exec", "--skip-git-repo-check", "-C", "link", "hi"];
    answered(world.codex(&args).current_dir(world.home()).run(), "work");
    // A link that is named to `set` stands for the folder it leads to then.
    world.pool(&["set", "work", "--folder", "link"]).current_dir(world.home()).run().ok();
    fs::remove_file(&link).expect("remove the link");
    answered(exec_in(&world, &acme).run(), "work");
    let odd = world.home().join(OsStr::from_bytes(b"b\xfcro \n"));
    fs::create_dir(&odd).expect("a folder");
    set(&world, "work", &odd);
    answered(exec_in(&world, &odd).run(), "work");
    answered(exec_in(&world, &acme).run(), "private");
}

#[test]
fn folder_that_was_removed_keeps_its_account_out_of_all_others() {
    let (world, acme) = world();
    fs::remove_dir(&acme).expect("remove the folder");
    world.rank(&["work", "private"]);
    answered(exec_in(&world, world.home()).run(), "private");
    folder(&world, "acme");
    answered(exec_in(&world, &acme).run(), "work");
}

#[test]
fn exhausted_account_of_a_folder_starts_and_no_other_does() {
    let (world, acme) = world();
    world.cache_usage(&[("private", 10.0, 10.0), ("work", 100.0, 50.0)], 0);
    let output = answered(exec_in(&world, &acme).run(), "work");
    assert!(output.stderr.contains("every account of ~/acme is at its limit"), "{output}");
    // Another one of the folder goes on.
    world.add("colleague");
    set(&world, "colleague", &acme);
    world.cache_usage(&[("private", 10.0, 10.0), ("work", 100.0, 50.0), ("colleague", 90.0, 90.0)], 0);
    answered(exec_in(&world, &acme).run(), "colleague");
}

#[test]
fn named_account_in_conflict_with_a_folder_is_an_error() {
    let (world, acme) = world();
    let live = world.live();
    refused(exec_in(&world, &acme).env("CODEX_POOL_ACCOUNT", "private").run(), "~/acme is for work");
    let run = |label| world.pool(&["run", label, "--", "exec", "hi"]);
    refused(run("private").current_dir(&acme).run(), "~/acme is for work");
    refused(run("work").current_dir(world.home()).run(), "only in ~/acme");
    assert_eq!(world.live(), live, "nothing was switched");
    answered(run("work").current_dir(&acme).run(), "work");
    answered(run("private").current_dir(world.home()).run(), "private");
}

#[test]
fn pin_does_not_count_in_the_folder_of_another_account() {
    let (world, acme) = world();
    world.pool(&["use", "private"]).run().ok();
    answered(exec_in(&world, &acme).run(), "work");
    world.pool(&["use", "work"]).run().ok();
    answered(exec_in(&world, world.home()).run(), "private");
    let quiet = exec_in(&world, world.home()).run();
    assert!(!quiet.stderr.contains("pinned"), "{quiet}");
}

#[test]
fn nested_launch_in_another_folder_obeys_that_folder() {
    let (world, acme) = world();
    // Without the variable, the launch in the ledger says which session it is inside.
    let script = format!("unset CODEX_POOL_ACCOUNT; codex exec one; cd {} && codex exec two", acme.display());
    let outer = world.pool(&["run", "--program", "sh", "--", "-c", &script]).current_dir(world.home());
    let output = outer.run().ok();
    assert_eq!(output.stdout, "hello from private\nhello from work\n", "{output}");
}

#[test]
fn launch_without_a_usable_account_of_the_folder_fails() {
    let (world, acme) = world();
    world.pool(&["disable", "work"]).run().ok();
    refused(
        exec_in(&world, &acme).run(),
        "no account can be picked, and private may not be used here (~/acme is for work)",
    );
    world.pool(&["enable", "work"]).run().ok();
    fs::remove_file(world.stored_path("work")).expect("remove the document");
    refused(exec_in(&world, &acme).run(), "~/acme is for work");
    answered(exec_in(&world, &acme).env("CODEX_POOL", "off").run(), "private");
    // The other way round: the only account left is live, and belongs elsewhere.
    let (world, acme) = self::world();
    answered(exec_in(&world, &acme).run(), "work");
    world.pool(&["disable", "private"]).run().ok();
    refused(exec_in(&world, world.home()).run(), "work may not be used here (only in ~/acme)");
}

#[test]
fn launch_without_a_home_for_the_account_of_the_folder_fails() {
    let (world, acme) = world();
    world.settings("parallel = \"off\"\n");
    let session = world.hold(world.exec());
    refused(exec_in(&world, &acme).run(), "there is no home for work");
    world.settings("");
    answered(exec_in(&world, &acme).run(), "work");
    world.open_gate();
    answered(session.wait(), "private");
}

#[test]
fn locked_or_corrupt_pool_fails_only_what_a_folder_forbids() {
    let (world, acme) = world();
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    refused(exec_in(&world, &acme).run(), "the pool was locked");
    assert_eq!(fs::read_dir(world.pool_home().join("launches")).expect("a ledger").count(), 0);
    answered(exec_in(&world, world.home()).run(), "private");
    drop(lock);
    answered(exec_in(&world, &acme).run(), "work");
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    answered(exec_in(&world, &acme).run(), "work");
    refused(exec_in(&world, world.home()).run(), "work may not be used here (only in ~/acme)");
    drop(lock);
    let registry = world.pool_home().join("accounts.json");
    let whole = fs::read_to_string(&registry).expect("a registry");
    world.write_private(&registry, &whole[..whole.len() - 5]);
    refused(exec_in(&world, &acme).run(), "is corrupt");
    answered(exec_in(&world, &acme).env("CODEX_POOL", "off").run(), "work");
    world.write_private(&registry, "{");
    answered(exec_in(&world, &acme).run(), "work");
}

#[test]
fn login_from_the_environment_is_refused_in_the_folder_of_an_account() {
    let (world, acme) = world();
    let key = |cmd: Cmd| cmd.env("CODEX_API_KEY", "sk-from-the-environment");
    refused(key(exec_in(&world, &acme)).run(), "Codex takes its login from CODEX_API_KEY");
    let output = key(exec_in(&world, world.home())).run();
    assert!(!output.stderr.contains("CODEX_POOL=off"), "{output}");
}

#[test]
fn repository_cannot_say_whose_folder_it_is() {
    let (world, _) = world();
    let evil = folder(&world, "evil");
    fs::create_dir(evil.join(".codex")).expect("a folder");
    for file in [".codex/config.toml", "config.toml", ".codex-pool/config.toml"] {
        let _ = fs::create_dir(evil.join(".codex-pool"));
        fs::write(evil.join(file), "folders = [\".\"]\n[accounts.work]\nfolders = [\".\"]\n")
            .expect("a file");
    }
    answered(exec_in(&world, &evil).run(), "private");
}
