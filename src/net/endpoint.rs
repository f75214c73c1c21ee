//! The addresses that requests may go to. A token goes only to https (plain http only to loopback), to the host of
//! Codex's `chatgpt_base_url`, or to its own issuer: `auth.openai.com`, or a host that `config.toml` allows.

use std::net::{Ipv4Addr, Ipv6Addr};

use codex_pool_core::text::clean;
use ureq::http::Uri;

use super::NetError;

/// The issuer of ChatGPT logins.
const ISSUER: &str = "https://auth.openai.com";
/// Its host.
const ISSUER_HOST: &str = "auth.openai.com";
/// Codex's default of `chatgpt_base_url`.
const CHATGPT_BASE: &str = "https://chatgpt.com/backend-api";
/// The hosts whose base Codex completes with `/backend-api`.
const CHATGPT_HOSTS: [&str; 2] = ["chatgpt.com", "chat.openai.com"];

/// An address that passed the rules. A request can be made to nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Uri);

impl Endpoint {
    /// Returns where usage is fetched: below Codex's `chatgpt_base_url` (`None`: the default).
    ///
    /// # Errors
    /// `Refused`: it is not a URL, or plain http to another machine.
    pub(crate) fn usage(base: Option<&str>) -> Result<Endpoint, NetError> {
        let what = "chatgpt_base_url in Codex's config.toml";
        let base = base.unwrap_or(CHATGPT_BASE).trim_end_matches('/');
        let endpoint = checked(base, what)?;
        let completed = CHATGPT_HOSTS.iter().any(|h| endpoint.host().eq_ignore_ascii_case(h));
        let path = match (base.contains("/backend-api"), completed) {
            (true, _) => "/wham/usage",
            (false, true) => "/backend-api/wham/usage",
            (false, false) => "/api/codex/usage",
        };
        checked(&format!("{base}{path}"), what)
    }

    /// Returns where the tokens of `issuer` (the token's `iss`; `None`: the default) are renewed. `replacement` is
    /// `CODEX_REFRESH_TOKEN_URL_OVERRIDE`, which the user set and which replaces the whole address.
    ///
    /// # Errors
    /// `Refused`: the issuer is unknown, or the address is not a URL, or plain http to another machine.
    pub(crate) fn token(
        issuer: Option<&str>,
        allowed: &[String],
        replacement: Option<&str>,
    ) -> Result<Endpoint, NetError> {
        if let Some(url) = replacement {
            return checked(url, "CODEX_REFRESH_TOKEN_URL_OVERRIDE");
        }
        let issuer = issuer.unwrap_or(ISSUER).trim_end_matches('/');
        let endpoint = checked(issuer, "the token's issuer")?;
        let host = endpoint.host();
        let known =
            host.eq_ignore_ascii_case(ISSUER_HOST) || allowed.iter().any(|a| host.eq_ignore_ascii_case(a));
        if !known {
            return Err(NetError::Refused(format!(
                "the token was issued by {}, which is not auth.openai.com; if you trust that host, \
                 add it to allowed_issuers in the pool's config.toml",
                clean(host, &[])
            )));
        }
        checked(&format!("{issuer}/oauth/token"), "the token's issuer")
    }

    /// Returns the folder of releases. No token goes there, but what comes from there is executed.
    ///
    /// # Errors
    /// `Refused`: it is not a URL, or plain http to another machine.
    pub(crate) fn releases(base: &str) -> Result<Endpoint, NetError> {
        checked(base, "CODEX_POOL_RELEASES")
    }

    /// Returns the address.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Returns the host.
    pub(crate) fn host(&self) -> &str {
        self.0.host().unwrap_or("")
    }
}

