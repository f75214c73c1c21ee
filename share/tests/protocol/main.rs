//! Machines that share a pool: what each sees, what two of them do at once, and what a database can do to them.

mod between;
mod chaos;
mod costs;
mod machine;
mod usage;

use std::time::Duration;

use codex_pool_share::Seen;
use codex_pool_share::login::LeaseState;
use codex_pool_share::memory::{Fault, Memory};
use codex_pool_share::protocol::{Begun, LEASE, Pushed, Removing, ShareError};
use codex_pool_share::pull::pull_for_runner;
use codex_pool_share::record::{Kind, Refused};
use codex_pool_share::store::{Hold, Store};

use machine::{ACCOUNT, Pool, login};

const NOW: Duration = Duration::from_secs(1000);

#[test]
fn login_of_one_machine_is_seen_by_the_other_and_the_newer_one_wins() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    assert_eq!(a.push(&login(5)).unwrap(), Pushed::Written);
    assert_eq!(a.push(&login(5)).unwrap(), Pushed::Same);
    assert_eq!(b.pull().unwrap().logins, [login(5)]);
    assert_eq!(b.push(&login(4)).unwrap(), Pushed::Newer(Box::new(login(5))));
    assert_eq!(b.push(&login(6)).unwrap(), Pushed::Written);
    assert_eq!(a.pull().unwrap().logins, [login(6)]);
    let mut tie = login(6);
    tie.token = "another".to_owned();
    assert_eq!(a.push(&tie).unwrap(), Pushed::Newer(Box::new(login(6))), "the first of two stays");
}

#[test]
fn one_machine_at_a_time_gets_the_lease_and_the_next_one_the_answer() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let Begun::Leased(mut ticket) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::Busy(name, _) if name == "a"));
    assert!(a.mark(&mut ticket).unwrap() && ticket.may_send(NOW));
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::Busy(..)));
    assert_eq!(a.finish(ticket, &login(2)).unwrap(), Pushed::Written);
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::Newer(newer) if *newer == login(2)));
    assert!(matches!(b.begin(&login(2), None, NOW).unwrap(), Begun::Leased(_)), "the lease is free again");
}

#[test]
fn renewal_that_was_cut_off_goes_on_at_once_on_its_own_machine() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let Begun::Leased(first) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    // `a` dies before its mark, then after it.
    let Begun::Leased(mut second) = a.begin(&login(1), Some(&first.id), NOW).unwrap() else {
        panic!("its own")
    };
    assert!(a.mark(&mut second).unwrap());
    let Begun::Leased(mut third) = a.begin(&login(1), Some(&second.id), NOW).unwrap() else {
        panic!("its own")
    };
    assert_eq!(third.id, second.id, "the mark stays the same one");
    assert!(matches!(b.begin(&login(1), Some("b's"), NOW).unwrap(), Begun::Busy(..)));
    assert!(!a.mark(&mut second).unwrap() && a.mark(&mut third).unwrap(), "the one that was cut off is void");
    assert_eq!(a.finish(third, &login(2)).unwrap(), Pushed::Written);
}

#[test]
fn token_that_was_sent_is_left_alone_until_a_person_says_otherwise() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let Begun::Leased(mut ticket) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(a.mark(&mut ticket).unwrap());
    // `a` dies.
    assert!(!b.take_over(ACCOUNT).unwrap(), "its lease still holds");
    pool.memory.pass(LEASE);
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::SentBy(name) if name == "a"));
    let lease = b.pull().unwrap().leases.remove(0);
    assert_eq!((lease.lease.state, &*lease.lease.machine), (LeaseState::Sent, "a"));
    assert!(matches!(a.begin(&login(1), Some(&ticket.id), NOW).unwrap(), Begun::Leased(_)), "its own");
    pool.memory.pass(LEASE);
    let Begun::Leased(mut again) = a.begin(&login(1), Some(&ticket.id), NOW).unwrap() else { panic!() };
    assert!(a.mark(&mut again).unwrap());
    pool.memory.pass(LEASE);
    assert!(b.take_over(ACCOUNT).unwrap());
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::Leased(_)));
    assert!(!again.may_send(NOW + LEASE), "and the other one would not send any more");
}

#[test]
fn answer_frees_the_token_whatever_became_of_the_lease() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let Begun::Leased(mut ticket) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(a.mark(&mut ticket).unwrap());
    // The answer is stored here, and the database is away. The next push brings it there.
    a.store.fault = Fault::Before;
    assert!(matches!(a.finish(ticket, &login(2)), Err(ShareError::Store(_))));
    a.store.fault = Fault::None;
    pool.memory.pass(LEASE);
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::SentBy(_)));
    assert_eq!(a.push(&login(2)).unwrap(), Pushed::Written);
    assert!(
        matches!(b.begin(&login(2), None, NOW).unwrap(), Begun::Leased(_)),
        "the mark is of another token"
    );
}

