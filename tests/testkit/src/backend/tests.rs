//! The service keeps its own rules.

use std::time::{Duration, Instant};

use super::*;

/// Returns a client that sees every status as an answer.
fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).max_redirects(0);
    config.timeout_global(Some(Duration::from_secs(10))).build().into()
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = response.expect("an answer");
    let body = response.body_mut().read_to_vec().expect("a body");
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    (response.status().as_u16(), serde_json::from_slice(&body).unwrap_or_else(|_| text()))
}

struct Login(Value);

impl Login {
    fn new(auth_json: &str) -> Login {
        Login(serde_json::from_str(auth_json).expect("JSON"))
    }

    fn field(&self, name: &str) -> &str {
        self.0["tokens"][name].as_str().expect("a string")
    }

    fn refresh(&self, backend: &Backend) -> (u16, Value) {
        refresh(backend, self.field("refresh_token"))
    }

    fn get_usage(&self, backend: &Backend) -> (u16, Value) {
        let request = agent().get(format!("{}/wham/usage", backend.chatgpt_base_url()));
        let request = request.header("authorization", format!("Bearer {}", self.field("access_token")));
        read(request.header("ChatGPT-Account-Id", self.field("account_id")).call())
    }

    fn ask(&self, backend: &Backend) -> (u16, Value) {
        let request = agent().post(format!("{}/codex/responses", backend.chatgpt_base_url()));
        let request = request.header("authorization", format!("Bearer {}", self.field("access_token")));
        let body = r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}]}"#;
        read(request.header("chatgpt-account-id", self.field("account_id")).send(body))
    }
}

fn refresh(backend: &Backend, token: &str) -> (u16, Value) {
    let body = json!({"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": token});
    read(agent().post(backend.token_url()).send(body.to_string()))
}

fn backend() -> Backend {
    let backend = Backend::start();
    backend.add("alice");
    backend.add("bob");
    backend
}

#[test]
fn refresh_tokens_rotate_and_reuse_ends_the_family() {
    let backend = backend();
    let login = Login::new(&backend.auth_json("alice"));
    let (status, first) = login.refresh(&backend);
    let newest = first["refresh_token"].as_str().expect("a new token");
    assert_eq!((status, newest), (200, backend.newest_refresh_token("alice").as_str()));
    backend.assert_clean();

    let (status, error) = login.refresh(&backend);
    assert_eq!((status, &error["error"]["code"]), (401, &json!("refresh_token_reused")));
    let reused =
        Violation::RefreshTokenReused { user: "alice".into(), token: login.field("refresh_token").into() };
    assert_eq!(backend.report().violations, [reused]);

    let (_, error) = refresh(&backend, newest);
    assert_eq!(error["error"]["code"], "refresh_token_invalidated");
    assert!(backend.good_refresh_tokens("alice").is_empty());
    let outcomes: Vec<_> = backend.report().refreshes.into_iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, ["ok", "refresh_token_reused", "refresh_token_invalidated"]);
}

#[test]
fn newest_token_survives_reuse_without_family_revocation() {
    let backend = backend();
    backend.set_reuse_revokes_family(false);
    let login = Login::new(&backend.auth_json("alice"));
    login.refresh(&backend);
    login.refresh(&backend);
    assert_eq!(refresh(&backend, &backend.newest_refresh_token("alice")).0, 200);
}

#[test]
fn absent_fields_stay_as_they_were() {
    let backend = backend();
    backend.omit_from_refresh(&["refresh_token", "id_token"]);
    let login = Login::new(&backend.auth_json("alice"));
    let (_, answer) = login.refresh(&backend);
    assert_eq!(answer.as_object().expect("an object").keys().collect::<Vec<_>>(), ["access_token"]);
    assert_eq!(backend.newest_refresh_token("alice"), login.field("refresh_token"));
    assert_eq!(login.refresh(&backend).0, 200);
    backend.assert_clean();
}

#[test]
fn expired_and_revoked_tokens_say_so() {
    let backend = backend();
    let expired = LoginSpec { refresh_expired: true, ..LoginSpec::default() };
    let expired = Login::new(&backend.auth_json_with("alice", &expired));
    assert_eq!(expired.refresh(&backend).1["error"]["code"], "refresh_token_expired");

    let elsewhere = Login::new(&backend.auth_json("alice"));
    backend.revoke_logins("alice");
    assert_eq!(elsewhere.refresh(&backend).1["error"]["code"], "refresh_token_invalidated");
    assert_eq!(elsewhere.get_usage(&backend).0, 401);
    backend.assert_clean();

    let own = Login::new(&backend.auth_json("bob"));
    let body = json!({"token": own.field("refresh_token")});
    assert_eq!(read(agent().post(backend.revoke_url()).send(body.to_string())).0, 200);
    own.refresh(&backend);
    assert_eq!(backend.report().revocations[0].user.as_deref(), Some("bob"));
    assert!(matches!(backend.report().violations[..], [Violation::RevokedRefreshTokenUsed { .. }]));
}

