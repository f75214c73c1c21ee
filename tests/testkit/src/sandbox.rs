//! One temporary world: a HOME with CODEX_HOME and pool, the programs under test on a PATH of its own, a
//! stand-in service, and an environment with nothing else. When it is dropped, every process of it is killed
//! and its folder removed (kept if `TESTKIT_KEEP` is set).
//!
//! It lies below the target folder, since Codex does not work in the system's temporary folder; `TESTKIT_DIR`
//! puts it elsewhere. Paths are kept short, for the sake of sockets in them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::backend::Backend;
use crate::cmd::Cmd;
use crate::files::{self, set_mode};
use crate::procs::{self, Process};
use crate::real_codex::{RealCodex, real_codex, version};
use crate::{bins, find_program};

/// Which program is Codex in a sandbox, behind the shim.
#[derive(Clone, Debug)]
pub enum Codex {
    /// The kit's stand-in: needs no Node, sends one request.
    StandIn,
    /// The kit's probe: records what it was started with.
    Probe,
    /// The real one.
    Real(RealCodex),
    /// A shell script of this text.
    Script(String),
    /// Any other program.
    Program(PathBuf),
    /// None is installed.
    Missing,
}

impl Codex {
    /// Returns the real one of the tests' [`version`]; `None` where there is none: the test is left out then.
    #[track_caller]
    pub fn real() -> Option<Codex> {
        Codex::real_of(&version())
    }

    /// Returns the real one of a version; `None` where there is none: the test is left out then.
    #[track_caller]
    pub fn real_of(version: &str) -> Option<Codex> {
        real_codex(version).map(Codex::Real)
    }
}

/// A temporary world, see the module's text.
pub struct Sandbox {
    dir: Option<TempDir>,
    /// Locked for as long as this sandbox is in use.
    _owned: File,
    root: PathBuf,
    home: PathBuf,
    backend: Backend,
    codex: Codex,
}

/// What a sandbox is to be like; made by [`Sandbox::builder`].
pub struct Builder {
    backend: Option<Backend>,
    codex: Codex,
    pool: bool,
    home: String,
}

impl Builder {
    /// Uses a service that runs already.
    #[must_use]
    pub fn backend(mut self, backend: &Backend) -> Builder {
        self.backend = Some(backend.clone());
        self
    }

    /// Puts that program in Codex's place.
    #[must_use]
    pub fn codex(mut self, codex: Codex) -> Builder {
        self.codex = codex;
        self
    }

    /// Leaves out `.codex-pool` and the shim, as before the first installation.
    #[must_use]
    pub fn without_pool(mut self) -> Builder {
        self.pool = false;
        self
    }

    /// Names the HOME folder otherwise (say, with a space).
    #[must_use]
    pub fn home_name(mut self, name: &str) -> Builder {
        name.clone_into(&mut self.home);
        self
    }

    /// Makes the world.
    ///
    /// # Panics
    /// If that fails.
    pub fn build(self) -> Sandbox {
        procs::heed_the_terminal();
        let base = std::env::var_os("TESTKIT_DIR").map_or_else(usual_base, PathBuf::from);
        let (dir, owned) = claim(&base);
        let root = dir.path().canonicalize().expect("the sandbox's real path");
        let backend = self.backend.unwrap_or_else(Backend::start);
        let home = root.join(&self.home);
        let sandbox = Sandbox { dir: Some(dir), _owned: owned, home, root, backend, codex: self.codex };
        for folder in ["tmp", "bin", "work"] {
            make_dir(&sandbox.root.join(folder));
        }
        make_dir(&sandbox.codex_home());
        sandbox.place_codex();
        install(&bins::codex_pool(), &sandbox.home.join(".local/bin/codex-pool"));
        if self.pool {
            install(&bins::shim(), &sandbox.shim());
            set_mode(&sandbox.pool_home(), 0o700);
            sandbox.write_profile();
        }
        fs::write(sandbox.codex_home().join("config.toml"), sandbox.codex_config().to_string())
            .expect("write config.toml");
        sandbox
    }
}

impl Sandbox {
    /// Returns a world with the stand-in Codex and a service of its own.
    pub fn new() -> Sandbox {
        Sandbox::builder().build()
    }

    /// Starts the description of a world.
    pub fn builder() -> Builder {
        Builder { backend: None, codex: Codex::StandIn, pool: true, home: "home".to_owned() }
    }

    /// Returns the stand-in service.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Returns the folder that everything is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// HOME.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns `$HOME/.codex`.
    pub fn codex_home(&self) -> PathBuf {
        self.home.join(".codex")
    }

    /// Returns `$HOME/.codex-pool`.
    pub fn pool_home(&self) -> PathBuf {
        self.home.join(".codex-pool")
    }

