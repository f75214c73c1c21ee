//! Homes in temporary folders: what is found is adopted, what is put there is whole, and nothing is lost whatever
//! another process does in between.

mod loans;
mod login_homes;
mod memories;
mod own;
mod put;
mod shared;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::in_use::{HomeUser, Processes, UserKind};
use super::*;
use crate::account::{AuthReason, AuthState};
use crate::auth_doc::AuthDoc;
use crate::auth_doc::tests::{Login, login};
use crate::files::PoolLock;
use crate::ledger::{self, LaunchEntry, LaunchKind, Ledger};
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::process::ProcessId;
use crate::store::{LostFound, Origin, path_key};

const NOW: i64 = 1_800_000_000;

/// A pool and a main home that is not in use.
struct Lab {
    dir: tempfile::TempDir,
    lock: PoolLock,
    pool: Pool,
    main_home: CodexHome,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let paths = PoolPaths::new(root.join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let pool = open_pool(&lock, &paths, NOW).unwrap();
        fs::create_dir(root.join("codex")).unwrap();
        let main_home = CodexHome::main(root.join("codex"));
        Lab { dir, lock, pool, main_home }
    }

    /// With this account live and reconciled.
    fn with_live(login: &Login) -> Lab {
        let mut lab = Lab::new();
        lab.write(login);
        assert_eq!(lab.reconcile(), holds(login));
        lab
    }

    fn live(&self) -> PathBuf {
        self.main_home.dir().join("auth.json")
    }

    /// Writes the live document, in place like Codex.
    fn write(&self, login: &Login) {
        fs::write(self.live(), login.doc().bytes()).unwrap();
    }

    fn adopt(&mut self, login: &Login) {
        self.pool.adopt(&self.lock, &login.doc(), None, Origin::Found, NOW).unwrap();
    }

    fn reconcile(&mut self) -> HomeContent {
        reconcile(&self.lock, &mut self.pool, &self.main_home, NOW).unwrap()
    }

    fn put(&mut self, home: &CodexHome, login: &Login) {
        let processes = self.processes();
        put(&self.lock, &mut self.pool, &processes, home, login.doc().id(), NOW).unwrap();
    }

    fn processes(&self) -> Processes {
        Processes::read(Some(&self.lock), &self.pool.paths, NOW)
    }

    fn stored(&self, login: &Login) -> Option<AuthDoc> {
        self.pool.credentials().load(login.doc().id()).unwrap()
    }

    #[track_caller]
    fn assert_stored(&self, login: &Login) {
        assert_eq!(self.stored(login).expect("in the pool").bytes(), login.doc().bytes());
    }

    fn lost(&self) -> Vec<Vec<u8>> {
        LostFound::new(&self.pool.paths).entries().iter().map(|kept| fs::read(&kept.path).unwrap()).collect()
    }
}

fn holds(login: &Login) -> HomeContent {
    HomeContent::Account { id: login.doc().id().clone(), stale: false }
}

fn stale(login: &Login) -> HomeContent {
    HomeContent::Account { id: login.doc().id().clone(), stale: true }
}

#[test]
fn nothing_is_nothing_and_an_unknown_login_is_adopted() {
    let mut lab = Lab::new();
    assert_eq!(lab.reconcile(), HomeContent::Empty);
    lab.write(&login("alice"));
    assert_eq!(lab.reconcile(), holds(&login("alice")));
    lab.assert_stored(&login("alice"));
    assert_eq!(lab.pool.adopted, [login("alice").doc().id().clone()]);
    assert_eq!(lab.pool.registry().accounts[0].label, "alice");
    assert_eq!(lab.reconcile(), holds(&login("alice")), "and nothing more happens");
    assert_eq!(lab.pool.adopted.len(), 1);
}

#[test]
fn a_home_that_changed_wins_over_a_store_that_did_not() {
    let mut lab = Lab::with_live(&login("alice"));
    for rotated in [login("alice").refresh("rt-2").issued(1500), login("alice").refresh("rt-3").issued(1500)]
    {
        lab.write(&rotated);
        assert_eq!(lab.reconcile(), holds(&rotated));
        lab.assert_stored(&rotated);
    }
}

#[test]
fn a_store_that_changed_makes_an_unchanged_home_stale() {
    let mut lab = Lab::with_live(&login("alice"));
    let renewed = login("alice").refresh("rt-2").issued(1500);
    lab.adopt(&renewed);
    assert_eq!(lab.reconcile(), stale(&renewed));
    lab.assert_stored(&renewed);
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &renewed);
    assert_eq!(lab.reconcile(), holds(&renewed));
}

