//! `auth.json` as Codex reads and writes it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::{api_key_json, claims, rfc3339};

use crate::{Result, text};

/// Codex refreshes when less than this many seconds are left.
const MARGIN: i64 = 300;

/// The document, and the CODEX_HOME that it is in.
pub(crate) struct Auth {
    pub(crate) home: PathBuf,
    doc: Value,
}

impl Auth {
    /// Reads the file; `CODEX_API_KEY` wins over it.
    pub(crate) fn read(home: &Path) -> Result<Auth> {
        if let Ok(key) = std::env::var("CODEX_API_KEY") {
            return Ok(Auth::of_api_key(home, &key));
        }
        let path = home.join("auth.json");
        let bytes = std::fs::read(&path).map_err(|e| format!("Not logged in: {}: {e}", path.display()))?;
        let doc = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Auth { home: home.to_owned(), doc })
    }

    pub(crate) fn of_api_key(home: &Path, key: &str) -> Auth {
        Auth {
            home: home.to_owned(),
            doc: serde_json::from_str(&api_key_json(key)).expect("the kit's own JSON"),
        }
    }

    /// From the issuer's answer to a login.
    pub(crate) fn of_login(home: &Path, answer: &Value) -> Result<Auth> {
        let doc = json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": {}});
        let mut auth = Auth { home: home.to_owned(), doc };
        auth.take(answer)?;
        let claims = auth.access_token().and_then(claims).ok_or("the issuer's answer has no access token")?;
        auth.doc["tokens"]["account_id"] =
            claims["https://api.openai.com/auth"]["chatgpt_account_id"].clone();
        Ok(auth)
    }

    /// Takes new tokens; those that are absent stay.
    pub(crate) fn take(&mut self, answer: &Value) -> Result<()> {
        for name in ["id_token", "access_token", "refresh_token"] {
            if let Some(token) = answer[name].as_str() {
                self.doc["tokens"][name] = json!(token);
            }
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(text)?;
        self.doc["last_refresh"] = json!(rfc3339(i64::try_from(now.as_secs()).map_err(text)?));
        Ok(())
    }

    /// Writes the file in place, not atomically, and only with the fields that Codex knows.
    pub(crate) fn write(&self) -> Result<()> {
        let known = ["auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"];
        let kept = known.iter().filter_map(|k| Some(((*k).to_owned(), self.doc.get(*k)?.clone())));
        let doc = serde_json::to_string_pretty(&Value::Object(kept.collect())).map_err(text)?;
        let path = self.home.join("auth.json");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(text)?;
        let (first, second) = doc.split_at(doc.len() / 2);
        file.write_all(first.as_bytes()).map_err(text)?;
        if let Some(pause) = std::env::var("STANDIN_SLOW_WRITE").ok().and_then(|ms| ms.parse().ok()) {
            std::thread::sleep(Duration::from_millis(pause));
        }
        file.write_all(second.as_bytes()).map_err(text)
    }

    pub(crate) fn access_token(&self) -> Option<&str> {
        self.doc["tokens"]["access_token"].as_str()
    }

    pub(crate) fn refresh_token(&self) -> Option<&str> {
        self.doc["tokens"]["refresh_token"].as_str()
    }

    /// Returns what Codex sends: the field, not the claim.
    pub(crate) fn account_id(&self) -> Option<&str> {
        self.doc["tokens"]["account_id"].as_str()
    }

    pub(crate) fn id_claims(&self) -> Option<Value> {
        claims(self.doc["tokens"]["id_token"].as_str()?)
    }

    /// Returns the bearer token of a turn.
    pub(crate) fn bearer(&self) -> Result<&str> {
        let key = self.doc["OPENAI_API_KEY"].as_str();
        self.access_token().or(key).ok_or_else(|| "auth.json has no credentials".to_owned())
    }

    /// Returns whether the access token has expired, or nearly.
    pub(crate) fn near_end(&self) -> bool {
        let exp = self.access_token().and_then(claims).and_then(|c| c["exp"].as_i64());
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        // Without a refresh token it uses the access token until the service refuses it.
        self.refresh_token() != Some("")
            && exp.is_some_and(|exp| exp < i64::try_from(now).unwrap_or(i64::MAX).saturating_add(MARGIN))
    }
}
