//! An `auth.json` document: its bytes, kept as they are, and what they say (the account, the age, the expiry). It knows
//! nothing of files or homes. Secrets never reach `Debug`.

mod claims;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::account::{AccountId, AccountKind};
pub use crate::hash::DocHash;
use crate::seen_tokens::TokenHash;
use crate::time;
pub use claims::Claims;

/// How far the local clock may be behind the issuer's, seconds.
const CLOCK_ERROR: i64 = 600;

/// The size of the largest document, bytes. Codex's are about 5 KB.
pub const MAX_BYTES: u64 = 1 << 20;

/// A string that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }
    /// Returns the secret, for the request that needs it and never for output.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// The user and the workspace of a login. The members of a workspace have the same account id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `chatgpt_user_id` (older tokens: `user_id`).
    pub user_id: String,
    /// `chatgpt_account_id`: the workspace.
    pub account_id: String,
}

/// Why a document cannot be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocError {
    /// It is empty, cut off, or not JSON. Codex may be writing it.
    NotJson,
    /// It is JSON, but not an `auth.json`.
    NotAuth,
    /// It has neither tokens nor an API key.
    NoTokens,
    /// Its tokens do not name user and account.
    NoIdentity,
    /// It is a login of a kind that the pool cannot manage and never overwrites.
    Unmanaged(&'static str),
}

impl fmt::Display for DocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocError::NotJson => f.write_str("it is not whole JSON"),
            DocError::NotAuth => f.write_str("it is JSON, but not an auth.json"),
            DocError::NoTokens => f.write_str("it holds neither tokens nor an API key"),
            DocError::NoIdentity => {
                f.write_str("its tokens do not say which user and account they belong to")
            }
            DocError::Unmanaged(kind) => write!(f, "it holds {kind}, which codex-pool cannot manage"),
        }
    }
}

impl std::error::Error for DocError {}

/// A whole `auth.json` that is understood.
#[derive(Clone)]
pub struct AuthDoc {
    bytes: Vec<u8>,
    id: AccountId,
    facts: Facts,
}

/// What a document says.
#[derive(Debug, Clone)]
struct Facts {
    kind: AccountKind,
    identity: Option<Identity>,
    /// The account of the id token, if it is another workspace of the same user.
    lender: Option<AccountId>,
    has_id_token: bool,
    /// `last_refresh` is no text, so that Codex cannot read the document.
    odd_last_refresh: bool,
    /// `tokens.account_id` as written, which may differ from the token's claim.
    written_account_id: Option<String>,
    email: Option<String>,
    plan: Option<String>,
    issuer: Option<String>,
    issued_at: Option<i64>,
    expires_at: Option<i64>,
    last_refresh: Option<i64>,
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
}

impl fmt::Debug for AuthDoc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthDoc").field("id", &self.id).field("facts", &self.facts).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    auth_mode: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "OPENAI_API_KEY")]
    api_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tokens: Option<RawTokens<'a>>,
    #[serde(borrow)]
    last_refresh: Option<Time<'a>>,
    agent_identity: Option<IgnoredAny>,
    personal_access_token: Option<IgnoredAny>,
}

/// A time as Codex writes it, or as only other tools do.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct RawTokens<'a> {
    #[serde(borrow)]
    id_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refresh_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    account_id: Option<Cow<'a, str>>,
}

impl AuthDoc {
    /// Returns the document of these bytes.
    ///
    /// # Errors
    /// They are no document that can be adopted.
    pub fn parse(bytes: Vec<u8>) -> Result<AuthDoc, DocError> {
        let facts = Facts::read(&bytes)?;
        let id = match (&facts.identity, facts.kind) {
            (Some(who), AccountKind::Chatgpt) => AccountId::of_chatgpt(&who.user_id, &who.account_id),
            _ => AccountId::of_api_key(facts.access_token.as_ref().map_or("", Secret::expose)),
        };
        Ok(AuthDoc { bytes, id, facts })
    }

