//! What another machine does between any two calls of this one.

use codex_pool_share::Seen;
use codex_pool_share::login::LeaseState;
use codex_pool_share::memory::Connection;
use codex_pool_share::protocol::{Begun, LEASE, Share};
use codex_pool_share::record::{Record, RowId};
use codex_pool_share::store::{Hold, Row, Store, StoreError};

use super::NOW;
use super::machine::{Pool, login};

/// A connection on which something happens before one of its calls.
struct Interrupted<F> {
    inner: Connection,
    calls_before: usize,
    work: Option<F>,
}

impl<F: FnOnce()> Interrupted<F> {
    fn count(&mut self) {
        if self.calls_before == 0
            && let Some(work) = self.work.take()
        {
            work();
        }
        self.calls_before = self.calls_before.saturating_sub(1);
    }
}

impl<F: FnOnce()> Store for Interrupted<F> {
    fn read(&mut self, row: RowId) -> Result<Option<Row>, StoreError> {
        self.count();
        self.inner.read(row)
    }

    fn read_all(&mut self) -> Result<Vec<Row>, StoreError> {
        self.count();
        self.inner.read_all()
    }

    fn write(&mut self, record: &Record, over: u64, hold: Hold) -> Result<bool, StoreError> {
        self.count();
        self.inner.write(record, over, hold)
    }
}

#[test]
fn mark_of_a_newer_token_survives_a_machine_that_is_slow() {
    let mut interrupted = 0;
    for calls_before in 0..20 {
        let pool = Pool::new();
        pool.share("a").push(&login(1)).unwrap();
        // `a` renews, begins to renew again, and dies when it has marked; its lease ends.
        let work = || {
            let mut a = pool.share("a");
            let Ok(Begun::Leased(mut ticket)) = a.begin(&login(1), None, NOW) else { return };
            assert!(a.mark(&mut ticket).unwrap());
            a.finish(ticket, &login(2)).unwrap();
            let Begun::Leased(mut ticket) = a.begin(&login(2), None, NOW).unwrap() else { panic!("free") };
            assert!(a.mark(&mut ticket).unwrap());
            pool.memory.pass(LEASE);
        };
        let store = Interrupted { inner: pool.memory.connect(), calls_before, work: Some(work) };
        let mut b = Share::new(pool.keys.clone(), "b", store, Seen::default());
        let begun = b.begin(&login(1), None, NOW);
        if b.store.work.is_some() {
            // It was through before.
            assert!(matches!(begun, Ok(Begun::Leased(_))), "{begun:?}");
            break;
        }
        interrupted += 1;
        let leases = pool.share("test").pull().unwrap().leases;
        match begun {
            // It had the lease before `a` came, which could not begin then.
            Ok(Begun::Leased(mut ticket)) => {
                assert!(leases.iter().all(|view| view.lease.state == LeaseState::Held), "{leases:?}");
                assert!(b.mark(&mut ticket).unwrap());
            }
            begun => {
                assert!(matches!(begun, Ok(Begun::Newer(_) | Begun::Busy(..))), "{begun:?}");
                let marks: Vec<_> =
                    leases.iter().map(|view| (view.lease.state, &*view.lease.token)).collect();
                assert_eq!(marks, [(LeaseState::Sent, "2")], "before call {calls_before}");
            }
        }
    }
    assert!(interrupted >= 5, "{interrupted}");
}
