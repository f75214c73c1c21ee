//! Login homes: what a killed login left is adopted and removed; what goes on, or has a mark, is left alone.

use super::*;
use crate::process::ProcessId;
use crate::store::{Mark, MarkKind};

/// A process of this boot that is gone: this one, had it started a tick later.
fn gone() -> ProcessId {
    let me = ProcessId::of_self().unwrap();
    ProcessId { start_ticks: me.start_ticks + 1, ..me }
}

fn login_home(lab: &Lab, process: &ProcessId, auth_json: &[u8]) -> CodexHome {
    let home = login_home::create(&lab.lock, &lab.pool.paths, &lab.main_home, process).unwrap();
    fs::write(home.auth_json(), auth_json).unwrap();
    home
}

fn clear_abandoned(lab: &mut Lab) {
    let processes = lab.processes();
    login_home::clear_abandoned(&lab.lock, &mut lab.pool, &processes, NOW);
}

#[test]
fn login_homes_go_with_their_process_and_their_logins_are_adopted() {
    let mut lab = Lab::new();
    let me = ProcessId::of_self().unwrap();
    let parent = std::os::unix::process::parent_id();
    let ticks = crate::process::stat(parent).unwrap().start_ticks;
    let living = login_home(&lab, &ProcessId { pid: parent, start_ticks: ticks, ..me }, b"");
    let dead = login_home(&lab, &gone(), login("alice").doc().bytes());
    clear_abandoned(&mut lab);
    assert!(living.dir().exists() && !dead.dir().exists());
    lab.assert_stored(&login("alice"));
    assert!(lab.pool.registry().get(login("alice").doc().id()).is_some());
}

#[test]
fn what_is_no_login_in_a_login_home_is_kept() {
    let mut lab = Lab::new();
    let home = login_home(&lab, &gone(), b"not whole");
    clear_abandoned(&mut lab);
    assert!(!home.dir().exists());
    assert_eq!(lab.lost(), [b"not whole"]);
}

#[test]
fn a_login_home_with_a_mark_is_left_to_who_undoes_it() {
    let mut lab = Lab::new();
    let home = login_home(&lab, &gone(), b"");
    let key = path_key(&home.auth_json());
    let process = gone().to_string();
    let mark = Mark { kind: MarkKind::Login, account: None, home: Some(key), process, at: NOW };
    lab.pool.state_mut().marks.push(mark);
    clear_abandoned(&mut lab);
    assert!(home.dir().exists());
    lab.pool.state_mut().marks.clear();
    clear_abandoned(&mut lab);
    assert!(!home.dir().exists());
}

#[test]
fn a_login_home_without_a_known_process_is_abandoned_after_a_day() {
    let mut lab = Lab::new();
    let other_namespace = ProcessId { pid_namespace: 1, ..ProcessId::of_self().unwrap() };
    let home = login_home(&lab, &other_namespace, b"");
    clear_abandoned(&mut lab);
    assert!(home.dir().exists());
    let day = Duration::from_secs(86_400);
    let at = SystemTime::now() - day - Duration::from_secs(60);
    fs::File::open(home.dir()).unwrap().set_modified(at).unwrap();
    clear_abandoned(&mut lab);
    assert!(!home.dir().exists());
}