    /// Returns the document, byte for byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Returns the hash of the bytes.
    pub fn hash(&self) -> DocHash {
        DocHash::of(&self.bytes)
    }
    /// Returns the id of its account.
    pub fn id(&self) -> &AccountId {
        &self.id
    }
    /// Returns whether it is a ChatGPT login or an API key.
    pub fn kind(&self) -> AccountKind {
        self.facts.kind
    }
    /// Returns user and workspace of a ChatGPT login.
    pub fn identity(&self) -> Option<&Identity> {
        self.facts.identity.as_ref()
    }
    /// Returns the account whose refresh token a document has that Codex wrote when it switched to another workspace of
    /// the same user: id token and refresh token stay, and only the access token is the other workspace's.
    pub fn lender(&self) -> Option<&AccountId> {
        self.facts.lender.as_ref()
    }
    /// Returns the email in the tokens.
    pub fn email(&self) -> Option<&str> {
        self.facts.email.as_deref()
    }
    /// Returns `chatgpt_plan_type` of the tokens.
    pub fn plan(&self) -> Option<&str> {
        self.facts.plan.as_deref()
    }
    /// Returns `iss` of the tokens, the issuer's URL.
    pub fn issuer(&self) -> Option<&str> {
        self.facts.issuer.as_deref()
    }
    /// Returns `iat` of the access token, Unix seconds by the issuer's clock.
    pub fn issued_at(&self) -> Option<i64> {
        self.facts.issued_at
    }
    /// Returns `exp` of the access token, Unix seconds by the issuer's clock.
    pub fn expires_at(&self) -> Option<i64> {
        self.facts.expires_at
    }
    /// Returns when the tokens were last renewed, Unix seconds by the clock of the machine that did it.
    pub fn last_refresh(&self) -> Option<i64> {
        self.facts.last_refresh.map(|ns| ns.div_euclid(1_000_000_000))
    }
    /// Returns the same as [`AuthDoc::last_refresh`], in Unix nanoseconds.
    pub fn last_refresh_nanos(&self) -> Option<i64> {
        self.facts.last_refresh
    }
    /// Returns the access token, or the API key.
    pub fn access_token(&self) -> Option<&Secret> {
        self.facts.access_token.as_ref()
    }
    /// Returns the refresh token.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.facts.refresh_token.as_ref()
    }

    /// Returns the hash of the refresh token.
    pub fn token_hash(&self) -> Option<TokenHash> {
        self.refresh_token().map(|token| TokenHash::of(token.expose()))
    }

    /// Returns whether these are tokens without a refresh token: they are of use until the access token ends, and
    /// cannot be renewed.
    pub fn is_access_only(&self) -> bool {
        self.facts.kind == AccountKind::Chatgpt && self.facts.refresh_token.is_none()
    }

    /// Returns which of two documents of one account is newer: by the access token's `iat` and `exp`, which are times
    /// of the issuer's clock, then by `last_refresh`, a time of a local clock. `Equal` is a tie.
    pub fn compare_age(&self, other: &AuthDoc) -> Ordering {
        let key = |d: &AuthDoc| (d.facts.issued_at, d.facts.expires_at, d.facts.last_refresh);
        key(self).cmp(&key(other))
    }

    /// Returns whether it was issued later than the local clock and its error permit. A time that is invented, or seen
    /// with a clock that is wrong, says nothing about its age. `now`: Unix seconds.
    pub fn is_from_the_future(&self, now: i64) -> bool {
        self.facts.issued_at.is_some_and(|at| at > now.saturating_add(CLOCK_ERROR))
    }

    /// Returns whether both have the same credentials, however they are written.
    pub fn same_credentials(&self, other: &AuthDoc) -> bool {
        self.id == other.id
            && self.facts.access_token == other.facts.access_token
            && self.facts.refresh_token == other.facts.refresh_token
    }

    /// Returns whether it lacks an id token, without which the service refuses Codex, and can be renewed to get one.
    pub fn needs_id_token(&self) -> bool {
        !self.has_id_token() && self.facts.refresh_token.is_some()
    }

    /// Returns whether it has an id token, or needs none.
    pub fn has_id_token(&self) -> bool {
        self.facts.has_id_token || self.facts.kind == AccountKind::ApiKey
    }

    /// Returns the document as Codex can use it: with the token's own workspace as `tokens.account_id`, which Codex
    /// sends, and with a text as `last_refresh`, the time of issue.
    #[must_use]
    pub fn corrected(self) -> AuthDoc {
        let who = self.facts.identity.as_ref();
        let account_id = who
            .filter(|who| self.facts.written_account_id.as_ref() != Some(&who.account_id))
            .map(|who| who.account_id.clone());
        let last_refresh = self.facts.odd_last_refresh.then(|| self.issued_at().map(time::to_rfc3339));
        if account_id.is_none() && last_refresh.is_none() {
            return self;
        }
        let corrected = self.edited(|doc| {
            if let Some(account_id) = account_id {
                set(doc, &["tokens", "account_id"], account_id);
            }
            match last_refresh {
                Some(Some(at)) => set(doc, &["last_refresh"], at),
                Some(None) => drop(doc.as_object_mut().and_then(|doc| doc.shift_remove("last_refresh"))),
                None => {}
            }
        });
        corrected.unwrap_or(self)
    }

    /// Returns the document without its refresh token. Codex uses the access token until it ends.
    #[must_use]
    pub fn access_only(self) -> AuthDoc {
        self.edited(|doc| set(doc, &["tokens", "refresh_token"], String::new())).unwrap_or(self)
    }

    /// Returns the document with this refresh token.
    ///
    /// # Errors
    /// The document cannot be edited.
    pub fn with_refresh_token(&self, token: &Secret) -> Result<AuthDoc, DocError> {
        self.edited(|doc| set(doc, &["tokens", "refresh_token"], token.expose().to_owned()))
    }

    /// Returns the document with renewed tokens. Tokens that the issuer's answer lacks stay, and so do unknown fields.
    /// `now`, in Unix seconds, becomes `last_refresh`.
    ///
    /// # Errors
    /// The tokens belong to another account, or to none. The error is the document as bytes.
    pub fn renewed(&self, fresh: &FreshTokens, now: i64) -> Result<AuthDoc, Vec<u8>> {
        // It must be newer even if both were issued within one second, since the old token is used up.
        let just_before = self.last_refresh().filter(|at| (0..60).contains(&at.saturating_sub(now)));
        let now = just_before.map_or(now, |at| at + 1);
        let bytes = self.edited_bytes(|doc| {
            for (name, value) in [
                ("id_token", &fresh.id_token),
                ("access_token", &fresh.access_token),
                ("refresh_token", &fresh.refresh_token),
            ] {
                if let Some(value) = value {
                    set(doc, &["tokens", name], value.expose().to_owned());
                }
            }
            set(doc, &["last_refresh"], time::to_rfc3339(now));
        });
        let bytes = bytes.map_err(|_| Vec::new())?;
        match AuthDoc::parse(bytes.clone()) {
            Ok(doc) if doc.id == self.id => Ok(doc),
            _ => Err(bytes),
        }
    }

    /// Edits the document as a JSON tree, which keeps unknown fields and the order.
    fn edited(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Result<AuthDoc, DocError> {
        AuthDoc::parse(self.edited_bytes(edit)?)
    }

    fn edited_bytes(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Result<Vec<u8>, DocError> {
        let mut tree: serde_json::Value =
            serde_json::from_slice(&self.bytes).map_err(|_| DocError::NotJson)?;
        edit(&mut tree);
        serde_json::to_vec_pretty(&tree).map_err(|_| DocError::NotJson)
    }

    /// As [`AuthDoc::parse`], and also for what other tools export: tokens at the top level, or a document below
    /// `auth` or `authJson`.
    pub fn parse_foreign(bytes: &[u8]) -> Result<AuthDoc, DocError> {
        let standard = AuthDoc::parse(bytes.to_vec());
        if !matches!(standard, Err(DocError::NoTokens | DocError::NotAuth)) {
            return standard;
        }
        let tree: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| DocError::NotJson)?;
        for wrapper in ["authJson", "auth_json", "auth"] {
            if let Some(inner) = tree.get(wrapper).filter(|v| v.is_object()) {
                return AuthDoc::parse_foreign(
                    &serde_json::to_vec_pretty(inner).map_err(|_| DocError::NotJson)?,
                );
            }
        }
        let mut tokens = serde_json::Map::new();
        for name in ["id_token", "access_token", "refresh_token", "account_id"] {
            if let Some(value) = tree.get(name).filter(|v| v.is_string()) {
                tokens.insert(name.to_owned(), value.clone());
            }
        }
        if !tokens.contains_key("access_token") {
            return standard;
        }
        let mut doc = serde_json::json!({ "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": tokens });
        if let Some(when) = tree.get("last_refresh").filter(|v| v.is_string()) {
            doc["last_refresh"] = when.clone();
        }
        let doc = AuthDoc::parse(serde_json::to_vec_pretty(&doc).map_err(|_| DocError::NotJson)?)?;
        Ok(doc.corrected())
    }

    /// Returns the document of an API key, as Codex writes it.
    pub fn of_api_key(key: &Secret) -> Result<AuthDoc, DocError> {
        let doc = serde_json::json!({ "auth_mode": "apikey", "OPENAI_API_KEY": key.expose() });
        AuthDoc::parse(serde_json::to_vec_pretty(&doc).map_err(|_| DocError::NotJson)?)
    }
}

