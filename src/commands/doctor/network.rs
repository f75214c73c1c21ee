//! `--online`: whether the hosts that tokens go to can be reached. No token is sent.

use super::Check;
use super::facts::{Facts, PoolFacts};
use crate::net::endpoint::Endpoint;
use crate::net::{Net, NetError};

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "network";
    let net = match Net::new(facts.env) {
        Ok(net) => net,
        Err(error) => return vec![Check::error(ID, error, String::new())],
    };
    let mut checks = Vec::new();
    for (what, endpoint) in endpoints(facts) {
        let reached = endpoint.and_then(|endpoint| net.reach(&endpoint).map(|()| endpoint));
        checks.push(match reached {
            Ok(endpoint) => Check::ok(ID, format!("{} answers ({what})", endpoint.host())),
            Err(error @ NetError::Refused(_)) => Check::fail(ID, format!("{what}: {error}"))
                .advice("see `allowed_issuers` and `chatgpt_base_url`"),
            Err(error) => Check::fail(ID, format!("{what}: {error}"))
                .advice("check the connection, and HTTPS_PROXY, NO_PROXY, CODEX_CA_CERTIFICATE"),
        });
    }
    checks
}

/// Returns where usage is fetched and where the tokens of the pool's logins are renewed, each endpoint once.
fn endpoints(facts: &Facts<'_>) -> Vec<(&'static str, Result<Endpoint, NetError>)> {
    let folder = facts.folder().ok();
    let base = folder.and_then(|f| f.main_home.as_ref().ok()?.ctx.codex.chatgpt_base_url.clone());
    let replacement = facts.env.text("CODEX_REFRESH_TOKEN_URL_OVERRIDE");
    let mut found = vec![("usage", Endpoint::usage(base.as_deref()))];
    let mut issuers = folder.map_or_else(Vec::new, issuers);
    if issuers.is_empty() {
        issuers.push(None);
    }
    for issuer in issuers {
        let endpoint = Endpoint::token(issuer.as_deref(), &facts.settings.allowed_issuers, replacement);
        if !found.iter().any(|(_, known)| *known == endpoint) {
            found.push(("token renewal", endpoint));
        }
    }
    found
}

/// Returns the issuers of the pool's logins.
fn issuers(folder: &PoolFacts) -> Vec<Option<String>> {
    let Ok(pool) = &folder.pool else { return Vec::new() };
    let docs = folder.accounts().iter().filter_map(|a| pool.credentials().load(&a.id).ok().flatten());
    let mut issuers: Vec<_> =
        docs.filter(|doc| doc.refresh_token().is_some()).map(|doc| doc.issuer().map(str::to_owned)).collect();
    issuers.sort();
    issuers.dedup();
    issuers
}
