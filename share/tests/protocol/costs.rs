//! What docs/share.md says of costs: questions to the database, and bytes.

use codex_pool_share::Seen;
use codex_pool_share::login::Login;
use codex_pool_share::memory::Connection;
use codex_pool_share::protocol::{Begun, Share};
use codex_pool_share::record::{Kind, Record, RowId};
use codex_pool_share::store::{Hold, Listed, Row, Store, StoreError};

use super::NOW;
use super::machine::{Pool, login};

/// A connection that counts.
struct Counted {
    inner: Connection,
    calls: usize,
    bytes: usize,
}

impl Counted {
    fn count(&mut self, bytes: usize) {
        self.calls += 1;
        self.bytes += bytes;
    }

    fn take(&mut self) -> (usize, usize) {
        (std::mem::take(&mut self.calls), std::mem::take(&mut self.bytes))
    }
}

/// Row id, kind, format, epoch, revision, sealed text, signature.
fn size(record: &Record) -> usize {
    16 + record.kind.as_str().len() + 4 + 4 + 8 + record.sealed.len() + 64
}

impl Store for Counted {
    fn read(&mut self, row: RowId) -> Result<Option<Row>, StoreError> {
        let found = self.inner.read(row)?;
        self.count(found.as_ref().map_or(0, |row| size(&row.record)));
        Ok(found)
    }

    fn read_all(&mut self) -> Result<Vec<Row>, StoreError> {
        let rows = self.inner.read_all()?;
        self.count(rows.iter().map(|row| size(&row.record)).sum());
        Ok(rows)
    }

    fn list(&mut self) -> Result<Vec<Listed>, StoreError> {
        let listed = self.inner.list()?;
        self.count(listed.iter().map(|row| 16 + row.kind.as_str().len() + 8 + 8).sum());
        Ok(listed)
    }

    fn write(&mut self, record: &Record, over: u64, hold: Hold) -> Result<bool, StoreError> {
        self.count(size(record));
        self.inner.write(record, over, hold)
    }
}

/// A login with a document as large as Codex's.
fn usual(n: i64) -> Login {
    let document = format!("{n}{}", "x".repeat(5_000));
    Login { access: Some(document.clone().into()), document: document.into(), ..login(n) }
}

#[test]
fn costs_are_those_of_the_page() {
    let pool = Pool::new();
    let store = Counted { inner: pool.memory.connect(), calls: 0, bytes: 0 };
    let mut a = Share::new(pool.keys.clone(), "a", store, Seen::default());
    a.push(&usual(1)).unwrap();
    let new = a.store.take();
    let Begun::Leased(mut ticket) = a.begin(&usual(1), None, NOW).unwrap() else { panic!("free") };
    assert!(a.mark(&mut ticket).unwrap());
    a.finish(ticket, &usual(2)).unwrap();
    let renewal = a.store.take();
    a.pull_changes().unwrap();
    let look = a.store.take();
    let kilobytes = |bytes: usize| (bytes as f64 / 1000.0).round();
    let rows: usize = pool.memory.backup().values().map(size).sum();
    let page = include_str!("../../../docs/share.md");
    for row in [
        format!("| account, at rest | 3 rows | {} KB |", kilobytes(rows)),
        format!("| login that is new | {} questions | {} KB |", new.0, kilobytes(new.1)),
        format!("| renewal | {} questions | {} KB |", renewal.0, kilobytes(renewal.1)),
        format!("| look without a change | {} question | {} bytes an account |", look.0, look.1),
    ] {
        assert!(page.contains(&row), "docs/share.md does not say: {row}");
    }
    assert_eq!(pool.memory.backup().values().filter(|record| record.kind == Kind::Lease).count(), 1);
}