#[test]
fn forgotten_logins_were_never_issued_but_stay_secret() {
    let backend = backend();
    let (login, other) = (Login::new(&backend.auth_json("alice")), Login::new(&backend.auth_json("bob")));
    backend.forget_logins("alice");
    assert_eq!((login.refresh(&backend).0, login.get_usage(&backend).0), (401, 401));
    assert!(matches!(backend.report().violations[..], [Violation::UnknownRefreshToken { .. }]));
    assert!(backend.secrets().iter().any(|secret| secret == login.field("refresh_token")));
    assert_eq!(other.refresh(&backend).0, 200);
}

#[test]
fn usage_has_the_shape_of_the_service() {
    let backend = backend();
    backend.set_usage("alice", Usage::percent(30.0, 20.0));
    let (status, usage) = Login::new(&backend.auth_json("alice")).get_usage(&backend);
    assert_eq!((status, &usage["plan_type"]), (200, &json!("plus")));
    let primary = &usage["rate_limit"]["primary_window"];
    assert_eq!((&primary["used_percent"], &primary["limit_window_seconds"]), (&json!(30), &json!(18_000)));
    assert!((3590..=3600).contains(&primary["reset_after_seconds"].as_i64().expect("seconds")));
    assert_eq!(backend.report().usage_of("alice").len(), 1);
}

#[test]
fn usage_is_refused_to_expired_tokens_and_removed_members() {
    let backend = backend();
    let expired = Login::new(&backend.auth_json_with("alice", &LoginSpec::expires_in(-1)));
    assert_eq!(expired.get_usage(&backend).0, 401);
    let login = Login::new(&backend.auth_json("alice"));
    backend.deactivate("alice", Some(402));
    let (status, body) = login.get_usage(&backend);
    assert!(status == 402 && body.to_string().contains("deactivated_workspace"));
    backend.deactivate("alice", None);
    assert_eq!(login.get_usage(&backend).0, 200);
    backend.reject_access_tokens("alice");
    assert_eq!(login.get_usage(&backend).0, 401);
}

#[test]
fn mixed_document_is_noticed() {
    let backend = backend();
    let other = LoginSpec { account_id: Some(account_id("bob")), ..LoginSpec::default() };
    let mixed = Login::new(&backend.auth_json_with("alice", &other));
    assert_eq!(mixed.ask(&backend).0, 401);
    assert!(matches!(&backend.report().violations[..], [Violation::Mixed { user, .. }] if user == "alice"));
}

#[test]
fn turns_cost_until_the_limit() {
    let backend = backend();
    backend.set_usage("alice", Usage::percent(90.0, 0.0).costing(10.0));
    let login = Login::new(&backend.auth_json("alice"));
    let (status, stream) = login.ask(&backend);
    assert!(status == 200 && stream.as_str().is_some_and(|s| s.contains("hello from alice")));
    let (status, error) = login.ask(&backend);
    assert_eq!((status, &error["error"]["type"]), (429, &json!("usage_limit_reached")));
    let statuses: Vec<_> = backend.report().turns_of("alice").iter().map(|t| (t.status, t.done)).collect();
    assert_eq!(statuses, [(200, true), (429, false)]);
}

#[test]
fn scripts_answer_first() {
    let backend = backend();
    backend.script("alice", [Step::Shell("ls".into()), Step::Say("done".into())]);
    let login = Login::new(&backend.auth_json("alice"));
    let said = |needle: &str| login.ask(&backend).1.as_str().is_some_and(|s| s.contains(needle));
    assert!(said("function_call") && said("done") && said("hello from alice"));
}

#[test]
fn trouble_comes_as_ordered() {
    let backend = backend();
    let (alice, bob) = (Login::new(&backend.auth_json("alice")), Login::new(&backend.auth_json("bob")));
    backend.inject_times(Route::Usage, Some("alice"), Fault::Status(429, json!({})), 1);
    assert_eq!([&alice, &bob, &alice].map(|l| l.get_usage(&backend).0), [429, 200, 200]);
    backend.inject_times(Route::Usage, None, Fault::Redirect("http://127.0.0.1:1/".into()), 1);
    assert_eq!(alice.get_usage(&backend).0, 307);
    backend.inject(Route::Usage, Fault::Garbage);
    assert!(alice.get_usage(&backend).1.is_string());
    backend.clear_faults();
    assert_eq!(alice.get_usage(&backend).0, 200);
}

