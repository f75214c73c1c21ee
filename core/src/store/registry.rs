//! `accounts.json`: the accounts without their secrets. A corrupt file or one of a newer version is an error that
//! changes nothing.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{MAX_JSON, v1};
use crate::account::{AccessOnly, Account, AccountId, AccountKind, AuthStatus};
use crate::auth_doc::AuthDoc;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::shared::Role;
use crate::text::is_deceptive;

/// The version of the registry that is read and written.
pub const REGISTRY_VERSION: u64 = 2;

/// The registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    version: u64,
    /// The accounts, in the order they were added.
    #[serde(default)]
    pub accounts: Vec<Account>,
    /// The main homes that are the pool's to change, as [`super::path_key`]s: `init` was run there, or the pool put an
    /// account there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub homes: Vec<String>,
    /// What this machine is in the pool that it shares with others. `None`: the pool is this machine's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shared: Option<Role>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry { version: REGISTRY_VERSION, accounts: Vec::new(), homes: Vec::new(), shared: None }
    }
}

impl Registry {
    /// Loads the registry. A missing file is an empty one.
    ///
    /// # Errors
    /// The file cannot be read, is corrupt, or has another version (for version 1 see [`super::migrate_if_v1`]).
    pub fn load(paths: &PoolPaths) -> Result<Registry> {
        let path = paths.registry();
        let bytes = files::read_small(&path, MAX_JSON).map_err(|e| Error::io("read", &path, &e))?;
        let Some(bytes) = bytes else { return Ok(Registry::default()) };
        match super::from_json::<Registry>(&bytes) {
            Ok(registry) if registry.version == REGISTRY_VERSION => Ok(registry),
            _ => Err(Self::explain(&path, &bytes)),
        }
    }

    /// Returns why a file is no registry of this version.
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
                Error::of(ErrorKind::Corrupt, format!("{} is corrupt ({why})", path.display())).hint(
                    "nothing was changed; repair it, or move it away and run `codex-pool doctor --fix`, \
                     which rebuilds it from auth/",
                )
            }
        }
    }

    /// Writes the registry durably.
    ///
    /// # Errors
    /// The file cannot be written. The old one is still there then.
    pub fn save(&self, lock: &PoolLock, paths: &PoolPaths) -> Result<()> {
        super::save_json(lock, &paths.registry(), self, Durability::Durable)
    }

    /// Returns the account with this id.
    pub fn get(&self, id: &AccountId) -> Option<&Account> {
        self.accounts.iter().find(|a| a.id == *id)
    }

    /// Returns the account with this id, to be changed.
    pub fn get_mut(&mut self, id: &AccountId) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|a| a.id == *id)
    }

    /// Returns whether a main home is the pool's to change.
    pub fn manages(&self, main_home: &Path) -> bool {
        let key = super::path_key(main_home);
        self.homes.contains(&key)
    }

    /// Adds the account of a document, or brings it up to date: new credentials end the need for a login. Returns
    /// whether the account is new.
    pub fn upsert(&mut self, doc: &AuthDoc, label: Option<&str>, now: i64) -> bool {
        let by_members = self.shared == Some(Role::Runner);
        let access_only = doc.is_access_only().then(|| AccessOnly { ends_at: doc.expires_at(), by_members });
        if let Some(account) = self.get_mut(doc.id()) {
            account.access_only = access_only;
            account.email = doc.email().map(str::to_owned).or(account.email.take());
            account.plan = doc.plan().map(str::to_owned).or(account.plan.take());
            account.updated_at = now;
            if !account.auth.state.is_refusal() {
                account.auth = AuthStatus::default();
            }
            return false;
        }
        let label = match label {
            Some(label) => self.unique_label(label),
            None => self.propose_label(doc),
        };
        self.accounts.push(Account {
            email: doc.email().map(str::to_owned),
            user_id: doc.identity().map(|i| i.user_id.clone()),
            account_id: doc.identity().map(|i| i.account_id.clone()),
            plan: doc.plan().map(str::to_owned),
            access_only,
            ..Account::new(doc.id().clone(), label, doc.kind(), now)
        });
        true
    }

    /// Changes the label of an account.
    ///
    /// # Errors
    /// As [`Registry::check_label`].
    pub fn rename(&mut self, id: &AccountId, label: &str) -> Result<()> {
        let label = self.check_label(label, Some(id))?;
        if let Some(account) = self.get_mut(id) {
            account.label = label;
        }
        Ok(())
    }

    /// Returns a label in the form that is stored. `owner`: the account that is to have it.
    ///
    /// # Errors
    /// It has no visible character, or it is the label, an id or the email of another account.
    pub fn check_label(&self, label: &str, owner: Option<&AccountId>) -> Result<String> {
        let label = clean_label(label);
        if label.is_empty() {
            return Err(Error::of(ErrorKind::Usage, "a label needs at least one visible character")
                .hint("choose another one"));
        }
        let same = |name: &str| name.to_lowercase() == label.to_lowercase();
        for other in self.accounts.iter().filter(|a| owner != Some(&a.id)) {
            let mut ids = other.former_ids.iter().map(String::as_str);
            let what = if same(&other.label) {
                "label"
            } else if same(other.id.as_str()) || ids.any(same) {
                "id"
            } else if other.account_id.as_deref().is_some_and(same) {
                "account id"
            } else if other.email.as_deref().is_some_and(same) {
                "email"
            } else {
                continue;
            };
            return Err(Error::new(format!("`{label}` is the {what} of {} already", other.display()))
                .hint("choose another one"));
        }
        Ok(label)
    }

    /// Returns a label for a document: the first part of its email. If another account has that, a login of the same
    /// email gets its plan or workspace added, and a login of another email gets the whole email.
    fn propose_label(&self, doc: &AuthDoc) -> String {
        let (Some(email), AccountKind::Chatgpt) = (doc.email(), doc.kind()) else {
            return self.unique_label(if doc.kind() == AccountKind::ApiKey { "api-key" } else { "account" });
        };
        let email = clean_label(email);
        let short = email.split('@').next().unwrap_or(&email).to_owned();
        let same_email =
            self.accounts.iter().any(|a| a.email.as_ref().is_some_and(|e| e.eq_ignore_ascii_case(&email)));
        let proposals = if same_email {
            let with_plan = doc.plan().map(|plan| format!("{short}-{}", clean_label(plan)));
            let workspace = doc.identity().map(|who| who.account_id.chars().take(8).collect::<String>());
            [with_plan, workspace.map(|id| format!("{short}-{}", clean_label(&id)))]
        } else {
            [Some(short.clone()), Some(email)]
        };
        let free = |label: &String| self.check_label(label, Some(doc.id())).is_ok();
        proposals.into_iter().flatten().find(free).unwrap_or_else(|| self.unique_label(&short))
    }

    fn label_taken(&self, label: &str) -> bool {
        self.accounts.iter().any(|a| a.label.to_lowercase() == label.to_lowercase())
    }

    /// Returns the label, with a number if another account has it.
    fn unique_label(&self, label: &str) -> String {
        let label = clean_label(label);
        let label = if label.is_empty() { "account".to_owned() } else { label };
        if !self.label_taken(&label) {
            return label;
        }
        (2..).map(|n| format!("{label}-{n}")).find(|l| !self.label_taken(l)).unwrap_or(label)
    }
}

