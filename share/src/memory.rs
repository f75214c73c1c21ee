//! A database in memory, for tests: with a clock that the test moves, and connections that break when it wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::record::{Record, RowId};
use crate::store::{Hold, Row, Store, StoreError};

#[derive(Debug, Default)]
struct Tables {
    rows: BTreeMap<RowId, (Record, Duration)>,
    now: Duration,
}

/// The database. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Tables>>);

impl Memory {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass for it.
    pub fn pass(&self, time: Duration) {
        self.tables().now += time;
    }

    /// Returns what is in it, to be put back by [`Memory::restore`]: a backup.
    pub fn backup(&self) -> BTreeMap<RowId, Record> {
        self.tables().rows.iter().map(|(id, (record, _))| (*id, record.clone())).collect()
    }

    /// Puts a backup back.
    pub fn restore(&self, backup: BTreeMap<RowId, Record>) {
        self.tables().rows = backup.into_iter().map(|(id, record)| (id, (record, Duration::ZERO))).collect();
    }

    /// Returns a connection to it.
    pub fn connect(&self) -> Connection {
        Connection { memory: self.clone(), fault: Fault::None }
    }
}

/// How the next calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They do not.
    None,
    /// Before the database hears of them.
    Before,
    /// After it has done what was asked.
    After,
}

/// A connection of one machine.
#[derive(Debug, Clone)]
pub struct Connection {
    memory: Memory,
    /// How its calls fail.
    pub fault: Fault,
}

impl Connection {
    fn call<T>(&mut self, work: impl FnOnce(&mut Tables) -> T) -> Result<T, StoreError> {
        if self.fault == Fault::Before {
            return Err(StoreError::Down("no route".to_owned()));
        }
        let done = work(&mut self.memory.tables());
        match self.fault {
            Fault::After => Err(StoreError::Unknown("connection lost".to_owned())),
            _ => Ok(done),
        }
    }
}

impl Store for Connection {
    fn read(&mut self, row: RowId) -> Result<Option<Row>, StoreError> {
        self.call(|tables| {
            let (record, until) = tables.rows.get(&row)?;
            Some(Row { record: record.clone(), held: until.saturating_sub(tables.now) })
        })
    }

    fn read_all(&mut self) -> Result<Vec<Row>, StoreError> {
        self.call(|tables| {
            let row = |(record, until): &(Record, Duration)| Row {
                record: record.clone(),
                held: until.saturating_sub(tables.now),
            };
            tables.rows.values().map(row).collect()
        })
    }

    fn write(&mut self, record: &Record, over: u64, hold: Hold) -> Result<bool, StoreError> {
        self.call(|tables| {
            let before = tables.rows.get(&record.row);
            let held_until = before.map_or(Duration::ZERO, |(_, until)| *until);
            let allowed = match hold {
                Hold::Without | Hold::Set(_) | Hold::Drop => true,
                Hold::Take(_) => held_until <= tables.now,
                Hold::Keep => held_until > tables.now,
            };
            if before.map_or(0, |(record, _)| record.revision) != over || !allowed {
                return false;
            }
            let until = match hold {
                Hold::Take(time) | Hold::Set(time) => tables.now + time,
                Hold::Keep => held_until,
                Hold::Without | Hold::Drop => Duration::ZERO,
            };
            tables.rows.insert(record.row, (record.clone(), until));
            true
        })
    }
}