#[test]
fn lease_that_ended_cannot_be_marked_and_nothing_is_sent() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let Begun::Leased(mut ticket) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    pool.memory.pass(LEASE);
    assert!(!a.mark(&mut ticket).unwrap(), "by the database's clock");
    let Begun::Leased(mut theirs) = b.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(!a.mark(&mut ticket).unwrap() && b.mark(&mut theirs).unwrap());
    assert!(ticket.may_send(NOW) && !ticket.may_send(NOW + LEASE), "and by the machine's own");
    a.clear(ticket).unwrap();
    pool.memory.pass(LEASE);
    assert!(matches!(a.begin(&login(1), None, NOW).unwrap(), Begun::SentBy(_)), "only its own is cleared");
}

#[test]
fn older_state_of_the_database_is_refused_by_those_who_saw_the_newer_one() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let backup = pool.memory.backup();
    a.push(&login(2)).unwrap();
    b.pull().unwrap();
    pool.memory.restore(backup);
    let pulled = b.pull().unwrap();
    assert!(pulled.logins.is_empty() && pulled.refused.iter().all(|why| *why == ShareError::Rollback));
    assert!(!pulled.refused.is_empty());
    assert_eq!(b.push(&login(3)), Err(ShareError::Rollback));
    assert!(matches!(b.begin(&login(2), None, NOW), Err(ShareError::Rollback)), "nothing is sent");
    // A machine that kept its file knows it after a restart; one that is new cannot.
    let kept: Seen = serde_json::from_str(&serde_json::to_string(&b.seen).unwrap()).unwrap();
    assert_eq!(kept, b.seen);
    assert_eq!(pool.share("new").pull().unwrap().logins, [login(1)]);
    pool.memory.restore(Default::default());
    assert_eq!(b.push(&login(3)), Err(ShareError::Rollback), "a row that is gone, too");
    let pulled = b.pull().unwrap();
    assert!(pulled.removed.is_empty(), "and it removes nothing");
    assert_eq!(pulled.refused, [ShareError::Rollback]);
}

#[test]
fn second_history_of_the_same_length_is_refused() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let fork = pool.memory.backup();
    a.push(&login(2)).unwrap();
    pool.memory.restore(fork);
    b.push(&login(3)).unwrap();
    let refused = a.pull().unwrap().refused;
    assert!(refused.contains(&ShareError::Rollback), "{refused:?}");
}

#[test]
fn misplaced_and_forged_records_hide_nothing_else() {
    let pool = Pool::new();
    let mut a = pool.share("a");
    a.push(&login(1)).unwrap();
    let mut rows = pool.memory.backup();
    let mut stranger = codex_pool_share::keys::MemberKeys::new(
        pool.keys.runner().pool,
        1,
        codex_pool_share::keys::PoolKey([77; 32]),
    )
    .write(Kind::Full, "bbbbbbbbbb", 1, b"{}");
    rows.insert(stranger.row, stranger.clone());
    stranger = rows[&pool.keys.runner().row(Kind::Full, ACCOUNT)].clone();
    stranger.row.0[0] ^= 1;
    rows.insert(stranger.row, stranger);
    pool.memory.restore(rows);
    let pulled = pool.share("b").pull().unwrap();
    assert_eq!(pulled.logins, [login(1)]);
    assert_eq!(pulled.refused, [Refused::Unsigned, Refused::Unsigned].map(ShareError::Refused));
}

#[test]
fn removal_ends_an_account_and_a_login_that_is_newer_begins_it_again() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    a.carry_removal(ACCOUNT, login(1).age).unwrap();
    let pulled = b.pull().unwrap();
    assert_eq!((pulled.logins.len(), pulled.removed), (0, vec![(ACCOUNT.to_owned(), login(1).age)]));
    b.push(&login(2)).unwrap();
    assert_eq!(a.pull().unwrap().logins, [login(2)]);
    a.carry_removal(ACCOUNT, login(2).age).unwrap();
    assert!(b.pull().unwrap().logins.is_empty());
}

