//! `usage.json`: what was last known of each account, and how the last attempt went. A cache: when
//! it is corrupt it is set aside and rebuilt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::window::Usage;
use crate::account::AccountId;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageCache {
    /// Format version (1).
    #[serde(default)]
    pub version: u32,
    /// By account.
    #[serde(default)]
    pub accounts: BTreeMap<AccountId, UsageEntry>,
    /// Until when no launch waits for a refresh any more, Unix seconds (set when one waited in vain).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_wait_until: Option<i64>,
}

/// One account's usage and last attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// The newest data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How the last request for it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
}

/// The last request for an account's usage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When, Unix seconds.
    pub at: i64,
    /// What went wrong, for a person; `None` if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// No request before this time, Unix seconds (back-off).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
}

impl UsageCache {
    /// What is known of an account.
    pub fn usage(&self, id: &AccountId) -> Option<&Usage> {
        self.accounts.get(id)?.usage.as_ref()
    }
}
