//! An `auth.json` document: its bytes, kept as they are, and what can be read from them (whose it
//! is, how new, until when). Knows nothing of files or homes. Secrets never reach `Debug`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use crate::account::{AccountId, AccountKind};
use crate::time;

/// Larger documents are refused: Codex's own are about 5 KB.
pub const MAX_BYTES: u64 = 1 << 20;

/// A string that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }
    /// The secret itself: for the request that needs it, never for text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// SHA-256 of a document, as 64 hexadecimal characters: what a home remembers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DocHash(String);

impl DocHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut hex = String::with_capacity(64);
        for byte in digest.iter() {
            hex.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            hex.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        DocHash(hex)
    }
}

/// Whose login it is: the pair of user and workspace. The account id alone is not enough, since
/// all members of a workspace share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `chatgpt_user_id` (older tokens: `user_id`).
    pub user_id: String,
    /// `chatgpt_account_id`: the workspace.
    pub account_id: String,
}

/// Why a document cannot be taken into the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocError {
    /// Empty, cut off, or not JSON at all: perhaps Codex is writing it just now.
    NotJson,
    /// JSON, but not an `auth.json`.
    NotAuth,
    /// Neither tokens nor an API key.
    NoTokens,
    /// Tokens that do not say whose they are.
    NoIdentity,
    /// A kind of login that the pool cannot manage and never overwrites.
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

/// A whole, understood `auth.json`.
#[derive(Clone)]
pub struct AuthDoc {
    bytes: Vec<u8>,
    id: AccountId,
    facts: Facts,
}

/// What a document says, beside its secrets.
#[derive(Debug, Clone)]
struct Facts {
    kind: AccountKind,
    identity: Option<Identity>,
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
    last_refresh: Option<Cow<'a, str>>,
    agent_identity: Option<IgnoredAny>,
    personal_access_token: Option<IgnoredAny>,
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

/// The claims that matter, of an id token or an access token.
#[derive(Debug, Default, Deserialize)]
pub struct Claims {
    /// The issuer's URL.
    pub iss: Option<String>,
    /// Unix seconds.
    pub exp: Option<f64>,
    /// Unix seconds.
    pub iat: Option<f64>,
    /// Of id tokens.
    pub email: Option<String>,
    #[serde(rename = "https://api.openai.com/auth")]
    auth: Option<AuthClaims>,
    #[serde(rename = "https://api.openai.com/profile")]
    profile: Option<ProfileClaims>,
}

#[derive(Debug, Default, Deserialize)]
struct AuthClaims {
    chatgpt_account_id: Option<String>,
    chatgpt_user_id: Option<String>,
    user_id: Option<String>,
    chatgpt_plan_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ProfileClaims {
    email: Option<String>,
}

impl Claims {
    /// Reads a JWT's payload, without verifying it: only its owner's service can. `None` if it is no JWT.
    pub fn of_jwt(token: &str) -> Option<Claims> {
        const LENIENT: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::URL_SAFE,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        serde_json::from_slice(&LENIENT.decode(payload).ok()?).ok()
    }

    fn user_id(&self) -> Option<&str> {
        let auth = self.auth.as_ref()?;
        auth.chatgpt_user_id.as_deref().or(auth.user_id.as_deref()).filter(|s| !s.is_empty())
    }

    fn account_id(&self) -> Option<&str> {
        self.auth.as_ref()?.chatgpt_account_id.as_deref().filter(|s| !s.is_empty())
    }
}

impl AuthDoc {
    /// Understands a document, or says why not.
    pub fn parse(bytes: Vec<u8>) -> Result<AuthDoc, DocError> {
        let facts = Facts::read(&bytes)?;
        let id = match (&facts.identity, facts.kind) {
            (Some(who), AccountKind::Chatgpt) => AccountId::of_chatgpt(&who.user_id, &who.account_id),
            _ => AccountId::of_api_key(facts.access_token.as_ref().map_or("", Secret::expose)),
        };
        Ok(AuthDoc { bytes, id, facts })
    }

    /// The document, byte for byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Hash of the bytes.
    pub fn hash(&self) -> DocHash {
        DocHash::of(&self.bytes)
    }
    /// The account it belongs to.
    pub fn id(&self) -> &AccountId {
        &self.id
    }
    /// ChatGPT login or API key.
    pub fn kind(&self) -> AccountKind {
        self.facts.kind
    }
    /// User and workspace, of ChatGPT logins.
    pub fn identity(&self) -> Option<&Identity> {
        self.facts.identity.as_ref()
    }
    /// From the tokens.
    pub fn email(&self) -> Option<&str> {
        self.facts.email.as_deref()
    }
    /// `chatgpt_plan_type` of the tokens.
    pub fn plan(&self) -> Option<&str> {
        self.facts.plan.as_deref()
    }
    /// `iss` of the tokens.
    pub fn issuer(&self) -> Option<&str> {
        self.facts.issuer.as_deref()
    }
    /// `iat` of the access token, Unix seconds by the issuer's clock.
    pub fn issued_at(&self) -> Option<i64> {
        self.facts.issued_at
    }
    /// `exp` of the access token, Unix seconds by the issuer's clock.
    pub fn expires_at(&self) -> Option<i64> {
        self.facts.expires_at
    }
    /// When the tokens were last refreshed, Unix seconds by the clock of whoever did it.
    pub fn last_refresh(&self) -> Option<i64> {
        self.facts.last_refresh.map(|ns| ns.div_euclid(1_000_000_000))
    }
    /// The access token, or the API key.
    pub fn access_token(&self) -> Option<&Secret> {
        self.facts.access_token.as_ref()
    }
    /// The refresh token.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.facts.refresh_token.as_ref()
    }

