//! Version 1 of the registry (camelCase, credentials inline as `authJson`), which is also the format of codex-tools'
//! store: reading it, and migrating the pool's in place.

use serde_json::Value;

use super::credentials::{Credentials, Origin};
use super::lost_found::{LostFound, Why};
use super::{MAX_JSON, registry::Registry};

use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocError};
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::time;

/// An account of such a store.
pub struct ForeignAccount {
    /// Its id in the store.
    pub id: Option<String>,
    /// Its label in the store.
    pub label: Option<String>,
    /// When it was added, Unix seconds.
    pub added_at: Option<i64>,
    /// Whether it may be picked.
    pub enabled: bool,
    /// Its document, or the bytes and why they are none.
    pub doc: std::result::Result<AuthDoc, (Vec<u8>, DocError)>,
}

/// Returns whether these bytes are such a store: an object with accounts that have `authJson`, or of version 1.
pub(super) fn is_v1(bytes: &[u8]) -> bool {
    let Ok(tree) = serde_json::from_slice::<Value>(bytes) else { return false };
    let accounts = tree.get("accounts").and_then(Value::as_array);
    let inline = accounts.is_some_and(|list| list.iter().any(|a| a.get("authJson").is_some()));
    inline || accounts.is_some() && tree.get("version").and_then(Value::as_u64) == Some(1)
}

/// Returns whether these bytes are a registry of any version without credentials.
pub fn is_registry(bytes: &[u8]) -> bool {
    let tree = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    !is_v1(bytes)
        && tree.get("version").is_some_and(Value::is_u64)
        && tree.get("accounts").is_some_and(Value::is_array)
}

/// Returns the accounts of such a store; `None` if these bytes are none.
pub fn parse_foreign_store(bytes: &[u8]) -> Option<Vec<ForeignAccount>> {
    if !is_v1(bytes) {
        return None;
    }
    let tree: Value = serde_json::from_slice(bytes).ok()?;
    let accounts = tree.get("accounts")?.as_array()?;
    Some(accounts.iter().map(foreign_account).collect())
}

fn foreign_account(entry: &Value) -> ForeignAccount {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    let bytes = match entry.get("authJson") {
        Some(Value::String(inner)) => inner.clone().into_bytes(),
        Some(inner) => serde_json::to_vec_pretty(inner).unwrap_or_default(),
        None => Vec::new(),
    };
    let doc = AuthDoc::parse_foreign(&bytes).map(AuthDoc::corrected).map_err(|e| (bytes, e));
    let added_at = entry.get("addedAt").and_then(|v| match v {
        // Some stores have milliseconds.
        Value::Number(n) => n.as_f64().map(|n| if n > 1e11 { n / 1000.0 } else { n } as i64),
        Value::String(s) => time::parse_rfc3339(s),
        _ => None,
    });
    let enabled = entry.get("enabled").and_then(Value::as_bool).unwrap_or(true);
    ForeignAccount { id: text("id"), label: text("label"), added_at, enabled, doc }
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The number of accounts in the registry now.
    pub accounts: usize,
    /// The names of the documents that were not understood, which are in `lost+found/`, and why.
    pub set_aside: Vec<(String, DocError)>,
}

/// Migrates a version-1 registry in place, if there is one. The old file is kept as `accounts.v1.json`. Documents that
/// are not understood go to `lost+found/`. The registry is replaced last, so an interrupted migration starts again.
///
/// # Errors
/// Something cannot be read or written. The old registry is still in place then.
pub fn migrate_if_v1(lock: &PoolLock, paths: &PoolPaths, now: i64) -> Result<Option<Migration>> {
    let path = paths.registry();
    let bytes = files::read_small(&path, MAX_JSON).map_err(|e| Error::io("read", &path, &e))?;
    let Some(accounts) = bytes.as_deref().and_then(parse_foreign_store) else { return Ok(None) };
    // The earlier program left its folder open to others. What it cannot close, the doctor names.
    let _ = files::make_private(paths.root());
    let kept = paths.registry_v1();
    let earlier = files::read_small(&kept, MAX_JSON).map_err(|e| Error::io("read", &kept, &e))?;
    if let Some(earlier) = earlier.filter(|earlier| Some(earlier) != bytes.as_ref()) {
        LostFound::new(paths).keep(lock, &earlier, Why::Replaced, None, now)?;
    }
    files::write_whole(&kept, &bytes.unwrap_or_default(), Durability::Durable)
        .map_err(|e| Error::io("write", &kept, &e))?;
    let credentials = Credentials::new(paths);
    let mut registry = Registry::default();
    let mut set_aside = Vec::new();
    for account in accounts {
        match account.doc {
            Ok(doc) => {
                credentials.put_newer(lock, &doc, Origin::Found, now)?;
                registry.upsert(&doc, account.label.as_deref(), now);
                if let Some(entry) = registry.get_mut(doc.id()) {
                    entry.added_at = account.added_at.unwrap_or(now);
                    entry.enabled = account.enabled;
                    entry.former_ids.extend(account.id);
                }
            }
            Err((bytes, why)) => {
                LostFound::new(paths).keep(lock, &bytes, Why::Broken, None, now)?;
                let name =
                    account.label.or(account.id).unwrap_or_else(|| "an account without a label".to_owned());
                set_aside.push((name, why));
            }
        }
    }
    registry.save(lock, paths)?;
    Ok(Some(Migration { accounts: registry.accounts.len(), set_aside }))
}

/// Removes an account's credentials from the file that a migration kept, and an empty one with them.
///
/// # Errors
/// The file cannot be read or written. One that is not understood is left alone.
pub(super) fn forget(_lock: &PoolLock, paths: &PoolPaths, id: &AccountId) -> Result<()> {
    let path = paths.registry_v1();
    let bytes = files::read_small(&path, MAX_JSON).map_err(|e| Error::io("read", &path, &e))?;
    let Some(mut tree) = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else {
        return Ok(());
    };
    let Some(accounts) = tree.get_mut("accounts").and_then(Value::as_array_mut) else { return Ok(()) };
    let before = accounts.len();
    accounts.retain(|entry| foreign_account(entry).doc.map_or(true, |doc| doc.id() != id));
    if accounts.is_empty() {
        return files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e));
    }
    if accounts.len() < before {
        let bytes = serde_json::to_vec_pretty(&tree).unwrap_or_default();
        files::write_whole(&path, &bytes, Durability::Durable).map_err(|e| Error::io("write", &path, &e))?;
    }
    Ok(())
}
