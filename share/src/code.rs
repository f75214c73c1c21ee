//! The code that a machine joins with: a line of text that says where the database is, and has the secret which opens
//! a bundle there. The bundle has the keys. It is used once, and ends after fifteen minutes.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::fields::{join, split};
use crate::keys::{MemberKeys, PoolId, PoolKey, RunnerKeys, derived, random};
use crate::record::{FORMAT, NAME};
use crate::seal;

/// How long a code may be used, seconds of the database's clock.
pub const LASTS: i64 = 900;

/// The first letters of every code, with its version.
const PREFIX: &str = "cpshare1-";
/// The first letters without the version.
const ANY_VERSION: &str = "cpshare";

/// What a machine may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Renews, adds, removes and lets others join.
    Member,
    /// Only launches Codex.
    Runner,
}

impl Role {
    /// Returns the name in codes, bundles and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Runner => "runner",
        }
    }

    /// Returns the role of that name.
    pub fn parse(name: &str) -> Option<Role> {
        [Role::Member, Role::Runner].into_iter().find(|role| role.as_str() == name)
    }
}

/// A code.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// What the machine that joins may do.
    pub role: Role,
    /// The bundle's name in the database.
    pub id: [u8; 16],
    /// The address of the database, with a password if it needs one.
    pub url: String,
    secret: [u8; 32],
}

impl Drop for Code {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Why a text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCode {
    /// It does not begin like one.
    Other,
    /// A newer version of codex-pool made it.
    Newer,
    /// Something is missing or was changed.
    Damaged,
}

impl fmt::Display for NoCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoCode::Other => "this is no code of `codex-pool share code`",
            NoCode::Newer => "the code was made by a newer version of codex-pool",
            NoCode::Damaged => "the code is not whole, or a letter of it was changed",
        })
    }
}

impl std::error::Error for NoCode {}

/// The keys in a bundle.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Those of a member.
    Member(Box<MemberKeys>),
    /// Those of a runner.
    Runner(Box<RunnerKeys>),
}

impl Keys {
    /// Returns what its holder may do.
    pub fn role(&self) -> Role {
        match self {
            Keys::Member(_) => Role::Member,
            Keys::Runner(_) => Role::Runner,
        }
    }

    /// Returns what every machine has.
    pub fn shared(&self) -> &RunnerKeys {
        match self {
            Keys::Member(keys) => keys.runner(),
            Keys::Runner(keys) => keys,
        }
    }

    /// Returns the keys as bytes: for bundles, and for the file of the machine.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let shared = self.shared();
        let (pool, epoch) = (shared.pool.0, shared.epoch.to_be_bytes());
        let secret = match self {
            Keys::Member(keys) => Zeroizing::new(keys.pool_key().0.to_vec()),
            Keys::Runner(keys) => Zeroizing::new(keys.to_bytes().to_vec()),
        };
        Zeroizing::new(join(&[self.role().as_str().as_bytes(), &pool, &epoch, &secret]))
    }

    /// Returns the keys with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Keys> {
        let [role, pool, epoch, secret] = split(bytes)?;
        let pool = PoolId(pool.try_into().ok()?);
        let epoch = u32::from_be_bytes(epoch.try_into().ok()?);
        Some(match Role::parse(std::str::from_utf8(role).ok()?)? {
            Role::Member => {
                let key = PoolKey(secret.try_into().ok()?);
                Keys::Member(Box::new(MemberKeys::new(pool, epoch, key)))
            }
            Role::Runner => {
                Keys::Runner(Box::new(RunnerKeys::from_bytes(pool, epoch, secret.try_into().ok()?)?))
            }
        })
    }
}

impl Code {
    /// Returns a new code, and the bundle that the database must keep under its id until it ends.
    pub fn new(url: &str, keys: &Keys) -> (Code, Vec<u8>) {
        Code::with(random(), random(), random(), url, keys)
    }

    /// As [`Code::new`], with these random numbers, for test vectors.
    #[doc(hidden)]
    pub fn with(
        id: [u8; 16],
        secret: [u8; 32],
        nonce: [u8; seal::NONCE],
        url: &str,
        keys: &Keys,
    ) -> (Code, Vec<u8>) {
        let code = Code { role: keys.role(), id, url: url.to_owned(), secret };
        let bundle = seal::seal(&code.key(), nonce, &code.associated(), &keys.to_bytes(), 256);
        (code, bundle)
    }

    /// Returns the keys in its bundle; `None` if it is another code's.
    pub fn open(&self, bundle: &[u8]) -> Option<Keys> {
        let bytes = seal::open(&self.key(), &self.associated(), bundle)?;
        Keys::from_bytes(&bytes).filter(|keys| keys.role() == self.role)
    }

    fn key(&self) -> Zeroizing<[u8; 32]> {
        derived(&self.secret, &[b"code", &self.id])
    }

    fn associated(&self) -> Vec<u8> {
        join(&[NAME, &FORMAT.to_be_bytes(), b"code", self.role.as_str().as_bytes(), &self.id])
    }

    /// Returns the line to give to the machine that joins. It is a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(join(&[
            self.role.as_str().as_bytes(),
            &self.id,
            &self.secret,
            self.url.as_bytes(),
        ]));
        let sum = checksum(&bytes);
        bytes.extend(sum);
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*bytes)))
    }

    /// Returns the code of a line.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(line: &str) -> Result<Code, NoCode> {
        let line = line.trim();
        let Some(text) = line.strip_prefix(PREFIX) else {
            let version = line.strip_prefix(ANY_VERSION).and_then(|rest| rest.split_once('-'));
            let newer = version.is_some_and(|(version, _)| version.parse::<u32>().is_ok_and(|v| v > 1));
            return Err(if newer { NoCode::Newer } else { NoCode::Other });
        };
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| NoCode::Damaged)?);
        let (fields, sum) = bytes.split_last_chunk::<4>().ok_or(NoCode::Damaged)?;
        if *sum != checksum(fields) {
            return Err(NoCode::Damaged);
        }
        let parsed = || {
            let [role, id, secret, url] = split(fields)?;
            Some(Code {
                role: Role::parse(std::str::from_utf8(role).ok()?)?,
                id: id.try_into().ok()?,
                url: std::str::from_utf8(url).ok()?.to_owned(),
                secret: secret.try_into().ok()?,
            })
        };
        parsed().ok_or(NoCode::Damaged)
    }
}

/// A letter that was mistyped must show before anything is asked of the database.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let hash = Sha256::digest(bytes);
    [hash[0], hash[1], hash[2], hash[3]]
}