#[test]
fn broken_connections_are_broken() {
    let backend = backend();
    let body =
        || json!({"grant_type": "refresh_token", "refresh_token": backend.newest_refresh_token("alice")});
    let try_it = || {
        agent().post(backend.token_url()).send(body().to_string()).map(|mut r| r.body_mut().read_to_string())
    };
    backend.auth_json("alice");
    backend.inject_times(Route::Token, None, Fault::HangUp, 1);
    assert!(try_it().is_err() && backend.report().refreshes.is_empty());
    backend.inject_times(Route::Token, None, Fault::Truncated, 1);
    assert!(try_it().expect("a head").is_err());
    // The answer is lost, but the token is spent.
    backend.inject_times(Route::Token, None, Fault::LostAnswer, 1);
    let before = backend.newest_refresh_token("alice");
    assert!(try_it().is_err() && backend.newest_refresh_token("alice") != before);
}

#[test]
fn hang_lasts_until_the_client_leaves() {
    let backend = backend();
    backend.inject(Route::Token, Fault::Hang);
    let config =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_millis(50))).proxy(None).build();
    assert!(ureq::Agent::from(config).post(backend.token_url()).send("{}").is_err());
    backend.wait_for("the end of the hang", Duration::from_secs(10), |r| r.requests[0].took.is_some());
}

#[test]
fn latency_and_concurrency_are_measured() {
    let backend = backend();
    backend.set_latency(Route::Usage, Duration::from_millis(200));
    let logins: Vec<_> = (0..4).map(|_| Login::new(&backend.auth_json("alice"))).collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for login in &logins {
            scope.spawn(|| assert_eq!(login.get_usage(&backend).0, 200));
        }
    });
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(backend.report().max_usage_in_flight, 4);
    assert!(backend.report().requests.iter().all(|r| r.took.is_some_and(|took| took >= 0.2)));
}

#[test]
fn held_turn_begins_and_does_not_end() {
    let backend = backend();
    let login = Login::new(&backend.auth_json("alice"));
    let hold = backend.hold("alice");
    std::thread::scope(|scope| {
        let turn = scope.spawn(|| login.ask(&backend));
        hold.wait_for(1, Duration::from_secs(10));
        assert!(!turn.is_finished());
        drop(hold);
        assert_eq!(turn.join().expect("a turn").0, 200);
    });
}

#[test]
fn device_logins_wait_for_approval() {
    let backend = backend();
    let post = |path: &str, body: Value| {
        read(agent().post(format!("{}{path}", backend.url())).send(body.to_string()))
    };
    let (_, begun) = post("/api/accounts/deviceauth/usercode", json!({}));
    let poll = json!({"device_auth_id": begun["device_auth_id"], "user_code": begun["user_code"]});
    assert_eq!(post("/api/accounts/deviceauth/token", poll.clone()).0, 403);
    backend.approve_login("bob");
    let (_, granted) = post("/api/accounts/deviceauth/token", poll);
    let code = granted["authorization_code"].as_str().expect("a code");
    let form = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", "http://x/y?z=%")];
    let (status, tokens) = read(agent().post(backend.token_url()).send_form(form));
    assert_eq!(status, 200);
    assert_eq!(tokens["refresh_token"], backend.newest_refresh_token("bob").as_str());
    assert_eq!(backend.report().logins, ["bob"]);
    assert_eq!(read(agent().post(backend.token_url()).send_form(form)).0, 400, "a code is good once");
}

#[test]
fn secrets_are_all_known() {
    let backend = backend();
    backend.add_api_key("dave", "sk-test-dave");
    let login = Login::new(&backend.auth_json("alice"));
    let secrets = backend.secrets();
    for secret in ["id_token", "access_token", "refresh_token"]
        .map(|f| login.field(f))
        .into_iter()
        .chain(["sk-test-dave"])
    {
        assert!(secrets.iter().any(|s| s == secret));
    }
    assert_eq!(backend.owner(&login.0.to_string()).as_deref(), Some("alice"));
    assert_eq!(backend.owner(&api_key_json("sk-test-dave")).as_deref(), Some("dave"));
}

#[test]
fn last_handle_stops_the_service() {
    let backend = backend();
    let (copy, address) = (backend.clone(), ("127.0.0.1", backend.port()));
    drop(backend);
    assert!(std::net::TcpStream::connect(address).is_ok());
    drop(copy);
    let gone = || std::net::TcpStream::connect(address).is_err();
    crate::wait_until("no listener", Duration::from_secs(10), gone);
}

/// Returns a websocket of that login.
fn socket(backend: &Backend, login: &Login) -> tungstenite::WebSocket<std::net::TcpStream> {
    use tungstenite::client::IntoClientRequest as _;
    let url = format!("ws://127.0.0.1:{}/backend-api/codex/responses", backend.port());
    let mut request = url.into_client_request().expect("a request");
    let headers = request.headers_mut();
    let bearer = format!("Bearer {}", login.field("access_token"));
    headers.insert("authorization", bearer.parse().expect("a header"));
    headers.insert("chatgpt-account-id", login.field("account_id").parse().expect("a header"));
    let stream = std::net::TcpStream::connect(("127.0.0.1", backend.port())).expect("connect");
    tungstenite::client(request, stream).expect("a websocket").0
}

