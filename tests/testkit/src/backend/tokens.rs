//! Users of the stand-in service, and the tokens and `auth.json` documents that it gives them. Everything here is
//! plainly fake: nothing is signed, and refresh tokens name their user.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Audience of an id token: Codex's OAuth client.
pub const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// Lifetime of an access token unless a test says otherwise: ten days, in seconds.
pub const ACCESS_LIFETIME: i64 = 10 * 24 * 3600;

/// What a user is like. [`UserSpec::new`] derives everything from the name; change what the test is about.
#[derive(Clone, Debug)]
pub struct UserSpec {
    /// The email in the tokens.
    pub email: String,
    /// `chatgpt_user_id`: the person.
    pub user_id: String,
    /// `chatgpt_account_id`: the workspace. Two users may share it.
    pub account_id: String,
    /// `chatgpt_plan_type`, such as `plus`, `pro`, `team`.
    pub plan: String,
    /// Put the person under `user_id`, as older tokens do, instead of `chatgpt_user_id`.
    pub old_user_id_claim: bool,
    /// `iss` of the tokens; `None` is this backend's own URL.
    pub issuer: Option<String>,
}

impl UserSpec {
    /// Returns a Plus user: `<name>@example.com`, person `user-<name>`, and an account id made from the name.
    pub fn new(name: &str) -> UserSpec {
        UserSpec {
            email: format!("{name}@example.com"),
            user_id: format!("user-{name}"),
            account_id: account_id(name),
            plan: "plus".to_owned(),
            old_user_id_claim: false,
            issuer: None,
        }
    }

    /// Returns the same with another plan.
    #[must_use]
    pub fn plan(mut self, plan: &str) -> UserSpec {
        self.plan = plan.to_owned();
        self
    }

    /// Returns the same in the workspace of that account id.
    #[must_use]
    pub fn workspace(mut self, account_id: &str) -> UserSpec {
        self.account_id = account_id.to_owned();
        self
    }
}

/// Returns an account id (a UUID in form) that depends on `name` only.
pub fn account_id(name: &str) -> String {
    // FNV-1a, twice: stable between builds, which the standard hasher does not promise.
    let fnv = |seed: u64| name.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let hex = format!("{:016x}{:016x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x9ae1_6a3b_2f90_404f));
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// What is special about a login that a test mints. The default is a fresh, good one.
#[derive(Clone, Debug)]
pub struct LoginSpec {
    /// Seconds until the access token expires; negative is expired already.
    pub expires_in: i64,
    /// Seconds since the access token was issued. `None`: as long ago as its lifetime implies.
    pub issued_ago: Option<i64>,
    /// Seconds since `last_refresh`.
    pub refreshed_ago: i64,
    /// Write `auth_mode` into the document.
    pub auth_mode: bool,
    /// Write this `tokens.account_id` instead of the claim's: a document of two accounts.
    pub account_id: Option<String>,
    /// The refresh token is expired from the start.
    pub refresh_expired: bool,
    /// Further top-level fields of the document.
    pub extra: serde_json::Map<String, Value>,
}

impl Default for LoginSpec {
    fn default() -> LoginSpec {
        LoginSpec {
            expires_in: ACCESS_LIFETIME,
            issued_ago: None,
            refreshed_ago: 0,
            auth_mode: true,
            account_id: None,
            refresh_expired: false,
            extra: serde_json::Map::new(),
        }
    }
}

impl LoginSpec {
    /// Returns a login whose access token expires in that many seconds (negative: has expired).
    pub fn expires_in(seconds: i64) -> LoginSpec {
        LoginSpec { expires_in: seconds, ..LoginSpec::default() }
    }
}

/// One set of tokens as the issuer answers it.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) id: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// Makes a token in JWT form: base64url header, payload and a signature that signs nothing.
pub fn jwt(claims: &Value) -> String {
    let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
    format!(
        "{}.{}.{}",
        part(&json!({"alg": "RS256", "typ": "JWT"})),
        part(claims),
        URL_SAFE_NO_PAD.encode("fake")
    )
}

/// Returns the claims of a token in JWT form, or `None` if it is not one.
pub fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Returns the refresh token in an `auth.json`.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn refresh_token(auth_json: &str) -> String {
    let doc: Value = serde_json::from_str(auth_json).expect("a whole document");
    doc["tokens"]["refresh_token"].as_str().expect("a refresh token").to_owned()
}

pub(crate) fn id_token(user: &UserSpec, issuer: &str, iat: i64, exp: i64) -> String {
    jwt(&json!({
        "iss": issuer, "aud": [CLIENT_ID], "sub": user.user_id, "iat": iat, "exp": exp,
        "email": user.email, "email_verified": true,
        "https://api.openai.com/auth": auth_object(user),
    }))
}

pub(crate) fn access_token(user: &UserSpec, issuer: &str, iat: i64, exp: i64, jti: &str) -> String {
    jwt(&json!({
        "iss": issuer, "aud": ["https://api.openai.com/v1"], "sub": user.user_id, "iat": iat, "exp": exp,
        "jti": jti, "client_id": CLIENT_ID,
        "https://api.openai.com/auth": auth_object(user),
        "https://api.openai.com/profile": {"email": user.email, "email_verified": true},
    }))
}

fn auth_object(user: &UserSpec) -> Value {
    let person = if user.old_user_id_claim { "user_id" } else { "chatgpt_user_id" };
    json!({
        "chatgpt_account_id": user.account_id, person: user.user_id, "chatgpt_plan_type": user.plan,
    })
}

/// Returns the document as Codex writes it: pretty, and without a newline at the end.
pub(crate) fn auth_json(tokens: &Tokens, account_id: &str, now: i64, spec: &LoginSpec) -> String {
    let mut doc = serde_json::Map::new();
    if spec.auth_mode {
        doc.insert("auth_mode".to_owned(), json!("chatgpt"));
    }
    doc.insert("OPENAI_API_KEY".to_owned(), Value::Null);
    doc.insert(
        "tokens".to_owned(),
        json!({
            "id_token": tokens.id, "access_token": tokens.access, "refresh_token": tokens.refresh,
            "account_id": spec.account_id.as_deref().unwrap_or(account_id),
        }),
    );
    doc.insert("last_refresh".to_owned(), json!(rfc3339(now - spec.refreshed_ago)));
    doc.extend(spec.extra.clone());
    serde_json::to_string_pretty(&doc).expect("a JSON map can be written")
}

/// Returns the document of an API-key login, as Codex writes it.
pub fn api_key_json(key: &str) -> String {
    let doc = json!({"auth_mode": "apikey", "OPENAI_API_KEY": key});
    serde_json::to_string_pretty(&doc).expect("a JSON map can be written")
}

/// Returns a time in Unix seconds as Codex writes it: UTC with nine digits of fraction.
pub fn rfc3339(unix: i64) -> String {
    format!("{:.9}", jiff::Timestamp::from_second(unix).expect("a time within jiff's range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_of_fraction() {
        assert_eq!(rfc3339(1_795_349_818), "2026-11-22T12:16:58.000000000Z");
    }

    #[test]
    fn claims_come_back() {
        let user = UserSpec::new("alice");
        let token = access_token(&user, "http://127.0.0.1:1", 100, 200, "a-1");
        let claims = claims(&token).expect("a JWT");
        assert_eq!(claims["https://api.openai.com/auth"]["chatgpt_account_id"], user.account_id.as_str());
        assert_eq!(claims["exp"], 200);
    }

    #[test]
    fn account_ids_have_the_form_of_a_uuid() {
        let id = account_id("alice");
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(id, account_id("bob"));
    }
}
