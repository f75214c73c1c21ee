//! The requests that Codex makes. Only http, since only loopback is ever meant.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::CLIENT_ID;

use crate::auth::Auth;
use crate::{Result, text};

/// The service that `config.toml` and the environment point to.
pub(crate) struct Service {
    agent: ureq::Agent,
    responses: String,
}

impl Service {
    /// Reads `chatgpt_base_url` and the provider's `base_url`.
    pub(crate) fn configured(home: &Path) -> Result<Service> {
        let path = home.join("config.toml");
        let config: toml::Table = match std::fs::read_to_string(&path) {
            Ok(config) => config.parse().map_err(|e| format!("{}: {e}", path.display()))?,
            Err(_) => toml::Table::new(),
        };
        let provider = config.get("model_provider").and_then(|name| {
            config.get("model_providers")?.get(name.as_str()?)?.get("base_url")?.as_str().map(str::to_owned)
        });
        let base =
            config.get("chatgpt_base_url").and_then(toml::Value::as_str).map(|base| format!("{base}/codex"));
        let base = provider.or(base).unwrap_or_else(|| "https://chatgpt.com/backend-api/codex".to_owned());
        if !base.starts_with("http://127.0.0.1") {
            return Err(format!("the stand-in Codex speaks to loopback only, not to {base}"));
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = config.timeout_global(Some(Duration::from_secs(120))).build().into();
        Ok(Service { agent, responses: format!("{base}/responses") })
    }

    /// Returns the issuer that a login without `--experimental_issuer` goes to.
    pub(crate) fn issuer(&self) -> String {
        self.responses.split("/backend-api").next().unwrap_or_default().to_owned()
    }

    /// Takes one turn. Returns `None` for a 401.
    pub(crate) fn respond(&self, auth: &Auth, prompt: &str) -> Result<Option<String>> {
        let mut request = self.agent.post(&self.responses);
        request = request.header("authorization", format!("Bearer {}", auth.bearer()?));
        request = request.header("session-id", format!("standin-{}", std::process::id()));
        if let Some(id) = auth.account_id() {
            request = request.header("chatgpt-account-id", id);
        }
        let message = json!({"role": "user", "content": [{"type": "input_text", "text": prompt}]});
        let body = json!({"stream": true, "input": [message]}).to_string();
        let mut response = request.content_type("application/json").send(body).map_err(text)?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string().map_err(text)?;
        match status {
            200 => {
                reply_of(&body).ok_or_else(|| "stream disconnected before completion".to_owned()).map(Some)
            }
            401 => Ok(None),
            429 if body.contains("usage_limit_reached") => Err("You’ve hit your usage limit.".to_owned()),
            _ => Err(format!("unexpected status {status}: {body}")),
        }
    }

    /// Exchanges the refresh token.
    pub(crate) fn refresh(&self, auth: &Auth) -> Result<Value> {
        let issuer = auth.id_claims().and_then(|c| c["iss"].as_str().map(str::to_owned)).unwrap_or_default();
        let url =
            std::env::var("CODEX_REFRESH_TOKEN_URL_OVERRIDE").unwrap_or(format!("{issuer}/oauth/token"));
        let token = auth.refresh_token().filter(|token| !token.is_empty());
        let token =
            token.ok_or("Your access token could not be refreshed. Please log out and sign in again.")?;
        let body = json!({"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": token});
        match self.post(&url, &body)? {
            (200, answer) => Ok(answer),
            (status, answer) => Err(format!(
                "Your access token could not be refreshed ({status}: {})",
                answer["error"]["code"]
            )),
        }
    }

    /// Revokes a login.
    pub(crate) fn revoke(&self, refresh_token: &str) -> Result<()> {
        let url = std::env::var("CODEX_REVOKE_TOKEN_URL_OVERRIDE")
            .unwrap_or(format!("{}/oauth/revoke", self.issuer()));
        let body =
            json!({"token": refresh_token, "token_type_hint": "refresh_token", "client_id": CLIENT_ID});
        self.post(&url, &body).map(drop)
    }

    /// Runs the device flow. `show` tells the user the code.
    pub(crate) fn device_login(&self, issuer: &str, show: impl Fn(&str)) -> Result<Value> {
        let accounts = format!("{issuer}/api/accounts/deviceauth");
        let (_, begun) = self.post(&format!("{accounts}/usercode"), &json!({"client_id": CLIENT_ID}))?;
        let (Some(id), Some(code)) = (begun["device_auth_id"].as_str(), begun["user_code"].as_str()) else {
            return Err(format!("device login: unexpected answer {begun}"));
        };
        show(code);
        let granted = loop {
            match self
                .post(&format!("{accounts}/token"), &json!({"device_auth_id": id, "user_code": code}))?
            {
                (200, granted) => break granted,
                (403, _) => std::thread::sleep(Duration::from_millis(20)),
                (status, _) => return Err(format!("device login failed with status {status}")),
            }
        };
        let code = granted["authorization_code"].as_str().unwrap_or_default();
        let form = [("grant_type", "authorization_code"), ("code", code), ("client_id", CLIENT_ID)];
        let mut response = self.agent.post(format!("{issuer}/oauth/token")).send_form(form).map_err(text)?;
        let answer = response.body_mut().read_to_string().map_err(text)?;
        serde_json::from_str(&answer).map_err(text)
    }

    fn post(&self, url: &str, body: &Value) -> Result<(u16, Value)> {
        let mut response =
            self.agent.post(url).content_type("application/json").send(body.to_string()).map_err(text)?;
        let status = response.status().as_u16();
        let answer = response.body_mut().read_to_string().map_err(text)?;
        Ok((status, serde_json::from_str(&answer).unwrap_or_default()))
    }
}

/// Returns the assistant's text, if the stream was complete.
fn reply_of(stream: &str) -> Option<String> {
    let events: Vec<Value> = stream
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .filter_map(|d| serde_json::from_str(d).ok())
        .collect();
    events.iter().find(|e| e["type"] == "response.completed")?;
    let item = events.iter().find(|e| e["type"] == "response.output_item.done")?;
    Some(item["item"]["content"][0]["text"].as_str()?.to_owned())
}
