//! Removing every copy of an account's credentials from the pool, for `rm`. The caller removes it from homes and
//! registry.

use memchr::memmem;

use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, MAX_BYTES, Secret};
use crate::error::{Error, Result};
use crate::files::{self, PoolLock};
use crate::paths::PoolPaths;
use crate::usage::UsageCache;

use super::{Credentials, LostFound, MAX_JSON, v1};

/// Removes every document of an account, and its usage.
///
/// # Errors
/// Something cannot be removed. The account can be removed again then.
pub fn erase(lock: &PoolLock, paths: &PoolPaths, id: &AccountId) -> Result<()> {
    let secrets = secrets(paths, id);
    for kept in LostFound::new(paths).entries() {
        let is_ours = match &kept.account {
            Some(account) => account == id,
            None => {
                let bytes = files::read_small(&kept.path, MAX_JSON).ok().flatten();
                bytes.is_some_and(|bytes| is_of(&bytes, id, &secrets))
            }
        };
        if is_ours {
            files::remove_file(&kept.path).map_err(|e| Error::io("remove", &kept.path, &e))?;
        }
    }
    v1::forget(lock, paths, id)?;
    let mut usage = UsageCache::load(Some(lock), paths);
    if usage.accounts.remove(id).is_some() {
        usage.save(lock, paths)?;
    }
    let stored = paths.auth(id);
    for path in [files::temp_name(&stored), stored] {
        files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
    }
    files::sync_dir(paths.root()).map_err(|e| Error::io("write", paths.root(), &e))
}

/// Returns whether a document that was not understood when it was kept has this account's credentials.
fn is_of(bytes: &[u8], id: &AccountId, secrets: &[Secret]) -> bool {
    let contains = |secret: &Secret| memmem::find(bytes, secret.expose().as_bytes()).is_some();
    AuthDoc::parse_foreign(bytes).is_ok_and(|doc| doc.id() == id) || secrets.iter().any(contains)
}

/// Returns the tokens, or the key, of every document that the pool has of an account.
fn secrets(paths: &PoolPaths, id: &AccountId) -> Vec<Secret> {
    let stored = Credentials::new(paths).load(id).ok().flatten();
    let kept = LostFound::new(paths).entries().into_iter().filter(|kept| kept.account.as_ref() == Some(id));
    let kept = kept.filter_map(|kept| AuthDoc::parse(files::read_small(&kept.path, MAX_BYTES).ok()??).ok());
    let secrets = |doc: AuthDoc| [doc.access_token().cloned(), doc.refresh_token().cloned()];
    stored.into_iter().chain(kept).flat_map(secrets).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Registry, Why};
    use std::time::Duration;

    fn doc(key: &str) -> AuthDoc {
        AuthDoc::of_api_key(&Secret::new(key)).unwrap()
    }

    /// Returns every file below a folder that contains `needle`.
    fn holders(dir: &std::path::Path, needle: &str) -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let below = entries.flat_map(|entry| match entry.path() {
            path if path.is_dir() => holders(&path, needle),
            path if std::fs::read_to_string(&path).is_ok_and(|text| text.contains(needle)) => {
                vec![path.display().to_string()]
            }
            _ => Vec::new(),
        });
        below.collect()
    }

    #[test]
    fn nothing_of_a_removed_account_stays_and_everything_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        let store = |key: &str| serde_json::json!({"id": key.replace("key", "old"), "authJson": {"OPENAI_API_KEY": key}});
        let v1 = serde_json::json!({"version": 1, "accounts": [store("key-gone"), store("key-stays")]});
        std::fs::write(paths.registry(), v1.to_string()).unwrap();
        super::super::migrate_if_v1(&lock, &paths, 1).unwrap().unwrap();
        let lost = LostFound::new(&paths);
        for key in ["key-gone", "key-stays"] {
            lost.keep(&lock, doc(key).bytes(), Why::Replaced, Some(doc(key).id()), 1).unwrap();
            lost.keep(&lock, format!("{{\"cut off\": \"{key}").as_bytes(), Why::Broken, None, 1).unwrap();
            std::fs::write(files::temp_name(&paths.auth(doc(key).id())), key).unwrap();
        }
        assert_eq!(Registry::load(&paths).unwrap().accounts.len(), 2);
        let before = holders(paths.root(), "key-stays");

        erase(&lock, &paths, doc("key-gone").id()).unwrap();

        assert_eq!(holders(paths.root(), "key-gone"), [""; 0]);
        assert_eq!(holders(paths.root(), "key-stays"), before);
        erase(&lock, &paths, doc("key-stays").id()).unwrap();
        assert!(!paths.registry_v1().exists(), "nothing is left in it");
    }
}
