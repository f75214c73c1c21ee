//! A stand-in for the service behind Codex: issuer, usage and model, on a free port of 127.0.0.1.
//!
//! It follows what is known of the real service (rotating, single-use refresh tokens, limits, device login),
//! counts every breach of its rules, and can be told to misbehave. It is an independent judge: it shares no
//! code with the product. A [`Backend`] is a handle; clones share one service, the last one stops it.

mod bound;
mod compact;
mod faults;
mod oauth;
mod report;
mod responses;
mod socket;
mod state;
mod steps;
mod tokens;
mod usage;
mod work;

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use bound::HistoryItem;
pub use faults::{Fault, Route};
pub use report::{Refresh, Report, Request, Revocation, Turn, UsageRequest, Violation};
pub use steps::Step;
pub use tokens::{
    ACCESS_LIFETIME, CLIENT_ID, LoginSpec, UserSpec, account_id, api_key_json, claims, jwt, refresh_token,
    rfc3339,
};
pub use usage::{Usage, Window};
pub use work::{Limit, Task};

use crate::http::{self, Reply, Server};
use faults::FaultRule;
use state::{Shared, State};

/// A user of the service: the name it is known by here, and what is in its tokens.
#[derive(Clone, Debug)]
pub struct User {
    /// The name given to [`Backend::add_user`]; answers say `hello from <name>`.
    pub name: String,
    /// What the tokens say.
    pub spec: UserSpec,
}

impl AsRef<str> for User {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// Handle to a running stand-in service.
#[derive(Clone)]
pub struct Backend {
    shared: Arc<Shared>,
    server: Arc<Server>,
}

impl Backend {
    /// Starts a service without users.
    ///
    /// # Panics
    /// If loopback cannot be listened on.
    pub fn start() -> Backend {
        let shared = Arc::new(Shared::new());
        let serving = Arc::clone(&shared);
        let server = Server::start(move |request, reply| handle(&serving, request, reply))
            .expect("listen on 127.0.0.1");
        shared.lock().base = format!("http://{}", server.addr);
        Backend { shared, server: Arc::new(server) }
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.server.addr.port()
    }

    /// Returns `http://127.0.0.1:PORT`, which is also the issuer.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.addr)
    }

    /// Returns the `chatgpt_base_url`: `http://127.0.0.1:PORT/backend-api`.
    pub fn chatgpt_base_url(&self) -> String {
        format!("{}/backend-api", self.url())
    }

