//! A sandbox with a pool, in the words that all suites use: the accounts in it, the live one, what is known of their
//! usage, and whether a login was lost. A suite that needs more adds an extension trait.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::backend::{LoginSpec, Usage, User, UserSpec};
use crate::procs::alive;
use crate::{
    Cmd, Codex, Output, Pty, RealCodex, Running, SOON, Sandbox, find_program, is_root, leave_out, now,
    wait_until,
};

/// A sandbox with a pool, see the module's text.
pub struct World {
    sandbox: Sandbox,
}

impl std::ops::Deref for World {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl From<Sandbox> for World {
    fn from(sandbox: Sandbox) -> World {
        World { sandbox }
    }
}

/// How it is made.
impl World {
    /// With the stand-in Codex, and these accounts in the pool.
    pub fn new(users: &[&str]) -> World {
        World::with(Codex::StandIn, users)
    }

    /// With the probe in Codex's place, and these accounts in the pool.
    pub fn probe(users: &[&str]) -> World {
        World::with(Codex::Probe, users)
    }

    /// With the real Codex of the tests' [`version`](crate::version), and these accounts in the pool. `None` where
    /// there is no such Codex: the test is left out then.
    #[track_caller]
    pub fn real(users: &[&str]) -> Option<World> {
        Some(World::with(Codex::real()?, users))
    }

    /// With any Codex, and these accounts in the pool.
    pub fn with(codex: Codex, users: &[&str]) -> World {
        let world = World::from(Sandbox::builder().codex(codex).build());
        for name in users {
            world.add(name);
        }
        world
    }

    /// Another machine: the same service, and a home and a pool of its own, which has no accounts.
    pub fn another(&self) -> World {
        World::from(Sandbox::builder().codex(self.codex_kind().clone()).backend(self.backend()).build())
    }

    /// With the stand-in Codex. The first of these accounts is logged in, as before the pool was there, and adopted;
    /// the others are only in the pool.
    pub fn logged_in(users: &[&str]) -> World {
        World::logged_in_with(Codex::StandIn, users)
    }

    /// Returns the same with any Codex.
    pub fn logged_in_with(codex: Codex, users: &[&str]) -> World {
        let world = World::with(codex, &[]);
        if let Some(live) = users.first() {
            world.backend().add(live);
            world.write_live(&world.backend().auth_json(live));
            world.list();
        }
        for name in users.iter().skip(1) {
            world.add(name);
        }
        world
    }

    /// Writes the pool's `config.toml`.
    pub fn settings(&self, text: &str) {
        self.write_private(&self.pool_home().join("config.toml"), text);
    }

    /// Tells the shim where `codex-pool` is, as the installer does.
    ///
    /// # Panics
    /// If that fails.
    pub fn link_admin(&self) {
        let link = self.pool_home().join("bin/codex-pool");
        std::os::unix::fs::symlink(self.home().join(".local/bin/codex-pool"), link).expect("link codex-pool");
    }

    /// Returns the version of the real Codex in it.
    ///
    /// # Panics
    /// If there is another program in Codex's place.
    pub fn version(&self) -> &str {
        match self.codex_kind() {
            Codex::Real(RealCodex { version, .. }) => version,
            other => panic!("{other:?} is not the real Codex"),
        }
    }
}

/// Its accounts.
impl World {
    /// Makes a user at the service and takes a login into the pool, under the user's name.
    pub fn add(&self, name: &str) -> User {
        self.add_as(name, UserSpec::new(name), &LoginSpec::default())
    }

    /// Makes a user and takes a login into the pool, both to order.
    pub fn add_as(&self, name: &str, user: UserSpec, login: &LoginSpec) -> User {
        let user = self.backend().add_user(name, user);
        self.import(name, &self.backend().auth_json_with(name, login));
        user
    }

    /// Takes a login into the pool under that label.
    #[track_caller]
    pub fn import(&self, label: &str, auth_json: &str) {
        self.pool(&["import", "-", "--label", label]).stdin(auth_json).run().ok();
    }

    /// Returns the accounts of `list --json`, which also brings what all Codex homes hold into the pool.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let list = self.pool(&["list", "--json"]).run().ok().json();
        list["accounts"].as_array().expect("accounts").clone()
    }

    /// Returns one of them.
    ///
    /// # Panics
    /// If there is none of that label.
    #[track_caller]
    pub fn account(&self, label: &str) -> Value {
        let list = self.list();
        let found = list.iter().find(|account| account["label"] == label);
        found.unwrap_or_else(|| panic!("no {label} in {list:#?}")).clone()
    }

