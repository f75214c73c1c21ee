//! The model: answers a turn with server-sent events, says who asked, and keeps to the limits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::state::{Caller, Shared, State};
use super::steps::Step;
use super::{Route, Turn, now};
use crate::http::{Reply, Request};

/// How Codex begins its request for a title.
const TITLE: &str = "Generate a concise, single-line task title";

/// `POST …/responses`.
pub(crate) fn answer(shared: &Shared, request: &Request, reply: &mut Reply<'_>) {
    let body = request.json().unwrap_or_default();
    if prompt(&body).is_some_and(|prompt| prompt.starts_with(TITLE)) {
        return title(shared, request, &body, reply);
    }
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

    headers.push(("content-type".to_owned(), "text/event-stream".to_owned()));
    reply.start(200, &pairs(&headers));
    reply.chunk(&created(number));
    shared.notify();
    if let Some(latency) = latency {
        std::thread::sleep(latency);
    }
    if !wait_while_held(shared, &name, reply) {
        return reply.hang_up();
    }
    reply.end(&completed(&step, &body, number));
    if let Some(turn) = shared.lock().report.turns.get_mut(index) {
        turn.done = true;
    }
}

/// The interface (0.150 and later) also asks for a title of each prompt. That is no turn of the user's: it
/// takes nothing from a script, costs nothing and is never held.
fn title(shared: &Shared, request: &Request, body: &Value, reply: &mut Reply<'_>) {
    let mut state = shared.lock();
    let number = state.count();
    let mut record = record(&state, request, body);
    let admitted = admit(&mut state, request);
    record.status = admitted.as_ref().map_or_else(|refusal| refusal.0, |_| 200);
    record.done = true;
    state.report.titles.push(record);
    drop(state);
    match admitted {
        Ok(_) => {
            let stream = created(number) + &completed(&Step::Say("Say hello".to_owned()), body, number);
            reply.send(200, &[("content-type", "text/event-stream")], stream.as_bytes());
        }
        Err((status, headers, body)) => reply.send(status, &pairs(&headers), body.to_string().as_bytes()),
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

fn event(kind: &str, mut data: Value) -> String {
    data["type"] = json!(kind);
    format!("event: {kind}\ndata: {data}\n\n")
}

fn created(number: u64) -> String {
    event("response.created", json!({"response": {"id": format!("resp-{number}")}}))
}

fn completed(step: &Step, request: &Value, number: u64) -> String {
    let usage = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
    });
    let item = event("response.output_item.done", json!({"item": step.item(request, number)}));
    item + &event("response.completed", json!({"response": {"id": format!("resp-{number}"), "usage": usage}}))
}

fn note(state: &mut State, request: &Request, body: &Value) -> usize {
    let record = record(state, request, body);
    state.report.turns.push(record);
    state.report.turns.len() - 1
}

fn record(state: &State, request: &Request, body: &Value) -> Turn {
    let headers: BTreeMap<String, String> = request
        .headers
        .iter()
        .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
        .filter(|(n, _)| n != "authorization")
        .collect();
    Turn {
        at: state.clock(),
        user: state.user_behind(Route::Responses, request),
        status: 0,
        done: false,
        headers,
        prompt: prompt(body),
        body: state.keep_bodies.then(|| body.clone()),
    }
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
