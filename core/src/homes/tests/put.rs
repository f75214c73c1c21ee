//! Putting documents into homes.

use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn a_swap_writes_the_whole_document_privately_and_remembers_it() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&login("bob"));
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("bob"));
    assert_eq!(fs::read(lab.live()).unwrap(), login("bob").doc().bytes());
    assert_eq!(fs::metadata(lab.live()).unwrap().mode() & 0o777, 0o600);
    let memory = lab.pool.state().home(&lab.live()).unwrap();
    assert_eq!((&memory.account, &memory.hash), (login("bob").doc().id(), &login("bob").doc().hash()));
    assert_eq!(lab.reconcile(), holds(&login("bob")));
    lab.assert_stored(&login("alice"));
    let names: Vec<_> = fs::read_dir(lab.main_home.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    let expected = ["auth.json", "auth.json.lock", "auth.lock"];
    assert!(names.len() == 3 && expected.iter().all(|name| names.iter().any(|n| n == name)), "{names:?}");
}

#[test]
fn without_credentials_the_home_holds_what_it_held() {
    let mut lab = Lab::with_live(&login("alice"));
    let (main_home, processes) = (lab.main_home.clone(), lab.processes());
    let id = login("bob").doc().id().clone();
    put(&lab.lock, &mut lab.pool, &processes, &main_home, &id, NOW).unwrap_err();
    lab.adopt(&login("bob"));
    fs::write(lab.pool.paths.auth(&id), "{ broken").unwrap();
    put(&lab.lock, &mut lab.pool, &processes, &main_home, &id, NOW).unwrap_err();
    assert_eq!(lab.reconcile(), holds(&login("alice")));
}

#[test]
fn what_was_written_between_reconciling_and_the_swap_is_adopted() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&login("bob"));
    let rotated = login("alice").refresh("rt-2").issued(1500);
    lab.write(&rotated);
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("bob"));
    lab.assert_stored(&rotated);
}

#[test]
fn what_was_being_written_during_the_swap_is_waited_for() {
    use std::io::Write;
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&login("bob"));
    let rotated = login("alice").refresh("rt-2").issued(1500);
    let bytes = rotated.doc().bytes().to_vec();
    // Codex has opened and cut the file, and goes on in it after the swap.
    let mut file = fs::File::create(lab.live()).unwrap();
    file.write_all(&bytes[..100]).unwrap();
    let main_home = lab.main_home.clone();
    let inode = fs::metadata(lab.live()).unwrap().ino();
    let live = lab.live();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while fs::metadata(&live).unwrap().ino() == inode {
                std::thread::yield_now();
            }
            file.write_all(&bytes[100..]).unwrap();
        });
        lab.put(&main_home, &login("bob"));
    });
    lab.assert_stored(&rotated);
    assert_eq!(lab.reconcile(), holds(&login("bob")));
}

#[test]
fn what_makes_no_sense_in_the_replaced_file_is_kept_aside() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&login("bob"));
    fs::write(lab.live(), "{\"half").unwrap();
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("bob"));
    assert_eq!(lab.lost(), [b"{\"half"]);
}

#[test]
fn a_login_of_another_account_between_reconciling_and_the_swap_is_adopted() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&login("bob"));
    lab.write(&login("carol"));
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("bob"));
    lab.assert_stored(&login("carol"));
    assert_eq!(lab.pool.registry().accounts.len(), 3);
}

#[test]
fn a_renewal_does_not_lose_what_a_session_rotated_at_the_same_moment() {
    let mut lab = Lab::with_live(&login("alice"));
    let (ours, theirs) =
        (login("alice").refresh("rt-2").issued(1500), login("alice").refresh("rt-3").issued(1501));
    lab.adopt(&ours);
    lab.write(&theirs);
    let main_home = lab.main_home.clone();
    rewrite(&lab.lock, &mut lab.pool, &main_home, &ours.doc(), NOW).unwrap();
    lab.assert_stored(&theirs);
    assert_eq!(lab.reconcile(), holds(&theirs), "and the session keeps it");
}

#[test]
fn a_users_link_is_written_through_and_ours_is_replaced() {
    let mut lab = Lab::new();
    let target = lab.main_home.dir().join("elsewhere.json");
    symlink("elsewhere.json", lab.live()).unwrap();
    lab.write(&login("alice"));
    lab.reconcile();
    lab.adopt(&login("bob"));
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("bob"));
    assert!(lab.live().is_symlink());
    assert_eq!(fs::read(&target).unwrap(), login("bob").doc().bytes());

    fs::remove_file(lab.live()).unwrap();
    symlink(lab.pool.paths.auth(login("alice").doc().id()), lab.live()).unwrap();
    lab.reconcile();
    lab.put(&main_home, &login("bob"));
    assert!(!lab.live().is_symlink());
    lab.assert_stored(&login("alice"));
}

#[test]
fn an_account_moves_out_of_a_home_that_is_not_in_use() {
    let mut lab = Lab::with_live(&login("alice"));
    lab.adopt(&login("bob"));
    let home = lab.main_home.own(&lab.pool.paths, login("bob").doc().id());
    own_home::create(&lab.lock, &lab.pool.paths, &lab.main_home, &home).unwrap();
    lab.put(&home, &login("bob"));
    let rotated = login("bob").refresh("rt-2").issued(1500);
    fs::write(home.auth_json(), rotated.doc().bytes()).unwrap();
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("bob"));
    assert!(!home.auth_json().exists());
    assert_eq!(fs::read(lab.live()).unwrap(), rotated.doc().bytes(), "with what was rotated there");
    assert!(lab.pool.state().home(&home.auth_json()).is_none());
}

#[test]
fn two_homes_with_one_account_share_one_file() {
    let mut lab = Lab::with_live(&login("alice"));
    let second = CodexHome::main(lab.main_home.dir().with_file_name("second"));
    lab.put(&second, &login("alice"));
    let (one, two) =
        (fs::canonicalize(lab.live()).unwrap(), fs::canonicalize(second.dir().join("auth.json")).unwrap());
    assert_eq!(one, two);
    assert!(one.starts_with(lab.pool.paths.homes()), "and it is ours to move");
    // What one of them rotates, through its link, the other has.
    let rotated = login("alice").refresh("rt-2").issued(1500);
    fs::write(second.dir().join("auth.json"), rotated.doc().bytes()).unwrap();
    assert_eq!(lab.reconcile(), holds(&rotated));
    lab.assert_stored(&rotated);
    // One changes hands: the other keeps it.
    lab.adopt(&login("bob"));
    let main_home = lab.main_home.clone();
    lab.put(&main_home, &login("bob"));
    assert_eq!(fs::read(lab.live()).unwrap(), login("bob").doc().bytes());
    let held = reconcile(&lab.lock, &mut lab.pool, &second, NOW).unwrap();
    assert_eq!(held, holds(&rotated));
}

#[test]
fn a_removed_account_leaves_every_home_the_registry_and_the_pin() {
    let mut lab = Lab::with_live(&login("alice"));
    let id = login("alice").doc().id().clone();
    lab.pool.state_mut().pin = Some(id.clone());
    crate::removal::remove_account(&lab.lock, &mut lab.pool, &id, None, NOW).unwrap();
    assert!(!lab.live().exists());
    assert!(lab.pool.registry().accounts.is_empty() && lab.pool.state().pin.is_none());
    assert_eq!(lab.reconcile(), HomeContent::Empty, "which is no logout");
}