    /// Returns the login homes in the pool: those of logins that go on, and what killed ones left.
    pub fn login_homes(&self) -> Vec<PathBuf> {
        let entries =
            |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let homes =
            entries(&self.pool_home().join("homes")).flat_map(|over| entries(&over).collect::<Vec<_>>());
        let is_login =
            |home: &PathBuf| home.file_name().is_some_and(|n| n.to_string_lossy().starts_with("login-"));
        homes.filter(is_login).collect()
    }

    /// Returns the installed shim.
    pub fn shim(&self) -> PathBuf {
        self.pool_home().join("bin/codex")
    }

    /// Returns the trusted, empty folder that commands run in.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Returns the `codex` that the shim finds.
    ///
    /// # Panics
    /// If the sandbox was made without one.
    pub fn real_path(&self) -> PathBuf {
        match &self.codex {
            Codex::Real(real) => real.launcher.clone(),
            Codex::Missing => panic!("this sandbox has no Codex"),
            _ => self.root.join("bin/codex"),
        }
    }

    /// Returns what is in Codex's place.
    pub fn codex_kind(&self) -> &Codex {
        &self.codex
    }

    /// Returns `PATH`: shim, `codex-pool`, Codex, and the system's folders.
    pub fn path_var(&self) -> OsString {
        let mut folders = vec![self.pool_home().join("bin"), self.home.join(".local/bin")];
        if let Codex::Real(real) = &self.codex {
            folders.extend(real.launcher.parent().map(Path::to_owned));
        }
        folders.extend([self.root.join("bin"), "/usr/bin".into(), "/bin".into()]);
        std::env::join_paths(folders).expect("no folder has a colon in its name")
    }

    /// Returns a command that runs a program in this world's environment and its work folder.
    pub fn cmd(&self, program: impl AsRef<std::ffi::OsStr>) -> Cmd {
        Cmd::new(program)
            .env("HOME", &self.home)
            .env("PATH", self.path_var())
            .env("TMPDIR", self.root.join("tmp"))
            .env("LANG", "C.UTF-8")
            .env("USER", "tester")
            .env("SHELL", "/bin/sh")
            .env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", self.backend.token_url())
            .env("CODEX_REVOKE_TOKEN_URL_OVERRIDE", self.backend.revoke_url())
            // A program that wants to leave loopback asks the stand-in service, which refuses and takes note.
            .env("HTTPS_PROXY", self.backend.url())
            .env("NO_PROXY", "127.0.0.1,localhost")
            .current_dir(self.work())
    }

    /// Returns `codex` as a user types it: the first on PATH, which is the shim.
    pub fn codex(&self, args: &[&str]) -> Cmd {
        self.cmd("codex").args(args)
    }

    /// Returns `codex-pool` as a user types it.
    pub fn pool(&self, args: &[&str]) -> Cmd {
        self.cmd("codex-pool").args(args)
    }

    /// Returns the Codex behind the shim, by its full path.
    pub fn real_codex(&self, args: &[&str]) -> Cmd {
        self.cmd(self.real_path()).args(args)
    }

    /// Returns the live `auth.json`, if there is one.
    pub fn live(&self) -> Option<String> {
        fs::read_to_string(self.codex_home().join("auth.json")).ok()
    }

    /// Returns Codex's session logs, oldest first.
    pub fn rollouts(&self) -> Vec<PathBuf> {
        let mut found = files::files_below(&self.codex_home().join("sessions"));
        // Their names begin with a time.
        found.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
        found
    }

    /// Writes the live `auth.json` (0600), in place like Codex.
    ///
    /// # Panics
    /// If that fails.
    pub fn write_live(&self, auth_json: &str) {
        self.write_private(&self.codex_home().join("auth.json"), auth_json);
    }

    /// Writes a file (0600), making its folders.
    ///
    /// # Panics
    /// If that fails.
    pub fn write_private(&self, path: &Path, text: &str) {
        make_dir(path.parent().expect("a file in a folder"));
        fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        set_mode(path, 0o600);
    }

    /// Changes Codex's `config.toml`.
    ///
    /// # Panics
    /// If it is not there or not TOML.
    pub fn edit_config(&self, edit: impl FnOnce(&mut toml::Table)) {
        let path = self.codex_home().join("config.toml");
        let mut config: toml::Table =
            fs::read_to_string(&path).expect("read config.toml").parse().expect("config.toml is TOML");
        edit(&mut config);
        fs::write(&path, config.to_string()).expect("write config.toml");
    }

    /// Lets Codex use websockets for its turns.
    ///
    /// # Panics
    /// As [`Sandbox::edit_config`].
    pub fn use_websockets(&self) {
        self.set_provider("supports_websockets", true);
    }

    /// Sets a field of the model provider in Codex's `config.toml`.
    ///
    /// # Panics
    /// As [`Sandbox::edit_config`].
    pub fn set_provider(&self, field: &str, value: impl Into<toml::Value>) {
        self.edit_config(|config| {
            let lab = config["model_providers"]["lab"].as_table_mut().expect("a table");
            lab.insert(field.to_owned(), value.into());
        });
    }

