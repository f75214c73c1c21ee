//! Homes of a shared pool: documents without refresh tokens, which never come back as newer ones.

use super::*;
use crate::renewal::exchange_newest;
use crate::shared::Role;

fn access(login: &Login) -> Vec<u8> {
    login.doc().access_only().bytes().to_vec()
}

impl Lab {
    /// With alice live in a pool that is shared, so that her home has no refresh token any more.
    fn shared() -> Lab {
        let mut lab = Lab::with_live(&login("alice"));
        lab.pool.set_shared(Some(Role::Member));
        assert_eq!(lab.reconcile(), stale(&login("alice")));
        exchange_newest(&lab.lock, &mut lab.pool, NOW).unwrap();
        lab
    }

    fn live_bytes(&self) -> Vec<u8> {
        fs::read(self.live()).unwrap()
    }
}

#[test]
fn homes_get_no_refresh_token_while_the_pool_is_shared_and_the_whole_login_afterwards() {
    let mut lab = Lab::shared();
    assert_eq!(lab.live_bytes(), access(&login("alice")));
    lab.assert_stored(&login("alice"));
    assert_eq!(lab.reconcile(), holds(&login("alice")), "and this is how it should be");
    lab.adopt(&login("bob"));
    let own = lab.main_home.own(&lab.pool.paths, login("bob").doc().id());
    own_home::update(&lab.lock, &lab.pool.paths, &lab.main_home, &own, true, NOW).unwrap();
    lab.put(&own, &login("bob"));
    assert_eq!(fs::read(own.auth_json()).unwrap(), access(&login("bob")));
    let renewed = login("alice").refresh("rt-2").issued(1500);
    lab.pool.adopt(&lab.lock, &renewed.doc(), None, Origin::Answer, NOW).unwrap();
    exchange_newest(&lab.lock, &mut lab.pool, NOW).unwrap();
    assert_eq!(lab.live_bytes(), access(&renewed));
    lab.pool.commit(&lab.lock).unwrap();
    lab.pool = open_pool(&lab.lock, &lab.pool.paths, NOW).unwrap();
    assert_eq!(lab.pool.shared(), Some(Role::Member), "the registry says so");
    lab.pool.set_shared(None);
    exchange_newest(&lab.lock, &mut lab.pool, NOW).unwrap();
    assert_eq!(lab.live_bytes(), renewed.doc().bytes());
    assert_eq!(fs::read(own.auth_json()).unwrap(), login("bob").doc().bytes());
}

#[test]
fn document_without_refresh_token_that_comes_back_from_a_home_is_never_newer() {
    let mut lab = Lab::shared();
    let id = login("alice").doc().id().clone();
    for (issued, ended) in [(500, false), (1500, false), (1500, true)] {
        let state = if ended { AuthState::ReauthRequired } else { AuthState::Ok };
        lab.pool.set_auth(&id, state, ended.then_some(AuthReason::Revoked), NOW);
        fs::write(lab.live(), access(&login("alice").issued(issued))).unwrap();
        assert_eq!(lab.reconcile(), stale(&login("alice")), "{issued}");
        lab.assert_stored(&login("alice"));
        exchange_newest(&lab.lock, &mut lab.pool, NOW).unwrap();
        assert_eq!(lab.live_bytes(), access(&login("alice")), "{issued}");
    }
}

#[test]
fn login_that_is_made_in_a_home_is_taken_in_and_the_home_gets_it_without_its_refresh_token() {
    let mut lab = Lab::shared();
    let again = login("alice").refresh("rt-2").issued(1500);
    lab.write(&again);
    assert_eq!(lab.reconcile(), stale(&again));
    lab.assert_stored(&again);
    exchange_newest(&lab.lock, &mut lab.pool, NOW).unwrap();
    assert_eq!(lab.live_bytes(), access(&again));
    lab.assert_stored(&again);
}

#[test]
fn vanished_document_ends_no_login_of_a_shared_pool() {
    let mut lab = Lab::shared();
    fs::remove_file(lab.live()).unwrap();
    assert_eq!(lab.reconcile(), HomeContent::Empty);
    assert_eq!(lab.pool.registry().accounts[0].auth.state, AuthState::Ok);
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("alice"));
    assert_eq!(lab.live_bytes(), access(&login("alice")));
}

#[test]
fn runner_takes_in_no_login_and_leaves_it_where_it_is() {
    let mut lab = Lab::new();
    lab.pool.set_shared(Some(Role::Runner));
    let member = AuthDoc::parse(access(&login("alice"))).unwrap();
    lab.pool.adopt(&lab.lock, &member, None, Origin::Successor, NOW).unwrap();
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("alice"));
    assert_eq!(lab.live_bytes(), access(&login("alice")));
    assert!(lab.pool.registry().accounts[0].access_only.unwrap().by_members);
    lab.write(&login("alice").refresh("rt-2").issued(1500));
    assert!(matches!(lab.reconcile(), HomeContent::Unmanaged(_)));
    assert_eq!(lab.stored(&login("alice")).unwrap().bytes(), member.bytes());
    // What a Codex writes into a file that was just exchanged is kept, and no login of the pool.
    lab.adopt(&login("bob"));
    assert_eq!(lab.pool.registry().accounts.len(), 1);
    assert_eq!(lab.lost(), [login("bob").doc().bytes()]);
}
