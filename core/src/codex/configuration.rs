//! Codex's configuration, as far as it matters to a launch: credential store, restrictions, base URL, database folder,
//! trusted hooks. Reads Codex's own files, writes nothing, and never fails: files that cannot be read are listed in
//! [`CodexSettings::unreadable`]. Codex refuses to start with such a file, before it touches `auth.json`.
//!
//! Precedence, lowest first, the same in 0.120.0, 0.140.0, 0.150.0, 0.159.3 and 0.169.0 (observed by whether `exec`
//! deletes `auth.json` for a forbidden workspace):
//!
//! 1. `/etc/codex/config.toml`
//! 2. `$CODEX_HOME/config.toml`
//! 3. `-p NAME`: `$CODEX_HOME/NAME.config.toml` (from 0.140; 0.120 has `[profiles.NAME]`, where these keys have no
//!    effect, and later versions refuse such a profile and the key `profile`)
//! 4. `.codex/config.toml` of trusted projects, the nearest last (see `configuration/project.rs`)
//! 5. `-c` (see `configuration/overrides.rs`). All of them count here, also those that Codex up to 0.159 drops because
//!    there are others after the sub-command.
//! 6. `/etc/codex/managed_config.toml`, which not even `-c` overrules
//! 7. `/etc/codex/requirements.toml`: its `cli_auth_credentials_store` counts from 0.150 on, and `-c` does not overrule
//!    it. Its `allowed_chatgpt_workspaces` and `allowed_login_methods` are known from 0.150 on, but no version deletes
//!    anything for them. They are restrictions here, as the administrator meant them.
//!
//! No version reads `$CODEX_HOME/managed_config.toml`. Not read here: macOS managed preferences, and the settings that
//! the service sends to an Enterprise workspace, which concern only its own accounts.

mod overrides;
mod project;
mod scan;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::argv::Invocation;

/// The folder of Codex's system-wide settings.
pub const SYSTEM_DIR: &str = "/etc/codex";

/// The places that Codex reads its settings from.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The main home, not an account's own home
    pub codex_home: &'a Path,
    /// [`SYSTEM_DIR`], or another folder in tests
    pub system_dir: &'a Path,
    /// `$HOME`, for paths that start with `~/`
    pub user_home: Option<&'a Path>,
    /// The working directory. Without it, there are no project settings.
    pub cwd: Option<&'a Path>,
}

/// `cli_auth_credentials_store`: where Codex keeps its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsStore {
    /// `auth.json`, also if the key is not set
    File,
    /// The system's key ring
    Keyring,
    /// The key ring if there is one, else the file
    Auto,
    /// Memory only
    Ephemeral,
}

impl CredentialsStore {
    /// Returns the word in Codex's configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            CredentialsStore::File => "file",
            CredentialsStore::Keyring => "keyring",
            CredentialsStore::Auto => "auto",
            CredentialsStore::Ephemeral => "ephemeral",
        }
    }
}

/// `forced_login_method`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// Only ChatGPT logins
    Chatgpt,
    /// Only API keys
    Api,
}

/// One entry of `hooks.state`: the user's decision about one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookState {
    /// `<path of the file that declares the hook>:<event>:<group>:<index>`
    pub key: String,
    /// The hash of the hook when it was trusted
    pub trusted_hash: Option<String>,
    /// Whether the user switched it on or off
    pub enabled: Option<bool>,
}

/// The settings of Codex that matter to a launch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodexSettings {
    /// `None`: not set, which is [`CredentialsStore::File`]
    pub cli_auth_credentials_store: Option<CredentialsStore>,
    /// Whether an administrator set the store, so that `-c` does not change it
    pub store_is_enforced: bool,
    /// The workspaces (account ids) that ChatGPT logins may belong to. `None`: any; empty: none, since layers that all
    /// apply have nothing in common
    pub forced_chatgpt_workspace_id: Option<Vec<String>>,
    /// The kind of login that is allowed. `None`: both
    pub forced_login_method: Option<LoginMethod>,
    /// The base of ChatGPT's own endpoints, if it is set. A project cannot set it.
    pub chatgpt_base_url: Option<String>,
    /// The model, if it is set
    pub model: Option<String>,
    /// The folder of the databases, if it is set
    pub sqlite_home: Option<PathBuf>,
    /// `hooks.state` of the user, the profile and `-c`
    pub hooks_state: Vec<HookState>,
    /// Files that could not be read or understood
    pub unreadable: Vec<PathBuf>,
    /// Settings of trusted projects that count for Codex, but not here
    pub unheeded: Vec<UnheededFile>,
}

/// Settings of a trusted project that are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnheededFile {
    /// The file
    pub path: PathBuf,
    /// The reason
    pub why: Unheeded,
}

/// The reason why settings of a trusted project are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unheeded {
    /// Another user, who is not root, can change them
    OfAnotherUser,
    /// All settings of projects together are larger than the limit
    TooLarge,
}

