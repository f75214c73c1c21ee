//! `doctor --bundle FILE`: versions, settings, states and the log in one file that people can read before they attach it
//! to a report. It has no token, email, label or folder: accounts are their ids, and the home folder is `~`.

use std::path::Path;

use codex_pool_core::account::Account;
use codex_pool_core::config::Settings;
use codex_pool_core::env::{self, Env};
use codex_pool_core::files::{self, Durability};
use codex_pool_core::folders::short;
use codex_pool_core::journal;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::store::{Registry, path_of_key};
use codex_pool_core::text::clean;
use codex_pool_core::usage::UsageCache;
use codex_pool_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::{context, ui};

/// How much of the log it has, seconds.
const LOG: i64 = 14 * 86_400;
/// Settings whose value is the user's own affair, such as an address in a command. It says only that they are set.
const PRIVATE: [&str; 2] = ["notify", "codex_path"];

/// Writes the file. `checks`: what the doctor found, as JSON.
pub(super) fn write(env: &Env, file: &Path, checks: &Value) -> Result<()> {
    let paths = context::paths(env)?;
    let now = env::clock();
    let accounts = Registry::load(&paths).map(|registry| registry.accounts).unwrap_or_default();
    let redactor = Redactor { accounts: &accounts, home: env.home() };
    let log = journal::read(&paths, now - LOG).into_iter().map(|entry| {
        let mut entry = json!(entry);
        if let Some(fields) = entry.as_object_mut() {
            fields.remove("folder");
        }
        entry
    });
    let mut bundle = json!({
        "schema": 1, "written_at": now, "version": env!("CARGO_PKG_VERSION"),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "settings": settings(&paths), "accounts": states(&paths, &accounts),
        "checks": checks["checks"], "log": log.collect::<Vec<_>>(),
    });
    redactor.redact(&mut bundle);
    let path = env.absolute(file).unwrap_or_else(|| file.to_owned());
    let text = serde_json::to_string_pretty(&bundle).unwrap_or_default() + "\n";
    files::write_whole(&path, text.as_bytes(), Durability::Fast)
        .map_err(|e| Error::io("write", &path, &e).hint("name a file in a folder that you may write to"))?;
    ui::note(&format!("wrote {}; read it before you send it", path.display()));
    Ok(())
}

fn settings(paths: &PoolPaths) -> Value {
    let text = files::read_small(&paths.config(), 1 << 20).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let problems = Settings::parse(&text).1;
    let Ok(table) = text.parse::<toml::Table>() else { return json!({ "problems": problems }) };
    let mut set = Map::new();
    for (key, value) in table {
        let private = PRIVATE.contains(&key.as_str());
        set.insert(key, if private { json!("set") } else { json!(value) });
    }
    json!({ "set": set, "problems": problems })
}

fn states(paths: &PoolPaths, accounts: &[Account]) -> Vec<Value> {
    let usage = UsageCache::load(None, paths);
    let state = |account: &Account| {
        let entry = usage.accounts.get(&account.id);
        let error = entry.and_then(|entry| entry.error()).map(|(at, text)| json!({ "at": at, "text": text }));
        let mut known = json!(entry.and_then(|entry| entry.usage.as_ref()));
        if let Some(fields) = known.as_object_mut() {
            fields.remove("credits");
        }
        json!({
            "id": account.id, "kind": account.kind, "plan": account.plan, "enabled": account.enabled,
            "auth": account.auth, "has_folders": !account.folders.is_empty(), "usage": known, "error": error,
        })
    };
    accounts.iter().map(state).collect()
}

/// Takes out of text what tells who the user is.
struct Redactor<'a> {
    accounts: &'a [Account],
    home: Option<&'a Path>,
}

impl Redactor<'_> {
    fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.redact(field)),
            _ => {}
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(home) = self.home.and_then(Path::to_str).filter(|home| home.len() > 1) {
            text = text.replace(home, "~");
        }
        let folders = self.accounts.iter().flat_map(|account| &account.folders);
        let mut folders: Vec<String> =
            folders.map(|folder| short(&path_of_key(folder), self.home)).filter(|f| f.len() > 1).collect();
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
        for folder in folders {
            text = text.replace(&folder, "(folder)");
        }
        // The longest first: one label may be a part of another.
        let mut names: Vec<(&str, &str)> = Vec::new();
        for account in self.accounts {
            let own = [
                Some(&account.label),
                account.email.as_ref(),
                account.user_id.as_ref(),
                account.account_id.as_ref(),
            ];
            names.extend(own.into_iter().flatten().map(|name| (name.as_str(), account.id.as_str())));
        }
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, id) in names {
            text = replace_words(&text, name, id);
        }
        let word = |word: &str| match word.contains('@') {
            true => "…".to_owned(),
            false => clean(word, &[]),
        };
        // Word by word: long texts stay whole.
        text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Replaces a name where it is a word of its own.
fn replace_words(text: &str, name: &str, by: &str) -> String {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name).filter(|_| !name.is_empty()) {
        let before = rest[..at].chars().next_back().or_else(|| out.chars().next_back());
        let after = rest[at + name.len()..].chars().next();
        let alone = !before.is_some_and(part) && !after.is_some_and(part);
        out.push_str(&rest[..at]);
        out.push_str(if alone { by } else { name });
        rest = &rest[at + name.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_emails_and_the_home_are_taken_out() {
        let account: Account = serde_json::from_value(json!({
            "id": "abcdefghij", "label": "work", "kind": "chatgpt", "email": "ada@example.com", "enabled": true,
            "added_at": 0, "updated_at": 0, "folders": ["/home/ada/acme", "/srv/acme"],
        }))
        .unwrap();
        let accounts = [account];
        let redactor = Redactor { accounts: &accounts, home: Some(Path::new("/home/ada")) };
        let of = |text: &str| redactor.text(text);
        assert_eq!(of("work: room 70 %; networking"), "abcdefghij: room 70 %; networking");
        assert_eq!(of("`work` in /home/ada/.codex (old@example.com)"), "`abcdefghij` in ~/.codex …");
        assert_eq!(
            of("no account of ~/acme, /srv/acme or /home/ada/acme"),
            "no account of (folder), (folder) or (folder)"
        );
        assert_eq!(of("ada@example.com reset"), "abcdefghij reset");
        assert_eq!(of(&format!("token {}", "x".repeat(50))), "token …");
    }
}
