//! What the stand-in service knows, behind one mutex: users, tokens and their states, orders from the test, and the
//! report.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::faults::FaultRule;
use super::tokens::{self, ACCESS_LIFETIME, Tokens};
use super::work::{Pending, Task};
use super::{LoginSpec, Report, Route, Step, Usage, UsageRequest, UserSpec, Violation, report};
use crate::http;
use crate::now;

/// The state, and a condition variable that is notified when it changes.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn new() -> Shared {
        Shared { state: Mutex::new(State::new()), changed: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change, at most that long.
    pub(crate) fn wait<'a>(&'a self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The state of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshStatus {
    Good,
    Consumed,
    Expired,
    Revoked { by_client: bool },
}

pub(crate) struct RefreshToken {
    pub(crate) user: String,
    pub(crate) family: u64,
    pub(crate) status: RefreshStatus,
    /// Order of issue.
    number: u64,
}

pub(crate) struct AccessToken {
    user: String,
    family: u64,
    account_id: String,
    exp: i64,
    rejected: bool,
}

pub(crate) struct UserState {
    pub(crate) spec: UserSpec,
    pub(crate) usage: Usage,
    pub(crate) deactivated: Option<u16>,
    pub(crate) script: VecDeque<Step>,
    pub(crate) limit: Option<Pending>,
}

pub(crate) struct State {
    pub(crate) base: String,
    began: Instant,
    counter: u64,
    users: BTreeMap<String, UserState>,
    pub(crate) refresh: HashMap<String, RefreshToken>,
    access: HashMap<String, AccessToken>,
    /// Every token given out, forgotten ones too.
    given: Vec<String>,
    pub(crate) keys: BTreeMap<String, String>,
    pub(crate) device_codes: BTreeSet<String>,
    pub(crate) approvals: VecDeque<String>,
    pub(crate) codes: HashMap<String, String>,
    pub(crate) access_lifetime: i64,
    /// How far the service's clock is behind the local one, seconds.
    pub(crate) clock_behind: i64,
    /// Of these users, another one.
    pub(crate) lifetimes: BTreeMap<String, i64>,
    pub(crate) reuse_revokes: bool,
    /// Whose tokens a renewal of that user's is answered with, if not the user's own.
    pub(crate) answered_as: std::collections::HashMap<String, String>,
    pub(crate) omitted: BTreeSet<String>,
    pub(crate) latency: HashMap<Route, Duration>,
    pub(crate) faults: Vec<FaultRule>,
    pub(crate) holds: HashMap<String, usize>,
    pub(crate) keep_bodies: bool,
    pub(crate) task: Option<Task>,
    /// The prompt that asks for something else than the task.
    pub(crate) greeting: Option<String>,
    pub(crate) thinks: bool,
    pub(crate) encrypted_code: Option<String>,
    /// Of items that were given together with reasoning: the id of that reasoning.
    pub(crate) needs: HashMap<String, String>,
    in_flight: HashMap<Route, usize>,
    pub(crate) report: Report,
}

/// The sender of a request, by the bearer token.
pub(crate) enum Caller {
    User(String),
    Key(String),
}

impl State {
    fn new() -> State {
        State {
            base: String::new(),
            began: Instant::now(),
            counter: 0,
            users: BTreeMap::new(),
            refresh: HashMap::new(),
            access: HashMap::new(),
            given: Vec::new(),
            keys: BTreeMap::new(),
            device_codes: BTreeSet::new(),
            approvals: VecDeque::new(),
            codes: HashMap::new(),
            access_lifetime: ACCESS_LIFETIME,
            clock_behind: 0,
            lifetimes: BTreeMap::new(),
            reuse_revokes: true,
            answered_as: std::collections::HashMap::new(),
            omitted: BTreeSet::new(),
            latency: HashMap::new(),
            faults: Vec::new(),
            holds: HashMap::new(),
            keep_bodies: false,
            task: None,
            greeting: None,
            thinks: false,
            encrypted_code: Some("invalid_encrypted_content".to_owned()),
            needs: HashMap::new(),
            in_flight: HashMap::new(),
            report: Report::default(),
        }
    }

    /// Seconds since the service started.
    pub(crate) fn clock(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn set_user(&mut self, name: &str, spec: UserSpec) {
        let user = UserState {
            spec: spec.clone(),
            usage: Usage::default(),
            deactivated: None,
            script: VecDeque::new(),
            limit: None,
        };
        self.users.entry(name.to_owned()).or_insert(user).spec = spec;
    }

    pub(crate) fn user_mut(&mut self, name: &str) -> &mut UserState {
        self.users.get_mut(name).unwrap_or_else(|| panic!("no user {name} at the stand-in service"))
    }

    pub(crate) fn find_user(&mut self, name: &str) -> Option<&mut UserState> {
        self.users.get_mut(name)
    }

    // --- tokens ---

    fn lifetime_of(&self, name: &str) -> i64 {
        self.lifetimes.get(name).copied().unwrap_or(self.access_lifetime)
    }

    /// Issues tokens, of a new family unless one is given.
    pub(crate) fn mint(&mut self, name: &str, family: Option<u64>, spec: &LoginSpec) -> Tokens {
        let number = self.count();
        let family = family.unwrap_or(number);
        let (now, lifetime, base) = (now() - self.clock_behind, self.lifetime_of(name), self.base.clone());
        let user = self.user_mut(name).spec.clone();
        let issuer = user.issuer.clone().unwrap_or(base);
        let exp = now + spec.expires_in;
        let iat = spec.issued_ago.map_or((exp - lifetime).min(now), |ago| now - ago);
        let tokens = Tokens {
            id: tokens::id_token(&user, &issuer, iat, iat + 3600),
            access: tokens::access_token(&user, &issuer, iat, exp, &format!("{name}-{number}")),
            refresh: format!("rt-{name}-{number}"),
        };
        let status = if spec.refresh_expired { RefreshStatus::Expired } else { RefreshStatus::Good };
        let refresh = RefreshToken { user: name.to_owned(), family, status, number };
        self.refresh.insert(tokens.refresh.clone(), refresh);
        let access =
            AccessToken { user: name.to_owned(), family, account_id: user.account_id, exp, rejected: false };
        self.access.insert(tokens.access.clone(), access);
        self.given.extend([&tokens.id, &tokens.access, &tokens.refresh].map(String::clone));
        tokens
    }

    pub(crate) fn mint_login(&mut self, name: &str, spec: &LoginSpec) -> String {
        let tokens = self.mint(name, None, spec);
        let account_id = self.user_mut(name).spec.account_id.clone();
        tokens::auth_json(&tokens, &account_id, now(), spec)
    }

    /// Carries out a refresh: the sent token is spent, the answer has new ones.
    pub(crate) fn rotate(&mut self, name: &str, family: u64, sent: &str) -> Value {
        let name = &*self.answered_as.get(name).cloned().unwrap_or_else(|| name.to_owned());
        let tokens = self.mint(name, Some(family), &LoginSpec::expires_in(self.lifetime_of(name)));
        let mut answer = json!({
            "id_token": tokens.id, "access_token": tokens.access, "refresh_token": tokens.refresh,
        });
        for field in &self.omitted {
            answer.as_object_mut().expect("an object").remove(field);
        }
        if self.omitted.contains("refresh_token") {
            // A token that the answer leaves out was not issued: the sent one stays good.
            self.refresh.remove(&tokens.refresh);
        } else if let Some(token) = self.refresh.get_mut(sent) {
            token.status = RefreshStatus::Consumed;
        }
        answer
    }

    pub(crate) fn revoke_family(&mut self, family: u64) {
        self.end_family(family, RefreshStatus::Revoked { by_client: false });
    }

    pub(crate) fn revoke_family_by_client(&mut self, family: u64) {
        self.end_family(family, RefreshStatus::Revoked { by_client: true });
    }

    fn end_family(&mut self, family: u64, status: RefreshStatus) {
        for token in self.refresh.values_mut() {
            if token.family == family && token.status != RefreshStatus::Consumed {
                token.status = status;
            }
        }
        self.access.values_mut().filter(|t| t.family == family).for_each(|t| t.rejected = true);
    }

    pub(crate) fn revoke_all(&mut self, user: &str) {
        let live = |t: &&mut RefreshToken| t.user == user && t.status != RefreshStatus::Consumed;
        let revoked = RefreshStatus::Revoked { by_client: false };
        self.refresh.values_mut().filter(live).for_each(|t| t.status = revoked);
        self.reject_access(user);
    }

    pub(crate) fn forget_all(&mut self, user: &str) {
        self.refresh.retain(|_, t| t.user != user);
        self.access.retain(|_, t| t.user != user);
    }

    pub(crate) fn reject_access(&mut self, user: &str) {
        self.access.values_mut().filter(|t| t.user == user).for_each(|t| t.rejected = true);
    }

    pub(crate) fn expire_refresh(&mut self, user: &str) {
        let good = self.refresh.values_mut().filter(|t| t.user == user && t.status == RefreshStatus::Good);
        good.for_each(|t| t.status = RefreshStatus::Expired);
    }

    /// User and family of a refresh or access token.
    pub(crate) fn token_login(&self, token: &str) -> Option<(String, u64)> {
        let refresh = self.refresh.get(token).map(|t| (t.user.clone(), t.family));
        refresh.or_else(|| self.access.get(token).map(|t| (t.user.clone(), t.family)))
    }

    pub(crate) fn newest_refresh(&self, user: &str) -> Option<String> {
        let of_user = self.refresh.iter().filter(|(_, t)| t.user == user);
        of_user.max_by_key(|(_, t)| t.number).map(|(token, _)| token.clone())
    }

    pub(crate) fn forget_token(&mut self, token: &str) {
        self.refresh.remove(token);
    }

    pub(crate) fn good_refresh(&self, user: &str) -> Vec<String> {
        let mut good: Vec<_> =
            self.refresh.iter().filter(|(_, t)| t.user == user && t.status == RefreshStatus::Good).collect();
        good.sort_by_key(|(_, t)| t.number);
        good.into_iter().map(|(token, _)| token.clone()).collect()
    }

    pub(crate) fn refresh_owner(&self, token: &str) -> Option<String> {
        self.refresh.get(token).map(|t| t.user.clone())
    }

    pub(crate) fn refresh_is_good(&self, token: &str) -> bool {
        self.refresh.get(token).is_some_and(|t| t.status == RefreshStatus::Good)
    }

    pub(crate) fn secrets(&self) -> Vec<String> {
        self.given.iter().chain(self.keys.keys()).cloned().collect()
    }

    // --- requests ---

    /// Notes that a request came; the index is for [`State::finish`].
    pub(crate) fn begin(&mut self, route: Route, request: &http::Request) -> usize {
        let in_flight = self.in_flight.entry(route).or_default();
        *in_flight += 1;
        let most = match route {
            Route::Usage => Some(&mut self.report.max_usage_in_flight),
            Route::Token => Some(&mut self.report.max_refreshes_in_flight),
            _ => None,
        };
        if let Some(most) = most {
            *most = (*most).max(*in_flight);
        }
        let record = report::Request {
            at: self.clock(),
            took: None,
            method: request.method.clone(),
            path: request.path.clone(),
            status: 0,
        };
        self.report.requests.push(record);
        self.report.requests.len() - 1
    }

    /// Notes that a request was answered. The report may have been cleared in between.
    pub(crate) fn finish(&mut self, route: Route, index: usize, began: Instant, status: u16) {
        *self.in_flight.entry(route).or_insert(1) -= 1;
        if let Some(record) = self.report.requests.get_mut(index) {
            record.took = Some(began.elapsed().as_secs_f64());
            record.status = status;
        }
    }

    /// Returns the user that a request concerns, as far as its token tells.
    pub(crate) fn user_behind(&self, route: Route, request: &http::Request) -> Option<String> {
        let token = match route {
            Route::Token => request.json()?["refresh_token"].as_str()?.to_owned(),
            _ => request.bearer()?.to_owned(),
        };
        self.token_login(&token).map(|(user, _)| user).or_else(|| self.keys.get(&token).cloned())
    }

    /// Checks the bearer token and the account header; the error is the answer to give.
    pub(crate) fn authenticate(&mut self, request: &http::Request) -> Result<Caller, (u16, Value)> {
        let denied =
            |code: &str| Err((401, json!({"error": {"message": "stand-in: log in again", "code": code}})));
        let Some(bearer) = request.bearer() else { return denied("missing_token") };
        if let Some(name) = self.keys.get(bearer) {
            return Ok(Caller::Key(name.clone()));
        }
        let Some(token) = self.access.get(bearer) else { return denied("invalid_token") };
        let header = request.header("chatgpt-account-id");
        if header != Some(token.account_id.as_str()) {
            self.report.violations.push(Violation::Mixed {
                user: token.user.clone(),
                token_account: token.account_id.clone(),
                header: header.map(str::to_owned),
                path: request.path.clone(),
            });
            return denied("account_mismatch");
        }
        if token.rejected {
            return denied("token_invalidated");
        }
        if token.exp <= now() - self.clock_behind {
            return denied("token_expired");
        }
        let user = token.user.clone();
        if let Some(status) = self.user_mut(&user).deactivated {
            return Err((status, json!({"detail": {"code": "deactivated_workspace"}})));
        }
        Ok(Caller::User(user))
    }

    /// Answers `GET …/wham/usage` and `/api/codex/usage`.
    pub(crate) fn usage_answer(&mut self, request: &http::Request) -> (u16, Value) {
        let (status, body) = match self.authenticate(request) {
            Ok(Caller::User(name)) => {
                let user = self.user_mut(&name);
                (200, user.usage.json(&user.spec.plan, now()))
            }
            Ok(Caller::Key(_)) => (403, json!({"error": {"message": "stand-in: not for API keys"}})),
            Err(denied) => denied,
        };
        let record = UsageRequest {
            at: self.clock(),
            path: request.path.clone(),
            user: self.user_behind(Route::Usage, request),
            status,
        };
        self.report.usage.push(record);
        (status, body)
    }

    /// Answers `GET …/wham/accounts/check`, which the interactive interface needs to start.
    pub(crate) fn accounts_check(&mut self, request: &http::Request) -> (u16, Value) {
        let name = match self.authenticate(request) {
            Ok(Caller::User(name)) => name,
            Ok(Caller::Key(_)) => return (200, json!({"accounts": [], "account_ordering": []})),
            Err(denied) => return denied,
        };
        let own = self.user_mut(&name).spec.clone();
        let workspaces = self.users.iter().filter(|(_, other)| other.spec.user_id == own.user_id);
        let accounts: Vec<Value> = workspaces
            .map(|(name, UserState { spec, .. })| {
                json!({
                    "id": spec.account_id, "name": name, "plan_type": spec.plan, "structure": "personal",
                    "is_default": spec.account_id == own.account_id,
                    "workspace_backend_origin": "https://chatgpt.com",
                    "account_routing_override": "NO_CONSTRAINT",
                })
            })
            .collect();
        let order: Vec<&Value> = accounts.iter().map(|account| &account["id"]).collect();
        (200, json!({"accounts": accounts, "account_ordering": order}))
    }

    /// Answers `POST …/accounts/switch-workspace-token`: an access token for another workspace of the same user. There is
    /// no refresh token to it. Codex names no account in this request.
    pub(crate) fn switch_workspace(&mut self, request: &http::Request) -> (u16, Value) {
        let token = request.bearer().and_then(|bearer| self.access.get(bearer));
        let Some(name) = token.filter(|token| !token.rejected).map(|token| token.user.clone()) else {
            return (401, json!({}));
        };
        let (user_id, wanted) =
            (self.user_mut(&name).spec.user_id.clone(), request.json().unwrap_or_default());
        let found = self.users.iter().find(|(_, UserState { spec, .. })| {
            spec.user_id == user_id && wanted["workspace_id"] == spec.account_id.as_str()
        });
        let Some((other, _)) = found else { return (404, json!({})) };
        let other = other.clone();
        let tokens = self.mint(&other, None, &LoginSpec::expires_in(self.lifetime_of(&other)));
        self.forget_token(&tokens.refresh);
        (200, json!({"access_token": tokens.access}))
    }
}