/// Sends one request and reads frames up to the last of its answer.
fn ask_in(socket: &mut tungstenite::WebSocket<std::net::TcpStream>, mut request: Value) -> Vec<Value> {
    request["type"] = json!("response.create");
    socket.send(tungstenite::Message::text(request.to_string())).expect("sent");
    let mut frames: Vec<Value> = Vec::new();
    loop {
        let Ok(message) = socket.read() else { return frames };
        frames.push(serde_json::from_str(message.to_text().expect("text")).expect("JSON"));
        let last = &frames[frames.len() - 1]["type"];
        if last == "response.completed" || last == "response.failed" || last == "error" {
            return frames;
        }
    }
}

#[test]
fn websocket_remembers_what_went_before_and_tells_the_limit_in_a_frame() {
    let backend = backend();
    let login = Login::new(&backend.auth_json("alice"));
    backend.limit_after("alice", 2, Limit::Refuse);
    let mut socket = socket(&backend, &login);
    let hi = json!({"role": "user", "content": [{"type": "input_text", "text": "hi"}]});
    let warm = ask_in(&mut socket, json!({"input": [hi], "generate": false}));
    let id = &warm[0]["response"]["id"];
    assert!(backend.report().turns.is_empty(), "nothing was generated");
    let frames = ask_in(&mut socket, json!({"input": [], "previous_response_id": id}));
    let kinds: Vec<_> = frames.iter().filter_map(|f| f["type"].as_str()).collect();
    assert_eq!(
        kinds,
        ["codex.rate_limits", "response.created", "response.output_item.done", "response.completed"]
    );
    let id = &frames[1]["response"]["id"];
    ask_in(&mut socket, json!({"input": [hi], "previous_response_id": id}));
    let turns = backend.report().turns;
    let kinds = |turn: &Turn| turn.history.iter().map(|item| item.kind.clone()).collect::<Vec<_>>();
    assert_eq!(
        (kinds(&turns[0]), kinds(&turns[1])),
        (vec![String::new()], ["", "assistant", ""].map(String::from).into())
    );
    let frames = ask_in(&mut socket, json!({"input": [hi]}));
    assert_eq!((&frames[0]["type"], &frames[0]["status"]), (&json!("error"), &json!(429)));
    assert_eq!(frames[0]["error"]["type"], "usage_limit_reached");
    assert_eq!(frames[0]["headers"]["x-codex-primary-used-percent"], "100");
    let frames = ask_in(&mut socket, json!({"input": [hi], "previous_response_id": "resp_0"}));
    assert_eq!(frames[0]["error"]["code"], "previous_response_not_found");
}

#[test]
fn limits_come_as_ordered() {
    let backend = backend();
    let login = Login::new(&backend.auth_json("alice"));
    let ask = || login.ask(&backend);
    backend.limit_after("alice", 1, Limit::InStreamOnce("usage_limit_reached".into()));
    assert!(ask().1.as_str().is_some_and(|text| text.contains("hello from alice")));
    let (status, text) = ask();
    let text = text.as_str().unwrap_or_default().to_owned();
    assert!(status == 200 && text.contains("response.failed") && !text.contains("hello"), "{text}");
    assert_eq!((ask().0, ask().0), (429, 429));
    backend.set_usage("alice", Usage::default());
    backend.limit_after("alice", 0, Limit::InStream("rate_limit_exceeded".into()));
    assert!((0..3).all(|_| ask().1.as_str().is_some_and(|text| text.contains("rate_limit_exceeded"))));
    assert!(backend.usage("alice").exhausted(crate::now()));
    backend.set_usage("alice", Usage::percent(100.0, 0.0).with_credits());
    assert_eq!(ask().0, 200, "credits are spent beyond the limit");
}

#[test]
fn task_goes_on_where_the_history_ends() {
    let task = Task::running(2, "do {step} as {user}");
    let output = |text: &str| json!({"input": [{"type": "function_call_output", "output": text}]});
    assert_eq!(task.next(&json!({"input": []}), "bob").as_deref(), Some("do 1 as bob; echo finished step 1"));
    assert_eq!(
        task.next(&output("finished step 1\n"), "bob").as_deref(),
        Some("do 2 as bob; echo finished step 2")
    );
    assert_eq!(task.next(&output("finished step 2"), "bob"), None);
    assert!(task.next(&output("aborted"), "bob").is_some_and(|next| next.starts_with("do 1")));
    let compaction = super::compact::item("id", &output("finished step 1"), 3);
    assert!(task.next(&json!({"input": [compaction]}), "bob").is_some_and(|next| next.starts_with("do 2")));
}