impl std::fmt::Display for UnheededFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match self.why {
            Unheeded::OfAnotherUser => "belongs to another user",
            Unheeded::TooLarge => "is too large",
        };
        write!(f, "{} {why} and does not count here, though Codex may go by it", self.path.display())
    }
}

/// The origin of a table, which decides what it may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    System,
    User,
    Project,
    CommandLine,
    Managed,
}

impl CodexSettings {
    /// Reads every layer that this command line makes Codex read.
    pub fn read(around: Surroundings<'_>, call: &Invocation<'_>) -> Self {
        let mut settings = CodexSettings::default();
        let has_system = around.system_dir.is_dir();
        let mut files = Vec::with_capacity(3);
        if has_system {
            files.extend(settings.file(Layer::System, around.system_dir.join("config.toml"), around));
        }
        if !call.ignores_user_config {
            files.extend(settings.file(Layer::User, around.codex_home.join("config.toml"), around));
            // Codex refuses a name with a slash.
            if let Some(name) = call.profile.filter(|name| !name.contains('/')) {
                let path = around.codex_home.join(format!("{name}.config.toml"));
                files.extend(settings.file(Layer::User, path, around));
            }
        }

        let overrides = overrides::table(&call.overrides);
        if let Some(dir) = working_root(around.cwd, call) {
            let found = project::settings(&dir, around.codex_home, &files, &overrides);
            settings.unreadable.extend(found.unreadable);
            settings.unheeded = found.unheeded;
            for (path, table) in found.tables {
                settings.file_table(Layer::Project, &path, &table, around);
            }
            settings.apply(Layer::CommandLine, &overrides, &dir, around.user_home);
        } else {
            settings.apply(Layer::CommandLine, &overrides, around.codex_home, around.user_home);
        }

        if has_system {
            settings.file(Layer::Managed, around.system_dir.join("managed_config.toml"), around);
            settings.requirements(around);
        }
        // `-m` is above all layers.
        if let Some(model) = call.model {
            settings.model = Some(model.to_owned());
        }
        settings
    }

    /// Returns whether a ChatGPT login of this workspace may be used.
    pub fn allows_chatgpt(&self, account_id: &str) -> bool {
        self.forced_login_method != Some(LoginMethod::Api)
            && self
                .forced_chatgpt_workspace_id
                .as_ref()
                .is_none_or(|ids| ids.iter().any(|id| id == account_id))
    }

    /// Returns whether an API key may be used. The workspace restriction does not concern it.
    pub fn allows_api_key(&self) -> bool {
        self.forced_login_method != Some(LoginMethod::Chatgpt)
    }

    /// Returns the value for `-c` that keeps trusted hooks trusted when Codex runs in `home` instead of `codex_home`:
    /// `hooks.state={…}` with changed paths. `None`: there are no such hooks. Codex spells both folders without links.
    pub fn hooks_override(&self, codex_home: &Path, home: &Path) -> Option<String> {
        if self.hooks_state.is_empty() {
            return None;
        }
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (real_base, real_home) = (real(codex_home), real(home));
        let real_home = real_home.to_str()?;
        let mut out = String::from("hooks.state={");
        for (at, hook) in self.hooks_state.iter().enumerate() {
            let inside = [codex_home.to_str(), real_base.to_str()]
                .into_iter()
                .flatten()
                .find_map(|base| hook.key.strip_prefix(base).filter(|rest| rest.starts_with('/')));
            let key = inside.map_or_else(|| hook.key.clone(), |rest| format!("{real_home}{rest}"));
            out.push_str(if at > 0 { "," } else { "" });
            overrides::quote(&mut out, &key);
            out.push_str("={");
            if let Some(hash) = &hook.trusted_hash {
                out.push_str("trusted_hash=");
                overrides::quote(&mut out, hash);
            }
            if let Some(enabled) = hook.enabled {
                out.push_str(if hook.trusted_hash.is_some() { ",enabled=" } else { "enabled=" });
                out.push_str(if enabled { "true" } else { "false" });
            }
            out.push('}');
        }
        out.push('}');
        Some(out)
    }

    /// Reads one file of a layer and applies it. Returns it, since it also says which projects are trusted.
    fn file(&mut self, layer: Layer, path: PathBuf, around: Surroundings<'_>) -> Option<scan::File> {
        let file = scan::File::read(path, &mut self.unreadable)?;
        if let Some(table) = file.table_of_interest(&mut self.unreadable) {
            self.file_table(layer, &file.path, &table, around);
        } else if let Some(model) = file.model() {
            self.model = Some(model);
        }
        Some(file)
    }

    fn file_table(&mut self, layer: Layer, path: &Path, table: &Table, around: Surroundings<'_>) {
        let dir = path.parent().unwrap_or(Path::new("/"));
        if !self.apply(layer, table, dir, around.user_home) {
            self.unreadable.push(path.to_owned());
        }
    }

