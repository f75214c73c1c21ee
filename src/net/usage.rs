//! The usage endpoint: one request.

use codex_pool_core::auth_doc::Secret;
use serde_json::Value;
use ureq::http;

use super::place::Place;
use super::{Net, NetError, call};

impl Net {
    /// Asks for an account's usage.
    pub(crate) fn usage(
        &self,
        place: &Place,
        access_token: &Secret,
        account_id: &str,
    ) -> Result<Value, NetError> {
        let request = http::Request::get(place.uri().clone())
            .header("authorization", format!("Bearer {}", access_token.expose()))
            .header("chatgpt-account-id", account_id)
            .header("accept", "application/json")
            .body(Vec::new())
            .map_err(|_| NetError::Refused("the token cannot be sent: it is not plain text".to_owned()))?;
        call(self.agent(place.host()), request, access_token)
    }
}
