//! What is taken out of a line, and what stays.

use super::*;
use serde_json::{Value, json};

const SEALED_TEXT: &str = "gAAAAABocWl0aCBub3RoaW5nIGluIGl0LCBidXQgbG9uZyBlbm91Z2ggdG8gYmUgcmVhbA==";

/// The line with its edits made, and what was unknown.
fn blanked(line: &str) -> (String, Option<String>) {
    let mut read = Line::new(7);
    read.feed(line.as_bytes());
    let finding = read.finish(7 + line.len() as u64);
    let mut bytes = line.as_bytes().to_vec();
    for edit in finding.edits {
        let place = (edit.place.start - 7) as usize..(edit.place.end - 7) as usize;
        bytes[place.clone()].fill(b' ');
        bytes[place.start..place.start + edit.head.len()].copy_from_slice(&edit.head);
    }
    assert_eq!(bytes.len(), line.len());
    (String::from_utf8(bytes).unwrap(), finding.unknown)
}

/// The same as JSON, where nothing is unknown.
fn known(line: &Value) -> Value {
    let (line, unknown) = blanked(&line.to_string());
    assert_eq!(unknown, None, "{line}");
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn item(payload: Value) -> Value {
    json!({"timestamp": "2026-11-25T20:35:10.943Z", "ordinal": 14, "type": "response_item", "payload": payload})
}

#[test]
fn reasoning_and_compactions_go_whole() {
    let nothing = item(json!({"type": "other"}));
    for kind in SEALED {
        let line = item(json!({"type": kind, "id": "rs_1", "summary": [], "encrypted_content": SEALED_TEXT}));
        assert_eq!(known(&line), nothing, "{kind}");
    }
    let mut old = item(json!({"type": "reasoning", "summary": [], "encrypted_content": SEALED_TEXT}));
    old.as_object_mut().unwrap().shift_remove("ordinal");
    let mut rest = nothing.clone();
    rest.as_object_mut().unwrap().shift_remove("ordinal");
    assert_eq!(known(&old), rest);
    // Where the ordinal stands and what else there is does not matter.
    let odd = json!({
        "ordinal": 14, "type": "compacted", "payload": {"message": "", "replacement_history": [
            {"type": "message", "role": "user", "content": []},
            {"type": "compaction", "encrypted_content": SEALED_TEXT},
        ]}, "timestamp": "2026-11-25T20:35:10.943Z", "metadata": {"a": [1, {}]},
    });
    assert_eq!(known(&odd), nothing);
}

#[test]
fn reasoning_that_is_nobodys_stays() {
    for line in [
        item(json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null})),
        item(json!({"type": "reasoning", "summary": [], "content": [{"type": "text", "text": "hm"}]})),
        item(json!({"type": "other"})),
        json!({"timestamp": "t", "type": "compacted", "payload": {"message": "so far"}}),
    ] {
        assert_eq!(known(&line), line);
    }
}

