//! Notices: what the user is told once, wherever he is. An account reached its limit, all did, one is back, a login is
//! needed, work was carried on. Pure: from what is known, and what was told, to what is to be told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::journal::{Entry, Event};
use crate::time::{DAY, human_duration};
use crate::usage::UsageCache;

/// A reset that was this long ago is no news, seconds.
const OLD_NEWS: i64 = 6 * 3_600;
/// Work that was carried on this long ago is told if nothing was ever told before, seconds.
const RECENT: i64 = 600;

/// How far back the log says what is to be told, seconds.
pub const LOG: i64 = DAY;

/// What was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The accounts about which something was told that still holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<AccountId, ToldOf>,
    /// That all accounts are at their limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Until when carried-on work was told, Unix seconds.
    #[serde(default)]
    pub carried: i64,
}

/// What was told about an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldOf {
    /// That it is at its limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limit: bool,
    /// Until when, as far as was known, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// That it needs a login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub login: bool,
}

impl Told {
    /// Returns whether nothing was told that still holds.
    pub fn is_empty(&self) -> bool {
        *self == Told::default()
    }
}

/// Returns what is to be told, a sentence each, and what then was told. `log`: the newest entries. `now`: Unix seconds.
pub fn due(
    told: &Told,
    accounts: &[Account],
    usage: &UsageCache,
    log: &[Entry],
    now: i64,
) -> (Vec<String>, Told) {
    let mut texts = Vec::new();
    let mut after = Told { carried: told.carried, ..Told::default() };
    let label = |id: &AccountId| {
        let account = accounts.iter().find(|account| account.id == *id);
        account.map_or("another account", |account| account.label.as_str())
    };
    for account in accounts.iter().filter(|account| account.enabled) {
        let before = told.accounts.get(&account.id).cloned().unwrap_or_default();
        let needs_login = account.auth.state == AuthState::ReauthRequired;
        let limit = limit_of(account, usage, now);
        let of = match limit {
            // What is known of an account without a login may be old.
            _ if needs_login => ToldOf { login: true, ..before.clone() },
            Some(until) => ToldOf { limit: true, until, login: false },
            None => ToldOf::default(),
        };
        if of.login && !before.login {
            texts.push(format!("{} needs a login: codex-pool reauth {}", account.label, account.shell_ref()));
        }
        if of.limit && !before.limit {
            let until = of
                .until
                .map_or_else(String::new, |at| format!("; it resets in {}", human_duration(at - now)));
            texts.push(format!("{} reached its limit{until}", account.label));
        }
        let fresh = before.until.is_none_or(|at| now - at < OLD_NEWS);
        if before.limit && !of.limit && fresh {
            texts.push(format!("{} is back: its limit has reset", account.label));
        }
        if of != ToldOf::default() {
            after.accounts.insert(account.id.clone(), of);
        }
    }
    let usable = |account: &&Account| {
        account.enabled && account.kind == AccountKind::Chatgpt && account.auth.state == AuthState::Ok
    };
    let usable: Vec<&Account> = accounts.iter().filter(usable).collect();
    let limits: Vec<Option<i64>> =
        usable.iter().filter_map(|account| limit_of(account, usage, now)).collect();
    // Of a single account enough is said.
    after.all = usable.len() > 1 && limits.len() == usable.len();
    if after.all && !told.all {
        let reset = |account: &&Account| Some((limit_of(account, usage, now)??, account.label.clone()));
        let first = usable.iter().filter_map(reset).min();
        let first = first.map_or_else(String::new, |(at, label)| {
            format!("; {label} resets first, in {}", human_duration(at - now))
        });
        texts.push(format!("every account is at its limit{first}"));
    }
    let since = if told.carried == 0 { now - RECENT } else { told.carried };
    for entry in log.iter().filter(|entry| entry.event == Event::Carried && entry.at > since) {
        if let (Some(to), Some(from)) = (&entry.account, &entry.from) {
            texts.push(format!(
                "{} goes on with the work of {}, which reached its limit",
                label(to),
                label(from)
            ));
        }
        after.carried = after.carried.max(entry.at);
    }
    (texts, after)
}

