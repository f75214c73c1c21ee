//! Folders of accounts: gone, without an account that can be used, or the only ones left.

use std::fs;

use testkit::World;

use super::clinic::{doctor, healthy};

fn bind(world: &World, label: &str, name: &str) {
    let folder = world.home().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    world.pool(&["set", label, "--folder"]).arg(&folder).run().ok();
}

#[test]
fn folder_without_a_usable_account_is_a_problem() {
    let world = healthy();
    bind(&world, "bob", "acme");
    doctor(&world, &[]).has("folders", "ok", "every folder");
    world.pool(&["disable", "bob"]).run().ok();
    let message = "no account of ~/acme can be used (bob: disabled); Codex does not start there";
    doctor(&world, &[]).has("folders", "fail", message);
    bind(&world, "alice", "acme");
    let fix = doctor(&world, &[]).has("folders", "warn", "every account has folders");
    assert!(fix.contains("--no-folders"), "{fix}");
}

#[test]
fn folder_that_is_gone_is_named_with_its_account() {
    let world = healthy();
    bind(&world, "bob", "acme");
    fs::remove_dir(world.home().join("acme")).expect("remove it");
    let fix = doctor(&world, &[]).has("folders", "warn", "~/acme, the folder of bob, does not exist");
    assert!(fix.contains("codex-pool set bob"), "{fix}");
}

#[test]
fn side_by_side_switched_off_is_named_where_accounts_have_folders() {
    let world = healthy();
    bind(&world, "bob", "acme");
    world.settings("parallel = \"off\"\n");
    doctor(&world, &[]).has("folders", "warn", "Codex does not start in a folder while");
}

#[test]
fn pin_that_does_not_count_here_is_told() {
    let world = healthy();
    bind(&world, "bob", "acme");
    world.pool(&["use", "bob"]).run().ok();
    doctor(&world, &[]).has("pick", "ok", "the pin does not count in this folder; bob: only in ~/acme");
}
