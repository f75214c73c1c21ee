//! What the proofs have in common: a world whose pool can be laid out anew within a millisecond, and the judge of what
//! must hold at every moment: nothing lost, every document whole, no rule broken at the issuer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::backend::LoginSpec;
use testkit::{Codex, SOON, World};

/// A world with known accounts, and what its pool is made of at the beginning.
pub(crate) struct Lab {
    world: World,
    /// Ids by name.
    pub(crate) ids: BTreeMap<String, String>,
    registry: Vec<u8>,
    state: Vec<u8>,
}

impl std::ops::Deref for Lab {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl Lab {
    /// With the stand-in Codex, these accounts in the pool, and these settings.
    pub(crate) fn new(users: &[&str], settings: &str) -> Lab {
        Lab::with(Codex::StandIn, users, settings)
    }

    /// Returns the same with any Codex.
    pub(crate) fn with(codex: Codex, users: &[&str], settings: &str) -> Lab {
        let world = World::with(codex, &[]);
        world.settings(&format!("{settings}attend = false\n"));
        for name in users {
            world.add(name);
        }
        // So that launches find `codex-pool refresh`, as after `init`.
        world.link_admin();
        let registry = fs::read(world.pool_home().join("accounts.json")).expect("a registry");
        // One launch learns what this Codex supports, which is kept.
        world.exec().run();
        let state = fs::read(world.pool_home().join("state.json")).expect("a state");
        let state: Value = serde_json::from_slice(&state).expect("JSON");
        let codex = state.get("codex").cloned().unwrap_or_else(|| json!({}));
        let state = json!({"version": 1, "homes": {}, "codex": codex}).to_string().into_bytes();
        Lab { ids: world.ids(), world, registry, state }
    }

    /// Begins anew: nothing in the ledger, no homes remembered, fresh logins of every account in the pool alone.
    /// The old ones are forgotten on both sides. `spec` is what the logins are like.
    pub(crate) fn reset(&self, spec: &LoginSpec) {
        let folders = [(self.pool_home(), ["bin", "config.toml"]), (self.codex_home(), ["config.toml", ""])];
        for (folder, stays) in folders {
            for entry in fs::read_dir(folder).expect("a folder of the world").flatten() {
                if stays.iter().any(|name| entry.file_name() == *name) {
                    continue;
                }
                let path = entry.path();
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.unwrap_or_else(|e| panic!("remove {}: {e}", path.display()));
            }
        }
        let in_pool = |name: &str, bytes: &[u8]| {
            self.write_private(&self.pool_home().join(name), &String::from_utf8_lossy(bytes));
        };
        in_pool("accounts.json", &self.registry);
        in_pool("state.json", &self.state);
        self.usage_of_age(0);
        for name in self.ids.keys() {
            self.backend().forget_logins(name);
            self.store(name, &self.backend().auth_json_with(name, spec));
        }
        self.backend().clear_report();
    }

    /// Puts a document into the pool past its lock.
    pub(crate) fn store(&self, name: &str, auth_json: &str) {
        self.write_private(&self.stored_path(name), auth_json);
    }

    /// Returns the file of an account's document in the pool.
    pub(crate) fn stored_path(&self, name: &str) -> PathBuf {
        self.pool_home().join(format!("auth/{}.json", self.ids[name]))
    }

    /// Returns an account's document in the pool as it is on disk; empty if it is not there.
    pub(crate) fn document(&self, name: &str) -> String {
        fs::read_to_string(self.stored_path(name)).unwrap_or_default()
    }

    /// Returns where an account's newest login is, and what was done with its tokens, for messages of what makes system
    /// calls fail.
    #[cfg(target_os = "linux")]
    pub(crate) fn whereabouts(&self, name: &str) -> String {
        let newest = self.backend().newest_refresh_token(name);
        let has = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(&newest));
        let places: Vec<PathBuf> = self.documents().into_iter().filter(has).collect();
        let log = fs::read_to_string(self.pool_home().join("log.jsonl")).unwrap_or_default();
        format!("it is in {places:?}; {:#?}\n{log}", self.backend().report().refreshes)
    }

    /// Returns whether the registry knows an account.
    pub(crate) fn is_registered(&self, name: &str) -> bool {
        let registry = fs::read_to_string(self.pool_home().join("accounts.json")).unwrap_or_default();
        registry.contains(&self.ids[name])
    }

    /// Makes the usage of all accounts known, fetched that many seconds ago. Each has a bit less left than the one
    /// before.
    pub(crate) fn usage_of_age(&self, age: i64) {
        let used = |at: usize| (5 + 10 * at) as f64;
        let usage = self.ids.values().enumerate().map(|(at, id)| (id.as_str(), used(at), used(at)));
        self.cache_usage_by_id(usage, age);
    }