    /// Returns the labels in the pool, sorted.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<_> = self.list().iter().map(|account| text(&account["label"])).collect();
        labels.sort();
        labels
    }

    /// Returns the labels in the order of `why --json`: the first is the pick.
    ///
    /// # Panics
    /// If `why` fails.
    pub fn why(&self) -> Vec<String> {
        let why = self.pool(&["why", "--json"]).run().ok().json();
        why["accounts"].as_array().expect("accounts").iter().map(|account| text(&account["label"])).collect()
    }

    /// Returns the registry as it is on disk.
    ///
    /// # Panics
    /// If it is not there or not JSON.
    #[track_caller]
    pub fn registry(&self) -> Value {
        let bytes = fs::read(self.pool_home().join("accounts.json")).expect("a registry");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// Makes the pool one that is shared, and this machine a `member` or a `runner` of it, as the commands do that talk
    /// to the database. There is none.
    pub fn share_as(&self, role: &str) {
        let mut registry = self.registry();
        registry["shared"] = role.into();
        for account in registry["accounts"].as_array_mut().expect("accounts") {
            if account["access_only"].is_object() {
                account["access_only"]["by_members"] = (role == "runner").into();
            }
        }
        self.write_private(&self.pool_home().join("accounts.json"), &registry.to_string());
    }

    /// Ids by label, from the registry as it is on disk.
    pub fn ids(&self) -> BTreeMap<String, String> {
        let registry = self.registry();
        let accounts = registry["accounts"].as_array().expect("accounts").iter();
        accounts.map(|account| (text(&account["label"]), text(&account["id"]))).collect()
    }

    /// Returns an account's id, from the registry as it is on disk.
    ///
    /// # Panics
    /// If there is none of that label.
    #[track_caller]
    pub fn id(&self, label: &str) -> String {
        let ids = self.ids();
        ids.get(label).unwrap_or_else(|| panic!("no {label} in {ids:?}")).clone()
    }

    /// Returns the file of an account's document in the pool.
    #[track_caller]
    pub fn stored_path(&self, label: &str) -> PathBuf {
        self.pool_home().join(format!("auth/{}.json", self.id(label)))
    }

    /// Returns an account's document in the pool, after what all Codex homes hold was brought there.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn stored(&self, label: &str) -> String {
        self.list();
        let path = self.stored_path(label);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Makes that account live, without a pin.
    ///
    /// # Panics
    /// If it is not live then.
    #[track_caller]
    pub fn make_live(&self, label: &str) {
        self.pool(&["use", label]).run().ok();
        self.pool(&["use", "--auto"]).run().ok();
        assert_eq!(self.live_owner().as_deref(), Some(label));
    }

    /// Returns whose login is live.
    pub fn live_owner(&self) -> Option<String> {
        self.owner_at(&self.codex_home())
    }

    /// Returns whose login is in that Codex home.
    pub fn owner_at(&self, dir: &Path) -> Option<String> {
        self.backend().owner(&fs::read_to_string(dir.join("auth.json")).ok()?)
    }

    /// Returns whether the live login would still be accepted.
    pub fn live_is_good(&self) -> bool {
        self.live().is_some_and(|live| self.backend().is_good(&live))
    }

    /// Returns an account's own home over the main home, whether or not it is there.
    #[track_caller]
    pub fn own_home(&self, label: &str) -> PathBuf {
        let folders = fs::read_dir(self.pool_home().join("homes")).into_iter().flatten().flatten();
        let over = folders.map(|entry| entry.path()).find(|over| {
            fs::read_to_string(over.join(".base")).is_ok_and(|main| Path::new(&main) == self.codex_home())
        });
        over.unwrap_or_else(|| self.pool_home().join("homes/none")).join(self.id(label))
    }

    /// Documents in `lost+found/` with their names, in order.
    pub fn lost_found(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.pool_home().join("lost+found")).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, fs::read_to_string(entry.path()).expect("a document"))
            })
            .collect();
        found.sort();
        found
    }

    /// Requires that each of these users' newest refresh token is in the pool and still good, and that the service saw
    /// no rule broken.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn assert_nothing_lost(&self, users: &[&str]) {
        self.list();
        self.backend().assert_clean();
        for user in users {
            let newest = self.backend().newest_refresh_token(user);
            let documents =
                fs::read_dir(self.pool_home().join("auth")).expect("the pool's documents").flatten();
            let held = documents
                .map(|entry| fs::read_to_string(entry.path()).expect("a document"))
                .any(|doc| doc.contains(&newest) && self.backend().is_good(&doc));
            assert!(held, "{user}'s newest refresh token {newest} is not in the pool");
        }
    }

    /// Requires that this text holds no token and no key.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn assert_no_secret(&self, text: &str) {
        let shown = self.backend().secrets().into_iter().find(|secret| text.contains(secret));
        assert_eq!(shown, None, "a secret was shown");
    }
}

/// What is known of their usage.
impl World {
    /// Makes these the accounts' usage, at the service and as just fetched: label, percent used of the 5h window (which
    /// resets in an hour) and of the week (in a day).
    pub fn usage(&self, usage: &[(&str, f64, f64)]) {
        for (label, five, week) in usage {
            self.backend().set_usage(label, Usage::percent(*five, *week));
        }
        self.cache_usage(usage, 0);
    }

    /// Ranks the accounts in this order, with room for all.
    pub fn rank(&self, labels: &[&str]) {
        let used = |at: usize| 5.0 + 80.0 * at as f64 / labels.len() as f64;
        let usage = labels.iter().enumerate().map(|(at, label)| (*label, used(at) / 2.0, used(at)));
        self.usage(&usage.collect::<Vec<_>>());
    }

