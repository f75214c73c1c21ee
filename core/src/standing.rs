//! What decides about the accounts: the part of registry and usage that every launch looks at. Plain data; made
//! of both, and never written back to them.

use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::store::Registry;
use crate::usage::{Poll, Quota, UsageCache, UsageEntry};

/// One account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose.
    pub id: AccountId,
    /// The user's name for it.
    pub label: Box<str>,
    /// ChatGPT login or API key.
    pub kind: AccountKind,
    /// Whether it may be picked.
    pub enabled: bool,
    /// What is known of its credentials.
    pub auth: AuthState,
    /// Its workspace, by which Codex's configuration may forbid it.
    pub account_id: Option<Box<str>>,
    /// Its plan: the usage answer's, else the token's.
    pub plan: Option<Box<str>>,
    /// The newest usage, if any.
    pub quota: Option<Quota>,
    /// What decides when its usage is asked for.
    pub poll: Poll,
}

impl Standing {
    /// Of an account and what is known of its usage.
    pub fn new(account: &Account, entry: Option<&UsageEntry>) -> Standing {
        let usage = entry.and_then(|entry| entry.usage.as_ref());
        let plan = usage.and_then(|usage| usage.plan.as_deref()).or(account.plan.as_deref());
        Standing {
            id: account.id.clone(),
            label: account.label.as_str().into(),
            kind: account.kind,
            enabled: account.enabled,
            auth: account.auth.state,
            account_id: account.account_id.as_deref().map(Box::from),
            plan: plan.map(Box::from),
            quota: usage.map(crate::usage::Usage::quota),
            poll: entry.map(UsageEntry::poll).unwrap_or_default(),
        }
    }
}

/// All accounts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standings {
    /// In the registry's order.
    pub accounts: Vec<Standing>,
    /// Until when no launch waits for a refresh, Unix seconds (see [`UsageCache::no_wait_until`]).
    pub no_wait_until: Option<i64>,
}

impl Standings {
    /// Of the whole pool.
    pub fn new(registry: &Registry, usage: &UsageCache) -> Standings {
        let standing = |account: &Account| Standing::new(account, usage.accounts.get(&account.id));
        Standings {
            accounts: registry.accounts.iter().map(standing).collect(),
            no_wait_until: usage.no_wait_until,
        }
    }

    /// This account's.
    pub fn get(&self, id: &AccountId) -> Option<&Standing> {
        self.accounts.iter().find(|standing| standing.id == *id)
    }
}