    /// Returns where refresh tokens go (`CODEX_REFRESH_TOKEN_URL_OVERRIDE`).
    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.url())
    }

    /// Returns where tokens are revoked (`CODEX_REVOKE_TOKEN_URL_OVERRIDE`).
    pub fn revoke_url(&self) -> String {
        format!("{}/oauth/revoke", self.url())
    }

    /// Adds a user with a name's defaults, see [`UserSpec::new`].
    pub fn add(&self, name: &str) -> User {
        self.add_user(name, UserSpec::new(name))
    }

    /// Adds a user, or changes what tokens minted from now on say.
    pub fn add_user(&self, name: &str, spec: UserSpec) -> User {
        self.state().set_user(name, spec.clone());
        User { name: name.to_owned(), spec }
    }

    /// Adds an API key of that name; turns with it are answered `hello from <name>`.
    pub fn add_api_key(&self, name: &str, key: &str) {
        self.state().keys.insert(key.to_owned(), name.to_owned());
    }

    /// Mints a new, good login of that user and gives its `auth.json`.
    pub fn auth_json(&self, user: impl AsRef<str>) -> String {
        self.auth_json_with(user, &LoginSpec::default())
    }

    /// Mints a new login to order and gives its `auth.json`.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn auth_json_with(&self, user: impl AsRef<str>, spec: &LoginSpec) -> String {
        self.state().mint_login(user.as_ref(), spec)
    }

    /// Adds users and returns a store of the earlier codex-pool (version 1) with a new login of each, for one `import`.
    ///
    /// # Panics
    /// Never: the kit's own documents are JSON.
    pub fn store(&self, names: &[String]) -> String {
        let accounts = names.iter().map(|name| {
            let auth: Value = serde_json::from_str(&self.auth_json(self.add(name))).expect("JSON");
            json!({"id": format!("old-{name}"), "label": name, "authJson": auth})
        });
        json!({"version": 1, "accounts": accounts.collect::<Vec<_>>()}).to_string()
    }

    /// Sets a user's usage; a limit that was ordered is forgotten.
    pub fn set_usage(&self, user: impl AsRef<str>, usage: Usage) {
        let mut state = self.state();
        let user = state.user_mut(user.as_ref());
        (user.usage, user.limit) = (usage, None);
    }

    /// Returns a user's usage now (turns may have used some of it).
    pub fn usage(&self, user: impl AsRef<str>) -> Usage {
        self.state().user_mut(user.as_ref()).usage.clone()
    }

    /// Removes the user from the workspace: usage and turns answer `status` (402 or 403) with
    /// `deactivated_workspace`. `None` puts it right again.
    pub fn deactivate(&self, user: impl AsRef<str>, status: Option<u16>) {
        self.state().user_mut(user.as_ref()).deactivated = status;
    }

    /// Sets the clock of the service behind the local one, as seen from a machine whose clock is ahead.
    pub fn set_clock_behind(&self, seconds: i64) {
        self.state().clock_behind = seconds;
    }

    /// Lifetime of access tokens given from now on, in seconds (default: ten days).
    pub fn set_access_lifetime(&self, seconds: i64) {
        self.state().access_lifetime = seconds;
    }

    /// The same for one user alone.
    pub fn set_access_lifetime_of(&self, user: impl AsRef<str>, seconds: i64) {
        self.state().lifetimes.insert(user.as_ref().to_owned(), seconds);
    }

    /// Whether the reuse of a refresh token revokes its whole family (default: yes, as reported of the real one).
    pub fn set_reuse_revokes_family(&self, yes: bool) {
        self.state().reuse_revokes = yes;
    }

    /// Forgets a refresh token, as if it had never been issued.
    pub fn forget_token(&self, token: &str) {
        self.state().forget_token(token);
    }

    /// From now on, renewals with that user's refresh tokens are answered with the other user's tokens.
    pub fn answer_renewals_as(&self, user: impl AsRef<str>, other: impl AsRef<str>) {
        self.state().answered_as.insert(user.as_ref().to_owned(), other.as_ref().to_owned());
    }

    /// Fields (`id_token`, `access_token`, `refresh_token`) that answers of refreshes leave out from now on.
    /// Without `refresh_token` the sent one stays good.
    pub fn omit_from_refresh(&self, fields: &[&str]) {
        self.state().omitted = fields.iter().map(|f| (*f).to_owned()).collect();
    }

    /// Rejects the access tokens that a user has now (401), before their time.
    pub fn reject_access_tokens(&self, user: impl AsRef<str>) {
        self.state().reject_access(user.as_ref());
    }

    /// Revokes every login of a user, as "log out of all devices" does.
    pub fn revoke_logins(&self, user: impl AsRef<str>) {
        self.state().revoke_all(user.as_ref());
    }

    /// Forgets every login of a user: a client that sends a token of one breaks a rule. Unlike revoked ones they cost
    /// no time, however many there were.
    pub fn forget_logins(&self, user: impl AsRef<str>) {
        self.state().forget_all(user.as_ref());
    }

    /// Lets the refresh tokens that a user has now expire.
    pub fn expire_refresh_tokens(&self, user: impl AsRef<str>) {
        self.state().expire_refresh(user.as_ref());
    }

    /// Answers of that route come this much later (they take effect at once).
    pub fn set_latency(&self, route: Route, latency: Duration) {
        self.state().latency.insert(route, latency);
    }

    /// Every request of that route goes wrong from now on.
    pub fn inject(&self, route: Route, fault: Fault) {
        self.state().faults.push(FaultRule { route, user: None, fault, left: None });
    }

    /// The next `times` requests of that route, by that user if one is given, go wrong.
    pub fn inject_times(&self, route: Route, user: Option<&str>, fault: Fault, times: usize) {
        let user = user.map(str::to_owned);
        self.state().faults.push(FaultRule { route, user, fault, left: Some(times) });
    }

    /// Ends all trouble.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Completes a device login: the one that waits, or else the next one, is that user's.
    pub fn approve_login(&self, user: impl AsRef<str>) {
        self.state().approvals.push_back(user.as_ref().to_owned());
    }

    /// Takes back approvals that no login has come for.
    pub fn forget_approvals(&self) {
        self.state().approvals.clear();
    }

    /// Device logins that wait for approval.
    pub fn pending_logins(&self) -> usize {
        self.state().device_codes.len()
    }

    /// Keeps that user's turns in flight (begun, not completed) until the [`Hold`] is dropped.
    pub fn hold(&self, user: impl AsRef<str>) -> Hold {
        *self.state().holds.entry(user.as_ref().to_owned()).or_default() += 1;
        Hold { backend: self.clone(), user: user.as_ref().to_owned() }
    }

    /// Answers for the next turns of that user, in order; afterwards it is `hello from …` again.
    pub fn script(&self, user: impl AsRef<str>, steps: impl IntoIterator<Item = Step>) {
        self.state().user_mut(user.as_ref()).script.extend(steps);
    }

    /// Keeps the bodies of turns in the report (they are large).
    pub fn keep_bodies(&self) {
        self.state().keep_bodies = true;
    }

    /// Everything seen so far.
    pub fn report(&self) -> Report {
        self.state().report.clone()
    }

    /// Waits until the report satisfies `condition`, and gives it.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_for(&self, what: &str, limit: Duration, condition: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        while !condition(&state.report) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {limit:?}; seen: {:#?}", state.report);
            state = self.shared.wait(state, left);
        }
        state.report.clone()
    }

    /// Forgets what was seen so far (not the tokens).
    pub fn clear_report(&self) {
        self.state().report = Report::default();
    }

    /// Returns the refresh token issued last to that user, by a login or a refresh.
    ///
    /// # Panics
    /// If there is none.
    pub fn newest_refresh_token(&self, user: impl AsRef<str>) -> String {
        let name = user.as_ref();
        self.state().newest_refresh(name).unwrap_or_else(|| panic!("{name} has no refresh token"))
    }

    /// Returns the refresh tokens of that user that would still be accepted: one per login.
    pub fn good_refresh_tokens(&self, user: impl AsRef<str>) -> Vec<String> {
        self.state().good_refresh(user.as_ref())
    }

    /// Returns whose login an `auth.json` is, by its refresh token or API key, whether or not it is still good.
    pub fn owner(&self, auth_json: &str) -> Option<String> {
        let doc: Value = serde_json::from_str(auth_json).ok()?;
        let state = self.state();
        let by_token = doc["tokens"]["refresh_token"].as_str().and_then(|t| state.refresh_owner(t));
        by_token.or_else(|| state.keys.get(doc["OPENAI_API_KEY"].as_str()?).cloned())
    }

    /// Returns whether the refresh token in this `auth.json` would still be accepted.
    pub fn is_good(&self, auth_json: &str) -> bool {
        let doc: Value = serde_json::from_str(auth_json).unwrap_or_default();
        let state = self.state();
        doc["tokens"]["refresh_token"].as_str().is_some_and(|t| state.refresh_is_good(t))
    }

    /// Returns every secret given out so far: tokens of all kinds and API keys. None may ever be printed.
    pub fn secrets(&self) -> Vec<String> {
        self.state().secrets()
    }

    /// Fails the test if a rule was broken.
    ///
    /// # Panics
    /// If the report has a violation.
    pub fn assert_clean(&self) {
        let report = self.report();
        assert!(report.violations.is_empty(), "rules were broken: {:#?}", report.violations);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

/// Keeps turns of a user in flight; dropping it lets them complete.
pub struct Hold {
    backend: Backend,
    user: String,
}

impl Hold {
    /// Waits until that many turns of the user are in flight.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_for(&self, turns: usize, limit: Duration) {
        self.backend.wait_for(&format!("{turns} turns of {} in flight", self.user), limit, |report| {
            report.turns_of(&self.user).iter().filter(|t| t.status == 200 && !t.done).count() >= turns
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(count) = self.backend.state().holds.get_mut(&self.user) {
            *count -= 1;
        }
        self.backend.shared.notify();
    }
}

fn handle(shared: &Shared, request: &http::Request, reply: &mut Reply<'_>) {
    let route = Route::of(&request.method, &request.path);
    let began = Instant::now();
    let (index, fault) = {
        let mut state = shared.lock();
        let user = state.user_behind(route, request);
        let index = state.begin(route, request);
        let fault = faults::take(&mut state.faults, route, user.as_deref());
        (index, fault)
    };
    shared.notify();
    answer(shared, route, fault, request, reply);
    shared.lock().finish(route, index, began, reply.status);
    shared.notify();
}

fn answer(
    shared: &Shared,
    route: Route,
    fault: Option<Fault>,
    request: &http::Request,
    reply: &mut Reply<'_>,
) {
    match fault {
        None => {}
        Some(Fault::Status(status, body)) => return reply.json(status, &body),
        Some(Fault::Raw(status, headers, body)) => {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            return reply.send(status, &headers, &body);
        }
        Some(Fault::Redirect(to)) => return reply.send(307, &[("location", &to)], b""),
        Some(Fault::Garbage) => {
            return reply.send(200, &[("content-type", "application/json")], b"<html>\xff oops");
        }
        Some(Fault::Truncated) => return reply.truncated(200, b"{\"plan_type\": \"plus\", \"acc"),
        Some(Fault::Hang) => return reply.hang(),
        Some(Fault::HangUp) => return reply.hang_up(),
        Some(Fault::LostAnswer) => {
            dispatch(shared, route, request, &mut reply.muted());
            return reply.hang_up();
        }
        Some(Fault::Delay(time)) => std::thread::sleep(time),
    }
    dispatch(shared, route, request, reply);
}

fn dispatch(shared: &Shared, route: Route, request: &http::Request, reply: &mut Reply<'_>) {
    let (status, body) = match route {
        Route::Token => oauth::token(&mut shared.lock(), request),
        Route::Revoke => oauth::revoke(&mut shared.lock(), request),
        Route::UserCode => oauth::user_code(&mut shared.lock()),
        Route::DeviceToken => oauth::device_token(&mut shared.lock(), request),
        Route::Usage => shared.lock().usage_answer(request),
        Route::AccountsCheck => shared.lock().accounts_check(request),
        Route::Responses if request.method == "GET" => return socket::serve(shared, request, reply),
        Route::Responses => return responses::answer(shared, request, reply),
        Route::Compact => compact::answer(&mut shared.lock(), request),
        Route::SwitchWorkspace => shared.lock().switch_workspace(request),
        Route::Outside => {
            shared.lock().report.outside.push(request.path.clone());
            (403, json!({"error": {"message": "stand-in: requests stay on loopback"}}))
        }
        Route::Other => (404, json!({"error": {"message": "not here", "code": "not_found"}})),
    };
    let latency = shared.lock().latency.get(&route).copied();
    if let Some(latency) = latency {
        std::thread::sleep(latency);
    }
    reply.json(status, &body);
}

#[cfg(test)]
mod tests;
