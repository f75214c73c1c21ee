//! Trouble on order: which requests to the stand-in service go wrong, how, and how often.

use std::time::Duration;

use serde_json::Value;

/// What a request is for; faults and latencies are set per route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// `POST /oauth/token`, either grant.
    Token,
    /// `POST /oauth/revoke`.
    Revoke,
    /// `POST …/deviceauth/usercode`.
    UserCode,
    /// `POST …/deviceauth/token`.
    DeviceToken,
    /// `GET …/wham/usage` and `/api/codex/usage`.
    Usage,
    /// `GET …/wham/accounts/check`.
    AccountsCheck,
    /// `POST …/accounts/switch-workspace-token`.
    SwitchWorkspace,
    /// `POST …/responses`, and the websocket there.
    Responses,
    /// `POST …/responses/compact`.
    Compact,
    /// `CONNECT host:port`: a client that takes this service for its proxy, to leave loopback. Refused.
    Outside,
    /// Anything else; answered 404.
    Other,
}

impl Route {
    pub(crate) fn of(method: &str, path: &str) -> Route {
        let path = path.trim_end_matches('/');
        match method {
            "POST" if path.ends_with("/oauth/token") => Route::Token,
            "POST" if path.ends_with("/oauth/revoke") => Route::Revoke,
            "POST" if path.ends_with("/deviceauth/usercode") => Route::UserCode,
            "POST" if path.ends_with("/deviceauth/token") => Route::DeviceToken,
            "POST" | "GET" if path.ends_with("/responses") => Route::Responses,
            "POST" if path.ends_with("/responses/compact") => Route::Compact,
            "GET" if path.ends_with("/wham/usage") || path.ends_with("/api/codex/usage") => Route::Usage,
            "GET" if path.ends_with("/wham/accounts/check") => Route::AccountsCheck,
            _ if path.contains("/accounts/switch-workspace-token") => Route::SwitchWorkspace,
            "CONNECT" => Route::Outside,
            _ => Route::Other,
        }
    }
}

/// How a request goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status and JSON body instead of the answer.
    Status(u16, Value),
    /// Any status, headers and body instead of the answer.
    Raw(u16, Vec<(String, String)>, Vec<u8>),
    /// A 307 to that URL.
    Redirect(String),
    /// 200 with a body that is not JSON.
    Garbage,
    /// 200 whose body ends early.
    Truncated,
    /// No answer until the client gives up.
    Hang,
    /// The connection is closed and nothing was done.
    HangUp,
    /// The request is carried out (a token rotates) and then the connection is closed without the answer.
    LostAnswer,
    /// The answer comes that much later, before anything is done.
    Delay(Duration),
}

/// One order for trouble.
#[derive(Clone, Debug)]
pub(crate) struct FaultRule {
    pub(crate) route: Route,
    pub(crate) user: Option<String>,
    pub(crate) fault: Fault,
    /// How many requests it still hits; `None` is all.
    pub(crate) left: Option<usize>,
}

/// Takes the first fault that applies to a request, and counts it.
pub(crate) fn take(rules: &mut Vec<FaultRule>, route: Route, user: Option<&str>) -> Option<Fault> {
    let at =
        rules.iter().position(|r| r.route == route && (r.user.is_none() || r.user.as_deref() == user))?;
    let fault = rules[at].fault.clone();
    if let Some(left) = &mut rules[at].left {
        *left -= 1;
        if *left == 0 {
            rules.remove(at);
        }
    }
    Some(fault)
}
