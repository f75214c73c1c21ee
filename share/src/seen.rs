//! What a machine has seen of each row. A database that returns an older state, from a backup or in bad faith, is not
//! believed. A machine that is new has seen nothing, and can be shown the past.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::login::Age;
use crate::record::{Record, RowId};
use crate::store::Listed;

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
    /// Adds what another process of this machine has seen meanwhile. Of each row, the newest state stays.
    pub fn merge(&mut self, other: Seen) {
        for (row, theirs) in other.0 {
            let ours = self.0.entry(row).or_insert_with(|| theirs.clone());
            if theirs.revision > ours.revision {
                ours.age = ours.age.max(theirs.age);
                (ours.revision, ours.signature) = (theirs.revision, theirs.signature);
            }
        }
    }

    /// Returns whether this row was seen.
    pub fn has(&self, row: RowId) -> bool {
        self.0.contains_key(&row.to_string())
    }

    /// Returns the age of the login in a row, as it was seen last.
    pub fn age(&self, row: RowId) -> Option<Age> {
        self.0.get(&row.to_string())?.age
    }

    /// Returns whether exactly this state of a row was seen.
    pub fn is_newest(&self, listed: &Listed) -> bool {
        let seen = self.0.get(&listed.row.to_string());
        seen.is_some_and(|seen| seen.revision == listed.revision && seen.signature == hex(&listed.signature))
    }

    /// Returns whether a row was seen that is not in this list.
    pub fn misses(&self, listed: &[Listed]) -> bool {
        let names: BTreeSet<String> = listed.iter().map(|listed| listed.row.to_string()).collect();
        self.0.keys().any(|name| !names.contains(name))
    }

    /// Notes a record that is signed and opens. Returns whether it is at least as new as what was seen before. `age`: of
    /// the login in it.
    #[must_use]
    pub fn note(&mut self, record: &Record, age: Option<Age>) -> bool {
        let listed = record.listed();
        if let Some(seen) = self.0.get(&listed.row.to_string())
            && !self.is_newest(&listed)
            && (record.revision <= seen.revision || age < seen.age)
        {
            return false;
        }
        let signature = hex(&listed.signature);
        self.0.insert(listed.row.to_string(), SeenRow { revision: listed.revision, signature, age });
        true
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
