//! `accounts.json`: the accounts without their secrets. A newer version or a corrupt file is an
//! error that changes nothing.

use serde::{Deserialize, Serialize};

use super::{MAX_JSON, v1};
use crate::account::{Account, AccountId, AccountKind, AuthState, AuthStatus};
use crate::auth_doc::AuthDoc;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;

/// The registry version that we read and write.
pub const REGISTRY_VERSION: u64 = 2;

/// The registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    version: u64,
    /// The accounts, in the order they were added.
    #[serde(default)]
    pub accounts: Vec<Account>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry { version: REGISTRY_VERSION, accounts: Vec::new() }
    }
}

impl Registry {
    /// Loads the registry; a missing file is an empty one.
    ///
    /// # Errors
    /// Unreadable, corrupt, of a newer version, or still of version 1 (see [`super::migrate_if_v1`]).
    pub fn load(paths: &PoolPaths) -> Result<Registry> {
        let path = paths.registry();
        let bytes = files::read_small(&path, MAX_JSON).map_err(|e| Error::io("read", &path, &e))?;
        let Some(bytes) = bytes else { return Ok(Registry::default()) };
        match serde_json::from_slice::<Registry>(&bytes) {
            Ok(registry) if registry.version == REGISTRY_VERSION => Ok(registry),
            _ => Err(Self::explain(&path, &bytes)),
        }
    }

    /// Why a file is not a registry of ours.
    fn explain(path: &std::path::Path, bytes: &[u8]) -> Error {
        #[derive(Deserialize)]
        struct Version {
            version: Option<serde_json::Value>,
        }
        if v1::is_v1(bytes) {
            return Error::new(format!("{} is of version 1", path.display()))
                .hint("`codex-pool list` migrates it, the old file is kept");
        }
        let found = serde_json::from_slice::<Version>(bytes).ok().and_then(|v| v.version);
        match found.as_ref().and_then(serde_json::Value::as_u64) {
            Some(newer) if newer > REGISTRY_VERSION => Error::new(format!(
                "{} is of version {newer}, newer than this codex-pool knows ({REGISTRY_VERSION})",
                path.display()
            ))
            .hint("update with `codex-pool update`"),
            _ => {
                let why = match serde_json::from_slice::<Registry>(bytes) {
                    Err(e) => format!("line {} column {}", e.line(), e.column()),
                    Ok(_) => "no known version".to_owned(),
                };
                Error::new(format!("{} is corrupt ({why})", path.display())).hint(
                    "nothing was changed; repair it, or move it away and run `codex-pool doctor --fix`, \
                     which rebuilds it from auth/",
                )
            }
        }
    }

    /// Writes the registry durably.
    ///
    /// # Errors
    /// If it cannot be written; the old one is then still there.
    pub fn save(&self, lock: &PoolLock, paths: &PoolPaths) -> Result<()> {
        super::save_json(lock, &paths.registry(), self, Durability::Durable)
    }

    /// The account with this id.
    pub fn get(&self, id: &AccountId) -> Option<&Account> {
        self.accounts.iter().find(|a| a.id == *id)
    }

    /// The account with this id, to change it.
    pub fn get_mut(&mut self, id: &AccountId) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|a| a.id == *id)
    }

    /// Enters the account of a document, or brings its entry up to date. New credentials lift the
    /// need for a login. Says whether the account is new.
    pub fn enter(&mut self, doc: &AuthDoc, label: Option<&str>, now: i64) -> bool {
        if let Some(account) = self.get_mut(doc.id()) {
            account.email = doc.email().map(str::to_owned).or(account.email.take());
            account.plan = doc.plan().map(str::to_owned).or(account.plan.take());
            account.updated_at = now;
            if account.auth.state != AuthState::WorkspaceRemoved {
                account.auth = AuthStatus::default();
            }
            return false;
        }
        let label = match label {
            Some(label) => self.unique_label(label),
            None => self.propose_label(doc),
        };
        self.accounts.push(Account {
            id: doc.id().clone(),
            label,
            kind: doc.kind(),
            email: doc.email().map(str::to_owned),
            user_id: doc.identity().map(|i| i.user_id.clone()),
            account_id: doc.identity().map(|i| i.account_id.clone()),
            plan: doc.plan().map(str::to_owned),
            enabled: true,
            added_at: now,
            updated_at: now,
            auth: AuthStatus::default(),
            former_ids: Vec::new(),
        });
        true
    }

    /// Gives an account another label.
    ///
    /// # Errors
    /// The label is empty, or another account has it.
    pub fn rename(&mut self, id: &AccountId, label: &str) -> Result<()> {
        let label = clean_label(label);
        if label.is_empty() {
            return Err(Error::of(ErrorKind::Usage, "a label needs at least one visible character"));
        }
        if let Some(other) = self.accounts.iter().find(|a| a.label == label && a.id != *id) {
            return Err(Error::new(format!("{} has the label `{label}` already", other.display())));
        }
        if let Some(account) = self.get_mut(id) {
            account.label = label;
        }
        Ok(())
    }

    /// A label for a document: its email's first part, then the whole email, then with the plan.
    fn propose_label(&self, doc: &AuthDoc) -> String {
        let (Some(email), AccountKind::Chatgpt) = (doc.email(), doc.kind()) else {
            return self.unique_label(if doc.kind() == AccountKind::ApiKey { "api-key" } else { "account" });
        };
        let email = clean_label(email);
        let short = email.split('@').next().unwrap_or(&email).to_owned();
        let same_email = self.accounts.iter().any(|a| a.email.as_deref() == Some(email.as_str()));
        let with_plan = doc.plan().map(|plan| format!("{short}-{}", clean_label(plan)));
        let proposals = [(!same_email).then(|| short.clone()), with_plan, Some(email)];
        for proposal in proposals.into_iter().flatten() {
            if !proposal.is_empty() && !self.label_taken(&proposal) {
                return proposal;
            }
        }
        self.unique_label(&short)
    }

    fn label_taken(&self, label: &str) -> bool {
        self.accounts.iter().any(|a| a.label == label)
    }

    /// `label`, or with a number behind it.
    fn unique_label(&self, label: &str) -> String {
        let label = clean_label(label);
        let label = if label.is_empty() { "account".to_owned() } else { label };
        if !self.label_taken(&label) {
            return label;
        }
        (2..).map(|n| format!("{label}-{n}")).find(|l| !self.label_taken(l)).unwrap_or(label)
    }
}

/// A label without what could deceive on a terminal (control and bidirectional characters) or a
/// shell, at most 64 characters.
pub(super) fn clean_label(text: &str) -> String {
    let ok = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().filter(ok).take(64).collect::<String>().trim().to_owned()
}