    /// Applies a table. Returns `false` if a value is of a kind that Codex refuses.
    fn apply(&mut self, layer: Layer, table: &Table, dir: &Path, user_home: Option<&Path>) -> bool {
        let mut odd = false;
        if let Some(value) = table.get("cli_auth_credentials_store") {
            match store(value) {
                Some(store) => {
                    self.cli_auth_credentials_store = Some(store);
                    self.store_is_enforced = layer == Layer::Managed;
                }
                None => odd = true,
            }
        }
        if let Some(value) = table.get("forced_chatgpt_workspace_id") {
            match strings(value) {
                Some(ids) => self.forced_chatgpt_workspace_id = (!ids.is_empty()).then_some(ids),
                None => odd = true,
            }
        }
        if let Some(value) = table.get("forced_login_method") {
            match login_method(value) {
                Some(method) => self.forced_login_method = Some(method),
                None => odd = true,
            }
        }
        // A repository that was cloned must not choose where tokens go. Codex ignores it there, too.
        if layer != Layer::Project
            && let Some(value) = table.get("chatgpt_base_url")
        {
            match value.as_str() {
                Some(url) => self.chatgpt_base_url = Some(url.to_owned()),
                None => odd = true,
            }
        }
        // One that is no text is Codex's affair.
        if let Some(model) = table.get("model").and_then(Value::as_str) {
            self.model = Some(model.to_owned());
        }
        if let Some(value) = table.get("sqlite_home") {
            match value.as_str() {
                Some(path) => self.sqlite_home = Some(resolve(path, dir, user_home)),
                None => odd = true,
            }
        }
        if matches!(layer, Layer::User | Layer::CommandLine)
            && let Some(state) =
                table.get("hooks").and_then(|hooks| hooks.get("state")).and_then(Value::as_table)
        {
            for (key, value) in state {
                self.hooks_state.retain(|hook| hook.key != *key);
                self.hooks_state.push(HookState {
                    key: key.clone(),
                    trusted_hash: value.get("trusted_hash").and_then(Value::as_str).map(str::to_owned),
                    enabled: value.get("enabled").and_then(Value::as_bool),
                });
            }
        }
        !odd
    }

    /// Applies `requirements.toml`, which has keys of its own.
    fn requirements(&mut self, around: Surroundings<'_>) {
        let path = around.system_dir.join("requirements.toml");
        let Some(file) = scan::File::read(path, &mut self.unreadable) else { return };
        let Some(table) = file.table_of_interest(&mut self.unreadable) else { return };
        if let Some(store) = table.get("cli_auth_credentials_store").and_then(store) {
            self.cli_auth_credentials_store = Some(store);
            self.store_is_enforced = true;
        }
        if let Some(allowed) = table.get("allowed_chatgpt_workspaces").and_then(strings)
            && !allowed.is_empty()
        {
            self.forced_chatgpt_workspace_id = Some(match self.forced_chatgpt_workspace_id.take() {
                Some(ids) => ids.into_iter().filter(|id| allowed.contains(id)).collect(),
                None => allowed,
            });
        }
        if let Some([only]) = table.get("allowed_login_methods").and_then(Value::as_array).map(Vec::as_slice)
            && let Some(method) = login_method(only)
        {
            self.forced_login_method = Some(method);
        }
        if let Some(url) = table.get("chatgpt_base_url").and_then(Value::as_str) {
            self.chatgpt_base_url = Some(url.to_owned());
        }
        if let Some(path) = table.get("sqlite_home").and_then(Value::as_str) {
            self.sqlite_home = Some(resolve(path, around.system_dir, around.user_home));
        }
    }
}

/// Returns the folder that Codex will work in: `-C` against the working directory, without links and dots as in Codex.
pub fn working_root(cwd: Option<&Path>, call: &Invocation<'_>) -> Option<PathBuf> {
    let cwd = cwd?;
    Some(match call.cd {
        Some(dir) => {
            let dir = cwd.join(dir);
            dir.canonicalize().unwrap_or(dir)
        }
        None => cwd.to_owned(),
    })
}

fn store(value: &Value) -> Option<CredentialsStore> {
    Some(match value.as_str()? {
        "file" => CredentialsStore::File,
        "keyring" => CredentialsStore::Keyring,
        "auto" => CredentialsStore::Auto,
        "ephemeral" => CredentialsStore::Ephemeral,
        _ => return None,
    })
}

fn login_method(value: &Value) -> Option<LoginMethod> {
    Some(match value.as_str()? {
        "chatgpt" => LoginMethod::Chatgpt,
        "api" => LoginMethod::Api,
        _ => return None,
    })
}

/// Returns a string or a list of strings, trimmed and without empty ones, as Codex reads them.
fn strings(value: &Value) -> Option<Vec<String>> {
    let one = std::slice::from_ref(value);
    let mut out = Vec::new();
    for value in value.as_array().map_or(one, Vec::as_slice) {
        let text = value.as_str()?.trim();
        if !text.is_empty() {
            out.push(text.to_owned());
        }
    }
    Some(out)
}

fn resolve(path: &str, dir: &Path, user_home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), user_home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => dir.join(path),
    }
}