#[test]
fn when_both_changed_the_newer_wins_and_the_loser_is_kept() {
    for (home_issued, store_issued) in [(1500, 1400), (1400, 1500)] {
        let mut lab = Lab::with_live(&login("alice"));
        let (mine, theirs) = (
            login("alice").refresh("rt-home").issued(home_issued),
            login("alice").refresh("rt-store").issued(store_issued),
        );
        lab.adopt(&theirs);
        lab.write(&mine);
        let (winner, loser) = if home_issued > store_issued { (&mine, &theirs) } else { (&theirs, &mine) };
        assert_eq!(lab.reconcile(), if home_issued > store_issued { holds(&mine) } else { stale(&mine) });
        lab.assert_stored(winner);
        assert!(lab.lost().contains(&loser.doc().bytes().to_vec()));
    }
}

#[test]
fn a_mixed_document_is_adopted_under_its_claims_and_is_stale() {
    let mut lab = Lab::new();
    let mut tree = login("alice").tree();
    tree["tokens"]["account_id"] = "bob".into();
    fs::write(lab.live(), tree.to_string()).unwrap();
    assert_eq!(lab.reconcile(), stale(&login("alice")));
    assert!(lab.stored(&login("alice")).unwrap().same_credentials(&login("alice").doc()));
    assert!(lab.stored(&login("bob")).is_none());
    assert_eq!(lab.reconcile(), stale(&login("alice")), "until it is");
}

#[test]
fn a_login_that_vanished_is_logged_out_but_a_folder_that_vanished_is_not() {
    let mut lab = Lab::with_live(&login("alice"));
    fs::remove_file(lab.live()).unwrap();
    assert_eq!(lab.reconcile(), HomeContent::Empty);
    let auth = &lab.pool.registry().accounts[0].auth;
    assert_eq!(
        (auth.state, auth.reason.clone(), auth.since),
        (AuthState::ReauthRequired, Some(AuthReason::LoggedOut), Some(NOW))
    );
    lab.assert_stored(&login("alice"));
    // The same person logs in again.
    lab.write(&login("alice").refresh("rt-2").issued(1500));
    lab.reconcile();
    assert_eq!(lab.pool.registry().accounts[0].auth.state, AuthState::Ok);

    fs::remove_dir_all(lab.main_home.dir()).unwrap();
    assert_eq!(lab.reconcile(), HomeContent::Empty);
    assert_eq!(lab.pool.registry().accounts[0].auth.state, AuthState::Ok);
}

#[test]
fn partial_document_is_being_written_for_two_seconds_then_abandoned() {
    let mut lab = Lab::new();
    let main_home = lab.main_home.clone();
    for text in ["", "{\"tokens\"", "{}"] {
        fs::write(lab.live(), text).unwrap();
        assert_eq!(lab.reconcile(), HomeContent::BeingWritten);
        let file = fs::File::options().write(true).open(lab.live()).unwrap();
        for age in [Duration::from_secs(3), Duration::from_secs(1_000_000)] {
            file.set_modified(SystemTime::now() - age).unwrap();
            assert_eq!(lab.reconcile(), HomeContent::Broken);
        }
        file.set_modified(SystemTime::now() + Duration::from_secs(1000)).unwrap();
        assert_eq!(
            HomeContent::read(&lab.pool.paths, &main_home),
            HomeContent::Broken,
            "a wrong clock is no sign of writing"
        );
        assert!(lab.live().exists(), "looking changes nothing");
        clear_broken(&lab.lock, &mut lab.pool, &main_home, NOW).unwrap();
        assert!(!lab.live().exists());
        assert_eq!(lab.lost().iter().any(|lost| lost == text.as_bytes()), !text.is_empty());
    }
}

#[test]
fn what_cannot_be_managed_or_read_is_told_and_left() {
    let mut lab = Lab::new();
    fs::write(lab.live(), "{\"agent_identity\": {}}").unwrap();
    assert!(matches!(lab.reconcile(), HomeContent::Unmanaged(_)));
    fs::remove_file(lab.live()).unwrap();
    fs::create_dir(lab.live()).unwrap();
    assert!(matches!(lab.reconcile(), HomeContent::Unreadable(_)));
    assert!(lab.pool.registry().accounts.is_empty() && lab.lost().is_empty());
}

#[test]
fn an_account_that_left_the_registry_is_adopted_again_when_it_is_live() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.pool.registry_mut().accounts.clear();
    assert_eq!(lab.reconcile(), holds(&login("alice")));
    assert_eq!(lab.pool.registry().accounts.len(), 1);
    fs::remove_file(lab.pool.paths.auth(login("alice").doc().id())).unwrap();
    assert_eq!(lab.reconcile(), holds(&login("alice")));
    lab.assert_stored(&login("alice"));
}

