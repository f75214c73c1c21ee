//! How an account that cannot be found is answered, by every command that takes one.

use testkit::World;

use crate::check_said;

#[test]
fn mistyped_accounts_are_answered_with_the_likely_one() {
    let world = World::new(&["work", "private", "uni"]);
    let tried =
        [&["use", "wrok"][..], &["rm", "xyz"], &["refresh", ""], &["run", "prviate"], &["export", "u"]];
    let said: Vec<(String, _)> = tried
        .iter()
        .map(|args| (format!("codex-pool {}", args.join(" ")), world.pool(args).run()))
        .filter(|(_, output)| output.code() != Some(0))
        .collect();
    assert_eq!(said.len(), tried.len() - 1, "the beginning of a label is enough for export");
    check_said(&world, "mistyped-accounts", &said);
}
