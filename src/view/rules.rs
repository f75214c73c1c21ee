//! What the user has set of an account with `codex-pool set`, in words and for JSON.

use std::path::Path;

use codex_pool_core::account::Account;
use codex_pool_core::folders::short;
use codex_pool_core::store::path_of_key;
use serde_json::{Value, json};

/// Returns folders, reserve and weight; `None` if nothing is set.
pub(super) fn in_words(account: &Account, home: Option<&Path>) -> Option<String> {
    let folders: Vec<String> =
        account.folders.iter().map(|folder| short(&path_of_key(folder), home)).collect();
    let folders = (!folders.is_empty()).then(|| format!("only in {}", folders.join(", ")));
    let reserve = (account.reserve > 0.0).then(|| format!("reserve {} %", account.reserve));
    let weight = account.weight.map(|weight| format!("weight {weight}"));
    let all: Vec<String> = [folders, reserve, weight].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Returns a number, without a fraction where it has none.
pub(super) fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { json!(number as i64) } else { json!(number) }
}
