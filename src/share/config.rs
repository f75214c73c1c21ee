//! `share.toml`: the keys of this machine, the database's address with its password, and this machine's name. Who can
//! read it has what this machine has.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codex_pool_core::files::{self, Durability, PoolLock};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::{Error, ErrorKind, Result};
use codex_pool_share::code::{Keys, Role};
use codex_pool_share::{join, split};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The version of the file.
const VERSION: u32 = 1;
/// The largest file, bytes.
const MOST: u64 = 64 << 10;

/// What this machine has of a shared pool.
#[derive(Clone)]
pub(crate) struct Config {
    /// The database's address, with a password if it needs one.
    pub(crate) url: String,
    /// The name of this machine, for people.
    pub(crate) machine: String,
    /// The keys, and with them the pool and the role.
    pub(crate) keys: Keys,
    /// The keys of a rotation that has begun here and is not done.
    pub(crate) next: Option<Keys>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    role: String,
    machine: String,
    url: Zeroizing<String>,
    pool: String,
    epoch: u32,
    key: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_key: Option<Zeroizing<String>>,
}

/// Returns pool, epoch and key, each as a text.
fn parts(keys: &Keys) -> (String, u32, Zeroizing<String>) {
    let bytes = keys.to_bytes();
    let secret = split::<4>(&bytes).map_or(&[][..], |[_, _, _, secret]| secret);
    let shared = keys.shared();
    (URL_SAFE_NO_PAD.encode(shared.pool.0), shared.epoch, Zeroizing::new(URL_SAFE_NO_PAD.encode(secret)))
}

fn keys_of(role: &str, pool: &str, epoch: u32, key: &str) -> Option<Keys> {
    let pool = URL_SAFE_NO_PAD.decode(pool).ok()?;
    let key = Zeroizing::new(URL_SAFE_NO_PAD.decode(key).ok()?);
    let bytes = Zeroizing::new(join(&[role.as_bytes(), &pool, &epoch.to_be_bytes(), &key]));
    Keys::from_bytes(&bytes)
}

impl Config {
    /// Reads the file. `None`: the pool is not shared.
    ///
    /// # Errors
    /// It cannot be read, or is not whole.
    pub(crate) fn load(paths: &PoolPaths) -> Result<Option<Config>> {
        let path = paths.share();
        let bytes = files::read_small(&path, MOST).map_err(|e| Error::io("read", &path, &e))?;
        let Some(bytes) = bytes.map(Zeroizing::new) else { return Ok(None) };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        if toml::from_str::<Version>(text).is_ok_and(|found| found.version > VERSION) {
            let text = format!("{} is of a newer version of codex-pool", path.display());
            return Err(Error::new(text).hint("update with `codex-pool update`"));
        }
        Config::parse(text).map(Some).ok_or_else(|| {
            Error::of(ErrorKind::Corrupt, format!("{} is corrupt", path.display())).hint(
                "nothing was changed; move it away, then join again: `codex-pool share code` on a member, `codex-pool \
                 share join` here",
            )
        })
    }

    /// Returns what a file says; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Config> {
        let text: Text = toml::from_str(text).ok()?;
        let keys = keys_of(&text.role, &text.pool, text.epoch, &text.key)?;
        let next = match &text.next_key {
            Some(key) => Some(keys_of(&text.role, &text.pool, text.epoch.checked_add(1)?, key)?),
            None => None,
        };
        Some(Config { url: text.url.to_string(), machine: text.machine, keys, next })
    }

    fn to_text(&self) -> Result<Zeroizing<String>> {
        let (pool, epoch, key) = parts(&self.keys);
        let text = Text {
            version: VERSION,
            role: self.role().as_str().to_owned(),
            machine: self.machine.clone(),
            url: Zeroizing::new(self.url.clone()),
            pool,
            epoch,
            key,
            next_key: self.next.as_ref().map(|next| parts(next).2),
        };
        let text = toml::to_string(&text).map_err(|e| Error::new(format!("cannot encode TOML: {e}")))?;
        Ok(Zeroizing::new(format!(
            "# The keys of a shared pool: who has this file has the pool. `codex-pool share` writes it.\n{text}"
        )))
    }

    /// Writes the file durably.
    ///
    /// # Errors
    /// It cannot be written. The old one is still there then.
    pub(crate) fn save(&self, _lock: &PoolLock, paths: &PoolPaths) -> Result<()> {
        let path = paths.share();
        files::write_whole(&path, self.to_text()?.as_bytes(), Durability::Durable)
            .map_err(|e| Error::io("write", &path, &e))
    }

    /// Returns what this machine may do.
    pub(crate) fn role(&self) -> Role {
        self.keys.role()
    }
}

#[cfg(test)]
mod tests {
    use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};

    use super::*;

    #[test]
    fn file_says_what_was_written() {
        let keys = MemberKeys::new(PoolId([1; 16]), 7, PoolKey([2; 32]));
        for keys in [Keys::Runner(Box::new(keys.runner().clone())), Keys::Member(Box::new(keys.clone()))] {
            let next = match &keys {
                Keys::Member(keys) => Some(Keys::Member(Box::new(keys.rotated()))),
                Keys::Runner(_) => None,
            };
            let config = Config {
                url: "postgres://u:p@localhost/pool?x=\"1\"".to_owned(),
                machine: "a b".to_owned(),
                keys,
                next,
            };
            let read = Config::parse(&config.to_text().unwrap()).expect("the same");
            assert_eq!((&read.url, &read.machine), (&config.url, &config.machine));
            assert_eq!(read.keys.to_bytes(), config.keys.to_bytes());
            let bytes = |keys: &Option<Keys>| keys.as_ref().map(|keys| keys.to_bytes().to_vec());
            assert_eq!(bytes(&read.next), bytes(&config.next));
            assert!(!format!("{config:?}").contains("postgres"), "shows nothing");
        }
        assert!(Config::parse("version = 1\nrole = \"member\"").is_none());
    }
}
