//! What a new shell finds. The user's shell is started as a terminal or a program starts it, with nothing of this
//! environment but who the user is, and says its PATH. If another `codex` than the shim comes first there, the shell's own
//! trace tells which line of a start file put it there. This runs what the start files run, without a terminal, and
//! changes nothing itself.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use codex_pool_core::codex::find::all_on_path;
use codex_pool_core::codex::probe;
use codex_pool_core::env::Env;

use super::UserHome;

/// How long the start files may take.
const ANSWER: Duration = Duration::from_secs(5);
/// What a program gets as PATH that no shell has started.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Begins a line of ours in what a shell prints.
const MARK: &str = "\u{1f}codex-pool\u{1f}";

/// How a shell is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// In a terminal.
    Interactive,
    /// As a login shell: in a terminal on macOS, and over ssh.
    Login,
    /// For one command: `zsh -c`.
    Command,
}

/// A shell whose start files are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bash,
    Zsh,
    Fish,
    Other,
}

/// What `codex` is in a new shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The shim.
    Shim,
    /// Another program, which comes before the shim or without it.
    Other(PathBuf),
    /// Nothing.
    Nothing,
}

/// The user's shell.
#[derive(Debug)]
pub(crate) struct NewShell<'a> {
    user: &'a UserHome<'a>,
    env: &'a Env,
    kind: Kind,
}

/// A line of a start file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: PathBuf,
    line: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} of {}", self.line, self.file.display())
    }
}

impl<'a> NewShell<'a> {
    /// Returns the user's shell. `None`: it is not known, or cannot be started.
    pub(crate) fn of(user: &'a UserHome<'a>, env: &'a Env) -> Option<NewShell<'a>> {
        let kind = match user.shell_name() {
            "bash" => Kind::Bash,
            "zsh" => Kind::Zsh,
            "fish" => Kind::Fish,
            _ => Kind::Other,
        };
        (user.shell.is_absolute() && user.shell.is_file()).then_some(NewShell { user, env, kind })
    }

    /// Returns the kind of shell that a new terminal has.
    pub(crate) fn of_terminals(&self) -> Start {
        if cfg!(target_os = "macos") || self.kind == Kind::Other { Start::Login } else { Start::Interactive }
    }

    /// Returns whether a shell that is started for one command reads a start file at all.
    pub(crate) fn commands_read_files(&self) -> bool {
        matches!(self.kind, Kind::Zsh | Kind::Fish)
    }

    /// Returns what `codex` is in a shell that is started in this way. `None`: it does not answer.
    pub(crate) fn finds(&self, start: Start) -> Option<Found> {
        let script = match self.kind {
            Kind::Fish => format!("printf '\\n{MARK}%s\\n' (string join : $PATH)"),
            _ => format!("printf '\\n{MARK}%s\\n' \"$PATH\""),
        };
        let mut args: Vec<&OsStr> = match (start, self.kind) {
            (Start::Command, _) | (Start::Interactive, Kind::Other) => Vec::new(),
            (Start::Interactive, _) => vec!["-i".as_ref()],
            (Start::Login, Kind::Other) => vec!["-l".as_ref()],
            (Start::Login, _) => vec!["-l".as_ref(), "-i".as_ref()],
        };
        args.extend([OsStr::new("-c"), OsStr::new(&script)]);
        let text = self.run(&args)?;
        let path = text.lines().rev().find_map(|line| line.strip_prefix(MARK))?;
        Some(self.on(path))
    }

    /// Returns the line after which this program is what `codex` means. `None`: the shell has no trace of it.
    pub(crate) fn line_before(&self, start: Start, program: &Path) -> Option<Place> {
        let script = self.trace(start)?;
        let text = self.run(&[self.no_files(), OsStr::new("-i"), OsStr::new("-c"), OsStr::new(&script)])?;
        let mut steps: Vec<(Place, String, Found)> = Vec::new();
        for (place, path) in text.lines().filter_map(step) {
            let found = match steps.last() {
                Some((_, before, found)) if before == path => found.clone(),
                _ => self.on(path),
            };
            steps.push((place, path.to_owned(), found));
        }
        let won = |found: &Found| matches!(found, Found::Other(other) if other == program);
        let mut pairs = steps.windows(2).rev();
        let change = pairs.find(|pair| !won(&pair[0].2) && won(&pair[1].2))?;
        Some(change[0].0.clone())
    }

    /// The option by which the shell reads no start file.
    fn no_files(&self) -> &'static OsStr {
        OsStr::new(if self.kind == Kind::Zsh { "-f" } else { "--norc" })
    }

