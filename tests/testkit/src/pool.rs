//! The pool of a sandbox as tests need it: what `list --json` says of it, and usage written into its cache behind
//! everybody's back.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Sandbox;

impl Sandbox {
    /// The accounts of `list --json`, which also brings what all homes hold into the pool.
    pub fn list(&self) -> Vec<Value> {
        let list = self.pool(&["list", "--json"]).run().ok().json();
        list["accounts"].as_array().expect("accounts").clone()
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none of that label.
    #[track_caller]
    pub fn account(&self, label: &str) -> Value {
        let list = self.list();
        let found = list.iter().find(|account| account["label"] == label);
        found.unwrap_or_else(|| panic!("no {label} in {list:#?}")).clone()
    }

    /// Ids by label.
    pub fn ids(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        self.list().iter().map(|account| (text(&account["label"]), text(&account["id"]))).collect()
    }

    /// Makes this the usage of the accounts, and of nobody else, fetched `age` seconds ago: id, percent used of the 5h
    /// window (which was to reset in an hour) and of the week (in a day).
    pub fn cache_usage<'a>(&self, usage: impl IntoIterator<Item = (&'a str, f64, f64)>, age: i64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let fetched = i64::try_from(since).expect("fits") - age;
        let window = |seconds: i64, used: f64, left: i64| json!({"window_seconds": seconds, "used_percent": used, "resets_at": fetched + left});
        let entry = |five: f64, week: f64| {
            json!({"usage": {"fetched_at": fetched, "source": "api", "limit_reached": five >= 100.0 || week >= 100.0,
                "windows": [window(18_000, five, 3600), window(604_800, week, 86_400)]}})
        };
        let accounts: BTreeMap<&str, Value> =
            usage.into_iter().map(|(id, five, week)| (id, entry(five, week))).collect();
        let cache = json!({"version": 1, "accounts": accounts});
        self.write_private(&self.pool_home().join("usage.json"), &cache.to_string());
    }

    /// Changes what the usage cache says of each account.
    pub fn edit_usage(&self, mut edit: impl FnMut(&mut Value)) {
        let path = self.pool_home().join("usage.json");
        let text = std::fs::read_to_string(&path).expect("a cache");
        let mut cache: Value = serde_json::from_str(&text).expect("JSON");
        cache["accounts"].as_object_mut().expect("accounts").values_mut().for_each(&mut edit);
        self.write_private(&path, &cache.to_string());
    }

    /// As if the usage cache had been written that many seconds earlier.
    pub fn age_usage(&self, seconds: i64) {
        self.edit_usage(|entry| {
            for time in ["/usage/fetched_at", "/attempt/at"] {
                if let Some(at) = entry.pointer_mut(time) {
                    *at = (at.as_i64().expect("a time") - seconds).into();
                }
            }
        });
    }

    /// As if the pause after a failed renewal were over.
    pub fn forget_renewals(&self) {
        self.edit_usage(|entry| drop(entry.as_object_mut().expect("an entry").remove("renewal")));
    }
}