    /// Returns every file that may hold a login: pool, Codex homes, `lost+found/`.
    pub(crate) fn documents(&self) -> Vec<PathBuf> {
        let pool = self.pool_home();
        let mut found = vec![self.codex_home().join("auth.json")];
        let mut folders = vec![pool.join("auth"), pool.join("lost+found")];
        for over in list(&pool.join("homes")) {
            folders.extend(list(&over).into_iter().filter(|home| home.is_dir()));
        }
        for folder in folders {
            let home = folder.starts_with(pool.join("homes"));
            found.extend(list(&folder).into_iter().filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                !name.starts_with('.') && (!home || name == "auth.json")
            }));
        }
        found.retain(|path| path.exists());
        found
    }

    /// Refresh tokens that are somewhere on the disk in a whole document of the right account.
    pub(crate) fn tokens_held(&self) -> BTreeSet<String> {
        let whole = self.documents().into_iter().filter_map(|path| {
            let doc: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
            Some(doc["tokens"]["refresh_token"].as_str()?.to_owned())
        });
        whole.collect()
    }

    /// Accounts (names) for which a refresh was begun and its end is not known.
    pub(crate) fn refreshes_begun(&self) -> BTreeSet<String> {
        let state = fs::read(self.pool_home().join("state.json")).unwrap_or_default();
        let state: Value = serde_json::from_slice(&state).unwrap_or_default();
        let marks = state["marks"].as_array().cloned().unwrap_or_default();
        let ids: BTreeSet<&str> =
            marks.iter().filter(|m| m["kind"] == "renewal").filter_map(|m| m["account"].as_str()).collect();
        self.ids.iter().filter(|(_, id)| ids.contains(id.as_str())).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the accounts whose good login is nowhere on disk any more.
    pub(crate) fn lost(&self) -> Vec<String> {
        let held = self.tokens_held();
        let lost = |name: &&String| {
            let good = self.backend().good_refresh_tokens(name);
            good.last().is_some_and(|newest| !held.contains(newest))
        };
        self.ids.keys().filter(lost).cloned().collect()
    }

    /// Returns the breaches of the invariants that hold whatever happens to a process; empty if there is none.
    pub(crate) fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        for path in self.documents() {
            let bytes = fs::read(&path).unwrap_or_default();
            let Ok(doc) = serde_json::from_slice::<Value>(&bytes) else {
                breaches.push(format!("{} is not whole ({} bytes)", path.display(), bytes.len()));
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            let owner = self.backend().owner(&text);
            let in_pool = path.parent().is_some_and(|dir| dir.ends_with("auth"));
            if in_pool {
                let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                if owner.as_ref().and_then(|name| self.ids.get(name)).is_some_and(|of| *of != id) {
                    breaches.push(format!("{} holds a login of {owner:?}", path.display()));
                }
            }
            if doc["tokens"]["account_id"].as_str() != account_claim(&doc).as_deref() {
                breaches.push(format!("{} mixes two accounts", path.display()));
            }
            let mode = fs::metadata(&path).map_or(0, |m| m.permissions().mode() & 0o777);
            if mode != 0o600 {
                breaches.push(format!("{} has mode {mode:o}", path.display()));
            }
        }
        for name in ["accounts.json", "state.json", "usage.json"] {
            let path = self.pool_home().join(name);
            if fs::read(&path).is_ok_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_err()) {
                breaches.push(format!("{} is not whole", path.display()));
            }
        }
        let report = self.backend().report();
        breaches.extend(report.violations.iter().map(|v| format!("{v:?}")));
        breaches
    }

    /// Returns the breaches of what holds once nothing runs and the last command was not killed: one file per account
    /// among the homes, each with the newest login, and no unfinished file.
    pub(crate) fn breaches_at_rest(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let pool = self.pool_home();
        let mut codex_homes: BTreeMap<String, PathBuf> = BTreeMap::new();
        for path in self.documents() {
            let codex_home = path.ends_with("auth.json") && !path.is_symlink();
            let Some(owner) = self.backend().owner(&fs::read_to_string(&path).unwrap_or_default()) else {
                continue;
            };
            if !codex_home {
                continue;
            }
            if !fs::read_to_string(&path)
                .is_ok_and(|t| t.contains(&self.backend().newest_refresh_token(&owner)))
            {
                breaches.push(format!("{} holds an older login of {owner}", path.display()));
            }
            if let Some(other) = codex_homes.insert(owner.clone(), path.clone()) {
                breaches.push(format!("{owner} is in {} and in {}", path.display(), other.display()));
            }
        }
        for folder in [pool.clone(), pool.join("auth"), self.codex_home()] {
            let half = |path: &PathBuf| path.to_string_lossy().contains(".codex-pool.");
            breaches.extend(
                list(&folder)
                    .iter()
                    .filter(|path| half(path))
                    .map(|path| format!("{} is left", path.display())),
            );
        }
        breaches.extend(self.login_homes().iter().map(|path| format!("{} is left", path.display())));
        breaches
    }

    /// Waits until no process of this world runs (a refresh goes on after the launch that started it was killed).
    /// One that is just being started can be overlooked once, so it looks again.
    pub(crate) fn wait_until_quiet(&self) {
        testkit::wait_until("the sandbox is quiet", SOON, || {
            let quiet = self.processes().is_empty();
            std::thread::sleep(std::time::Duration::from_millis(5));
            quiet && self.processes().is_empty()
        });
    }
}

fn account_claim(doc: &Value) -> Option<String> {
    let claims = testkit::backend::claims(doc["tokens"]["access_token"].as_str()?)?;
    claims["https://api.openai.com/auth"]["chatgpt_account_id"].as_str().map(str::to_owned)
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}
