//! One pool on several machines. A database keeps the records of the accounts, and is trusted with nothing: each record
//! is sealed and signed here, and what comes back is believed only if it opens, is signed, and is not older than what
//! was seen before. `docs/share.md` is the format in words, for other implementations.
//!
//! ```
//! use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};
//! use codex_pool_share::record::Kind;
//!
//! let keys = MemberKeys::new(PoolId::random(), 1, PoolKey::random());
//! let record = keys.write(Kind::Access, "aaaaaaaaaa", 7, b"a document");
//! // A machine that only runs Codex has keys that open this kind, and none that sign.
//! let runner = keys.runner();
//! assert_eq!(runner.read(&record, "aaaaaaaaaa").unwrap().as_slice(), b"a document");
//! ```

#![warn(clippy::disallowed_methods)]

pub mod address;
pub mod clock;
pub mod code;
mod fields;
pub mod keys;
pub mod login;
pub mod machines;
pub mod memory;
pub mod postgres;
pub mod protocol;
pub mod pull;
pub mod record;
pub mod roles;
pub mod rotate;
mod seal;
mod seen;
pub mod store;
mod tls;
pub mod usage;

pub use fields::{join, split};
pub use seen::Seen;