/// Returns whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn checked(url: &str, what: &str) -> Result<Endpoint, NetError> {
    // A password or a key may be in it.
    let plain =
        url.rsplit_once('@').map_or(url, |(_, rest)| rest).split(['?', '#']).next().unwrap_or_default();
    let refused = |why: &str| NetError::Refused(format!("{what} is {why}: {}", clean(plain, &[])));
    let uri: Uri = url.parse().map_err(|_| refused("not a URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(refused("not a URL"));
    };
    let host = authority.host();
    if host.is_empty() || authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
        return Err(refused("not a plain URL"));
    }
    match scheme {
        "https" => Ok(Endpoint(uri)),
        "http" if is_loopback(host) => Ok(Endpoint(uri)),
        "http" => Err(refused("neither https nor on this machine")),
        _ => Err(refused("not an https URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(endpoint: Result<Endpoint, NetError>) -> String {
        match endpoint {
            Err(NetError::Refused(why)) => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn usage_is_fetched_where_codex_would() {
        let url = |base| Endpoint::usage(base).unwrap().uri().to_string();
        assert_eq!(url(None), "https://chatgpt.com/backend-api/wham/usage");
        assert_eq!(url(Some("https://chatgpt.com/")), "https://chatgpt.com/backend-api/wham/usage");
        assert_eq!(url(Some("https://x.example/backend-api//")), "https://x.example/backend-api/wham/usage");
        assert_eq!(url(Some("https://x.example/v1")), "https://x.example/v1/api/codex/usage");
        assert_eq!(url(Some("http://127.0.0.1:9/backend-api")), "http://127.0.0.1:9/backend-api/wham/usage");
    }

    #[test]
    fn tokens_go_to_https_or_loopback_only() {
        for base in ["http://chatgpt.com/backend-api", "http://127.0.0.1.evil.example", "http://128.0.0.1"] {
            assert!(refused(Endpoint::usage(Some(base))).contains("neither https"), "{base}");
        }
        for base in ["http://localhost:1", "http://[::1]:1", "http://127.9.9.9:1"] {
            Endpoint::usage(Some(base)).unwrap();
        }
    }

    #[test]
    fn base_url_that_is_malformed_is_refused() {
        for base in ["backend-api", "/backend-api", "", "ftp://x.example", "https://", "https:///x", "a b"] {
            refused(Endpoint::usage(Some(base)));
        }
        for base in ["https://me:pw@x.example", "https://x.example?a=b", "https://x.example#c"] {
            assert!(refused(Endpoint::usage(Some(base))).contains("not a plain URL"), "{base}");
        }
    }

    #[test]
    fn tokens_are_renewed_at_their_own_issuer_if_it_is_known() {
        let url = |iss, allowed: &[String]| Endpoint::token(iss, allowed, None).unwrap().uri().to_string();
        let lab = ["login.example.com".to_owned(), "127.0.0.1".to_owned()];
        assert_eq!(url(None, &[]), "https://auth.openai.com/oauth/token");
        assert_eq!(url(Some("https://AUTH.openai.com/"), &[]), "https://AUTH.openai.com/oauth/token");
        assert_eq!(url(Some("https://login.example.com"), &lab), "https://login.example.com/oauth/token");
        assert_eq!(url(Some("http://127.0.0.1:7"), &lab), "http://127.0.0.1:7/oauth/token");
    }

    #[test]
    fn foreign_issuers_are_refused() {
        let lab = ["login.example.com".to_owned()];
        for iss in [
            "https://evil.example",
            "https://auth.openai.com.evil.example",
            "https://auth.openai.com@evil.example",
            "https://evil.example/auth.openai.com",
            "http://auth.openai.com",
            "http://login.example.com",
            "http://127.0.0.1:7",
            "auth.openai.com",
            "javascript:alert(1)",
        ] {
            refused(Endpoint::token(Some(iss), &lab, None));
        }
    }

    #[test]
    fn the_users_override_replaces_the_whole_address() {
        let endpoint =
            Endpoint::token(Some("https://evil.example"), &[], Some("http://127.0.0.1:7/token")).unwrap();
        assert_eq!(endpoint.uri().to_string(), "http://127.0.0.1:7/token");
        refused(Endpoint::token(None, &[], Some("http://10.0.0.1/token")));
    }
}
