//! The issuer: refresh and authorization-code grants, revocation, device login.

use serde_json::{Value, json};

use super::state::{RefreshStatus, State};
use super::{Refresh, Revocation, Violation};
use crate::http::Request;

/// Answers `POST /oauth/token`. JSON or form; a refresh token or an authorization code.
pub(crate) fn token(state: &mut State, request: &Request) -> (u16, Value) {
    let field = fields(request);
    match field("grant_type").as_deref() {
        Some("refresh_token") => refresh(state, &field("refresh_token").unwrap_or_default()),
        Some("authorization_code") => exchange(state, &field("code").unwrap_or_default()),
        _ => error(400, "unsupported_grant_type"),
    }
}

fn refresh(state: &mut State, token: &str) -> (u16, Value) {
    let known = state.refresh.get(token).map(|t| (t.user.clone(), t.family, t.status));
    let answer = match &known {
        None => {
            state.report.violations.push(Violation::UnknownRefreshToken { token: token.to_owned() });
            error(401, "refresh_token_invalidated")
        }
        Some((user, family, RefreshStatus::Consumed)) => {
            let violation = Violation::RefreshTokenReused { user: user.clone(), token: token.to_owned() };
            state.report.violations.push(violation);
            if state.reuse_revokes {
                state.revoke_family(*family);
            }
            error(401, "refresh_token_reused")
        }
        Some((_, _, RefreshStatus::Expired)) => error(401, "refresh_token_expired"),
        Some((user, _, RefreshStatus::Revoked { by_client })) => {
            // A client that revoked a token itself must not use it; one revoked elsewhere it cannot know of.
            if *by_client {
                let violation =
                    Violation::RevokedRefreshTokenUsed { user: user.clone(), token: token.to_owned() };
                state.report.violations.push(violation);
            }
            error(401, "refresh_token_invalidated")
        }
        Some((user, family, RefreshStatus::Good)) => (200, state.rotate(user, *family, token)),
    };
    let outcome = answer.1["error"]["code"].as_str().unwrap_or("ok").to_owned();
    let user = known.map(|(user, ..)| user);
    state.report.refreshes.push(Refresh { at: state.clock(), user, token: token.to_owned(), outcome });
    answer
}

fn exchange(state: &mut State, code: &str) -> (u16, Value) {
    let Some(user) = state.codes.remove(code) else { return error(400, "invalid_grant") };
    let tokens = state.mint(
        &user,
        None,
        &super::LoginSpec { expires_in: state.access_lifetime, ..Default::default() },
    );
    state.report.logins.push(user);
    (200, json!({"id_token": tokens.id, "access_token": tokens.access, "refresh_token": tokens.refresh}))
}

/// Answers `POST /oauth/revoke`: ends the login that the token belongs to.
pub(crate) fn revoke(state: &mut State, request: &Request) -> (u16, Value) {
    let token = fields(request)("token").unwrap_or_default();
    let known = state.token_login(&token);
    if let Some((_, family)) = &known {
        state.revoke_family_by_client(*family);
    }
    state.report.revocations.push(Revocation { at: state.clock(), user: known.map(|k| k.0), token });
    (200, json!({}))
}

/// Answers `POST …/deviceauth/usercode`: begins a device login.
pub(crate) fn user_code(state: &mut State) -> (u16, Value) {
    let number = state.count();
    let id = format!("device-{number}");
    state.device_codes.insert(id.clone());
    (200, json!({"device_auth_id": id, "user_code": format!("FAKE-{number:04}"), "interval": "1"}))
}

/// Answers `POST …/deviceauth/token`: 403 until it is approved.
pub(crate) fn device_token(state: &mut State, request: &Request) -> (u16, Value) {
    let id = fields(request)("device_auth_id").unwrap_or_default();
    if !state.device_codes.contains(&id) {
        return error(404, "unknown_device_code");
    }
    let Some(user) = state.approvals.pop_front() else { return error(403, "authorization_pending") };
    state.device_codes.remove(&id);
    let code = format!("code-{user}-{}", state.count());
    state.codes.insert(code.clone(), user);
    (200, json!({"authorization_code": code, "code_challenge": "challenge", "code_verifier": "verifier"}))
}

/// Reads a field of a JSON or a form body.
fn fields(request: &Request) -> impl Fn(&str) -> Option<String> {
    let json = request.json();
    let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
    move |name| match &json {
        Some(json) => json[name].as_str().map(str::to_owned),
        None => form.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()),
    }
}

fn error(status: u16, code: &str) -> (u16, Value) {
    (
        status,
        json!({"error": {"message": format!("stand-in: {code}"), "type": "invalid_request_error", "code": code}}),
    )
}
