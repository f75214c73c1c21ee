//! An account: the user and workspace of a login, and what the registry knows of it. It has no credentials.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::hash::short_hash;
use crate::seen_tokens::SeenTokens;

/// 10 lower-case base32 characters of SHA-256 over user id and account id, or over the API key. A login has the same id
/// on every machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId([u8; 10]);

impl AccountId {
    /// Returns the id of a ChatGPT login.
    pub fn of_chatgpt(user_id: &str, account_id: &str) -> Self {
        AccountId(short_hash(&[b"chatgpt\0", user_id.as_bytes(), b"\0", account_id.as_bytes()]))
    }

    /// Returns the id of an API key.
    pub fn of_api_key(key: &str) -> Self {
        AccountId(short_hash(&[b"api_key\0", key.as_bytes()]))
    }

    /// Returns the id with this text; `None` if it does not have the form of an id.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = |b: &u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(b);
        let bytes: [u8; 10] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(ok).then_some(AccountId(bytes))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AccountId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = AccountId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an account id")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AccountId, E> {
                AccountId::parse(text)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The kind of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// A ChatGPT login with tokens.
    Chatgpt,
    /// An API key.
    ApiKey,
}

/// The state of an account's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthState {
    /// They are good as far as is known.
    #[default]
    Ok,
    /// The service does not accept the access token. A renewal may help.
    Expired,
    /// Only a new login helps.
    ReauthRequired,
    /// The workspace does not exist any more, or the user was removed from it.
    WorkspaceRemoved,
    /// The service has deactivated the account.
    Deactivated,
    /// The service refuses the account although its login is good.
    Refused,
}

impl AuthState {
    /// Whether the service has said that the account cannot be used, whatever its login. Only the service's next
    /// answer, or a login by the user, changes that: new tokens do not.
    pub fn is_refusal(self) -> bool {
        matches!(self, AuthState::WorkspaceRemoved | AuthState::Deactivated | AuthState::Refused)
    }
}

/// Why an account is in its [`AuthState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthReason {
    /// Its refresh token was used before.
    Reused,
    /// Its refresh token is too old.
    Expired,
    /// Its refresh token was revoked, by a logout or by a login elsewhere.
    Revoked,
    /// The issuer or the service rejected its token and did not say why.
    Rejected,
    /// Its login was removed from Codex.
    LoggedOut,
    /// The answer of a renewal was lost, and the token with it.
    Interrupted,
    /// The issuer answered its renewal with another account's tokens.
    Foreign,
    /// It has no refresh token.
    NoRefreshToken,
    /// Another version of codex-pool wrote this one.
    #[serde(untagged)]
    Other(String),
}

/// An [`AuthState`] with its reason and time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthStatus {
    /// The state.
    #[serde(default)]
    pub state: AuthState,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<AuthReason>,
    /// Since when, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

impl AuthStatus {
    /// Returns what is wrong, as the end of a sentence; `None` if nothing is.
    pub fn explain(&self) -> Option<&'static str> {
        Some(match (self.state, &self.reason) {
            (AuthState::Ok, _) => return None,
            (AuthState::Expired, _) => "the service does not accept its access token any more",
            (AuthState::WorkspaceRemoved, _) => "it was removed from its workspace",
            (AuthState::Deactivated, _) => "the service has deactivated it",
            (AuthState::Refused, _) => "the service refuses it",
            (AuthState::ReauthRequired, reason) => match reason {
                Some(AuthReason::Reused) => "its refresh token was used by another copy of this login",
                Some(AuthReason::Expired) => "its login is too old to be renewed",
                Some(AuthReason::Revoked) => "its login was revoked (a logout, or a login elsewhere)",
                Some(AuthReason::LoggedOut) => "its login was removed from Codex (`/logout`)",
                Some(AuthReason::Interrupted) => "a token renewal was interrupted and its answer is lost",
                Some(AuthReason::Foreign) => "the issuer answered its renewal with another account's tokens",
                Some(AuthReason::NoRefreshToken) => "it has no refresh token",
                Some(AuthReason::Rejected | AuthReason::Other(_)) | None => {
                    "the issuer does not accept its login any more"
                }
            },
        })
    }
}

/// What is known of a login without a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessOnly {
    /// When its access token ends, Unix seconds; `None`: the token does not say.
    pub ends_at: Option<i64>,
    /// The members of a shared pool renew it, and this machine gets what they have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_members: bool,
}

/// An account of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The id.
    pub id: AccountId,
    /// The user's name for it, unique in the pool.
    pub label: String,
    /// ChatGPT login or API key.
    pub kind: AccountKind,
    /// The email in the id token.
    #[serde(default)]
    pub email: Option<String>,
    /// `chatgpt_user_id` of the token.
    #[serde(default)]
    pub user_id: Option<String>,
    /// `chatgpt_account_id` of the token: the workspace.
    #[serde(default)]
    pub account_id: Option<String>,
    /// `chatgpt_plan_type` of the token, or the newer one of the usage answer.
    #[serde(default)]
    pub plan: Option<String>,
    /// Whether it may be picked.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Unix seconds.
    #[serde(default)]
    pub added_at: i64,
    /// Unix seconds.
    #[serde(default)]
    pub updated_at: i64,
    /// The state of its credentials.
    #[serde(default)]
    pub auth: AuthStatus,
    /// Its ids in version-1 stores, which are still references to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_ids: Vec<String>,
    /// The folders in which alone it is used, as [`crate::store::path_key`] writes them. Empty: it is used wherever no
    /// other account's folder is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// How much of its 5h window and of its longer ones the user keeps, percent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reserve: f64,
    /// How many Plus accounts it is worth, where that is not its plan's weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Its login has no refresh token, and ends. `None`: it can be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_only: Option<AccessOnly>,
    /// The refresh tokens that were seen under it, as hashes. `None`: it was not yet looked which one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_tokens: Option<SeenTokens>,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn yes() -> bool {
    true
}

