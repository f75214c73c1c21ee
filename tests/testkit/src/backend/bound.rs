//! History that is bound to an account: what the service seals into `encrypted_content`, and what it refuses
//! when it comes back. The seal is no encryption: it says in base64 for whom it was made.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

const MARK: &str = "standin-sealed";
/// Sealed content is padded to about the length of real reasoning, bytes.
const LENGTH: usize = 600;
/// How much of an item's text a report keeps, bytes.
const TEXT_MAX: usize = 400;

/// Seals a note for an account.
pub(crate) fn seal(account: &str, number: u64, note: &str) -> String {
    STANDARD.encode(format!("{:_<LENGTH$}", format!("{MARK}|{account}|{number}|{note}|")))
}

/// For which account something was sealed, and the note in it.
pub(crate) fn unseal(sealed: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(sealed).ok()?).ok()?;
    let mut parts = text.strip_prefix(MARK)?.strip_prefix('|')?.split('|');
    let account = parts.next()?.to_owned();
    Some((account, parts.nth(1)?.to_owned()))
}

/// An item of the history that came with a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryItem {
    /// Its `type`; of messages the role (`user`, `assistant`, `developer`).
    pub kind: String,
    /// Its `id`, if one was sent.
    pub id: Option<String>,
    /// Its `call_id`.
    pub call_id: Option<String>,
    /// The accounts for which something in it is sealed.
    pub sealed_for: Vec<String>,
    /// The item without what is above, as JSON, cut after some hundred bytes.
    pub text: String,
}

/// Returns the items of a request.
pub(crate) fn history(body: &Value) -> Vec<HistoryItem> {
    items(body).map(summary).collect()
}

fn summary(item: &Value) -> HistoryItem {
    let text = |key: &str| item[key].as_str().map(str::to_owned);
    let mut rest = item.as_object().cloned().unwrap_or_default();
    for key in ["type", "id", "call_id", "role", "encrypted_content"] {
        rest.remove(key);
    }
    let mut cut = Value::Object(rest).to_string();
    cut.truncate(cut.floor_char_boundary(TEXT_MAX));
    let sealed_for = sealed_parts(item).into_iter().map(|sealed| match unseal(sealed) {
        Some((account, _)) => account,
        None => "?".to_owned(),
    });
    let kind = if item["type"] == "message" { text("role") } else { text("type") };
    HistoryItem {
        kind: kind.unwrap_or_default(),
        id: text("id"),
        call_id: text("call_id"),
        sealed_for: sealed_for.collect(),
        text: cut,
    }
}

/// Returns every sealed string in a value, in order.
pub(crate) fn sealed_parts(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(sealed) if key == "encrypted_content" => vec![sealed.as_str()],
                other => sealed_parts(other),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(sealed_parts).collect(),
        _ => Vec::new(),
    }
}

/// Returns whether the service takes this history from that account; the error is the answer to give.
///
/// `needs` has, per item that was given together with reasoning, the id of that reasoning; `code` is what a refusal
/// of foreign content says.
pub(crate) fn judge(
    body: &Value,
    account: &str,
    needs: &HashMap<String, String>,
    code: Option<&str>,
) -> Result<(), (u16, Value)> {
    for sealed in items(body).flat_map(sealed_parts) {
        if unseal(sealed).is_none_or(|(made_for, _)| made_for != account) {
            let message = format!(
                "The encrypted content {:.8}... could not be verified. Reason: Encrypted content could not be decrypted or parsed.",
                sealed
            );
            return refuse(400, &message, code);
        }
    }
    for item in items(body) {
        let (kind, id) = (item["type"].as_str().unwrap_or_default(), item["id"].as_str().unwrap_or_default());
        if kind == "reasoning" && !id.is_empty() && !item["encrypted_content"].is_string() {
            let message = format!(
                "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item from your input."
            );
            return refuse(404, &message, None);
        }
        if let Some(reasoning) = needs.get(id)
            && !items(body).any(|other| other["id"] == reasoning.as_str())
        {
            let message = format!(
                "Item '{id}' of type '{kind}' was provided without its required 'reasoning' item: '{reasoning}'."
            );
            return refuse(400, &message, None);
        }
        let call_id = &item["call_id"];
        if matches!(kind, "function_call" | "custom_tool_call")
            && !items(body).any(|other| is_output(other) && other["call_id"] == *call_id)
        {
            return refuse(400, &format!("No tool output found for function call {call_id}."), None);
        }
        if is_output(item) && !items(body).any(|other| other["call_id"] == *call_id && !is_output(other)) {
            return refuse(
                400,
                &format!("No tool call found for function call output with call_id {call_id}."),
                None,
            );
        }
    }
    Ok(())
}

