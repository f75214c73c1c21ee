//! Compaction by the service: the history in one item that is sealed for the account. Asked for at a route of its own,
//! or by a last item of the history that says so.

use serde_json::{Value, json};

use super::responses::account_of;
use super::state::{Caller, State};
use super::{bound, work};
use crate::http::Request;

/// Returns whether a turn's request asks for a compaction instead of an answer.
pub(crate) fn asked(body: &Value) -> bool {
    bound::items(body).last().is_some_and(|item| item["type"] == "compaction_trigger")
}

/// Returns the item that stands for the whole history of a request.
pub(crate) fn item(account: &str, body: &Value, number: u64) -> Value {
    let sealed = bound::seal(account, number, &work::note(work::steps_done(body)));
    json!({"type": "compaction", "id": format!("cmp_{number}"), "encrypted_content": sealed})
}

/// Answers `POST …/responses/compact`.
pub(crate) fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    let body = request.json().unwrap_or_default();
    let name = match state.authenticate(request) {
        Ok(Caller::User(name) | Caller::Key(name)) => name,
        Err(refusal) => return refusal,
    };
    let account = account_of(state, &name);
    if let Err(refusal) = bound::judge(&body, &account, &state.needs, state.encrypted_code.as_deref()) {
        return refusal;
    }
    let number = state.count();
    state.report.compactions.push(name);
    let kept = bound::items(&body).filter(|item| item["role"] == "user").cloned();
    let output: Vec<Value> = kept.chain([item(&account, &body, number)]).collect();
    (200, json!({"output": output}))
}
