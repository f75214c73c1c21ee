//! `--online`: whether the hosts that tokens go to can be reached from here. No token is sent.

use super::Check;
use super::scene::{Place, Scene};
use crate::net::endpoint::Endpoint;
use crate::net::{Net, NetError};

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    const ID: &str = "network";
    let net = match Net::new(scene.env) {
        Ok(net) => net,
        Err(error) => return vec![Check::fail(ID, error.message).fix(error.hint.unwrap_or_default())],
    };
    let mut checks = Vec::new();
    for (what, endpoint) in endpoints(scene) {
        let reached = endpoint.and_then(|endpoint| net.reach(&endpoint).map(|()| endpoint));
        checks.push(match reached {
            Ok(endpoint) => Check::ok(ID, format!("{} answers ({what})", endpoint.host())),
            Err(error @ NetError::Refused(_)) => Check::fail(ID, format!("{what}: {error}"))
                .fix("see `allowed_issuers` and `chatgpt_base_url`"),
            Err(error) => Check::fail(ID, format!("{what}: {error}"))
                .fix("check the connection, and HTTPS_PROXY, NO_PROXY, CODEX_CA_CERTIFICATE"),
        });
    }
    checks
}

/// Returns where usage is fetched and where the tokens of the pool's logins are renewed, each endpoint once.
fn endpoints(scene: &Scene<'_>) -> Vec<(&'static str, Result<Endpoint, NetError>)> {
    let place = scene.place();
    let base = place.and_then(|p| p.codex_home.as_ref().ok()?.ctx.codex.chatgpt_base_url.clone());
    let replacement = scene.env.text("CODEX_REFRESH_TOKEN_URL_OVERRIDE");
    let mut found = vec![("usage", Endpoint::usage(base.as_deref()))];
    let mut issuers = place.map_or_else(Vec::new, issuers);
    if issuers.is_empty() {
        issuers.push(None);
    }
    for issuer in issuers {
        let endpoint = Endpoint::token(issuer.as_deref(), &scene.settings.allowed_issuers, replacement);
        if !found.iter().any(|(_, known)| *known == endpoint) {
            found.push(("token renewal", endpoint));
        }
    }
    found
}

/// Who issued the pool's logins.
fn issuers(place: &Place) -> Vec<Option<String>> {
    let Ok(pool) = &place.pool else { return Vec::new() };
    let docs = place.accounts().iter().filter_map(|a| pool.credentials().load(&a.id).ok().flatten());
    let mut issuers: Vec<_> =
        docs.filter(|doc| doc.refresh_token().is_some()).map(|doc| doc.issuer().map(str::to_owned)).collect();
    issuers.sort();
    issuers.dedup();
    issuers
}
