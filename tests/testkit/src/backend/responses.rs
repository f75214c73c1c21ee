//! The model: answers a turn with server-sent events, says who asked, and keeps to the limits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::state::{Caller, Shared, State};
use super::{Route, Turn, now};
use crate::http::{Reply, Request};

/// What a turn is answered with.
#[derive(Clone, Debug)]
pub enum Step {
    /// A message of the assistant.
    Say(String),
    /// A call of one of Codex's tools, by name and arguments; Codex then asks again with the result.
    Call(String, Value),
    /// A call of whichever shell tool this Codex offers, with that command line for `bash -c`.
    Shell(String),
}

/// `POST …/responses`.
pub(crate) fn answer(shared: &Shared, request: &Request, reply: &mut Reply<'_>) {
    let body = request.json().unwrap_or_default();
    let mut state = shared.lock();
    let index = note(&mut state, request, &body);
    let name = match admit(&mut state, request) {
        Ok(name) => name,
        Err((status, headers, body)) => {
            set_status(&mut state, index, status);
            drop(state);
            return reply.send(status, &pairs(&headers), body.to_string().as_bytes());
        }
    };
    let (step, mut headers, number) = next_step(&mut state, &name);
    let latency = state.latency.get(&Route::Responses).copied();
    set_status(&mut state, index, 200);
    drop(state);

    let id = format!("resp-{number}");
    headers.push(("content-type".to_owned(), "text/event-stream".to_owned()));
    reply.start(200, &pairs(&headers));
    reply.chunk(&event("response.created", json!({"response": {"id": id}})));
    shared.notify();
    if let Some(latency) = latency {
        std::thread::sleep(latency);
    }
    if !wait_while_held(shared, &name, reply) {
        return reply.hang_up();
    }
    reply.chunk(&event("response.output_item.done", json!({"item": item(&step, &body, number)})));
    let usage = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
    });
    reply.chunk(&event("response.completed", json!({"response": {"id": id, "usage": usage}})));
    reply.end();
    if let Some(turn) = shared.lock().report.turns.get_mut(index) {
        turn.done = true;
    }
}

type Refusal = (u16, Vec<(String, String)>, Value);

/// Who asks, if that account may have an answer now.
fn admit(state: &mut State, request: &Request) -> Result<String, Refusal> {
    let json = || vec![("content-type".to_owned(), "application/json".to_owned())];
    let name = match state.authenticate(request) {
        Ok(Caller::User(name)) => name,
        Ok(Caller::Key(name)) => return Ok(name),
        Err((status, body)) => return Err((status, json(), body)),
    };
    let now = now();
    let user = state.user_mut(&name);
    if !user.usage.exhausted(now) {
        return Ok(name);
    }
    let resets_at = user.usage.resets_at(now);
    let error = json!({
        "type": "usage_limit_reached", "message": "The usage limit has been reached",
        "plan_type": user.spec.plan, "resets_at": resets_at, "resets_in_seconds": resets_at - now,
    });
    let headers = json().into_iter().chain(user.usage.headers()).collect();
    Err((429, headers, json!({"error": error})))
}

/// The answer to give, the limit headers, and the turn's number.
fn next_step(state: &mut State, name: &str) -> (Step, Vec<(String, String)>, u64) {
    let number = state.count();
    let hello = Step::Say(format!("hello from {name}"));
    let Some(user) = state.find_user(name) else { return (hello, Vec::new(), number) };
    user.usage.charge();
    let step = user.script.pop_front().unwrap_or(hello);
    (step, user.usage.headers(), number)
}

/// Waits until nobody holds this user's turns. False if the client or the service went away.
fn wait_while_held(shared: &Shared, name: &str, reply: &Reply<'_>) -> bool {
    loop {
        let state = shared.lock();
        if state.holds.get(name).copied().unwrap_or(0) == 0 {
            return true;
        }
        drop(shared.wait(state, Duration::from_millis(100)));
        if reply.client_gone() {
            return false;
        }
    }
}

fn item(step: &Step, body: &Value, number: u64) -> Value {
    match step {
        Step::Say(text) => json!({
            "type": "message", "role": "assistant", "id": format!("msg-{number}"),
            "content": [{"type": "output_text", "text": text}],
        }),
        Step::Call(name, arguments) => call(name, arguments, number),
        Step::Shell(command) => {
            let (name, arguments) = shell_call(body, command);
            call(name, &arguments, number)
        }
    }
}

fn call(name: &str, arguments: &Value, number: u64) -> Value {
    json!({
        "type": "function_call", "id": format!("fc-{number}"), "call_id": format!("call-{number}"),
        "name": name, "arguments": arguments.to_string(),
    })
}

/// The name and arguments of the shell tool among those that the request offers.
fn shell_call(body: &Value, command: &str) -> (&'static str, Value) {
    let offered =
        |name: &str| body["tools"].as_array().is_some_and(|tools| tools.iter().any(|t| t["name"] == name));
    if offered("exec_command") {
        ("exec_command", json!({"cmd": command, "yield_time_ms": 30_000}))
    } else if offered("shell_command") {
        ("shell_command", json!({"command": command, "timeout_ms": 30_000}))
    } else {
        ("shell", json!({"command": ["bash", "-c", command], "timeout_ms": 30_000}))
    }
}

fn event(kind: &str, mut data: Value) -> String {
    data["type"] = json!(kind);
    format!("event: {kind}\ndata: {data}\n\n")
}

fn note(state: &mut State, request: &Request, body: &Value) -> usize {
    let headers: BTreeMap<String, String> = request
        .headers
        .iter()
        .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
        .filter(|(n, _)| n != "authorization")
        .collect();
    let turn = Turn {
        at: state.clock(),
        user: state.user_behind(Route::Responses, request),
        status: 0,
        done: false,
        headers,
        prompt: prompt(body),
        body: state.keep_bodies.then(|| body.clone()),
    };
    state.report.turns.push(turn);
    state.report.turns.len() - 1
}

fn set_status(state: &mut State, index: usize, status: u16) {
    if let Some(turn) = state.report.turns.get_mut(index) {
        turn.status = status;
    }
}

/// The last text that the user wrote.
fn prompt(body: &Value) -> Option<String> {
    let last = body["input"].as_array()?.iter().rev().find(|item| item["role"] == "user")?;
    let text = last["content"].as_array()?.iter().filter_map(|part| part["text"].as_str()).next_back()?;
    Some(text.to_owned())
}

fn pairs(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()
}
