//! The keys of a pool. A member has the pool key, from which all others follow. A runner has three of those: one that
//! opens documents without refresh tokens, one that finds rows, and one that checks signatures. It can read what it
//! runs with, and write nothing that others would believe.

use std::cmp::Ordering;
use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::fields::join;
use crate::record::{FORMAT, Kind, Record, Refused, RowId};
use crate::seal::{self, NONCE};

/// Salt of all keys that are derived.
const SALT: &[u8] = b"codex-pool share";

/// Returns bytes that nothing can guess.
///
/// # Panics
/// If the system has none to give.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random numbers");
    bytes
}

/// The id of a pool, chosen at random when it is shared. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolId(pub [u8; 16]);

impl PoolId {
    /// Returns a new id.
    pub fn random() -> PoolId {
        PoolId(random())
    }
}

impl fmt::Debug for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// 32 secret bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolKey(pub [u8; 32]);

impl Drop for PoolKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PoolKey {
    /// Returns a new key.
    pub fn random() -> PoolKey {
        PoolKey(random())
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Returns the key for one purpose.
pub(crate) fn derived(from: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(SALT), from).expand(&join(info), &mut *key).expect("32 bytes are one block");
    key
}

/// What every machine of a pool has.
#[derive(Clone)]
pub struct RunnerKeys {
    /// The pool.
    pub pool: PoolId,
    /// How often the keys were made anew, from 1.
    pub epoch: u32,
    /// Opens [`Kind::Access`] and everything else that a runner may read.
    access: Zeroizing<[u8; 32]>,
    /// Names rows.
    rows: Zeroizing<[u8; 32]>,
    /// Checks signatures.
    public: VerifyingKey,
}

impl fmt::Debug for RunnerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerKeys")
            .field("pool", &self.pool)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl RunnerKeys {
    /// Returns the keys with these bytes; `None` if the last are no public key.
    pub fn from_bytes(pool: PoolId, epoch: u32, bytes: &[u8; 96]) -> Option<RunnerKeys> {
        let part = |at: usize| <[u8; 32]>::try_from(&bytes[at..at + 32]).ok();
        Some(RunnerKeys {
            pool,
            epoch,
            access: Zeroizing::new(part(0)?),
            rows: Zeroizing::new(part(32)?),
            public: VerifyingKey::from_bytes(&part(64)?).ok()?,
        })
    }

    /// Returns the bytes, for the runner's own file and the code that it joins with.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 96]> {
        let mut bytes = Zeroizing::new([0; 96]);
        bytes[..32].copy_from_slice(&*self.access);
        bytes[32..64].copy_from_slice(&*self.rows);
        bytes[64..].copy_from_slice(self.public.as_bytes());
        bytes
    }

    /// Returns the row of an account's record. `account`: its id; for a record of a machine, too, both joined.
    pub fn row(&self, kind: Kind, account: &str) -> RowId {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.rows).expect("a key of any length");
        mac.update(&join(&[kind.as_str().as_bytes(), account.as_bytes()]));
        let hash = mac.finalize().into_bytes();
        RowId(std::array::from_fn(|i| hash[i]))
    }

    /// Returns the text of a record that must be this account's.
    ///
    /// # Errors
    /// It is not believed, or is not for this machine.
    pub fn read(&self, record: &Record, account: &str) -> Result<Zeroizing<Vec<u8>>, Refused> {
        match record.kind {
            Kind::Full => Err(Refused::Sealed),
            _ => self.read_with(&self.access, record, account),
        }
    }

    fn read_with(
        &self,
        key: &[u8; 32],
        record: &Record,
        account: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        if record.row != self.row(record.kind, account) {
            return Err(Refused::Misplaced);
        }
        self.open(key, record)
    }

    /// Returns the text of a record whose account is not known yet. The text must name it, and the caller must compare.
    ///
    /// # Errors
    /// It is not believed, or is not for this machine.
    pub fn read_unknown(&self, record: &Record) -> Result<Zeroizing<Vec<u8>>, Refused> {
        match record.kind {
            Kind::Full => Err(Refused::Sealed),
            _ => self.open(&self.access, record),
        }
    }

    fn open(&self, key: &[u8; 32], record: &Record) -> Result<Zeroizing<Vec<u8>>, Refused> {
        if record.format > FORMAT {
            return Err(Refused::Newer);
        }
        match record.epoch.cmp(&self.epoch) {
            Ordering::Less => return Err(Refused::OtherEpoch),
            Ordering::Equal => {}
            Ordering::Greater => return Err(Refused::Rotated),
        }
        let signature = Signature::from_bytes(&record.signature);
        self.public.verify_strict(&record.signed(&self.pool.0), &signature).map_err(|_| Refused::Unsigned)?;
        seal::open(key, &record.associated(&self.pool.0), &record.sealed).ok_or(Refused::Sealed)
    }
}

