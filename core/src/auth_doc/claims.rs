//! The payload of a token (JWT), unverified.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// The claims of an id token or an access token that are used.
#[derive(Debug, Default, Deserialize)]
pub struct Claims {
    /// The issuer's URL.
    pub iss: Option<String>,
    /// The expiry, Unix seconds.
    pub exp: Option<f64>,
    /// The time of issue, Unix seconds.
    pub iat: Option<f64>,
    /// The user's email, in id tokens.
    pub email: Option<String>,
    #[serde(rename = "https://api.openai.com/auth")]
    pub(super) auth: Option<AuthClaims>,
    #[serde(rename = "https://api.openai.com/profile")]
    pub(super) profile: Option<ProfileClaims>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct AuthClaims {
    chatgpt_account_id: Option<String>,
    chatgpt_user_id: Option<String>,
    user_id: Option<String>,
    pub(super) chatgpt_plan_type: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProfileClaims {
    pub(super) email: Option<String>,
}

impl Claims {
    /// Returns the claims of a JWT, unverified; `None` if it is no JWT.
    pub fn of_jwt(token: &str) -> Option<Claims> {
        const LENIENT: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::URL_SAFE,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        serde_json::from_slice(&LENIENT.decode(payload).ok()?).ok()
    }

    pub(super) fn user_id(&self) -> Option<&str> {
        let auth = self.auth.as_ref()?;
        auth.chatgpt_user_id.as_deref().or(auth.user_id.as_deref()).filter(|s| !s.is_empty())
    }

    pub(super) fn account_id(&self) -> Option<&str> {
        self.auth.as_ref()?.chatgpt_account_id.as_deref().filter(|s| !s.is_empty())
    }
}
