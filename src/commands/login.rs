//! A login that touches nobody else's: the official `codex login` as a child on this terminal, in a
//! private, empty CODEX_HOME inside the pool. Codex revokes the login that it finds there, so there must be
//! none. The pool is not locked meanwhile; what comes of it is the caller's.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use codex_pool_core::auth_doc::{AuthDoc, MAX_BYTES, Secret};
use codex_pool_core::codex::find;
use codex_pool_core::env::names;
use codex_pool_core::files::{self, Durability, PoolLock};
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::process::{Liveness, ProcessId};
use codex_pool_core::store::{LostFound, Why};
use codex_pool_core::{Error, Result};
use nix::sys::signal::Signal;

use super::Context;
use crate::cli::LoginArgs;
use crate::signals::{self, Held};
use crate::ui;

/// Settings of the user that decide where and as whom one may log in, and what is told to whom meanwhile.
const CARRIED: [&str; 8] = [
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
/// A home whose maker cannot be told is left over after this long.
const LEFT_OVER: Duration = Duration::from_secs(86_400);
/// No API key is longer, bytes.
const MAX_KEY: u64 = 64 << 10;

/// Lets the user log in, and gives the document that came of it.
///
/// # Errors
/// There is no Codex, or the login was cancelled, failed, or left nothing that the pool can manage. The
/// private home is gone then, as always.
pub(super) fn run(ctx: &Context<'_>, args: &LoginArgs) -> Result<AuthDoc> {
    let codex = find::find(ctx.env, &ctx.settings, None).map_err(|e| Error::new(e.to_string()))?;
    let key = if args.with_api_key { Some(read_key(ctx)?) } else { None };
    let config = carried(&ctx.main_home.dir().join("config.toml"))?;
    if let Some(key) = &key
        && !knows_api_keys(&codex)
    {
        return AuthDoc::of_api_key(key).map_err(|e| Error::new(format!("the API key cannot be used: {e}")));
    }
    let held = signals::hold();
    let home = PrivateHome::make(ctx, &config)?;
    let mut command = Command::new(&codex);
    command.arg("login");
    if args.device_auth {
        command.arg("--device-auth");
    }
    if key.is_some() {
        command.arg("--with-api-key");
    }
    command.args(&args.login_args);
    login(&held, &mut command, &home, key.as_ref())
}

fn login(held: &Held, command: &mut Command, home: &PrivateHome, key: Option<&Secret>) -> Result<AuthDoc> {
    // Should that `codex` be a script that comes back to the shim, the shim steps aside.
    command.env(names::CODEX_HOME, &home.dir).env(names::CODEX_POOL, "off");
    for name in ["CODEX_API_KEY", "CODEX_ACCESS_TOKEN", names::CODEX_SQLITE_HOME, names::CODEX_POOL_LAUNCH] {
        command.env_remove(name);
    }
    let ended = held
        .attend(command, key.map(|key| key.expose().as_bytes()))
        .map_err(|e| Error::io("run", Path::new(command.get_program()), &e))?;
    let path = home.dir.join("auth.json");
    let bytes = files::read_small(&path, MAX_BYTES).map_err(|e| Error::io("read", &path, &e))?;
    let bytes = match bytes.filter(|_| ended.status.success()) {
        Some(bytes) => bytes,
        // After Ctrl-C the status says little: it is 0 with some versions.
        None if ended.signal.is_some() || ended.status.signal() == Some(Signal::SIGINT as i32) => {
            return Err(Error::new("the login was cancelled; nothing was changed"));
        }
        None if !ended.status.success() => {
            return Err(Error::new(format!("`codex login` failed ({}); nothing was changed", ended.status)));
        }
        None => {
            return Err(Error::new(
                "`codex login` left no login in the file where codex-pool looks for it; nothing was changed",
            )
            .hint("an administrator may have set cli_auth_credentials_store in /etc/codex"));
        }
    };
    AuthDoc::parse(bytes)
        .map(AuthDoc::corrected)
        .map_err(|e| Error::new(format!("the new login cannot be used, since {e}; nothing was changed")))
}

/// The API key from standard input; a person is asked for it.
fn read_key(ctx: &Context<'_>) -> Result<Secret> {
    if !ctx.codex.allows_api_key() {
        return Err(Error::new(
            "Codex's configuration forbids API keys here (forced_login_method); nothing was changed",
        ));
    }
    let key = if std::io::stdin().is_terminal() {
        ui::secret("API key:")?
    } else {
        let read = files::read_stream(std::io::stdin().lock(), MAX_KEY);
        let bytes =
            read.map_err(|e| Error::new(format!("cannot read the API key from standard input: {e}")))?;
        // What is no text is no key either.
        Secret::new(String::from_utf8(bytes).unwrap_or_default())
    };
    let key = key.expose().trim();
    if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::new("standard input holds no API key; nothing was changed")
            .hint("`printenv OPENAI_API_KEY | codex-pool add --with-api-key`"));
    }
    Ok(Secret::new(key))
}

/// Whether this Codex takes a key from standard input. One that does not would want it in an argument.
fn knows_api_keys(codex: &Path) -> bool {
    let help = Command::new(codex).args(["login", "--help"]).stdin(Stdio::null()).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--with-api-key"))
}

