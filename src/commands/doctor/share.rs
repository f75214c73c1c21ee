//! Checks of a pool that several machines share: whether what is here is new. Asks nobody.

use super::Check;
use super::facts::PoolFacts;
use crate::view::sharing;

/// From this age on, nothing asks the database regularly, seconds.
const NOBODY_ASKS: i64 = 6 * 3_600;

pub(super) fn checks(folder: &PoolFacts, now: i64) -> Vec<Check> {
    const ID: &str = "share";
    let Ok(pool) = &folder.pool else { return Vec::new() };
    let Some(role) = pool.shared() else { return Vec::new() };
    let role = role.name();
    let known = pool.usage().sharing.as_ref();
    let age = sharing::age(known, now);
    let old = sharing::age_in_words(age, "the others");
    let status = "`codex-pool share status`";
    let check = match (known.and_then(|known| known.error.as_deref()), age) {
        (Some(error), _) => Check::warn(ID, format!("shared as {role}, and {error}; {old}")).advice(status),
        (None, Some(age)) if age < NOBODY_ASKS => Check::ok(ID, format!("shared as {role}; {old}")),
        (None, _) => Check::warn(
            ID,
            format!("shared as {role}, and {old}: nothing asks the database where only editors run Codex"),
        )
        .advice("`codex-pool refresh` asks now; a timer does it regularly: `codex-pool share --help`"),
    };
    vec![check]
}
