//! The texts in records: a login with its age, a lease, and a removal. Unknown fields of newer versions are ignored.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The age of a login: which of two is newer. The first two are times of the issuer's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Age {
    /// `iat` of the access token, Unix seconds.
    pub issued_at: Option<i64>,
    /// `exp` of the access token, Unix seconds.
    pub expires_at: Option<i64>,
    /// `last_refresh`, Unix nanoseconds by the clock of the machine that renewed it.
    pub renewed_at: Option<i64>,
}

/// A login as this machine has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The account's id.
    pub account: String,
    /// The user's name for it.
    pub label: String,
    /// Its age.
    pub age: Age,
    /// The hash of its refresh token; empty if it has none.
    pub token: String,
    /// Its `auth.json`.
    pub document: Zeroizing<String>,
    /// The same without its refresh token; `None` if that makes no sense: an API key.
    pub access: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("account", &self.account)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

/// The text of [`crate::record::Kind::Full`] and [`crate::record::Kind::Access`].
#[derive(Serialize, Deserialize)]
pub(crate) struct LoginText {
    pub(crate) account: String,
    #[serde(default)]
    pub(crate) label: String,
    pub(crate) age: Age,
    #[serde(default)]
    pub(crate) token: String,
    pub(crate) document: Zeroizing<String>,
    #[serde(default)]
    pub(crate) access: Option<Zeroizing<String>>,
}

impl LoginText {
    pub(crate) fn full(login: &Login) -> LoginText {
        LoginText {
            account: login.account.clone(),
            label: login.label.clone(),
            age: login.age,
            token: login.token.clone(),
            document: login.document.clone(),
            access: login.access.clone(),
        }
    }

    /// `None`: there is nothing that a runner may have.
    pub(crate) fn access(login: &Login) -> Option<LoginText> {
        let document = login.access.clone()?;
        Some(LoginText { document, access: None, token: String::new(), ..LoginText::full(login) })
    }

    pub(crate) fn login(self) -> Login {
        let LoginText { account, label, age, token, document, access } = self;
        Login { account, label, age, token, document, access }
    }
}

/// What a lease says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// No machine renews.
    Free,
    /// A machine is about to renew.
    Held,
    /// A machine has sent the refresh token, or was about to.
    Sent,
}

/// Who renews an account's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The account's id.
    pub account: String,
    /// What it says.
    pub state: LeaseState,
    /// The machine's name, for people.
    pub machine: String,
    /// The renewal, a random number. The machine knows its own again.
    pub ticket: String,
    /// The hash of the refresh token.
    pub token: String,
}

/// That an account was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemovalText {
    pub(crate) account: String,
    /// The age of the login that was removed with it. A newer one is a new account.
    pub(crate) age: Age,
}