/// The private home's `config.toml`: what counts for a login, and that its result is a file.
fn carried(users: &Path) -> Result<String> {
    let mut config = toml::Table::new();
    let bytes = files::read_small(users, MAX_BYTES).map_err(|e| Error::io("read", users, &e))?;
    if let Some(bytes) = bytes {
        let text = String::from_utf8_lossy(&bytes);
        let own: toml::Table = text.parse().map_err(|_| {
            Error::new(format!("{} is no valid TOML, so its login settings are unknown", users.display()))
                .hint("`codex` says where it is wrong")
        })?;
        config = own.into_iter().filter(|(key, _)| CARRIED.contains(&key.as_str())).collect();
    }
    config.insert("cli_auth_credentials_store".into(), "file".into());
    Ok(config.to_string())
}

/// An empty CODEX_HOME for one login, named after this process.
struct PrivateHome {
    dir: PathBuf,
}

impl PrivateHome {
    fn make(ctx: &Context<'_>, config: &str) -> Result<PrivateHome> {
        let me =
            ProcessId::of_self().map_or_else(|_| format!("pid-{}", std::process::id()), |me| me.to_string());
        let home = PrivateHome { dir: ctx.paths.logins().join(me) };
        files::create_private_dir(&home.dir).map_err(|e| Error::io("create", &home.dir, &e))?;
        let file = home.dir.join("config.toml");
        files::write_whole(&file, config.as_bytes(), Durability::Fast)
            .map_err(|e| Error::io("write", &file, &e))?;
        // Codex reads variables from there, such as a proxy's.
        let variables = ctx.main_home.dir().join(ENV_FILE);
        if variables.exists() {
            let link = home.dir.join(ENV_FILE);
            symlink(&variables, &link).map_err(|e| Error::io("link", &link, &e))?;
        }
        Ok(home)
    }
}

impl Drop for PrivateHome {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            ui::warn(&Error::io("remove", &self.dir, &e).to_string());
        }
        // Only an empty one goes.
        let _ = self.dir.parent().map(fs::remove_dir);
    }
}

/// Removes private homes of logins that were killed. A login that was made there all the same is kept in
/// `lost+found/`: nobody was told that it had succeeded.
pub(super) fn sweep(lock: &PoolLock, paths: &PoolPaths, now: i64) {
    let Ok(homes) = fs::read_dir(paths.logins()) else { return };
    let me = ProcessId::of_self().ok();
    for home in homes.flatten() {
        let maker = home.file_name().to_str().and_then(ProcessId::parse);
        let left_over = match (maker, &me) {
            (Some(maker), Some(me)) if maker != *me => {
                maker.liveness(me) == Liveness::Dead || is_old(&home.path())
            }
            (Some(_), Some(_)) => true,
            _ => is_old(&home.path()),
        };
        if left_over && keep_login(lock, paths, &home.path(), now).is_ok() {
            // The next command tries again.
            let _ = fs::remove_dir_all(home.path());
        }
    }
    // Only an empty one goes.
    let _ = fs::remove_dir(paths.logins());
}

fn keep_login(lock: &PoolLock, paths: &PoolPaths, home: &Path, now: i64) -> Result<()> {
    let path = home.join("auth.json");
    let bytes = files::read_small(&path, MAX_BYTES).map_err(|e| Error::io("read", &path, &e))?;
    if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
        LostFound::new(paths).keep(lock, &bytes, Why::Unclaimed, None, now)?;
    }
    Ok(())
}

fn is_old(dir: &Path) -> bool {
    let modified = fs::metadata(dir).and_then(|m| m.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > LEFT_OVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_counts_for_a_login_is_carried_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let store = "cli_auth_credentials_store = \"file\"";
        assert_eq!(carried(&file).unwrap().trim(), store);
        fs::write(
            &file,
            "model = \"x\"\ncli_auth_credentials_store = \"keyring\"\nforced_chatgpt_workspace_id = [\"w\"]\n\
             [model_providers.lab]\nname = \"lab\"\n[projects.\"/a\"]\ntrust_level = \"trusted\"\n",
        )
        .unwrap();
        let config: toml::Table = carried(&file).unwrap().parse().unwrap();
        let keys: Vec<&str> = config.keys().map(String::as_str).collect();
        assert_eq!(keys, ["cli_auth_credentials_store", "forced_chatgpt_workspace_id", "model_providers"]);
        assert_eq!(config["cli_auth_credentials_store"].as_str(), Some("file"));
        fs::write(&file, "model = ").unwrap();
        carried(&file).unwrap_err();
    }

    #[test]
    fn homes_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().to_owned());
        let me = ProcessId::of_self().unwrap();
        let living = ProcessId { pid: std::os::unix::process::parent_id(), ..me.clone() };
        let ticks = codex_pool_core::process::stat(living.pid).unwrap().start_ticks;
        let living = ProcessId { start_ticks: ticks, ..living }.to_string();
        let dead = ProcessId { start_ticks: me.start_ticks + 1, ..me }.to_string();
        for name in [&living, &dead] {
            fs::create_dir_all(paths.logins().join(name).join("log")).unwrap();
        }
        let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
        fs::write(paths.logins().join(&dead).join("auth.json"), "a login").unwrap();
        sweep(&lock, &paths, 7);
        let kept = LostFound::new(&paths).entries();
        assert_eq!(fs::read_to_string(&kept[0].1).unwrap(), "a login");
        assert!(paths.logins().join(living).exists() && !paths.logins().join(dead).exists());
    }
}