    /// A script that reads the start files and prints, before each command, where it is and what PATH is.
    fn trace(&self, start: Start) -> Option<String> {
        let (prompt, files) = match (self.kind, start) {
            (Kind::Bash, Start::Interactive) => {
                (BASH_PROMPT, vec!["/etc/bash.bashrc".into(), self.user.home.join(".bashrc")])
            }
            (Kind::Bash, Start::Login) => {
                (BASH_PROMPT, vec!["/etc/profile".into(), self.user.bash_login_file()])
            }
            (Kind::Zsh, start) => (ZSH_PROMPT, self.zsh_files(start)),
            _ => return None,
        };
        let files = files.iter().filter(|file| file.is_file());
        let reads: String =
            files.map(|file| format!(". {}\n", super::quote_sh(&file.to_string_lossy()))).collect();
        Some(format!("exec 2>&1\n{prompt}\n{reads}: end"))
    }

    fn zsh_files(&self, start: Start) -> Vec<PathBuf> {
        let names: &[&str] = match start {
            Start::Command => &["zshenv"],
            Start::Interactive => &["zshenv", "zshrc"],
            Start::Login => &["zshenv", "zprofile", "zshrc", "zlogin"],
        };
        let (home, zdotdir) = (self.user.zshenv_folder(), self.user.zdotdir.unwrap_or(self.user.home));
        names
            .iter()
            .flat_map(|name| {
                let folder = if *name == "zshenv" { home } else { zdotdir };
                ["/etc".into(), "/etc/zsh".into(), folder.to_owned()].map(|folder: PathBuf| {
                    let dot = if folder.starts_with("/etc") { "" } else { "." };
                    folder.join(format!("{dot}{name}"))
                })
            })
            .collect()
    }

    /// Returns what `codex` is on this PATH.
    fn on(&self, path: &str) -> Found {
        let env = self.env.clone().with("PATH", Some(path.as_ref()));
        match all_on_path(&env).into_iter().next() {
            Some((_, true)) => Found::Shim,
            Some((program, false)) => Found::Other(program),
            None => Found::Nothing,
        }
    }

    fn run(&self, args: &[&OsStr]) -> Option<String> {
        let mut command = Command::new(self.user.shell);
        command.args(args).env_clear().current_dir(self.user.home).envs([
            ("HOME", self.user.home.as_os_str()),
            ("SHELL", self.user.shell.as_os_str()),
            ("PATH", SYSTEM_PATH.as_ref()),
            ("TERM", "dumb".as_ref()),
            // Frameworks of start files would ask.
            ("DISABLE_AUTO_UPDATE", "true".as_ref()),
        ]);
        for name in ["USER", "LOGNAME", "LANG", "TMPDIR", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
            if let Some(value) = self.env.get(name) {
                command.env(name, value);
            }
        }
        // A file in the home may set it; else it comes from above the shells.
        if let Some(dir) = self.user.zdotdir.filter(|dir| self.user.zshenv_folder() == *dir) {
            command.env("ZDOTDIR", dir);
        }
        // SAFETY: setsid has no memory of this process to do with. An interactive shell must not find this terminal: it
        // would take it for itself.
        #[expect(unsafe_code, reason = "pre_exec")]
        unsafe {
            command.pre_exec(|| Ok(nix::unistd::setsid().map(|_| ())?));
        }
        probe::answer(&mut command, ANSWER)
    }
}

const BASH_PROMPT: &str =
    "PS4=$'\\n\\x1fcodex-pool\\x1f${BASH_SOURCE}\\x1f${LINENO}\\x1f${PATH}\\x1f\\n'; set -x";
const ZSH_PROMPT: &str =
    "PS4=$'\\n\\x1fcodex-pool\\x1f%x\\x1f%I\\x1f${PATH}\\x1f\\n'; setopt promptsubst xtrace";

/// Reads a line of the trace: a place, and PATH before the command there.
fn step(line: &str) -> Option<(Place, &str)> {
    let mut fields = line.strip_prefix(MARK)?.split('\u{1f}');
    let (file, line, path) = (fields.next()?, fields.next()?, fields.next()?);
    Some((Place { file: file.into(), line: line.parse().ok()? }, path))
}
