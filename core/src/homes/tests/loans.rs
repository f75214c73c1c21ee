//! Documents that mix two accounts, and tokens that were seen before.

use super::*;

/// The same person's login in another workspace.
fn workspace_b() -> Login {
    Login { workspace: "space-b", ..login("alice") }
}

/// A document of workspace B with the refresh token of workspace A, as Codex writes it when it switches.
fn loan(issued_at: i64) -> Vec<u8> {
    let mut tree = workspace_b().issued(issued_at).tree();
    tree["tokens"]["refresh_token"] = login("alice").tree()["tokens"]["refresh_token"].clone();
    tree.to_string().into_bytes()
}

#[test]
fn loan_leaves_the_login_of_its_account_and_the_home_gets_that_back() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&workspace_b());
    for _ in 0..2 {
        fs::write(lab.live(), loan(1500)).unwrap();
        assert_eq!(lab.reconcile(), stale(&workspace_b()));
        lab.assert_stored(&login("alice"));
        lab.assert_stored(&workspace_b());
        // Also when only the registry knows whose token it is.
        lab.pool.commit(&lab.lock).unwrap();
        lab.pool = open_pool(&lab.lock, &lab.pool.paths, NOW).unwrap();
    }
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &workspace_b());
    assert_eq!(lab.reconcile(), holds(&workspace_b()));
}

#[test]
fn of_a_loan_to_an_account_without_a_login_only_the_access_token_is_taken() {
    let mut lab = Lab::with_live(&login("alice"));
    fs::write(lab.live(), loan(1500)).unwrap();
    assert_eq!(lab.reconcile(), stale(&workspace_b()));
    let stored = lab.stored(&workspace_b()).unwrap();
    assert!(stored.refresh_token().is_none() && stored.issued_at() == Some(1500));
    lab.assert_stored(&login("alice"));
    // Its own login takes that place.
    lab.write(&workspace_b().issued(1600));
    assert_eq!(lab.reconcile(), holds(&workspace_b()));
    lab.assert_stored(&workspace_b().issued(1600));
}

#[test]
fn registry_of_an_earlier_version_learns_the_tokens_that_it_has() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&workspace_b());
    for account in &mut lab.pool.registry_mut().accounts {
        account.refresh_tokens = None;
    }
    lab.pool.commit(&lab.lock).unwrap();
    lab.pool = open_pool(&lab.lock, &lab.pool.paths, NOW).unwrap();
    fs::write(lab.live(), loan(1500)).unwrap();
    assert_eq!(lab.reconcile(), stale(&workspace_b()));
    lab.assert_stored(&workspace_b());
}

#[test]
fn used_login_written_over_a_newer_one_is_replaced_whatever_its_dates_say() {
    let mut lab = Lab::with_live(&login("alice"));
    let rotated = login("alice").refresh("rt-2").issued(1500);
    lab.write(&rotated);
    lab.reconcile();
    // A program copies its older login there, in a document that claims to be newer.
    lab.write(&login("alice").issued(1600));
    assert_eq!(lab.reconcile(), stale(&rotated));
    lab.assert_stored(&rotated);
}