/// Returns whether this is what came out of a tool call.
pub(crate) fn is_output(item: &Value) -> bool {
    item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"))
}

pub(crate) fn items(body: &Value) -> impl Iterator<Item = &Value> {
    body["input"].as_array().into_iter().flatten()
}

fn refuse(status: u16, message: &str, code: Option<&str>) -> Result<(), (u16, Value)> {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
    Err((status, json!({"error": error})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(input: Value) -> Result<(), String> {
        let needs = HashMap::from([("msg_2".to_owned(), "rs_2".to_owned())]);
        judge(&json!({"input": input}), "alice-id", &needs, Some("invalid_encrypted_content"))
            .map_err(|(status, body)| format!("{status} {}", body["error"]["message"].as_str().unwrap_or("")))
    }

    #[test]
    fn seal_says_for_whom_it_was_made() {
        let sealed = seal("alice-id", 7, "step=2");
        assert_eq!(unseal(&sealed), Some(("alice-id".to_owned(), "step=2".to_owned())));
        assert_eq!(unseal("gAAAAAB"), None);
        assert!(sealed.len() > 700);
    }

    #[test]
    fn sealed_text_of_another_account_is_refused_wherever_it_is() {
        let part =
            |account: &str| json!({"type": "encrypted_content", "encrypted_content": seal(account, 1, "")});
        let call = json!({"type": "function_call", "call_id": "c", "name": "x", "arguments": "{}"});
        for account in ["alice-id", "bob-id"] {
            for input in [
                json!([{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal(account, 1, "")}]),
                json!([{"type": "compaction", "encrypted_content": seal(account, 1, "")}]),
                json!([call, {"type": "function_call_output", "call_id": "c", "output": [part(account)]}]),
                json!([{"type": "agent_message", "author": "a", "content": [part(account)]}]),
            ] {
                let verdict = verdict(input);
                if account == "alice-id" {
                    assert_eq!(verdict, Ok(()));
                } else {
                    let error = verdict.expect_err("foreign");
                    assert!(
                        error.starts_with("400 The encrypted content c3RhbmRp... could not be"),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn history_with_holes_is_refused() {
        let reasoning =
            json!({"type": "reasoning", "id": "rs_2", "encrypted_content": seal("alice-id", 1, "")});
        let answer = json!({"type": "message", "role": "assistant", "id": "msg_2", "content": []});
        assert_eq!(verdict(json!([reasoning, answer])), Ok(()));
        let error = verdict(json!([answer])).expect_err("no reasoning");
        assert!(error.contains("without its required 'reasoning' item: 'rs_2'"), "{error}");
        let stripped = json!({"type": "reasoning", "id": "rs_2", "encrypted_content": null});
        assert!(
            verdict(json!([stripped])).expect_err("nothing in it").starts_with("404 Item with id 'rs_2'")
        );
        let call = json!({"type": "custom_tool_call", "call_id": "c"});
        let output = json!({"type": "custom_tool_call_output", "call_id": "c", "output": "x"});
        assert_eq!(verdict(json!([call, output])), Ok(()));
        assert!(verdict(json!([call])).expect_err("no output").contains("No tool output"));
        assert!(verdict(json!([output])).expect_err("no call").contains("No tool call"));
    }
}
