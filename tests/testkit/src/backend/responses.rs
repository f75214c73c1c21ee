//! The model: answers a turn with a stream of events, names the user who asked, and keeps to the limits. A [`Sink`]
//! sends the events: server-sent here, frames in `socket`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::state::{Caller, Shared, State};
use super::steps::Step;
use super::work::{self, Ending};
use super::{Route, Turn, bound, compact};
use crate::http::{Reply, Request};
use crate::now;

/// How Codex begins its request for a title.
const TITLE: &str = "Generate a concise, single-line task title";

/// Where the answer to one turn goes.
pub(crate) trait Sink {
    /// Whether it is a websocket.
    const WEBSOCKET: bool;
    /// Refuses the turn.
    fn refuse(&mut self, refusal: Refusal);
    /// Accepts the turn, and says how much of the limits is used.
    fn begin(&mut self, headers: Vec<(String, String)>, limits: Option<Value>);
    /// Sends an event.
    fn event(&mut self, event: &Value);
    /// Sends the last events, once all is noted.
    fn end(&mut self, events: &[Value]);
    /// Ends the connection in the middle of the answer, after these events.
    fn cut(&mut self, events: &[Value]);
    /// Returns whether the client has gone.
    fn gone(&self) -> bool;
}

/// A refusal, with the rate-limit headers where there are some.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl From<(u16, Value)> for Refusal {
    fn from((status, body): (u16, Value)) -> Refusal {
        Refusal { status, headers: Vec::new(), body }
    }
}

/// `POST …/responses`.
pub(crate) fn answer(shared: &Shared, request: &Request, reply: &mut Reply<'_>) {
    turn(shared, request, &request.json().unwrap_or_default(), &mut Events(reply));
}

/// Answers one turn, and gives the items of the answer.
pub(crate) fn turn<S: Sink>(shared: &Shared, request: &Request, body: &Value, sink: &mut S) -> Vec<Value> {
    let title = prompt(body).is_some_and(|prompt| prompt.starts_with(TITLE));
    let mut state = shared.lock();
    let record = record(&state, request, body, S::WEBSOCKET);
    let number = state.count();
    if title {
        return answer_title(shared, state, record, request, number, sink);
    }
    state.report.turns.push(record);
    let index = state.report.turns.len() - 1;
    let admitted = admit(&mut state, request, body);
    note(&mut state, index, &admitted);
    let (name, ending) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            drop(state);
            sink.refuse(refusal);
            return Vec::new();
        }
    };
    let (items, headers, limits) = next_items(&mut state, &name, body, number);
    let latency = state.latency.get(&Route::Responses).copied();
    drop(state);

    sink.begin(headers, limits);
    sink.event(&created(number));
    shared.notify();
    if let Some(latency) = latency {
        std::thread::sleep(latency);
    }
    if !wait_while_held(shared, &name, sink) {
        sink.cut(&[]);
        return Vec::new();
    }
    let events = events(&items, &ending, number);
    if ending == Ending::Cut {
        sink.cut(&events);
        return Vec::new();
    }
    if let Some(turn) = shared.lock().report.turns.get_mut(index) {
        turn.done = true;
    }
    sink.end(&events);
    if ending == Ending::Completed { items } else { Vec::new() }
}

/// Answers a request for a title of a prompt, which the interface (0.150 and later) also sends. It is no turn of the
/// user: it takes nothing from a script, costs nothing and is never held.
fn answer_title<S: Sink>(
    shared: &Shared,
    mut state: std::sync::MutexGuard<'_, State>,
    mut record: Turn,
    request: &Request,
    number: u64,
    sink: &mut S,
) -> Vec<Value> {
    let admitted = within_limits(&mut state, request, false);
    record.status = admitted.as_ref().map_or_else(|refusal| refusal.status, |_| 200);
    record.done = true;
    state.report.titles.push(record);
    drop(state);
    shared.notify();
    match admitted {
        Ok(_) => {
            let items = [Step::Say("Say hello".to_owned()).item(&Value::Null, number)];
            sink.begin(Vec::new(), None);
            sink.event(&created(number));
            sink.end(&events(&items, &Ending::Completed, number));
            items.into()
        }
        Err(refusal) => {
            sink.refuse(refusal);
            Vec::new()
        }
    }
}

/// Who asks, and how the answer will end, if that account may have one now.
fn admit(state: &mut State, request: &Request, body: &Value) -> Result<(String, Ending), Refusal> {
    let (name, ending) = within_limits(state, request, true)?;
    let account = account_of(state, &name);
    bound::judge(body, &account, &state.needs, state.encrypted_code.as_deref())?;
    Ok((name, ending))
}

fn within_limits(state: &mut State, request: &Request, counts: bool) -> Result<(String, Ending), Refusal> {
    let name = match state.authenticate(request)? {
        Caller::User(name) => name,
        Caller::Key(name) => return Ok((name, Ending::Completed)),
    };
    let now = now();
    let ending = if counts { work::ending(state, &name) } else { Ending::Completed };
    let user = state.user_mut(&name);
    if ending != Ending::Completed || !user.usage.exhausted(now) {
        return Ok((name, ending));
    }
    let resets_at = user.usage.resets_at(now);
    let error = json!({
        "type": "usage_limit_reached", "message": "The usage limit has been reached",
        "plan_type": user.spec.plan, "resets_at": resets_at, "resets_in_seconds": resets_at - now,
    });
    Err(Refusal { status: 429, headers: user.usage.headers(), body: json!({"error": error}) })
}

