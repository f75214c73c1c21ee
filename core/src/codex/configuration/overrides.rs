//! `-c key=value` as Codex reads it: the key is cut at every dot, even inside quotes, and the value is TOML, or else
//! the text without the quotes around it (observed on 0.120.0 to 0.169.0). Pure.

use toml::{Table, Value};

/// Returns the overrides of interest as one table. Later ones win.
pub(super) fn table(overrides: &[(&str, &str)]) -> Table {
    let mut table = Table::new();
    for (key, text) in overrides {
        let wanted = matches!(
            key.split('.').next(),
            Some(
                "cli_auth_credentials_store"
                    | "forced_chatgpt_workspace_id"
                    | "forced_login_method"
                    | "chatgpt_base_url"
                    | "sqlite_home"
                    | "model"
                    | "hooks"
                    | "projects"
                    | "project_root_markers"
            )
        );
        if wanted {
            insert(&mut table, key, value(text));
        }
    }
    table
}

fn insert(table: &mut Table, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let entry = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    if let Value::Table(inner) = entry {
        insert(inner, rest, value);
    }
}

fn value(text: &str) -> Value {
    let parsed: Option<Table> = format!("v = {text}").parse().ok();
    // With more than one key, the text has a line break and is not a single value.
    match parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("v")) {
        Some(value) => value,
        None => Value::String(text.trim_matches(['"', '\'']).to_owned()),
    }
}

/// Appends `text` as a TOML string.
pub(super) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", letter as u32)),
            letter => out.push(letter),
        }
    }
    out.push('"');
}
