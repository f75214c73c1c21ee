//! What the model answers on order: words, or a call of one of the tools that this Codex offers.

use serde_json::{Value, json};

/// What a turn is answered with.
#[derive(Clone, Debug)]
pub enum Step {
    /// A message of the assistant, which ends the turn.
    Say(String),
    /// A call of one of Codex's tools, by name and arguments; Codex then asks again with the result.
    Call(String, Value),
    /// That command line, run by whichever shell tool this Codex offers; Codex then asks again with the result.
    /// Codex's own sandbox applies; `-s danger-full-access` lifts it.
    Shell(String),
    /// The same outside the sandbox, so that Codex asks the user first (from 0.150 on).
    Escalated(String),
}

impl Step {
    /// Returns the item that Codex gets; `request` is the body of what it asked.
    pub(crate) fn item(&self, request: &Value, number: u64) -> Value {
        match self {
            Step::Say(text) => json!({
                "type": "message", "role": "assistant", "id": format!("msg_{number}"),
                "content": [{"type": "output_text", "text": text}],
            }),
            Step::Call(name, arguments) => function(name, arguments, number),
            Step::Shell(command) => shell(request, command, &json!({}), number),
            Step::Escalated(command) => {
                let more = json!({"sandbox_permissions": "require_escalated", "justification": "May I?"});
                shell(request, command, &more, number)
            }
        }
    }
}

fn function(name: &str, arguments: &Value, number: u64) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{number}"), "call_id": format!("call_{number}"),
        "name": name, "arguments": arguments.to_string(),
    })
}

/// From 0.150 on the model writes JavaScript that calls the tools; before, it calls one of them itself.
fn shell(request: &Value, command: &str, more: &Value, number: u64) -> Value {
    let mut arguments = json!({"cmd": command, "yield_time_ms": 30_000});
    for (name, value) in more.as_object().into_iter().flatten() {
        arguments[name] = value.clone();
    }
    if offers_javascript(request) {
        return json!({
            "type": "custom_tool_call", "id": format!("ctc_{number}"), "call_id": format!("call_{number}"),
            "name": "exec", "input": format!("text((await tools.exec_command({arguments})).output)"),
        });
    }
    let offered = |name: &str| array(&request["tools"]).any(|tool| tool["name"] == name);
    if offered("exec_command") {
        function("exec_command", &arguments, number)
    } else if offered("shell_command") {
        function("shell_command", &json!({"command": command, "timeout_ms": 30_000}), number)
    } else {
        function("shell", &json!({"command": ["bash", "-c", command], "timeout_ms": 30_000}), number)
    }
}

fn offers_javascript(request: &Value) -> bool {
    array(&request["input"])
        .filter(|item| item["type"] == "additional_tools")
        .flat_map(|item| array(&item["tools"]))
        .flat_map(|group| array(&group["tools"]))
        .any(|tool| tool["type"] == "custom" && tool["name"] == "exec")
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