/// Returns what history is bound to: the account of a user, or an API key.
pub(crate) fn account_of(state: &mut State, name: &str) -> String {
    state.find_user(name).map_or_else(|| format!("key-{name}"), |user| user.spec.account_id.clone())
}

type Answer = (Vec<Value>, Vec<(String, String)>, Option<Value>);

/// Returns the items to answer with, the limit headers, and the same as an event.
fn next_items(state: &mut State, name: &str, body: &Value, number: u64) -> Answer {
    let account = account_of(state, name);
    let greets = state.greeting.is_some() && prompt(body) == state.greeting;
    let task = state.task.clone().filter(|_| !greets);
    let (step, headers, limits) = match state.find_user(name) {
        Some(user) => {
            user.usage.charge();
            (user.script.pop_front(), user.usage.headers(), Some(user.usage.event(&user.spec.plan, now())))
        }
        None => (None, Vec::new(), None),
    };
    let item = match (step, task) {
        _ if compact::asked(body) => {
            return (vec![compact::item(&account, body, number)], headers, limits);
        }
        (Some(step), _) => step.item(body, number),
        (None, Some(task)) => match task.next(body, name) {
            Some(command) => Step::Shell(command).item(body, number),
            None => Step::Say(format!("done by {name}")).item(body, number),
        },
        (None, None) => Step::Say(format!("hello from {name}")).item(body, number),
    };
    if !state.thinks {
        return (vec![item], headers, limits);
    }
    let reasoning = format!("rs_{number}");
    let id = item["id"].as_str().unwrap_or_default().to_owned();
    state.needs.insert(id, reasoning.clone());
    let thought = json!({
        "type": "reasoning", "id": reasoning, "summary": [{"type": "summary_text", "text": "thinking"}],
        "encrypted_content": bound::seal(&account, number, ""),
    });
    (vec![thought, item], headers, limits)
}

/// Waits until this user's turns are not held. Returns false if the client or the service went away.
fn wait_while_held<S: Sink>(shared: &Shared, name: &str, sink: &S) -> bool {
    loop {
        let state = shared.lock();
        if state.holds.get(name).copied().unwrap_or(0) == 0 {
            return true;
        }
        drop(shared.wait(state, Duration::from_millis(100)));
        if sink.gone() {
            return false;
        }
    }
}

pub(crate) fn created(number: u64) -> Value {
    json!({"type": "response.created", "response": {"id": format!("resp_{number}")}})
}

pub(crate) fn completed(number: u64) -> Value {
    let usage = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
    });
    json!({"type": "response.completed", "response": {"id": format!("resp_{number}"), "usage": usage}})
}

fn events(items: &[Value], ending: &Ending, number: u64) -> Vec<Value> {
    let given = items.iter().map(|item| json!({"type": "response.output_item.done", "item": item}));
    match ending {
        Ending::Completed => given.chain([completed(number)]).collect(),
        Ending::Cut => given.collect(),
        Ending::Failed(code) => {
            let error = json!({"code": code, "message": "The usage limit has been reached"});
            let response = json!({"id": format!("resp_{number}"), "status": "failed", "error": error});
            vec![json!({"type": "response.failed", "response": response})]
        }
    }
}

fn record(state: &State, request: &Request, body: &Value, websocket: bool) -> Turn {
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
        websocket,
        history: bound::history(body),
        refusal: None,
        body: state.keep_bodies.then(|| body.clone()),
    }
}

fn note(state: &mut State, index: usize, admitted: &Result<(String, Ending), Refusal>) {
    let Some(turn) = state.report.turns.get_mut(index) else { return };
    turn.status = admitted.as_ref().map_or_else(|refusal| refusal.status, |_| 200);
    turn.refusal =
        admitted.as_ref().err().and_then(|r| r.body["error"]["message"].as_str()).map(str::to_owned);
}

/// Returns the last text that the user wrote.
fn prompt(body: &Value) -> Option<String> {
    let last = body["input"].as_array()?.iter().rev().find(|item| item["role"] == "user")?;
    let text = last["content"].as_array()?.iter().filter_map(|part| part["text"].as_str()).next_back()?;
    Some(text.to_owned())
}

/// An answer as server-sent events.
struct Events<'r, 's>(&'r mut Reply<'s>);

impl Sink for Events<'_, '_> {
    const WEBSOCKET: bool = false;

    fn refuse(&mut self, mut refusal: Refusal) {
        refusal.headers.push(("content-type".to_owned(), "application/json".to_owned()));
        self.0.send(refusal.status, &pairs(&refusal.headers), refusal.body.to_string().as_bytes());
    }

    fn begin(&mut self, mut headers: Vec<(String, String)>, _: Option<Value>) {
        headers.push(("content-type".to_owned(), "text/event-stream".to_owned()));
        self.0.start(200, &pairs(&headers));
    }

    fn event(&mut self, event: &Value) {
        self.0.chunk(&sent(event));
    }

    fn end(&mut self, events: &[Value]) {
        self.0.end(&events.iter().map(sent).collect::<String>());
    }

    fn cut(&mut self, events: &[Value]) {
        events.iter().for_each(|event| self.event(event));
        self.0.hang_up();
    }

    fn gone(&self) -> bool {
        self.0.client_gone()
    }
}

fn sent(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}

pub(crate) fn pairs(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()
}