    /// Returns the `config.toml` that points Codex at the stand-in service.
    pub fn codex_config(&self) -> toml::Table {
        let base = self.backend.chatgpt_base_url();
        let mut config: toml::Table = format!(
            r#"chatgpt_base_url = "{base}"
            model_provider = "lab"
            check_for_update_on_startup = false
            disable_paste_burst = true
            [analytics]
            enabled = false
            [notice.model_migrations]
            "gpt-5.3-codex" = "gpt-5.4"
            [model_providers.lab]
            name = "lab"
            base_url = "{base}/codex"
            wire_api = "responses"
            requires_openai_auth = true
            "#
        )
        .parse()
        .expect("the kit's own TOML");
        let trusted: toml::Table = "trust_level = \"trusted\"".parse().expect("the kit's own TOML");
        let work = self.work().to_string_lossy().into_owned();
        config.insert("projects".into(), toml::Table::from_iter([(work, trusted.into())]).into());
        config
    }

    /// Processes of this world that run now.
    pub fn processes(&self) -> Vec<Process> {
        procs::processes(&self.root)
    }

    /// Codex's tools run in login shells, whose start-up files set PATH anew: this one sets it as it was.
    fn write_profile(&self) {
        let path = self.path_var().to_string_lossy().replace('\'', r"'\''");
        fs::write(self.home.join(".profile"), format!("PATH='{path}'\nexport PATH\n"))
            .expect("write .profile");
    }

    fn place_codex(&self) {
        let place = self.root.join("bin/codex");
        match &self.codex {
            Codex::StandIn => install(&bins::standin_codex(), &place),
            Codex::Probe => install(&bins::standin_probe(), &place),
            Codex::Script(text) => drop(files::write_script(&place, text)),
            Codex::Program(program) => symlink(program, &place).expect("link the program"),
            Codex::Missing => {}
            Codex::Real(_) => {
                let node = find_program("node").expect("the real Codex needs Node");
                symlink(node, self.root.join("bin/node")).expect("link node");
            }
        }
    }
}

impl Default for Sandbox {
    fn default() -> Sandbox {
        Sandbox::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let left = procs::end_all(&self.root);
        let Some(dir) = self.dir.take() else { return };
        if std::env::var_os("TESTKIT_KEEP").is_some() {
            // Without it, the folder is not swept.
            let _ = fs::remove_file(dir.keep().join(OWNED));
            return;
        }
        let removed = dir.close();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "these could not be killed: {left:?}");
            removed.unwrap_or_else(|e| panic!("remove the sandbox: {e}"));
        }
    }
}

/// File in a sandbox that is locked while it is in use.
const OWNED: &str = ".owned";

/// Makes a sandbox's folder in `base`, after clearing away those of tests that were killed.
fn claim(base: &Path) -> (TempDir, File) {
    make_dir(base);
    let one_at_a_time = File::create(base.join(".lock")).expect("make the lock of all sandboxes");
    one_at_a_time.lock().expect("lock all sandboxes");
    for entry in fs::read_dir(base).expect("list sandboxes").flatten() {
        sweep(&entry.path());
    }
    let dir = tempfile::Builder::new().prefix("s").tempdir_in(base).expect("make the sandbox's folder");
    let owned = File::create(dir.path().join(OWNED)).expect("make the sandbox's lock");
    owned.lock().expect("lock the sandbox");
    (dir, owned)
}

/// Returns where sandboxes are: with what was built. Root's own folders are closed to the users as whom some tests run
/// programs; where it was built in one of those, sandboxes are elsewhere, though not in the system's temporary
/// folder, which Codex treats differently.
fn usual_base() -> PathBuf {
    let usual = bins::target_dir().join("sandbox");
    let closed = |dir: &Path| fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0);
    if nix::unistd::geteuid().is_root() && bins::target_dir().ancestors().any(closed) {
        return PathBuf::from("/var/tmp/codex-pool-tests");
    }
    usual
}

/// Removes a sandbox, and ends its processes, if its owner is gone.
fn sweep(root: &Path) {
    let Ok(owned) = File::open(root.join(OWNED)) else { return };
    if owned.try_lock().is_ok() {
        procs::end_all(root);
        // What cannot be removed now is tried again by the next one.
        let _ = fs::remove_dir_all(root);
    }
}

fn make_dir(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
}

/// Hard-links a program into place. A copy would be open for writing for a moment, and a child that another
/// thread forks in that moment makes it impossible to execute (`ETXTBSY`).
fn install(program: &Path, place: &Path) {
    make_dir(place.parent().expect("a program in a folder"));
    if fs::hard_link(program, place).is_err() {
        fs::copy(program, place).unwrap_or_else(|e| panic!("copy to {}: {e}", place.display()));
    }
}