    /// Which of two documents of one account is newer: by the access token's `iat`, then `exp` (both
    /// the issuer's clock), then `last_refresh` (a local clock). `Equal` is a tie.
    pub fn compare_age(&self, other: &AuthDoc) -> Ordering {
        let key = |d: &AuthDoc| (d.facts.issued_at, d.facts.expires_at, d.facts.last_refresh);
        key(self).cmp(&key(other))
    }

    /// Whether the two hold the same credentials, however they are written.
    pub fn same_credentials(&self, other: &AuthDoc) -> bool {
        self.id == other.id
            && self.facts.access_token == other.facts.access_token
            && self.facts.refresh_token == other.facts.refresh_token
    }

    /// Returns the document with the token's own workspace as `tokens.account_id`. Codex sends that field, so a wrong
    /// one would ask for another workspace.
    #[must_use]
    pub fn corrected(self) -> AuthDoc {
        let Some(who) = &self.facts.identity else { return self };
        if self.facts.written_account_id.as_deref() == Some(who.account_id.as_str()) {
            return self;
        }
        let account_id = who.account_id.clone();
        self.edited(|doc| set(doc, &["tokens", "account_id"], account_id)).unwrap_or(self)
    }

    /// The document after a token refresh. Fields that the issuer's answer lacks stay as they are,
    /// as does everything that we do not know. `now` in Unix seconds becomes `last_refresh`.
    ///
    /// # Errors
    /// If the new tokens belong to someone else, or to nobody; with the document all the same, as bytes.
    pub fn renewed(&self, fresh: &FreshTokens, now: i64) -> Result<AuthDoc, Vec<u8>> {
        // Newer than this one also when both were issued within one second: what it replaces is used up.
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

    /// Rewrites the document through a JSON tree that keeps unknown fields and their order.
    fn edited(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Result<AuthDoc, DocError> {
        AuthDoc::parse(self.edited_bytes(edit)?)
    }

    fn edited_bytes(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Result<Vec<u8>, DocError> {
        let mut tree: serde_json::Value =
            serde_json::from_slice(&self.bytes).map_err(|_| DocError::NotJson)?;
        edit(&mut tree);
        serde_json::to_vec_pretty(&tree).map_err(|_| DocError::NotJson)
    }

    /// Understands what other tools export, too: tokens at the top level (flat), or the document
    /// under `auth` or `authJson`. The result is a standard document.
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

    /// The document of an API key, as Codex would write it.
    pub fn of_api_key(key: &Secret) -> Result<AuthDoc, DocError> {
        let doc = serde_json::json!({ "auth_mode": "apikey", "OPENAI_API_KEY": key.expose() });
        AuthDoc::parse(serde_json::to_vec_pretty(&doc).map_err(|_| DocError::NotJson)?)
    }
}

/// The tokens of an issuer's answer; each may be absent.
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
        let last_refresh = raw.last_refresh.as_deref().and_then(time::parse_rfc3339_nanos);
        if mode == Some("apikey") || mode.is_none() && api_key.is_some() {
            let key = api_key.ok_or(DocError::NoTokens)?;
            return Ok(Facts {
                kind: AccountKind::ApiKey,
                identity: None,
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
        Facts::of_tokens(raw.tokens.ok_or(DocError::NoTokens)?, last_refresh)
    }

    fn of_tokens(tokens: RawTokens<'_>, last_refresh: Option<i64>) -> Result<Facts, DocError> {
        let text = |t: &Option<Cow<'_, str>>| t.as_deref().filter(|s| !s.is_empty()).map(str::to_owned);
        let access_token = text(&tokens.access_token).ok_or(DocError::NoTokens)?;
        let written_account_id = text(&tokens.account_id);
        // The access token is what the service sees, so its claims decide; the id token fills the gaps.
        let access = Claims::of_jwt(&access_token).unwrap_or_default();
        let id = tokens.id_token.as_deref().and_then(Claims::of_jwt).unwrap_or_default();
        let user_id = access.user_id().or(id.user_id()).ok_or(DocError::NoIdentity)?.to_owned();
        let account_id = access
            .account_id()
            .or(id.account_id())
            .or(written_account_id.as_deref())
            .ok_or(DocError::NoIdentity)?
            .to_owned();
        let plan = [&id, &access].into_iter().find_map(|c| c.auth.as_ref()?.chatgpt_plan_type.clone());
        let profile_email = access.profile.and_then(|p| p.email);
        Ok(Facts {
            kind: AccountKind::Chatgpt,
            identity: Some(Identity { user_id, account_id }),
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
