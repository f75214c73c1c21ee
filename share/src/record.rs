//! A record: what the database keeps of one account in one respect. It is sealed for those who may read it and signed
//! by a member, and both hold for this pool, epoch, kind, account and revision alone.

use std::fmt;

use crate::fields::join;
use crate::store::Listed;

/// The version of this format. A change that an older version would misread raises it.
pub const FORMAT: u32 = 1;

/// The first field of what is sealed or signed.
pub(crate) const NAME: &[u8] = b"codex-pool share";

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A login that can be renewed. Only members open it.
    Full,
    /// The same login without its refresh token.
    Access,
    /// What the service said of the account's usage.
    Usage,
    /// Who renews the account's tokens, and whether its refresh token was sent.
    Lease,
    /// How many sessions a machine runs with the account.
    Sessions,
    /// That the account was removed from the pool. Without this record, a record that is missing means nothing.
    Removal,
    /// A machine of the pool.
    Machine,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 7] =
        [Kind::Full, Kind::Access, Kind::Usage, Kind::Lease, Kind::Sessions, Kind::Removal, Kind::Machine];

    /// Returns the name in the database and in what is signed.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Access => "access",
            Kind::Usage => "usage",
            Kind::Lease => "lease",
            Kind::Sessions => "sessions",
            Kind::Removal => "removal",
            Kind::Machine => "machine",
        }
    }

    /// Returns the kind of that name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the bytes of which its padded text is a multiple. A document has about 5 KB.
    pub(crate) fn block(self) -> usize {
        match self {
            Kind::Full | Kind::Access => 8192,
            Kind::Usage | Kind::Lease | Kind::Sessions | Kind::Removal | Kind::Machine => 1024,
        }
    }
}

/// The name of a record's row: a keyed hash of its kind and account, so that the database learns neither.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub [u8; 16]);

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record, as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its row.
    pub row: RowId,
    /// The version of the format.
    pub format: u32,
    /// The epoch of the keys that it was made with.
    pub epoch: u32,
    /// What it is.
    pub kind: Kind,
    /// How often the row was written, from 1.
    pub revision: u64,
    /// Nonce, sealed text and tag.
    pub sealed: Vec<u8>,
    /// A member's signature.
    pub signature: [u8; 64],
}

/// Why a record is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A newer version of codex-pool wrote it.
    Newer,
    /// It was made with the keys of a later epoch: they were rotated, and this machine has the old ones.
    Rotated,
    /// It was made with the keys of an earlier epoch.
    OtherEpoch,
    /// It is the record of another account, kind or pool.
    Misplaced,
    /// No member signed it.
    Unsigned,
    /// It cannot be opened with these keys.
    Sealed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Newer => "it was written by a newer version of codex-pool",
            Refused::Rotated => "it was sealed with new keys, which this machine does not have",
            Refused::OtherEpoch => "it was sealed with keys that are void: they were rotated",
            Refused::Misplaced => "it is in the place of another record",
            Refused::Unsigned => "no member of the pool has signed it",
            Refused::Sealed => "it cannot be opened with the keys of this machine",
        })
    }
}

impl std::error::Error for Refused {}

impl Record {
    /// Returns what a list says of it.
    pub fn listed(&self) -> Listed {
        let signature = std::array::from_fn(|i| self.signature[i]);
        Listed { row: self.row, kind: self.kind, revision: self.revision, signature }
    }

    /// Returns what its seal is bound to. `pool`: the id of the pool.
    pub(crate) fn associated(&self, pool: &[u8]) -> Vec<u8> {
        join(&[
            NAME,
            &self.format.to_be_bytes(),
            pool,
            &self.epoch.to_be_bytes(),
            self.kind.as_str().as_bytes(),
            &self.row.0,
            &self.revision.to_be_bytes(),
        ])
    }

    /// Returns what its signature is over.
    pub(crate) fn signed(&self, pool: &[u8]) -> Vec<u8> {
        join(&[b"signature", &self.associated(pool), &self.sealed])
    }
}