#[test]
fn ids_of_answers_and_calls_go_wherever_they_stand() {
    let call = |id_at: usize| {
        let mut fields =
            vec![("type", json!("function_call")), ("name", json!("f")), ("call_id", json!("c"))];
        fields.insert(id_at, ("id", json!("fc_1")));
        item(Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
    };
    for at in 0..4 {
        assert_eq!(
            known(&call(at)),
            item(json!({"type": "function_call", "name": "f", "call_id": "c"})),
            "{at}"
        );
    }
    let answer = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": []});
    assert_eq!(
        known(&item(answer))["payload"],
        json!({"type": "message", "role": "assistant", "content": []})
    );
    // Ours, or needed.
    for payload in [
        json!({"type": "message", "id": "msg_1", "role": "user", "content": [{"id": "x"}]}),
        json!({"type": "custom_tool_call_output", "id": "ctco_1", "call_id": "c", "output": "o"}),
        json!({"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="}),
    ] {
        assert_eq!(known(&item(payload.clone())), item(payload));
    }
    let kept = json!([{"type": "message", "id": "msg_2", "role": "assistant", "content": [{"id": "y"}]},
        {"type": "message", "id": "msg_3", "role": "user", "content": []}]);
    let line = json!({"timestamp": "t", "type": "compacted", "payload": {"replacement_history": kept}});
    let after = &known(&line)["payload"]["replacement_history"];
    assert_eq!((&after[0]["id"], &after[1]["id"]), (&Value::Null, &json!("msg_3")));
    assert_eq!(after[0]["content"][0]["id"], "y");
}

#[test]
fn sealed_parts_become_text_and_the_rest_of_the_output_stays() {
    let part = json!({"type": "encrypted_content", "encrypted_content": SEALED_TEXT});
    let text = json!({"type": "input_text", "text": "finished step 1"});
    let gone: Value = serde_json::from_str(GONE).unwrap();
    for (kind, field) in [
        ("function_call_output", "output"),
        ("custom_tool_call_output", "output"),
        ("agent_message", "content"),
    ] {
        let line = item(json!({"type": kind, "call_id": "c", field: [text, part, part]}));
        assert_eq!(
            known(&line),
            item(json!({"type": kind, "call_id": "c", field: [text, gone, gone]})),
            "{kind}"
        );
    }
    let line = json!({"timestamp": "t", "type": "inter_agent_communication", "payload":
        {"author": "/root", "content": "go", "encrypted_content": SEALED_TEXT, "trigger_turn": false}});
    let payload = &known(&line)["payload"];
    assert_eq!((&payload["content"], &payload["encrypted_content"]), (&json!("go"), &Value::Null));
}

#[test]
fn what_is_not_known_is_left_alone_and_told() {
    let part = json!({"type": "encrypted_content", "encrypted_content": SEALED_TEXT});
    for (line, what) in [
        (item(json!({"type": "message", "role": "user", "content": [part]})), "part of a \"message\""),
        (item(json!({"type": "oracle", "encrypted_content": SEALED_TEXT})), "in a \"oracle\""),
        (item(json!({"type": "function_call_output", "output": {"deep": part}})), "unknown place"),
        (
            item(
                json!({"type": "function_call_output", "output": [{"type": "new", "encrypted_content": SEALED_TEXT}]}),
            ),
            "part \"new\"",
        ),
        (
            item(
                json!({"type": "function_call", "name": "f", "arguments": "{}", "encrypted_function_args": ["message"]}),
            ),
            "arguments of a call",
        ),
        (
            json!({"timestamp": "t", "type": "world_state", "payload": {"encrypted_content": SEALED_TEXT}}),
            "\"world_state\"",
        ),
        (
            json!({"type": "response_item", "payload": {"type": "reasoning", "encrypted_content": SEALED_TEXT}}),
            "without a time",
        ),
        (
            item(
                json!({"type": "function_call_output", "output": [{"type": "encrypted_content", "encrypted_content": ""}]}),
            ),
            "",
        ),
    ] {
        let text = line.to_string();
        let (after, unknown) = blanked(&text);
        if what.is_empty() {
            assert_eq!(unknown, None);
        } else {
            assert_eq!(after, text);
            assert!(unknown.as_deref().is_some_and(|unknown| unknown.contains(what)), "{unknown:?} {what}");
        }
    }
    let torn =
        r#"{"timestamp":"t","type":"response_item","payload":{"type":"reasoning","encrypted_content":"gAA"#;
    assert!(blanked(torn).1.is_some_and(|unknown| unknown.contains("no JSON")));
    let plain = item(json!({"type": "function_call", "name": "f", "encrypted_function_args": []}));
    assert_eq!(known(&plain), plain, "arguments in the clear");
    let event = json!({"timestamp": "t", "type": "event_msg", "payload": {"type": "x", "encrypted_content": SEALED_TEXT}});
    assert_eq!(known(&event), event);
}
