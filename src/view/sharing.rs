//! What `list`, `why` and `refresh` say of a pool that is shared.

use codex_pool_core::pool::Pool;
use codex_pool_core::shared::Role;
use codex_pool_core::time::human_duration;
use codex_pool_core::usage::Sharing;
use serde_json::{Value, json};

/// From this age on, what is known of the other machines is old, seconds. While sessions run, it is a minute old.
const OLD: i64 = 900;

/// Returns how old what is known of the other machines is, seconds. `None`: nothing is known. `now`: Unix seconds.
pub(crate) fn age(sharing: Option<&Sharing>, now: i64) -> Option<i64> {
    sharing?.synced_at.map(|at| now.saturating_sub(at).max(0))
}

/// Returns what this machine is in a shared pool, and how it stands to the others, as JSON; null where no pool is shared.
pub(crate) fn json(pool: &Pool) -> Value {
    let Some(role) = pool.shared() else { return Value::Null };
    let sharing = pool.usage().sharing.as_ref();
    json!({
        "role": role.name(),
        "synced_at": sharing.and_then(|sharing| sharing.synced_at),
        "error": sharing.and_then(|sharing| sharing.error.as_deref()),
    })
}

/// Says how old that is. `others`: what the other machines are called.
pub(crate) fn age_in_words(age: Option<i64>, others: &str) -> String {
    age.map_or_else(
        || format!("nothing of {others} is here yet"),
        |age| format!("what is here of {others} is {} old", human_duration(age)),
    )
}

/// Returns what a user should know who shares the pool: that the database does not answer, that nobody asks it, and on a
/// runner when its access ends. `now`: Unix seconds.
pub(crate) fn lines(pool: &Pool, now: i64) -> Vec<String> {
    let Some(role) = pool.shared() else { return Vec::new() };
    let sharing = pool.usage().sharing.as_ref();
    let age = age(sharing, now);
    let old = age_in_words(age, "the other machines");
    let mut lines = Vec::new();
    match sharing.and_then(|sharing| sharing.error.as_deref()) {
        Some(error) => lines.push(format!("Shared pool: {error}; {old}.")),
        None if age.is_none_or(|age| age > OLD) => {
            lines.push(format!("Shared pool: {old}; `codex-pool refresh` asks for what is new."));
        }
        None => {}
    }
    if role == Role::Runner {
        let ends = |account: &codex_pool_core::account::Account| {
            let at = account.access_only?.ends_at?;
            Some((at, account.label.clone()))
        };
        lines.extend(pool.registry().accounts.iter().filter_map(ends).min().map(|(at, label)| {
            match at > now {
                true => format!("Runner: the first access ends in {} ({label}).", human_duration(at - now)),
                false => format!("Runner: the access of {label} ended {} ago.", human_duration(now - at)),
            }
        }));
    }
    lines
}