/// The tokens of an issuer's answer. Each may be absent.
#[derive(Debug, Clone, Default)]
pub struct FreshTokens {
    /// `id_token`
    pub id_token: Option<Secret>,
    /// `access_token`
    pub access_token: Option<Secret>,
    /// `refresh_token`
    pub refresh_token: Option<Secret>,
}

fn set(tree: &mut serde_json::Value, path: &[&str], text: String) {
    let mut at = tree;
    for name in path {
        at = match at {
            serde_json::Value::Object(map) => map.entry(*name).or_insert(serde_json::Value::Null),
            _ => return,
        };
    }
    *at = serde_json::Value::String(text);
}

impl Facts {
    fn read(bytes: &[u8]) -> Result<Facts, DocError> {
        let raw: Raw<'_> = serde_json::from_slice(bytes).map_err(|e| match e.classify() {
            serde_json::error::Category::Data => DocError::NotAuth,
            _ => DocError::NotJson,
        })?;
        let mode = raw.auth_mode.as_deref();
        match mode {
            Some("chatgpt" | "apikey") => {}
            Some("chatgptAuthTokens") => return Err(DocError::Unmanaged("externally managed tokens")),
            Some("agentIdentity") => return Err(DocError::Unmanaged("an agent identity")),
            Some("personalAccessToken") => return Err(DocError::Unmanaged("a personal access token")),
            Some(_) => return Err(DocError::Unmanaged("an unknown kind of login")),
            None if raw.personal_access_token.is_some() => {
                return Err(DocError::Unmanaged("a personal access token"));
            }
            None if raw.agent_identity.is_some() => return Err(DocError::Unmanaged("an agent identity")),
            None => {}
        }
        let api_key = raw.api_key.as_deref().filter(|key| !key.trim().is_empty());
        let odd_last_refresh = matches!(raw.last_refresh, Some(Time::Other(_)));
        let last_refresh = match &raw.last_refresh {
            Some(Time::Text(text)) => time::parse_rfc3339_nanos(text),
            _ => None,
        };
        if mode == Some("apikey") || mode.is_none() && api_key.is_some() {
            let key = api_key.ok_or(DocError::NoTokens)?;
            return Ok(Facts {
                kind: AccountKind::ApiKey,
                identity: None,
                lender: None,
                has_id_token: false,
                odd_last_refresh,
                written_account_id: None,
                email: None,
                plan: None,
                issuer: None,
                issued_at: None,
                expires_at: None,
                last_refresh,
                access_token: Some(Secret::new(key)),
                refresh_token: None,
            });
        }
        let tokens = raw.tokens.ok_or(DocError::NoTokens)?;
        Ok(Facts { odd_last_refresh, ..Facts::of_tokens(tokens, last_refresh)? })
    }

    fn of_tokens(tokens: RawTokens<'_>, last_refresh: Option<i64>) -> Result<Facts, DocError> {
        let text = |t: &Option<Cow<'_, str>>| t.as_deref().filter(|s| !s.is_empty()).map(str::to_owned);
        let access_token = text(&tokens.access_token).ok_or(DocError::NoTokens)?;
        let written_account_id = text(&tokens.account_id);
        // The service sees the access token, so its claims decide. The id token fills the gaps.
        let access = Claims::of_jwt(&access_token).unwrap_or_default();
        let id = tokens.id_token.as_deref().and_then(Claims::of_jwt);
        let has_id_token = id.is_some();
        let id = id.unwrap_or_default();
        let user_id = access.user_id().or(id.user_id()).ok_or(DocError::NoIdentity)?.to_owned();
        let account_id = access
            .account_id()
            .or(id.account_id())
            .or(written_account_id.as_deref())
            .ok_or(DocError::NoIdentity)?
            .to_owned();
        let lender = id
            .account_id()
            .filter(|other| *other != account_id && id.user_id() == Some(&user_id))
            .map(|other| AccountId::of_chatgpt(&user_id, other));
        let plan = [&id, &access].into_iter().find_map(|c| c.auth.as_ref()?.chatgpt_plan_type.clone());
        let profile_email = access.profile.and_then(|p| p.email);
        Ok(Facts {
            kind: AccountKind::Chatgpt,
            identity: Some(Identity { user_id, account_id }),
            lender,
            has_id_token,
            odd_last_refresh: false,
            written_account_id,
            email: id.email.or(profile_email),
            plan,
            issuer: access.iss.or(id.iss),
            issued_at: access.iat.map(|s| s as i64),
            expires_at: access.exp.map(|s| s as i64),
            last_refresh,
            access_token: Some(Secret(access_token)),
            refresh_token: text(&tokens.refresh_token).map(Secret),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