#[test]
fn removal_wins_over_renewals_of_the_login_that_it_was_made_of() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    // `b` is renewing: its answer would be newer than the removal.
    let Begun::Leased(mut ticket) = b.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(b.mark(&mut ticket).unwrap());
    assert_eq!(a.remove(&login(1)).unwrap(), Removing::Busy("b".to_owned()));
    assert!(pool.share("c").pull().unwrap().removed.is_empty());
    b.finish(ticket, &login(2)).unwrap();
    // `a` has not heard of the answer.
    assert_eq!(a.remove(&login(1)).unwrap(), Removing::Removed(login(2).age));
    assert!(pool.share("c").pull().unwrap().logins.is_empty());
    // `b` has not heard of the removal.
    assert!(matches!(b.begin(&login(2), None, NOW).unwrap(), Begun::Removed(age) if age == login(2).age));
    // A machine that knows only the older login takes nothing of it back.
    assert_eq!(pool.share("c").remove(&login(1)).unwrap(), Removing::Removed(login(2).age));
    // A person logs in again.
    assert!(matches!(b.begin(&login(3), None, NOW).unwrap(), Begun::Leased(_)), "no lease is left behind");
    assert_eq!(pool.share("c").pull().unwrap().logins, [login(3)]);
}

#[test]
fn removal_leaves_the_mark_of_a_lost_machine() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    let Begun::Leased(mut ticket) = b.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(b.mark(&mut ticket).unwrap());
    pool.memory.pass(LEASE);
    assert_eq!(a.remove(&login(1)).unwrap(), Removing::Removed(login(1).age));
    assert!(matches!(a.begin(&login(1), None, NOW).unwrap(), Begun::SentBy(name) if name == "b"));
    assert!(matches!(b.begin(&login(1), Some(&ticket.id), NOW).unwrap(), Begun::Removed(_)));
}

#[test]
fn runner_reads_the_access_token_and_can_plant_nothing() {
    let pool = Pool::new();
    let mut a = pool.share("a");
    a.push(&login(1)).unwrap();
    let keys = pool.keys.runner();
    let row = pool.memory.connect().read(keys.row(Kind::Access, ACCOUNT)).unwrap().expect("a row");
    let text = String::from_utf8(keys.read(&row.record, ACCOUNT).unwrap().to_vec()).unwrap();
    assert!(text.contains("access of 1") && !text.contains("refresh token 1"), "{text}");
    let (mut store, mut seen) = (pool.memory.connect(), Seen::default());
    let mut pull = || pull_for_runner(keys, &mut store, &mut seen).unwrap();
    let pulled = pull().logins;
    assert_eq!((&*pulled[0].account, &**pulled[0].document), (ACCOUNT, "access of 1"));
    assert!(pulled[0].token.is_empty() && pull().logins.is_empty(), "once");
    // Whatever it writes is not signed.
    let mut forged = row.record.clone();
    forged.revision += 1;
    assert!(pool.memory.connect().write(&forged, 1, Hold::Without).unwrap());
    assert_eq!(keys.read(&forged, ACCOUNT), Err(Refused::Unsigned));
    assert_eq!(a.push(&login(2)), Err(ShareError::Refused(Refused::Unsigned)));
}

#[test]
fn only_what_changed_is_read_again_and_nothing_else_is_asked() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.push(&login(1)).unwrap();
    assert_eq!(b.pull_changes().unwrap().logins, [login(1)]);
    assert!(b.pull_changes().unwrap().logins.is_empty());
    a.push(&login(2)).unwrap();
    a.carry_removal(ACCOUNT, login(1).age).unwrap();
    let pulled = b.pull_changes().unwrap();
    assert_eq!((pulled.logins, pulled.removed.len(), pulled.refused), (vec![login(2)], 1, vec![]));
    // A second history of the same length is a change, too.
    let fork = pool.memory.backup();
    a.push(&login(3)).unwrap();
    b.pull_changes().unwrap();
    pool.memory.restore(fork);
    pool.share("c").push(&login(4)).unwrap();
    assert!(b.pull_changes().unwrap().refused.contains(&ShareError::Rollback));
}

#[test]
fn answer_of_the_database_that_is_lost_does_no_harm() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    a.store.fault = Fault::After;
    assert!(matches!(a.push(&login(1)), Err(ShareError::Store(_))));
    a.store.fault = Fault::None;
    assert_eq!(a.push(&login(1)).unwrap(), Pushed::Written);
    let Begun::Leased(mut ticket) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    a.store.fault = Fault::After;
    assert!(a.mark(&mut ticket).is_err(), "nothing may be sent");
    a.store.fault = Fault::None;
    pool.memory.pass(LEASE);
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::SentBy(_)), "the mark is there");
    assert!(matches!(a.begin(&login(1), Some(&ticket.id), NOW).unwrap(), Begun::Leased(_)));
}

#[test]
fn database_is_shared_by_clones_of_it() {
    let memory = Memory::default();
    assert_eq!(memory.connect().read_all().unwrap(), memory.clone().connect().read_all().unwrap());
}
