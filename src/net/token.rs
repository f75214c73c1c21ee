//! The token endpoint: one request that renews tokens, and what its answer means. A refresh token can be used once, so
//! the caller must keep the answer.

use codex_pool_core::account::{AuthReason, AuthState};
use codex_pool_core::auth_doc::{FreshTokens, Secret};
use serde_json::{Value, json};
use ureq::http;

use super::endpoint::Endpoint;
use super::{Net, NetError, call};

/// Codex's OAuth client.
const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// How a renewal failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RenewalError {
    /// The issuer rejected the refresh token, for this reason. Only a new login helps.
    Rejected(AuthReason),
    /// The issuer refuses the account, or something on the way to it does. The token may still be good.
    Refused(AuthState, NetError),
    /// Anything else. The token may still be good.
    Net(NetError),
}

impl Net {
    /// Exchanges a refresh token for new tokens, on a connection of its own.
    ///
    /// # Errors
    /// The issuer rejected the token, or there was no answer that can be used.
    pub(crate) fn renew(
        &self,
        endpoint: &Endpoint,
        refresh_token: &Secret,
    ) -> Result<FreshTokens, RenewalError> {
        let body = json!({
            "client_id": CLIENT_ID,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token.expose(),
        });
        let request = http::Request::post(endpoint.uri().clone())
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|_| RenewalError::Net(NetError::Refused("the request cannot be made".to_owned())))?;
        let answer = call(&self.unshared_agent(endpoint.host()), request, refresh_token).map_err(classify)?;
        tokens(&answer).ok_or(RenewalError::Net(NetError::Garbled))
    }
}

/// Returns the tokens of an answer. `None`: it has none.
fn tokens(answer: &Value) -> Option<FreshTokens> {
    let text = |name: &str| answer.get(name)?.as_str().filter(|t| !t.is_empty()).map(Secret::new);
    let fresh = FreshTokens {
        id_token: text("id_token"),
        access_token: text("access_token"),
        refresh_token: text("refresh_token"),
    };
    (fresh.access_token.is_some() || fresh.refresh_token.is_some()).then_some(fresh)
}

fn classify(error: NetError) -> RenewalError {
    let NetError::Service(answer) = &error else { return RenewalError::Net(error) };
    if !matches!(answer.status, 400 | 401 | 403) {
        return RenewalError::Net(error);
    }
    if let Some(verdict @ (AuthState::WorkspaceRemoved | AuthState::Deactivated)) = error.verdict() {
        return RenewalError::Refused(verdict, error);
    }
    let rejection = match answer.code.as_deref() {
        Some("refresh_token_reused") => AuthReason::Reused,
        Some("refresh_token_expired") => AuthReason::Expired,
        Some("refresh_token_invalidated" | "refresh_token_revoked" | "token_revoked") => AuthReason::Revoked,
        Some("invalid_grant") => AuthReason::Rejected,
        // With 401 the issuer rejects the token. Any other refusal may be a firewall's.
        _ if answer.status == 401 => AuthReason::Rejected,
        _ if answer.status == 403 => return RenewalError::Refused(AuthState::Refused, error),
        _ => return RenewalError::Net(error),
    };
    RenewalError::Rejected(rejection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ServiceError;

    fn answered(status: u16, code: &str) -> RenewalError {
        let code = Some(code.to_owned());
        classify(NetError::Service(ServiceError { status, code, message: None, retry_after: None }))
    }

    #[test]
    fn only_the_issuers_own_words_mean_that_a_login_is_needed() {
        assert_eq!(answered(401, "refresh_token_reused"), RenewalError::Rejected(AuthReason::Reused));
        assert_eq!(answered(400, "refresh_token_expired"), RenewalError::Rejected(AuthReason::Expired));
        assert_eq!(answered(401, "refresh_token_invalidated"), RenewalError::Rejected(AuthReason::Revoked));
        assert_eq!(answered(400, "invalid_grant"), RenewalError::Rejected(AuthReason::Rejected));
        assert_eq!(answered(401, "something_new"), RenewalError::Rejected(AuthReason::Rejected));
        for (status, code) in [(400, "bad_request"), (429, "slow_down"), (500, "oops")] {
            assert!(matches!(answered(status, code), RenewalError::Net(_)), "{status} {code}");
        }
        for (status, code, state) in [
            (401, "account_deactivated", AuthState::Deactivated),
            (403, "account_deactivated", AuthState::Deactivated),
            (403, "blocked", AuthState::Refused),
        ] {
            assert!(
                matches!(answered(status, code), RenewalError::Refused(s, _) if s == state),
                "{status} {code}"
            );
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
