//! The errors of requests: kinds for the program, text for the user.

use std::fmt;
use std::io;

use codex_pool_core::account::AuthState;
use codex_pool_core::auth_doc::Secret;
use codex_pool_core::text::clean;
use serde_json::Value;
use ureq::{Timeout, http};

/// The longest pause that the service may ask for, seconds.
const MAX_RETRY_AFTER: i64 = 3_600;

/// Why a request failed. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetError {
    /// Our own rules forbid the request. It was not made.
    Refused(String),
    /// There is no connection: network, name lookup, proxy, certificates. Nothing was sent.
    Unreachable(String),
    /// There was no connection within the time limit. Nothing was sent.
    ConnectTimeout(String),
    /// The connection broke. The request may have been sent.
    Broken(String),
    /// There was no whole answer within the time limit. The request may have been carried out.
    Timeout(String),
    /// The answer is a redirect. With a token none is followed.
    Redirected,
    /// The answer is not what the service documents.
    Garbled,
    /// The service answered with an error.
    Service(ServiceError),
}

/// An error that the service answered, safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceError {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Its error code, such as `refresh_token_reused`.
    pub(crate) code: Option<String>,
    /// Its text.
    pub(crate) message: Option<String>,
    /// `Retry-After`, seconds.
    pub(crate) retry_after: Option<i64>,
}

impl NetError {
    /// Returns whether the service may have carried out the request although no answer came.
    pub(crate) fn outcome_unknown(&self) -> bool {
        matches!(self, NetError::Broken(_) | NetError::Timeout(_) | NetError::Garbled)
    }

    /// Returns whether there is no connection, and so none for other requests either.
    pub(crate) fn is_offline(&self) -> bool {
        matches!(self, NetError::Unreachable(_) | NetError::ConnectTimeout(_))
    }

    /// Returns whether the service does not accept the access token.
    pub(crate) fn is_token_rejected(&self) -> bool {
        // A new token does not help an account that is gone.
        matches!(self, NetError::Service(e) if e.status == 401)
            && !self.is_deactivated()
            && !self.is_workspace_removed()
    }

    /// Returns whether the account was removed from its workspace.
    pub(crate) fn is_workspace_removed(&self) -> bool {
        matches!(self, NetError::Service(e) if (401..=403).contains(&e.status) && e.names("deactivated_workspace"))
    }

    /// Returns whether the service has deactivated the account.
    pub(crate) fn is_deactivated(&self) -> bool {
        matches!(self, NetError::Service(e) if (400..=403).contains(&e.status) && e.names("account_deactivated"))
    }