#[test]
fn remembered_homes_are_reconciled_and_those_of_one_account_found() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&login("bob"));
    let home = lab.main_home.own(&lab.pool.paths, login("bob").doc().id());
    lab.put(&home, &login("bob"));
    let rotated = login("bob").refresh("rt-2").issued(1500);
    fs::write(home.auth_json(), rotated.doc().bytes()).unwrap();
    reconcile_all(&lab.lock, &mut lab.pool, &Ledger::default(), NOW).unwrap();
    lab.assert_stored(&rotated);
    let homes = homes_with(&lab.lock, &mut lab.pool, rotated.doc().id(), NOW).unwrap();
    assert_eq!(homes, [home]);
}

#[test]
fn a_login_in_a_forgotten_home_is_renewed_and_removed_with_the_others() {
    // A launch into it was killed, and so was the next one, after it had tidied the ledger.
    let mut lab = Lab::new();
    let bob = login("bob").doc();
    let home = lab.main_home.own(&lab.pool.paths, bob.id());
    fs::create_dir_all(home.dir()).unwrap();
    fs::write(home.auth_json(), bob.bytes()).unwrap();
    lab.adopt(&login("bob").refresh("rt-2").issued(1500));
    let homes = homes_with(&lab.lock, &mut lab.pool, bob.id(), NOW).unwrap();
    assert_eq!(homes, std::slice::from_ref(&home));
    lab.pool.state_mut().homes.clear();
    clear_homes(&lab.lock, &mut lab.pool, bob.id(), NOW).unwrap();
    assert!(!home.auth_json().exists());
    lab.assert_stored(&login("bob").refresh("rt-2").issued(1500));
}

#[test]
fn a_home_and_its_kind_are_known_by_the_place_of_its_file() {
    let lab = Lab::new();
    let (paths, main_home) = (&lab.pool.paths, &lab.main_home);
    let me = ProcessId::of_self().unwrap();
    let bob = login("bob").doc().id().clone();
    for (home, kind) in [
        (main_home.clone(), HomeKind::Main),
        (main_home.own(paths, &bob), HomeKind::Own(bob.clone())),
        (main_home.own_nth(paths, &bob, 2), HomeKind::Own(bob)),
        (main_home.login(paths, &me), HomeKind::Login),
        (main_home.without_account(paths, 1), HomeKind::WithoutAccount),
        (main_home.without_account(paths, 2), HomeKind::WithoutAccount),
    ] {
        assert_eq!(home.kind(), &kind);
        let known = CodexHome::of_auth_json(paths, &home.auth_json()).unwrap();
        assert_eq!((known.dir(), known.kind()), (home.dir(), &kind));
    }
    let other = CodexHome::main(lab.dir.path().join("other"));
    assert_ne!(main_home.dir_of_homes(paths), other.dir_of_homes(paths));
}

#[test]
fn a_link_is_the_users_or_ours_by_where_it_leads() {
    let lab = Lab::new();
    let root = lab.main_home.dir().parent().unwrap().to_owned();
    let find = || AuthFile::find(&lab.pool.paths, lab.live());
    assert_eq!(find().unwrap().link, Link::None);
    let link = |target: &std::path::Path| {
        let _ = fs::remove_file(lab.live());
        symlink(target, lab.live()).unwrap();
    };
    fs::create_dir(root.join("dotfiles")).unwrap();
    link("../dotfiles/auth.json".as_ref());
    assert_eq!(
        (find().unwrap().link, find().unwrap().real),
        (Link::Users, root.join("dotfiles/auth.json")),
        "dangling"
    );
    // Through a chain, also one that dangles.
    symlink("auth.json", root.join("dotfiles/chain")).unwrap();
    link(&root.join("dotfiles/chain"));
    assert_eq!(find().unwrap().real, root.join("dotfiles/auth.json"));
    fs::create_dir_all(root.join("pool/homes/x")).unwrap();
    for ours in ["pool/homes/x/auth.json", "pool/nowhere/auth.json"] {
        link(&root.join(ours));
        assert!(find().is_err() || find().unwrap().link == Link::Ours, "{ours}");
    }
    link(&lab.live());
    assert!(find().is_err(), "a loop");
}

#[test]
fn a_launch_is_a_login_by_its_kind_and_not_by_its_name() {
    let lab = Lab::new();
    let me = ProcessId::of_self().unwrap();
    let pid = std::os::unix::process::parent_id();
    let start_ticks = crate::process::stat(pid).unwrap().start_ticks;
    let entry = LaunchEntry {
        env: std::collections::BTreeMap::new(),
        account: None,
        home: path_key(&lab.main_home.auth_json()),
        cwd: None,
        folders: Vec::new(),
        started_at: NOW,
        command: "my-login".to_owned(),
        kind: LaunchKind::Session,
        attached: false,
        stays: false,
    };
    for (kind, user) in [
        (LaunchKind::Session, UserKind::Launch("my-login".to_owned())),
        (LaunchKind::Login, UserKind::Login),
        (LaunchKind::Logout, UserKind::Login),
    ] {
        let process = ProcessId { pid, start_ticks, ..me.clone() };
        ledger::record(&lab.pool.paths, &process, &LaunchEntry { kind, ..entry.clone() }).unwrap();
        let users = lab.processes().launches_in(&lab.main_home);
        assert_eq!(users, [HomeUser { kind: user, pid: Some(pid), account: None }]);
    }
}

