//! A login that leaves every other login alone: the official `codex login`, as a child on this terminal, in a Codex
//! home of its own. Codex revokes the login that it finds, so there must be none. The pool is not locked meanwhile,
//! and the caller decides what becomes of the login.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use codex_pool_core::auth_doc::{AuthDoc, MAX_BYTES, Secret};
use codex_pool_core::codex::find;
use codex_pool_core::env::names;
use codex_pool_core::files::{self, Durability};
use codex_pool_core::homes::{CodexHome, elsewhere, login_home};
use codex_pool_core::process::ProcessId;
use codex_pool_core::{Error, ErrorKind, Result};
use nix::sys::signal::Signal;

use super::{Context, Notice, Tell};
use crate::signals::{self, Held};

/// The user's settings that concern a login, and what Codex reports meanwhile.
const SETTINGS: [&str; 8] = [
    "forced_chatgpt_workspace_id",
    "forced_login_method",
    "chatgpt_base_url",
    "openai_base_url",
    "model_provider",
    "model_providers",
    "analytics",
    "otel",
];

/// The user's file of environment variables in CODEX_HOME.
const ENV_FILE: &str = ".env";

/// How to log in.
pub(crate) struct Login<'a> {
    /// With a code, in a browser elsewhere.
    pub(crate) device_auth: bool,
    /// Reads the API key, for a login with one.
    pub(crate) read_api_key: Option<fn() -> Result<Secret>>,
    /// More arguments for `codex login`.
    pub(crate) args: &'a [OsString],
    /// What Codex prints goes to stderr.
    pub(crate) quiet: bool,
}

impl Login<'_> {
    /// Lets the user log in.
    ///
    /// # Errors
    /// There is no Codex, or the login was cancelled, failed, or left nothing that the pool can manage.
    pub(crate) fn run(&self, ctx: &Context) -> Result<NewLogin> {
        let codex = find::find(&ctx.env, &ctx.settings, None)?;
        let key = self.read_api_key.map(|read| api_key(ctx, read)).transpose()?;
        let config = config(&ctx.main_home.dir().join("config.toml"))?;
        if let Some(key) = &key
            && !knows_api_keys(&codex)
        {
            let doc = AuthDoc::of_api_key(key);
            let doc = doc.map_err(|e| Error::new(format!("the API key cannot be used: {e}")))?;
            return Ok(NewLogin { doc, _home: None });
        }
        let signals = signals::hold();
        let home = LoginHome::create(ctx, &config)?;
        let mut command = Command::new(&codex);
        command.arg("login");
        if self.device_auth {
            command.arg("--device-auth");
        }
        if key.is_some() {
            command.arg("--with-api-key");
        }
        command.args(self.args);
        if self.quiet {
            let stderr = std::io::stderr().as_fd().try_clone_to_owned();
            command.stdout(stderr.map_err(|e| Error::new(format!("cannot use stderr: {e}")))?);
        }
        let doc = log_in(&signals, &mut command, home.dir(), key.as_ref())?;
        Ok(NewLogin { doc, _home: Some(home) })
    }
}

/// A login that was made just now. Until it goes out of scope, its home keeps a copy: should this process be killed,
/// the next command adopts that.
pub(crate) struct NewLogin {
    pub(crate) doc: AuthDoc,
    _home: Option<LoginHome>,
}

/// Lets Codex log out of a login, so that the issuer revokes it. No home of the user is touched.
///
/// # Errors
/// There is no Codex, or it failed.
#[cfg(feature = "share")]
pub(crate) fn log_out(ctx: &Context, doc: &AuthDoc) -> Result<()> {
    let codex = find::find(&ctx.env, &ctx.settings, None)?;
    let config = config(&ctx.main_home.dir().join("config.toml"))?;
    let signals = signals::hold();
    let home = LoginHome::create(ctx, &config)?;
    let file = home.dir().join("auth.json");
    files::write_whole(&file, doc.bytes(), Durability::Fast).map_err(|e| Error::io("write", &file, &e))?;
    let mut command = Command::new(&codex);
    command.arg("logout").stdout(Stdio::null());
    alone(&mut command, home.dir());
    let ended = signals.run_child(&mut command, None).map_err(|e| Error::io("run", &codex, &e))?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(Error::new(format!("`codex logout` failed ({})", ended.status))),
    }
}

/// The home of one login that this process runs. It is removed with this value.
struct LoginHome {
    home: CodexHome,
    tell: Tell,
}

impl LoginHome {
    /// Makes a home with a `config.toml` of this content, and with the user's variables.
    fn create(ctx: &Context, config: &str) -> Result<LoginHome> {
        // If the system does not identify processes, no command can take this one for a dead process.
        let me = ProcessId::of_self().unwrap_or_else(|_| ProcessId {
            boot: "unknown".to_owned(),
            pid_namespace: 0,
            pid: std::process::id(),
            start_ticks: 0,
        });
        let lock = ctx.lock()?;
        elsewhere::settle(&lock, &ctx.paths, &ctx.env)?;
        let home = login_home::create(&lock, &ctx.paths, &ctx.main_home, &me)?;
        drop(lock);
        let home = LoginHome { home, tell: ctx.tell };
        let file = home.dir().join("config.toml");
        files::write_whole(&file, config.as_bytes(), Durability::Fast)
            .map_err(|e| Error::io("write", &file, &e))?;
        // Codex reads variables from there, such as a proxy's.
        let variables = ctx.main_home.dir().join(ENV_FILE);
        if variables.exists() {
            let link = home.dir().join(ENV_FILE);
            symlink(&variables, &link).map_err(|e| Error::io("link", &link, &e))?;
        }
        Ok(home)
    }