impl Account {
    /// Returns an enabled account of which nothing else is known. `added_at`: Unix seconds.
    pub fn new(id: AccountId, label: impl Into<String>, kind: AccountKind, added_at: i64) -> Account {
        Account {
            id,
            label: label.into(),
            kind,
            email: None,
            user_id: None,
            account_id: None,
            plan: None,
            enabled: true,
            added_at,
            updated_at: added_at,
            auth: AuthStatus::default(),
            former_ids: Vec::new(),
            folders: Vec::new(),
            reserve: 0.0,
            weight: None,
            access_only: None,
            refresh_tokens: None,
        }
    }

    /// Returns the account's name for messages: the label, and the email if that differs.
    pub fn display(&self) -> String {
        match &self.email {
            Some(email) if *email != self.label => format!("{} <{email}>", self.label),
            _ => self.label.clone(),
        }
    }

    /// Returns whether its login has no refresh token and has ended. `now`: Unix seconds.
    pub fn access_ended(&self, now: i64) -> bool {
        self.access_only.and_then(|access| access.ends_at).is_some_and(|at| at <= now)
    }

    /// Returns the seconds until its access ends, if its login has no refresh token. `None` also when it is over, or not
    /// good any more. `now`: Unix seconds.
    pub fn access_left(&self, now: i64) -> Option<i64> {
        let ends_at = self.access_only?.ends_at?;
        (self.auth.state == AuthState::Ok && ends_at > now).then(|| ends_at - now)
    }

    /// Returns whether the members of a shared pool renew its login, and this machine gets what they have.
    pub fn renewed_by_members(&self) -> bool {
        self.access_only.is_some_and(|access| access.by_members)
    }

    /// Returns what is wrong with its credentials, as the end of a sentence; `None` if nothing is. `now`: Unix seconds.
    pub fn explain(&self, now: i64) -> Option<&'static str> {
        if matches!(self.auth.state, AuthState::Ok | AuthState::Expired) && self.access_ended(now) {
            return Some(self.explain_end());
        }
        self.auth.explain()
    }

    /// Returns why it cannot be used once its access has ended, as the end of a sentence.
    pub(crate) fn explain_end(&self) -> &'static str {
        match self.renewed_by_members() {
            true => "its access has ended, and no member's newer one is here",
            false => "its access has ended, and it has no refresh token",
        }
    }

    /// Returns what is wrong with its credentials and what to do; `None` if nothing is. `now`: Unix seconds.
    pub fn trouble(&self, now: i64) -> Option<Error> {
        let kind = match self.auth.state {
            AuthState::ReauthRequired => ErrorKind::LoginNeeded,
            AuthState::Ok | AuthState::Expired if self.access_ended(now) => ErrorKind::LoginNeeded,
            _ => ErrorKind::Failed,
        };
        let message = format!("{}: {}", self.label, self.explain(now)?);
        Some(Error::of(kind, message).hint(self.remedy(now)?))
    }

    /// Returns what to do about its credentials; `None` if nothing is wrong with them. `now`: Unix seconds.
    pub fn remedy(&self, now: i64) -> Option<String> {
        let name = self.shell_ref();
        if self.renewed_by_members() && !self.auth.state.is_refusal() {
            let wrong = self.auth.state != AuthState::Ok || self.access_ended(now);
            let next = format!(
                "`codex-pool refresh {name}` gets what the members have; `codex-pool list` on a member tells more"
            );
            return wrong.then_some(next);
        }
        if self.access_only.is_some()
            && (self.auth.state == AuthState::ReauthRequired || self.access_ended(now))
            && !self.auth.state.is_refusal()
        {
            return Some(format!(
                "import it again from a new `codex-pool export --access-only`, or log in here with `codex-pool \
                 reauth {name}`"
            ));
        }
        Some(match self.auth.state {
            AuthState::Ok => return None,
            AuthState::Expired => format!("try `codex-pool refresh {name}`"),
            AuthState::ReauthRequired => format!("log in again with `codex-pool reauth {name}`"),
            AuthState::WorkspaceRemoved => {
                format!(
                    "ask the workspace's owner, then `codex-pool refresh {name}`; or `codex-pool rm {name}`"
                )
            }
            AuthState::Deactivated => {
                format!(
                    "ask the service's support or the workspace's owner, then `codex-pool refresh {name}`; or \
                     `codex-pool rm {name}`"
                )
            }
            AuthState::Refused => {
                format!(
                    "`codex-pool refresh {name}` asks again; if it stays so, `codex-pool reauth {name}`, or \
                     `codex-pool doctor --online` for the way to the service"
                )
            }
        })
    }

    /// Returns a reference that needs no quotes in a shell: the label if possible, else the id.
    pub fn shell_ref(&self) -> &str {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
        let typeable =
            self.label.starts_with(|c: char| c.is_ascii_alphanumeric()) && self.label.chars().all(plain);
        if typeable { &self.label } else { self.id.as_str() }
    }
}
