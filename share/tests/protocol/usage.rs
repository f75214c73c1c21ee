//! Usage that one machine asks for, and sessions that all count.

use std::time::Duration;

use codex_pool_share::usage::{POLL, Polled, SESSIONS};

use super::machine::{ACCOUNT, Pool};

#[test]
fn service_is_asked_once_a_minute_by_all_machines_together() {
    let pool = Pool::new();
    let mut machines = ["a", "b", "c"].map(|name| pool.share(name));
    let mut asked = 0;
    for second in 0..600 {
        for machine in &mut machines {
            if let Polled::Ask(poll) = machine.poll(ACCOUNT).unwrap() {
                asked += 1;
                assert!(machine.tell(&poll, &format!("answer of second {second}")).unwrap());
            }
        }
        pool.memory.pass(Duration::from_secs(1));
    }
    assert_eq!(asked, 600 / POLL.as_secs());
    let usages = machines[2].pull().unwrap().usages;
    assert_eq!(usages[0].answer, "answer of second 525");
    assert!(matches!(machines[1].poll(ACCOUNT).unwrap(), Polled::Ask(_)), "the minute is over");
    match machines[2].poll(ACCOUNT).unwrap() {
        Polled::Known(usage, held) => assert_eq!((&*usage.answer, held), ("answer of second 525", POLL)),
        Polled::Ask(_) => panic!("another machine is asking"),
    }
}

#[test]
fn answer_that_comes_after_its_minute_replaces_nothing() {
    let pool = Pool::new();
    let (mut a, mut b) = (pool.share("a"), pool.share("b"));
    let Polled::Ask(late) = a.poll(ACCOUNT).unwrap() else { panic!("free") };
    pool.memory.pass(POLL);
    assert!(!a.tell(&late, "old").unwrap());
    let Polled::Ask(poll) = b.poll(ACCOUNT).unwrap() else { panic!("free") };
    assert!(b.tell(&poll, "new").unwrap() && !a.tell(&late, "old").unwrap());
    let usages = a.pull_changes().unwrap().usages;
    assert_eq!((&*usages[0].answer, &*usages[0].machine), ("new", "b"));
}

#[test]
fn sessions_of_machines_count_until_they_end_or_are_not_heard_of() {
    let pool = Pool::new();
    let (mut a, mut b, mut c) = (pool.share("a"), pool.share("b"), pool.share("c"));
    let mut running = || {
        let mut counts: Vec<_> =
            c.pull().unwrap().sessions.into_iter().map(|(s, _)| (s.machine, s.running)).collect();
        counts.sort();
        counts
    };
    let of = |counts: &[(&str, u32)]| counts.iter().map(|(m, n)| ((*m).to_owned(), *n)).collect::<Vec<_>>();
    a.tell_sessions(ACCOUNT, 2).unwrap();
    b.tell_sessions(ACCOUNT, 1).unwrap();
    assert_eq!(running(), of(&[("a", 2), ("b", 1)]));
    pool.memory.pass(SESSIONS / 2);
    a.tell_sessions(ACCOUNT, 3).unwrap();
    pool.memory.pass(SESSIONS / 2);
    assert_eq!(running(), of(&[("a", 3)]), "b was not heard of");
    a.tell_sessions(ACCOUNT, 0).unwrap();
    a.tell_sessions(ACCOUNT, 0).unwrap();
    assert!(running().is_empty());
    b.tell_sessions(ACCOUNT, 4).unwrap();
    assert_eq!(running(), of(&[("b", 4)]));
}
