//! The usage endpoint: one request.

use codex_pool_core::auth_doc::Secret;
use serde_json::Value;
use ureq::http;

use super::endpoint::Endpoint;
use super::{Net, NetError, call};

impl Net {
    /// Fetches an account's usage.
    ///
    /// # Errors
    /// There was no answer, or an error.
    pub(crate) fn usage(
        &self,
        endpoint: &Endpoint,
        access_token: &Secret,
        account_id: &str,
    ) -> Result<Value, NetError> {
        let request = http::Request::get(endpoint.uri().clone())
            .header("authorization", format!("Bearer {}", access_token.expose()))
            .header("chatgpt-account-id", account_id)
            .header("accept", "application/json")
            .body(Vec::new())
            .map_err(|_| NetError::Refused("the token cannot be sent: it is not plain text".to_owned()))?;
        call(self.agent(endpoint.host()), request, access_token)
    }
}
