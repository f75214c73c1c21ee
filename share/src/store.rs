//! What the protocol needs of a database: rows that are replaced only if they are what the writer has read, and holds
//! that end by the database's clock.

use std::fmt;
use std::time::Duration;

use crate::record::{Kind, Record, RowId};

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its record.
    pub record: Record,
    /// How long it is still held, by the database's clock. Zero: it is not.
    pub held: Duration,
}

/// A row without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The row.
    pub row: RowId,
    /// What its record is.
    pub kind: Kind,
    /// Its revision.
    pub revision: u64,
    /// The beginning of its signature.
    pub signature: [u8; 8],
}

/// What a write does with the hold of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The row has none.
    Without,
    /// Takes it for so long. It is not written if it is held already.
    Take(Duration),
    /// Takes it for so long, even if it is held.
    Set(Duration),
    /// It must still be held, and stays so.
    Keep,
    /// Ends it.
    Drop,
}

/// Why a database refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// User or password is wrong.
    Password,
    /// There is no such database.
    Database,
    /// The user may not do that.
    Rights,
    /// It has no tables of a pool.
    NoPool,
    /// It can only be read.
    ReadOnly,
    /// Its disk is full.
    Full,
    /// The certificate authorities that the address names cannot be used.
    Certificates,
    /// Something else.
    Other,
}

/// Why the database did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// It cannot be reached or answers too late. Nothing was changed.
    Down(String),
    /// It was asked, and whether it has done it is not known.
    Unknown(String),
    /// It refuses, and says why.
    Refused(Refusal, String),
    /// A newer version of codex-pool has made its tables.
    Newer,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Down(why) => write!(f, "the database cannot be reached: {why}"),
            StoreError::Unknown(why) => write!(f, "the database did not answer: {why}"),
            StoreError::Refused(_, why) => write!(f, "the database refuses: {why}"),
            StoreError::Newer => f.write_str("the database is used by a newer version of codex-pool"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A database with the rows of one pool. Each call is a transaction of its own.
pub trait Store {
    /// Returns a row.
    ///
    /// # Errors
    /// The database cannot be asked.
    fn read(&mut self, row: RowId) -> Result<Option<Row>, StoreError>;

    /// Returns those of these rows that are there, in any order.
    ///
    /// # Errors
    /// The database cannot be asked.
    fn read_rows(&mut self, rows: &[RowId]) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        for row in rows {
            found.extend(self.read(*row)?);
        }
        Ok(found)
    }

    /// Returns all rows.
    ///
    /// # Errors
    /// The database cannot be asked.
    fn read_all(&mut self) -> Result<Vec<Row>, StoreError>;

    /// Returns all rows without their texts: what a machine asks for that looks whether something has changed.
    ///
    /// # Errors
    /// The database cannot be asked.
    fn list(&mut self) -> Result<Vec<Listed>, StoreError> {
        Ok(self.read_all()?.iter().map(|row| row.record.listed()).collect())
    }

    /// Writes a row if its revision is `over` (0: if there is none) and its hold allows it. Returns whether it did.
    ///
    /// # Errors
    /// The database cannot be asked, or whether it did is not known.
    fn write(&mut self, record: &Record, over: u64, hold: Hold) -> Result<bool, StoreError>;
}