#[test]
fn an_empty_home_is_free_and_an_unreadable_ledger_means_in_use() {
    let lab = Lab::new();
    let home = &lab.main_home;
    assert_eq!(lab.processes().users_of_home(&lab.pool, home, home, home.dir()), []);
    assert!(!lab.processes().incomplete());
    fs::write(lab.pool.paths.launches(), "no folder").unwrap();
    assert!(lab.processes().incomplete());
    assert!(!lab.processes().users_of_home(&lab.pool, home, home, home.dir()).is_empty());
    assert_eq!(path_key(&home.auth_json()), home.auth_json().to_str().unwrap());
}

#[test]
fn a_copy_in_the_pool_that_is_damaged_or_older_makes_no_home_stale() {
    let newer = login("alice").refresh("rt-2").issued(1500);
    let older = login("alice").doc().bytes().to_vec();
    for put_there in [b"{\"tokens\": {".to_vec(), Vec::new(), older] {
        let mut lab = Lab::with_live(&newer);
        fs::write(lab.pool.paths.auth(newer.doc().id()), &put_there).unwrap();
        assert_eq!(lab.reconcile(), holds(&newer));
        lab.assert_stored(&newer);
        assert_eq!(lab.lost().contains(&put_there), !put_there.is_empty());
    }
}

#[test]
fn a_renewal_within_one_second_that_ends_sooner_is_still_the_newer() {
    let before = login("alice").issued(1500);
    let renewed = Login { expires_at: before.expires_at - 1, ..login("alice").issued(1500).refresh("rt-2") };
    let mut lab = Lab::with_live(&before);
    lab.pool.credentials().put(&lab.lock, &renewed.doc()).unwrap();
    assert_eq!(lab.reconcile(), stale(&before));
    lab.assert_stored(&renewed);
}

#[test]
fn that_we_took_a_login_away_is_known_before_it_is_gone() {
    let mut lab = Lab::with_live(&login("alice"));
    let main_home = lab.main_home.clone();
    // As when we are killed: nothing is written down after the file is gone, or could not go.
    fs::remove_file(lab.live()).unwrap();
    fs::create_dir(lab.live()).unwrap();
    vacate(&lab.lock, &mut lab.pool, &main_home, NOW).unwrap_err();
    fs::remove_dir(lab.live()).unwrap();
    lab.pool = open_pool(&lab.lock, &lab.pool.paths, NOW).unwrap();
    assert_eq!(lab.reconcile(), HomeContent::Empty);
    assert_eq!(lab.pool.registry().accounts[0].auth.state, AuthState::Ok);
    // Where the file was left, it is a home as before: a logout there is one.
    lab.write(&login("alice"));
    lab.reconcile();
    vacate(&lab.lock, &mut lab.pool, &main_home, NOW).unwrap();
    lab.pool = open_pool(&lab.lock, &lab.pool.paths, NOW).unwrap();
    lab.write(&login("alice"));
    lab.reconcile();
    fs::remove_file(lab.live()).unwrap();
    assert_eq!(lab.reconcile(), HomeContent::Empty);
    assert_eq!(lab.pool.registry().accounts[0].auth.state, AuthState::ReauthRequired);
}

#[test]
fn what_is_written_while_a_login_is_taken_away_is_not_lost() {
    let mut lab = Lab::with_live(&login("alice"));
    let rotated = login("alice").refresh("rt-2").issued(1500);
    // After the last look at it.
    lab.write(&rotated);
    let main_home = lab.main_home.clone();
    vacate(&lab.lock, &mut lab.pool, &main_home, NOW).unwrap();
    lab.assert_stored(&rotated);
}

#[test]
fn a_link_never_leads_to_itself_however_the_pool_is_spelled() {
    let mut lab = Lab::with_live(&login("alice"));
    let root = lab.dir.path().canonicalize().unwrap();
    symlink(&root, root.join("by another name")).unwrap();
    lab.pool.paths = PoolPaths::new(root.join("by another name/pool"));
    let other = CodexHome::main(root.join("other"));
    fs::create_dir(other.dir()).unwrap();
    lab.put(&other, &login("alice"));
    let home = lab.main_home.own(&lab.pool.paths, login("alice").doc().id());
    assert_eq!(fs::canonicalize(lab.live()).unwrap(), fs::canonicalize(home.auth_json()).unwrap());
    lab.put(&home, &login("alice"));
    assert_eq!(fs::read(home.auth_json()).unwrap(), login("alice").doc().bytes());
    assert!(!home.auth_json().is_symlink());
}
