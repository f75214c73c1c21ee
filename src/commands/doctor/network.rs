//! `--online`: whether the hosts that tokens go to can be reached from here. No token is sent.

use super::Check;
use super::scene::{Place, Scene};
use crate::net::place::{self, Place as Address};
use crate::net::{Net, NetError, reach};

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    const ID: &str = "network";
    let net = match Net::new(scene.env) {
        Ok(net) => net,
        Err(error) => return vec![Check::fail(ID, error.message).fix(error.hint.unwrap_or_default())],
    };
    let mut checks = Vec::new();
    for (what, address) in addresses(scene) {
        let reached = address.and_then(|address| reach::reach(&net, &address).map(|()| address));
        checks.push(match reached {
            Ok(address) => Check::ok(ID, format!("{} answers ({what})", address.host())),
            Err(error @ NetError::Refused(_)) => Check::fail(ID, format!("{what}: {error}"))
                .fix("see `allowed_issuers` and `chatgpt_base_url`"),
            Err(error) => Check::fail(ID, format!("{what}: {error}"))
                .fix("check the connection, and HTTPS_PROXY, NO_PROXY, CODEX_CA_CERTIFICATE"),
        });
    }
    checks
}

/// The address that usage is asked of, and those where the pool's logins are refreshed, each once.
fn addresses(scene: &Scene<'_>) -> Vec<(&'static str, Result<Address, NetError>)> {
    let place = scene.place();
    let base = place.and_then(|p| p.codex_home.as_ref().ok()?.ctx.codex.chatgpt_base_url.clone());
    let whole = scene.env.text("CODEX_REFRESH_TOKEN_URL_OVERRIDE");
    let mut found = vec![("usage", place::usage(base.as_deref()))];
    let mut issuers = place.map_or_else(Vec::new, issuers);
    if issuers.is_empty() {
        issuers.push(None);
    }
    for issuer in issuers {
        let address = place::refresh(issuer.as_deref(), &scene.settings.allowed_issuers, whole);
        if !found.iter().any(|(_, known)| *known == address) {
            found.push(("token refresh", address));
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