    fn dir(&self) -> &Path {
        self.home.dir()
    }
}

impl Drop for LoginHome {
    fn drop(&mut self) {
        if let Err(error) = login_home::remove(&self.home) {
            (self.tell)(&Notice::Warning(error.to_string()));
        }
    }
}

/// Lets a Codex see this home alone.
fn alone(command: &mut Command, home: &Path) {
    // If that `codex` is a script that calls the shim, the shim steps aside.
    command.env(names::CODEX_HOME, home).env(names::CODEX_POOL, "off");
    for name in ["CODEX_API_KEY", "CODEX_ACCESS_TOKEN", names::CODEX_SQLITE_HOME, names::CODEX_POOL_LAUNCH] {
        command.env_remove(name);
    }
}

fn log_in(signals: &Held, command: &mut Command, home: &Path, key: Option<&Secret>) -> Result<AuthDoc> {
    alone(command, home);
    let ended = signals
        .run_child(command, key.map(|key| key.expose().as_bytes()))
        .map_err(|e| Error::io("run", Path::new(command.get_program()), &e))?;
    let path = home.join("auth.json");
    let bytes = files::read_small(&path, MAX_BYTES).map_err(|e| Error::io("read", &path, &e))?;
    let bytes = match bytes.filter(|_| ended.status.success()) {
        Some(bytes) => bytes,
        // After Ctrl-C the status says little: it is 0 with some versions.
        None if ended.signal.is_some() || ended.status.signal() == Some(Signal::SIGINT as i32) => {
            return Err(Error::of(ErrorKind::Stopped, "the login was cancelled; nothing was changed"));
        }
        None if !ended.status.success() => {
            return Err(Error::new(format!("`codex login` failed ({}); nothing was changed", ended.status))
                .hint("try again; `--device-auth` needs no browser here"));
        }
        None => {
            return Err(Error::new(
                "`codex login` left no login in the file where codex-pool looks for it; nothing was changed",
            )
            .hint("an administrator may have set cli_auth_credentials_store in /etc/codex"));
        }
    };
    AuthDoc::parse(bytes).map(AuthDoc::corrected).map_err(|e| {
        Error::new(format!("the new login cannot be used, since {e}; nothing was changed"))
            .hint("log in once more")
    })
}

/// Reads the API key, where Codex's configuration allows one.
fn api_key(ctx: &Context, read: fn() -> Result<Secret>) -> Result<Secret> {
    if !ctx.codex.allows_api_key() {
        return Err(Error::new(
            "Codex's configuration forbids API keys here (forced_login_method); nothing was changed",
        )
        .hint("`codex-pool add` logs in to ChatGPT"));
    }
    let key = read()?;
    let key = key.expose().trim();
    if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::new("standard input holds no API key; nothing was changed")
            .hint("`printenv OPENAI_API_KEY | codex-pool add --with-api-key`"));
    }
    Ok(Secret::new(key))
}

/// Whether this Codex reads an API key from standard input. An older one takes it as an argument, which others can
/// see.
fn knows_api_keys(codex: &Path) -> bool {
    let help = Command::new(codex).args(["login", "--help"]).stdin(Stdio::null()).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--with-api-key"))
}

/// The login home's `config.toml`: the user's settings that concern a login, and a file as the credential store.
fn config(users: &Path) -> Result<String> {
    let mut config = toml::Table::new();
    let bytes = files::read_small(users, MAX_BYTES).map_err(|e| Error::io("read", users, &e))?;
    if let Some(bytes) = bytes {
        let text = String::from_utf8_lossy(&bytes);
        let all: toml::Table = text.parse().map_err(|_| {
            Error::new(format!("{} is not valid TOML, so its login settings are unknown", users.display()))
                .hint("`codex` says where it is wrong")
        })?;
        config = all.into_iter().filter(|(key, _)| SETTINGS.contains(&key.as_str())).collect();
    }
    config.insert("cli_auth_credentials_store".into(), "file".into());
    Ok(config.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_login_home_gets_the_settings_that_concern_a_login() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let store = "cli_auth_credentials_store = \"file\"";
        assert_eq!(config(&file).unwrap().trim(), store);
        fs::write(
            &file,
            "model = \"x\"\ncli_auth_credentials_store = \"keyring\"\nforced_chatgpt_workspace_id = [\"w\"]\n\
             [model_providers.lab]\nname = \"lab\"\n[projects.\"/a\"]\ntrust_level = \"trusted\"\n",
        )
        .unwrap();
        let table: toml::Table = config(&file).unwrap().parse().unwrap();
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        assert_eq!(keys, ["cli_auth_credentials_store", "forced_chatgpt_workspace_id", "model_providers"]);
        assert_eq!(table["cli_auth_credentials_store"].as_str(), Some("file"));
        fs::write(&file, "model = ").unwrap();
        config(&file).unwrap_err();
    }
}