    /// Makes the pool believe that these accounts, and no others, had this usage `age` seconds ago. The service knows
    /// nothing of it: it refuses no session.
    pub fn cache_usage(&self, usage: &[(&str, f64, f64)], age: i64) {
        let ids = self.ids();
        let usage = usage.iter().map(|(label, five, week)| (ids[*label].as_str(), *five, *week));
        self.cache_usage_by_id(usage, age);
    }

    /// The same by id.
    pub fn cache_usage_by_id<'a>(&self, usage: impl IntoIterator<Item = (&'a str, f64, f64)>, age: i64) {
        let fetched = now() - age;
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
    ///
    /// # Panics
    /// If there is no cache.
    pub fn edit_usage(&self, mut edit: impl FnMut(&mut Value)) {
        let path = self.pool_home().join("usage.json");
        let text = fs::read_to_string(&path).expect("a cache");
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

/// What runs in it.
impl World {
    /// Returns `codex exec hi` through the shim.
    pub fn exec(&self) -> Cmd {
        self.codex(&["exec", "--skip-git-repo-check", "hi"])
    }

    /// Returns the same on the account of that label.
    pub fn exec_as(&self, label: &str) -> Cmd {
        self.exec().env("CODEX_POOL_ACCOUNT", label)
    }

    /// Returns `codex exec hi` past the shim.
    pub fn foreign_exec(&self) -> Cmd {
        self.real_codex(&["exec", "--skip-git-repo-check", "hi"])
    }

    /// Starts a session of the stand-in Codex and waits until it has read its login. It asks its question once the gate
    /// is open.
    #[track_caller]
    pub fn hold(&self, cmd: Cmd) -> Running {
        let session = cmd.env("STANDIN_HOLD", self.gate()).spawn();
        wait_until("a session that holds", SOON, || session.stderr().contains("holding"));
        session
    }

    /// Returns the file that sessions of [`World::hold`] wait for.
    pub fn gate(&self) -> PathBuf {
        self.root().join("gate")
    }

    /// Lets the sessions that hold go on.
    ///
    /// # Panics
    /// If that fails.
    pub fn open_gate(&self) {
        fs::write(self.gate(), "").expect("open the gate");
    }

    /// Returns `unshare` with these options, for a command in namespaces of its own; with `-m` it can mount there.
    /// `None` where that is not permitted: the test is left out then.
    pub fn unshare(&self, options: &[&str]) -> Option<Cmd> {
        let user = if is_root() { "-f" } else { "-rf" };
        let cmd = || self.cmd("unshare").arg(user).args(options);
        let probe = if options.contains(&"-m") { "mount --bind /usr /usr" } else { "true" };
        let permitted =
            find_program("unshare").is_some() && cmd().args(["sh", "-c", probe]).run().status.success();
        if !permitted {
            leave_out("namespaces are not permitted here");
        }
        permitted.then(cmd)
    }

    /// Starts a command in a terminal of the usual size.
    pub fn pty(&self, cmd: Cmd) -> Pty {
        Pty::spawn(cmd, 40, 120)
    }

    /// Starts a command in a terminal and waits for Codex's prompt.
    #[track_caller]
    pub fn terminal(&self, cmd: Cmd) -> Pty {
        let pty = self.pty(cmd);
        pty.wait_for_codex(SOON);
        pty
    }

    /// Types a question in Codex's interface and waits until this user, and no other, has answered it.
    ///
    /// # Panics
    /// If another one does.
    #[track_caller]
    pub fn ask(&self, terminal: &mut Pty, user: &str) {
        let before = self.backend().report().turns.len();
        terminal.send_line(&format!("question {before}"));
        let report = self.backend().wait_for("an answer", SOON, |report| {
            report.turns.len() > before && report.turns[before..].iter().all(|turn| turn.done)
        });
        let by: Vec<_> = report.turns[before..].iter().map(|turn| turn.user.as_deref()).collect();
        assert!(by.iter().all(|by| *by == Some(user)), "by {by:?} instead of {user}: {}", terminal.screen());
        terminal.wait_for_text(&format!("hello from {user}"), SOON);
    }

    /// Returns the process id of Codex's background server in that Codex home, if one runs.
    pub fn server(&self, dir: &Path) -> Option<u32> {
        let record = fs::read_to_string(dir.join("app-server-daemon/daemon.pid")).ok()?;
        let pid = serde_json::from_str::<Value>(&record).ok()?["pid"].as_u64()?;
        u32::try_from(pid).ok().filter(|pid| alive(*pid))
    }
}

/// Requires that this user, and no other, answered a session.
///
/// # Panics
/// Otherwise, showing what it wrote.
#[track_caller]
pub fn answered(output: Output, user: &str) -> Output {
    output.ok().says(&format!("hello from {user}"))
}

/// Requires `needle` on stderr.
///
/// # Panics
/// Otherwise, showing what it wrote.
#[track_caller]
pub fn complains(output: &Output, needle: &str) {
    assert!(output.stderr.contains(needle), "expected {needle:?} on stderr: {output}");
}

/// Returns a JSON string.
///
/// # Panics
/// If it is something else.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}
