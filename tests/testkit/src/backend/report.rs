//! What the stand-in service has seen: one record per request of interest, and every breach of the rules of codex-facts
//! (reused and revoked tokens, documents of two accounts). Tests judge by it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bound::HistoryItem;

/// Something that a well-behaved client never does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum Violation {
    /// A refresh token that had been exchanged already was sent again.
    RefreshTokenReused {
        /// Whose login it is.
        user: String,
        /// The name of the token (they are opaque and fake, `rt-<user>-…`).
        token: String,
    },
    /// A revoked refresh token was sent.
    RevokedRefreshTokenUsed {
        /// Whose login it was.
        user: String,
        /// The name of the token.
        token: String,
    },
    /// A refresh token that this service never issued.
    UnknownRefreshToken {
        /// What was sent.
        token: String,
    },
    /// `ChatGPT-Account-Id` is not the account of the access token.
    Mixed {
        /// Whose access token it is.
        user: String,
        /// The account id of that token.
        token_account: String,
        /// What the header said.
        header: Option<String>,
        /// The path asked for.
        path: String,
    },
}

/// A request to `/oauth/token` with a refresh token.
#[derive(Clone, Debug, Serialize)]
pub struct Refresh {
    /// Seconds since the backend started.
    pub at: f64,
    /// Whose token; `None` for an unknown one.
    pub user: Option<String>,
    /// The refresh token that was sent.
    pub token: String,
    /// `ok`, or the error code that was answered.
    pub outcome: String,
}

/// A request to `/oauth/revoke`.
#[derive(Clone, Debug, Serialize)]
pub struct Revocation {
    /// Seconds since the backend started.
    pub at: f64,
    /// Whose token; `None` for an unknown one.
    pub user: Option<String>,
    /// The token that was sent.
    pub token: String,
}

/// A request for usage.
#[derive(Clone, Debug, Serialize)]
pub struct UsageRequest {
    /// Seconds since the backend started.
    pub at: f64,
    /// The path asked for.
    pub path: String,
    /// Whose access token; `None` when it is missing or unknown.
    pub user: Option<String>,
    /// Status answered.
    pub status: u16,
}

/// A request for a model's answer.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// Seconds since the backend started.
    pub at: f64,
    /// Whose access token or API key; `None` when it is missing or unknown.
    pub user: Option<String>,
    /// Status answered; 0 while the answer has not begun.
    pub status: u16,
    /// Whether the whole answer was sent.
    pub done: bool,
    /// Headers of the request in lower case, without `authorization`.
    pub headers: BTreeMap<String, String>,
    /// The last text of the user, if the body could be read.
    pub prompt: Option<String>,
    /// Whether it came over a websocket.
    pub websocket: bool,
    /// The history that came with it, whole, also where a websocket's client sent only what was new.
    pub history: Vec<HistoryItem>,
    /// Why it was refused, in the words of the answer.
    pub refusal: Option<String>,
    /// The request's body, if [`super::Backend::keep_bodies`] was asked for and it is JSON.
    pub body: Option<serde_json::Value>,
}

impl Turn {
    /// Returns the session (older Codex: conversation) that asked.
    pub fn session(&self) -> Option<&str> {
        ["session-id", "session_id", "conversation_id", "thread-id"]
            .iter()
            .find_map(|h| self.headers.get(*h).map(String::as_str))
    }

    /// Items of the history of that kind, see [`HistoryItem::kind`].
    pub fn items(&self, kind: &str) -> Vec<&HistoryItem> {
        self.history.iter().filter(|item| item.kind == kind).collect()
    }
}

/// Any request at all.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// Seconds since the backend started, when the request had been read.
    pub at: f64,
    /// Seconds until the answer was sent; `None` while it is not.
    pub took: Option<f64>,
    /// `GET`, `POST`, …
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Status answered; 0 for none (hung up, or not yet).
    pub status: u16,
}

/// Everything seen so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Breaches of the rules, in order.
    pub violations: Vec<Violation>,
    /// Refreshes, in order.
    pub refreshes: Vec<Refresh>,
    /// Revocations, in order.
    pub revocations: Vec<Revocation>,
    /// Logins completed by the device flow: the users, in order.
    pub logins: Vec<String>,
    /// Requests for usage, in order.
    pub usage: Vec<UsageRequest>,
    /// Requests for a model's answer, in order of arrival.
    pub turns: Vec<Turn>,
    /// Requests for a title, which Codex's interface sends beside each turn, in order of arrival.
    pub titles: Vec<Turn>,
    /// Users whose history the service compacted at the route for it, in order.
    pub compactions: Vec<String>,
    /// Hosts outside (`host:port`) that a client wanted to reach over https, in order.
    pub outside: Vec<String>,
    /// All requests, in order of arrival.
    pub requests: Vec<Request>,
    /// The most usage requests that were in flight at once.
    pub max_usage_in_flight: usize,
    /// The most refreshes that were in flight at once.
    pub max_refreshes_in_flight: usize,
}

impl Report {
    /// Refreshes with that user's tokens.
    pub fn refreshes_of(&self, user: impl AsRef<str>) -> Vec<&Refresh> {
        self.refreshes.iter().filter(|r| r.user.as_deref() == Some(user.as_ref())).collect()
    }

    /// Requests for that user's usage.
    pub fn usage_of(&self, user: impl AsRef<str>) -> Vec<&UsageRequest> {
        self.usage.iter().filter(|r| r.user.as_deref() == Some(user.as_ref())).collect()
    }

    /// Requests for an answer that came with that user's token.
    pub fn turns_of(&self, user: impl AsRef<str>) -> Vec<&Turn> {
        self.turns.iter().filter(|t| t.user.as_deref() == Some(user.as_ref())).collect()
    }

    /// Requests to paths that do not exist here.
    pub fn not_found(&self) -> Vec<&Request> {
        self.requests.iter().filter(|r| r.status == 404).collect()
    }
}
