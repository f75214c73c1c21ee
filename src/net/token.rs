//! The token endpoint: one refresh, and what its answer means. Refresh tokens are single-use, so
//! the caller must keep the answer whatever happens next.

use codex_pool_core::auth_doc::{FreshTokens, Secret};
use serde_json::{Value, json};
use ureq::http;

use super::place::Place;
use super::{Net, NetError, call};

/// Codex's own OAuth client.
const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// Why a refresh token was rejected for good: only a login helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It had been used before.
    Reused,
    /// It is too old.
    Expired,
    /// It was revoked: a logout, or a login elsewhere.
    Revoked,
    /// The issuer does not say why.
    Unknown,
}

impl Rejection {
    /// The word kept in the registry.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Rejection::Reused => "reused",
            Rejection::Expired => "expired",
            Rejection::Revoked => "revoked",
            Rejection::Unknown => "rejected",
        }
    }
}

/// How a refresh failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RefreshError {
    /// The issuer rejected the refresh token.
    Rejected(Rejection),
    /// Anything else; the token may still be good.
    Net(NetError),
}

impl Net {
    /// Exchanges a refresh token, on a connection of its own.
    pub(crate) fn refresh(&self, place: &Place, refresh_token: &Secret) -> Result<FreshTokens, RefreshError> {
        let body = json!({
            "client_id": CLIENT_ID,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token.expose(),
        });
        let request = http::Request::post(place.uri().clone())
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|_| RefreshError::Net(NetError::Refused("the request cannot be made".to_owned())))?;
        let answer = call(&self.lone_agent(place.host()), request, refresh_token).map_err(classify)?;
        tokens(&answer).ok_or(RefreshError::Net(NetError::Garbled))
    }
}

/// The tokens of an answer; `None` if it holds none at all.
fn tokens(answer: &Value) -> Option<FreshTokens> {
    let text = |name: &str| answer.get(name)?.as_str().filter(|t| !t.is_empty()).map(Secret::new);
    let fresh = FreshTokens {
        id_token: text("id_token"),
        access_token: text("access_token"),
        refresh_token: text("refresh_token"),
    };
    (fresh.access_token.is_some() || fresh.refresh_token.is_some()).then_some(fresh)
}

fn classify(error: NetError) -> RefreshError {
    let NetError::Service(answer) = &error else { return RefreshError::Net(error) };
    if !matches!(answer.status, 400 | 401 | 403) {
        return RefreshError::Net(error);
    }
    let rejection = match answer.code.as_deref() {
        Some("refresh_token_reused") => Rejection::Reused,
        Some("refresh_token_expired") => Rejection::Expired,
        Some("refresh_token_invalidated" | "refresh_token_revoked" | "token_revoked") => Rejection::Revoked,
        Some("invalid_grant") => Rejection::Unknown,
        // 401 is the issuer's word for "this token is no good"; any other refusal may be a firewall's.
        _ if answer.status == 401 => Rejection::Unknown,
        _ => return RefreshError::Net(error),
    };
    RefreshError::Rejected(rejection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ServiceError;

    fn answered(status: u16, code: &str) -> RefreshError {
        let code = Some(code.to_owned());
        classify(NetError::Service(ServiceError { status, code, message: None, retry_after: None }))
    }

    #[test]
    fn only_the_issuers_own_words_mean_that_a_login_is_needed() {
        assert_eq!(answered(401, "refresh_token_reused"), RefreshError::Rejected(Rejection::Reused));
        assert_eq!(answered(400, "refresh_token_expired"), RefreshError::Rejected(Rejection::Expired));
        assert_eq!(answered(401, "refresh_token_invalidated"), RefreshError::Rejected(Rejection::Revoked));
        assert_eq!(answered(400, "invalid_grant"), RefreshError::Rejected(Rejection::Unknown));
        assert_eq!(answered(401, "something_new"), RefreshError::Rejected(Rejection::Unknown));
        for (status, code) in [(403, "blocked"), (400, "bad_request"), (429, "slow_down"), (500, "oops")] {
            assert!(matches!(answered(status, code), RefreshError::Net(_)), "{status} {code}");
        }
    }

    #[test]
    fn each_token_may_be_absent_but_not_all() {
        let fresh = tokens(&json!({"access_token": "new", "refresh_token": ""})).unwrap();
        assert_eq!(fresh.access_token, Some(Secret::new("new")));
        assert!(fresh.refresh_token.is_none() && fresh.id_token.is_none());
        assert!(tokens(&json!({"id_token": "only"})).is_none());
        assert!(tokens(&json!(["x"])).is_none());
    }
}
