//! Turns over a websocket: one connection, one request after the other, each a frame. A request may name the response
//! before it on the same connection and send only what is new.

use std::collections::HashMap;
use std::net::TcpStream;

use serde_json::{Map, Value, json};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::responses::{self, Refusal, Sink, pairs};
use super::state::Shared;
use crate::http::{Reply, Request};

/// `GET …/responses` with an upgrade.
pub(crate) fn serve(shared: &Shared, request: &Request, reply: &mut Reply<'_>) {
    let Some(key) = request.header("sec-websocket-key") else {
        return reply.json(426, &json!({"error": {"message": "only as a websocket"}}));
    };
    // A client that may not ask at all is refused before the first frame.
    let denied = shared.lock().authenticate(request).err();
    if let Some((status, body)) = denied {
        return reply.json(status, &body);
    }
    let accept = derive_accept_key(key.as_bytes());
    let headers = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", &accept)];
    let stream = reply.upgrade(&headers);
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    let mut known = HashMap::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let asked = serde_json::from_str(&text).unwrap_or_default();
                if !answer(shared, request, asked, &mut socket, &mut known, reply) {
                    return;
                }
            }
            Ok(Message::Close(_)) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Answers one frame. False when the connection is to end.
fn answer<'s>(
    shared: &Shared,
    request: &Request,
    mut asked: Value,
    socket: &mut WebSocket<&'s TcpStream>,
    known: &mut HashMap<String, Vec<Value>>,
    reply: &Reply<'s>,
) -> bool {
    if asked["type"] != "response.create" {
        return true;
    }
    let mut frames = Frames { socket, reply, response: String::new(), open: true };
    let new = asked["input"].as_array().cloned().unwrap_or_default();
    let before = match asked["previous_response_id"].as_str() {
        None => Vec::new(),
        Some(id) => match known.get(id) {
            Some(items) => items.clone(),
            None => {
                let message = format!("Previous response with id '{id}' not found.");
                let error = json!({"type": "invalid_request_error", "code": "previous_response_not_found", "message": message});
                frames.refuse((400, json!({"error": error})).into());
                return true;
            }
        },
    };
    let mut items: Vec<Value> = before.into_iter().chain(new).collect();
    asked["input"] = Value::Array(items.clone());
    if asked["generate"] == false {
        // Codex warms a connection up with what it will ask: nothing is generated, nothing is a turn.
        let number = shared.lock().count();
        frames.event(&responses::created(number));
        frames.end(&[responses::completed(number)]);
    } else {
        items.extend(responses::turn(shared, request, &asked, &mut frames));
    }
    let open = frames.open;
    known.insert(frames.response, items);
    open
}

/// An answer as frames.
struct Frames<'a, 's> {
    socket: &'a mut WebSocket<&'s TcpStream>,
    reply: &'a Reply<'s>,
    /// The id of the response that is being given.
    response: String,
    open: bool,
}

impl Frames<'_, '_> {
    fn send(&mut self, event: &Value) {
        self.open &= self.socket.send(Message::text(event.to_string())).is_ok();
    }
}

impl Sink for Frames<'_, '_> {
    const WEBSOCKET: bool = true;

    fn refuse(&mut self, refusal: Refusal) {
        let headers: Map<String, Value> = pairs(&refusal.headers)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let error = &refusal.body["error"];
        self.send(&json!({"type": "error", "status": refusal.status, "error": error, "headers": headers}));
    }

    fn begin(&mut self, _: Vec<(String, String)>, limits: Option<Value>) {
        if let Some(limits) = limits {
            self.send(&limits);
        }
    }

    fn event(&mut self, event: &Value) {
        if let Some(id) = event["response"]["id"].as_str() {
            id.clone_into(&mut self.response);
        }
        self.send(event);
    }

    fn end(&mut self, events: &[Value]) {
        events.iter().for_each(|event| self.event(event));
    }

    fn cut(&mut self, events: &[Value]) {
        self.end(events);
        self.open = false;
    }

    fn gone(&self) -> bool {
        self.reply.client_gone()
    }
}
