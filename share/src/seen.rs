//! What a machine has seen of each row. A database that returns an older state, from a backup or in bad faith, is not
//! believed. A machine that is new has seen nothing, and can be shown the past.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::login::Age;
use crate::record::{Record, RowId};

/// The newest state of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenRow {
    revision: u64,
    /// The beginning of the signature: of two records of one revision, one is a forgery or a split.
    signature: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age: Option<Age>,
}

/// The newest state of every row. The machine keeps it in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seen(BTreeMap<String, SeenRow>);

impl Seen {
    /// Returns whether this row was seen.
    pub fn has(&self, row: RowId) -> bool {
        self.0.contains_key(&row.to_string())
    }

    /// Notes a record that is signed and opens. Returns whether it is at least as new as what was seen before. `age`: of
    /// the login in it.
    #[must_use]
    pub fn note(&mut self, record: &Record, age: Option<Age>) -> bool {
        let name = record.row.to_string();
        let signature: String = record.signature[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(seen) = self.0.get(&name) {
            let same = record.revision == seen.revision && signature == seen.signature;
            if !same && (record.revision <= seen.revision || age < seen.age) {
                return false;
            }
        }
        self.0.insert(name, SeenRow { revision: record.revision, signature, age });
        true
    }
}