/// What a member has.
#[derive(Clone)]
pub struct MemberKeys {
    key: PoolKey,
    full: Zeroizing<[u8; 32]>,
    signing: SigningKey,
    shared: RunnerKeys,
}

impl fmt::Debug for MemberKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberKeys").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl MemberKeys {
    /// Returns the keys that follow from a pool key.
    pub fn new(pool: PoolId, epoch: u32, key: PoolKey) -> MemberKeys {
        let of = |purpose: &str| derived(&key.0, &[purpose.as_bytes(), &pool.0, &epoch.to_be_bytes()]);
        let signing = SigningKey::from_bytes(&of("sign"));
        let shared = RunnerKeys {
            pool,
            epoch,
            access: of("access"),
            rows: of("rows"),
            public: signing.verifying_key(),
        };
        MemberKeys { full: of("full"), signing, shared, key }
    }

    /// Returns the keys of the next epoch, which have nothing in common with these.
    #[must_use]
    pub fn rotated(&self) -> MemberKeys {
        MemberKeys::new(self.shared.pool, self.shared.epoch + 1, PoolKey::random())
    }

    /// Returns the pool key, for this machine's own file and the code of another member.
    pub fn pool_key(&self) -> &PoolKey {
        &self.key
    }

    /// Returns what a runner has of them.
    pub fn runner(&self) -> &RunnerKeys {
        &self.shared
    }

    /// Returns the text of a record that must be this account's.
    ///
    /// # Errors
    /// It is not believed.
    pub fn read(&self, record: &Record, account: &str) -> Result<Zeroizing<Vec<u8>>, Refused> {
        match record.kind {
            Kind::Full => self.shared.read_with(&self.full, record, account),
            _ => self.shared.read(record, account),
        }
    }

    /// As [`RunnerKeys::read_unknown`], and opens [`Kind::Full`], too.
    ///
    /// # Errors
    /// It is not believed.
    pub fn read_unknown(&self, record: &Record) -> Result<Zeroizing<Vec<u8>>, Refused> {
        match record.kind {
            Kind::Full => self.shared.open(&self.full, record),
            _ => self.shared.read_unknown(record),
        }
    }

    /// Returns the record of an account, sealed and signed.
    pub fn write(&self, kind: Kind, account: &str, revision: u64, text: &[u8]) -> Record {
        self.write_with(random(), kind, account, revision, text)
    }

    /// As [`MemberKeys::write`], with this nonce, for test vectors. A nonce must never be used twice.
    #[doc(hidden)]
    pub fn write_with(
        &self,
        nonce: [u8; NONCE],
        kind: Kind,
        account: &str,
        revision: u64,
        text: &[u8],
    ) -> Record {
        let mut record = Record {
            row: self.shared.row(kind, account),
            format: FORMAT,
            epoch: self.shared.epoch,
            kind,
            revision,
            sealed: Vec::new(),
            signature: [0; 64],
        };
        let key = if kind == Kind::Full { &self.full } else { &self.shared.access };
        let pool = self.shared.pool.0;
        record.sealed = seal::seal(key, nonce, &record.associated(&pool), text, kind.block());
        record.signature = self.signing.sign(&record.signed(&pool)).to_bytes();
        record
    }
}