/// Returns until when an account is at its limit (`Some(None)`: not known); `None` if it is not.
fn limit_of(account: &Account, usage: &UsageCache, now: i64) -> Option<Option<i64>> {
    let usage = usage.usage(&account.id)?;
    usage.exhausted_until(now).filter(|_| !usage.has_credits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{FIVE_HOURS, Source, Usage, UsageEntry, Window};

    const NOW: i64 = 1_800_000_000;

    fn account(label: &str) -> Account {
        let id = AccountId::of_api_key(label);
        serde_json::from_value(serde_json::json!({
            "id": id, "label": label, "kind": "chatgpt", "enabled": true, "added_at": 0, "updated_at": 0,
        }))
        .unwrap()
    }

    fn usage(of: &[(&str, f64)]) -> UsageCache {
        let mut cache = UsageCache::default();
        for (label, used_percent) in of {
            let window = Window {
                window_seconds: FIVE_HOURS,
                used_percent: *used_percent,
                resets_at: Some(NOW + 3_600),
            };
            let usage = Usage::new(Source::Api, NOW, vec![window]);
            let entry = UsageEntry { usage: Some(usage), ..UsageEntry::default() };
            cache.accounts.insert(AccountId::of_api_key(label), entry);
        }
        cache
    }

    #[test]
    fn each_is_told_once_and_a_reset_too() {
        let accounts = [account("alice"), account("bob")];
        let (texts, told) =
            due(&Told::default(), &accounts, &usage(&[("alice", 50.0), ("bob", 0.0)]), &[], NOW);
        assert_eq!((texts, told.is_empty()), (Vec::new(), true));
        let full = usage(&[("alice", 100.0), ("bob", 0.0)]);
        let (texts, told) = due(&Told::default(), &accounts, &full, &[], NOW);
        assert_eq!(texts, ["alice reached its limit; it resets in 1h"]);
        assert_eq!(due(&told, &accounts, &full, &[], NOW + 60), (Vec::new(), told.clone()));
        let (texts, all) = due(&told, &accounts, &usage(&[("alice", 100.0), ("bob", 100.0)]), &[], NOW);
        assert_eq!(
            texts,
            [
                "bob reached its limit; it resets in 1h",
                "every account is at its limit; alice resets first, in 1h",
            ]
        );
        let (texts, told) = due(&all, &accounts, &usage(&[("alice", 3.0), ("bob", 100.0)]), &[], NOW);
        assert_eq!((texts, told.all), (vec!["alice is back: its limit has reset".to_owned()], false));
        let both = usage(&[("alice", 100.0), ("bob", 100.0)]);
        assert_eq!(
            due(&all, &accounts, &both, &[], NOW + 3_601).0.len(),
            2,
            "by the clock, without an answer"
        );
        assert!(due(&all, &accounts, &both, &[], NOW + 86_400).0.is_empty(), "old news");
    }

    #[test]
    fn logins_are_told_once_until_they_are_there_again() {
        let mut accounts = [account("alice")];
        accounts[0].auth.state = AuthState::ReauthRequired;
        let none = UsageCache::default();
        let (texts, told) = due(&Told::default(), &accounts, &none, &[], NOW);
        assert_eq!(texts, ["alice needs a login: codex-pool reauth alice"]);
        assert!(due(&told, &accounts, &none, &[], NOW).0.is_empty());
        // What it says to type can be typed whatever the label is.
        accounts[0].label = "ada's".to_owned();
        let (texts, _) = due(&Told::default(), &accounts, &none, &[], NOW);
        assert_eq!(texts, [format!("ada's needs a login: codex-pool reauth {}", accounts[0].id.as_str())]);
        accounts[0].auth.state = AuthState::Ok;
        let (texts, told) = due(&told, &accounts, &none, &[], NOW);
        assert!(texts.is_empty() && told.is_empty());
        accounts[0].enabled = false;
        accounts[0].auth.state = AuthState::ReauthRequired;
        assert!(due(&told, &accounts, &none, &[], NOW).0.is_empty(), "the user does not want it");
    }

    #[test]
    fn carried_work_is_told_once_and_old_work_not_at_all() {
        let accounts = [account("alice"), account("bob")];
        let carried =
            |at: i64| Entry::new(at, Event::Carried, Some(&accounts[1].id)).from(Some(&accounts[0].id));
        let log = [carried(NOW - 86_400), carried(NOW - 5)];
        let none = UsageCache::default();
        let (texts, told) = due(&Told::default(), &accounts, &none, &log, NOW);
        assert_eq!(texts, ["bob goes on with the work of alice, which reached its limit"]);
        assert!(due(&told, &accounts, &none, &log, NOW).0.is_empty());
        let more = [carried(NOW - 5), carried(NOW + 700)];
        assert_eq!(due(&told, &accounts, &none, &more, NOW + 701).0.len(), 1);
    }
}