/// Returns a label without deceptive characters, at most 64 characters.
pub(super) fn clean_label(text: &str) -> String {
    text.chars().filter(|c| !is_deceptive(*c)).take(64).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn doc(email: &str, workspace: &str, plan: &str) -> AuthDoc {
        let claims = serde_json::json!({"email": email, "https://api.openai.com/auth":
            {"chatgpt_user_id": email, "chatgpt_account_id": workspace, "chatgpt_plan_type": plan}});
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let tokens = serde_json::json!({"id_token": token, "access_token": token, "account_id": workspace});
        AuthDoc::parse(serde_json::json!({ "tokens": tokens }).to_string().into_bytes()).unwrap()
    }

    #[test]
    fn proposed_labels_tell_logins_apart() {
        let mut registry = Registry::default();
        for (email, workspace, plan, label) in [
            ("ann@example.com", "11111111-aaaa", "plus", "ann"),
            ("Ann@example.com", "22222222-aaaa", "team", "Ann-team"),
            ("ann@example.com", "33333333-aaaa", "team", "ann-33333333"),
            ("ann@example.com", "33333333-bbbb", "team", "ann-2"),
            ("ann@example.org", "44444444-aaaa", "plus", "ann@example.org"),
            ("büro@example.com", "55555555-aaaa", "plus", "büro"),
        ] {
            assert!(registry.upsert(&doc(email, workspace, plan), None, 0));
            assert_eq!(registry.accounts.last().unwrap().label, label);
        }
    }

    #[test]
    fn label_never_names_another_account() {
        let mut registry = Registry::default();
        registry.upsert(&doc("ann@example.com", "space-a", "plus"), None, 0);
        registry.upsert(&doc("bob@example.com", "space-b", "plus"), None, 0);
        let (ann, bob) = (registry.accounts[0].id.clone(), registry.accounts[1].id.clone());
        registry.accounts[0].former_ids.push("old-id".to_owned());
        for taken in ["ann", "ANN", ann.as_str(), "old-id", "space-a", "ann@example.com", "\u{200b} "] {
            assert!(registry.rename(&bob, taken).is_err(), "{taken}");
        }
        for free in ["Bob", "bob@example.com", "--best", "../etc", "zwei Wörter", "abcdefghij"] {
            registry.rename(&bob, free).unwrap();
            assert_eq!(registry.accounts[1].label, free);
        }
    }
}