    /// Returns whether the service refuses the account, or something on the way to it does.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, NetError::Service(e) if matches!(e.status, 401 | 403))
    }

    /// Returns the state that this answer of the service means for an account whose tokens were renewed, if the token
    /// was the trouble.
    pub(crate) fn verdict(&self) -> Option<AuthState> {
        match self {
            error if error.is_workspace_removed() => Some(AuthState::WorkspaceRemoved),
            error if error.is_deactivated() => Some(AuthState::Deactivated),
            error if error.is_refusal() => Some(AuthState::Refused),
            _ => None,
        }
    }

    /// Converts an error of ureq. Its text may contain a URL, and URLs of ours contain no secrets.
    pub(super) fn of_ureq(error: &ureq::Error, host: &str) -> NetError {
        let host = clean(host, &[]);
        match error {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => NetError::ConnectTimeout(host),
            ureq::Error::Timeout(_) => NetError::Timeout(host),
            ureq::Error::HostNotFound => NetError::Unreachable(format!("{host} was not found")),
            ureq::Error::ConnectionFailed => NetError::Unreachable(format!("{host} refused the connection")),
            ureq::Error::ConnectProxyFailed(why) => {
                NetError::Unreachable(format!("the proxy did not connect to {host}: {}", clean(why, &[])))
            }
            ureq::Error::InvalidProxyUrl => NetError::Unreachable("the proxy's address is wrong".to_owned()),
            ureq::Error::Tls(_) | ureq::Error::Pem(_) | ureq::Error::TlsRequired => {
                NetError::Unreachable(format!("no TLS with {host}: {}", clean(&error.to_string(), &[])))
            }
            ureq::Error::Rustls(e) => NetError::of_tls(e, &host),
            ureq::Error::Io(e) => NetError::of_io(e, &host),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                NetError::Refused(format!("the request to {host} cannot be made"))
            }
            ureq::Error::Protocol(_)
            | ureq::Error::LargeResponseHeader(..)
            | ureq::Error::BodyExceedsLimit(_) => NetError::Garbled,
            _ => NetError::Broken(host),
        }
    }

    fn of_io(error: &io::Error, host: &str) -> NetError {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => NetError::Unreachable(format!("{host} refused the connection")),
            Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::AddrNotAvailable | Kind::NetworkDown => {
                NetError::Unreachable(format!("{host} cannot be reached from here"))
            }
            Kind::TimedOut => NetError::Timeout(host.to_owned()),
            // So come the errors of a TLS handshake.
            Kind::InvalidData => match error.get_ref().and_then(|e| e.downcast_ref()) {
                Some(error) => NetError::of_tls(error, host),
                None => NetError::Broken(host.to_owned()),
            },
            Kind::InvalidInput => NetError::Unreachable(format!("{host} has no address")),
            _ => NetError::Broken(host.to_owned()),
        }
    }

    /// An error about certificates comes before anything is sent.
    fn of_tls(error: &rustls::Error, host: &str) -> NetError {
        use rustls::Error::{InvalidCertRevocationList, InvalidCertificate, NoCertificatesPresented};
        match error {
            InvalidCertificate(_) | NoCertificatesPresented | InvalidCertRevocationList(_) => {
                NetError::Unreachable(format!(
                    "the certificate of {host} is not trusted ({}); behind a company's proxy, \
                     set CODEX_CA_CERTIFICATE to its CA's PEM file",
                    clean(&error.to_string(), &[])
                ))
            }
            _ => NetError::Broken(host.to_owned()),
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Refused(why) => f.write_str(why),
            NetError::Unreachable(why) => write!(f, "no connection: {why}"),
            NetError::ConnectTimeout(host) => write!(f, "no connection to {host} within 5s"),
            NetError::Broken(host) => write!(f, "the connection to {host} broke"),
            NetError::Timeout(host) => write!(f, "no answer from {host} within 15s"),
            NetError::Redirected => f.write_str(
                "the service answered with a redirect, which is not followed with a token; \
                 is there a proxy or portal that asks for a login?",
            ),
            NetError::Garbled => f.write_str("the service's answer makes no sense"),
            NetError::Service(e) => e.fmt(f),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            429 => f.write_str("the service asks to be asked less often (429)")?,
            500..=599 => write!(f, "the service has trouble ({})", self.status)?,
            status => write!(f, "the service refused ({status})")?,
        }
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => write!(f, ": {code}: {message}"),
            (Some(text), None) | (None, Some(text)) => write!(f, ": {text}"),
            (None, None) => Ok(()),
        }
    }
}

impl ServiceError {
    /// Reads an answer that is an error, in any of its forms.
    pub(super) fn read(status: u16, headers: &http::HeaderMap, body: &[u8], secret: &Secret) -> ServiceError {
        let retry_after = headers.get(http::header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let tree: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let code = find(&tree, &["/error/code", "/detail/code", "/code", "/error/type", "/error"]);
        let message =
            find(&tree, &["/error/message", "/error_description", "/detail/message", "/detail", "/message"]);
        let safe = |text: &str| Some(clean(text, &[secret])).filter(|t| !t.is_empty());
        ServiceError {
            status,
            code: code.and_then(safe),
            message: message.and_then(safe),
            retry_after: retry_after.map(|s: i64| s.clamp(0, MAX_RETRY_AFTER)),
        }
    }

    /// Returns whether the error has this code, or names it in its text.
    fn names(&self, code: &str) -> bool {
        [&self.code, &self.message].into_iter().flatten().any(|text| text.contains(code))
    }
}

fn find<'a>(tree: &'a Value, pointers: &[&str]) -> Option<&'a str> {
    pointers.iter().find_map(|p| tree.pointer(p)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> ServiceError {
        let mut headers = http::HeaderMap::new();
        headers.insert("retry-after", "86400".parse().unwrap());
        ServiceError::read(status, &headers, body.as_bytes(), &Secret::new("hush"))
    }

    #[test]
    fn every_form_of_error_is_read_and_made_safe() {
        let e =
            read(401, r#"{"error":{"code":"refresh_token_reused","message":"token hush \u001b[31mused"}}"#);
        assert_eq!(e.code.as_deref(), Some("refresh_token_reused"));
        assert_eq!(e.message.as_deref(), Some("token … [31mused"));
        assert_eq!(read(400, r#"{"error":"invalid_grant"}"#).code.as_deref(), Some("invalid_grant"));
        assert!(read(402, r#"{"detail":{"code":"deactivated_workspace"}}"#).names("deactivated_workspace"));
        assert!(read(403, r#"{"detail":"deactivated_workspace"}"#).names("deactivated_workspace"));
        for odd in ["", "<html>", "[1]", "{\"error\":3}", "nul\0"] {
            assert_eq!((read(500, odd).code, read(500, odd).message), (None, None), "{odd}");
        }
    }

    #[test]
    fn a_pause_is_bounded() {
        assert_eq!(read(429, "").retry_after, Some(MAX_RETRY_AFTER));
    }
}
