//! What puts the shim on PATH: the two `env` files in the pool, and the line in the shell's start file that reads them.
//! Does not read the environment. `install.sh` writes the same text (a test compares the two), so that either of them
//! may come first.

pub(crate) mod new_shell;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use codex_pool_core::env::Env;
use codex_pool_core::files::{self, Durability};

use new_shell::Start;

/// A start file is smaller than this, bytes.
const LARGEST: u64 = 16 << 20;

const SH: &str = include_str!("env.sh");
const FISH: &str = include_str!("env.fish");

/// The contents of `env` (POSIX shells) and `env.fish`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EnvFiles {
    /// For `env`
    pub(crate) sh: String,
    /// For `env.fish`
    pub(crate) fish: String,
}

/// Returns the env files for the pool's `bin` folder, an absolute path. `None`: it cannot be in PATH (a colon, a line
/// break) or in a script (not UTF-8).
pub(crate) fn env_files(bin: &Path) -> Option<EnvFiles> {
    let bin = bin.to_str().filter(|bin| !bin.contains([':', '\n']))?;
    Some(EnvFiles { sh: SH.replace("@BIN@", &quote_sh(bin)), fish: FISH.replace("@BIN@", &quote_fish(bin)) })
}

/// Where the user's start files are.
#[derive(Debug)]
pub(crate) struct UserHome<'a> {
    /// `$HOME`
    pub(crate) home: &'a Path,
    /// `$SHELL`, of which the last component counts
    pub(crate) shell: &'a Path,
    /// `$ZDOTDIR`, where zsh looks instead of the home
    pub(crate) zdotdir: Option<&'a Path>,
    /// `$XDG_CONFIG_HOME`, where fish looks instead of `~/.config`
    pub(crate) config: Option<&'a Path>,
}

impl<'a> UserHome<'a> {
    /// Returns the user's home of this environment. `None`: HOME is not set.
    pub(crate) fn of(env: &'a Env) -> Option<UserHome<'a>> {
        Some(UserHome {
            home: env.home()?,
            shell: env.get("SHELL").map_or(Path::new(""), Path::new),
            zdotdir: env.get("ZDOTDIR").map(Path::new),
            config: env.get("XDG_CONFIG_HOME").map(Path::new),
        })
    }

    fn shell_name(&self) -> &str {
        self.shell.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The first of these is all that a login shell reads.
    fn bash_login_file(&self) -> PathBuf {
        let at_home = |name: &str| self.home.join(name);
        let first = [".bash_profile", ".bash_login"].map(at_home).into_iter().find(|file| file.exists());
        first.unwrap_or_else(|| at_home(".profile"))
    }

    /// The folder of `.zshenv`, which zsh reads first: there, ZDOTDIR may be set for the other files.
    fn zshenv_folder(&self) -> &Path {
        match self.zdotdir {
            Some(dir) if !self.home.join(".zshenv").exists() => dir,
            _ => self.home,
        }
    }
}

/// A line that belongs into a start file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StartLine {
    /// The start file, which may not exist yet
    pub(crate) file: PathBuf,
    /// The line, without its line break
    pub(crate) line: String,
    /// How a shell is started that reads the file
    pub(crate) start: Start,
}

/// Returns the start files of the user's shell, with the line that reads the pool's env file. bash has two: one for
/// interactive shells, and one for login shells, which terminals on macOS start. So has zsh: one for interactive shells,
/// and one for all, as those of scripts and `zsh -c`.
pub(crate) fn start_lines(home: &UserHome<'_>, pool: &Path) -> Vec<StartLine> {
    let shell = home.shell_name();
    let at_home = |name: &str| home.home.join(name);
    let config = || home.config.map_or_else(|| at_home(".config"), Path::to_path_buf);
    let of_terminals = if cfg!(target_os = "macos") { Start::Login } else { Start::Interactive };
    let files = match shell {
        "zsh" => vec![
            (home.zdotdir.unwrap_or(home.home).join(".zshrc"), of_terminals),
            (home.zshenv_folder().join(".zshenv"), Start::Command),
        ],
        "fish" => vec![(config().join("fish/config.fish"), of_terminals)],
        "bash" => vec![(at_home(".bashrc"), Start::Interactive), (home.bash_login_file(), Start::Login)],
        _ => vec![(at_home(".profile"), Start::Login)],
    };
    let line = source_line(home.home, pool, shell == "fish");
    files.into_iter().map(|(file, start)| StartLine { file, line: line.clone(), start }).collect()
}

/// Returns the line. It does nothing once the pool is gone: in some shells reading a missing file ends the shell.
pub(crate) fn source_line(home: &Path, pool: &Path, fish: bool) -> String {
    let name = if fish { "env.fish" } else { "env" };
    let file = if pool == home.join(".codex-pool") {
        format!("\"$HOME/.codex-pool/{name}\"")
    } else {
        let quote = if fish { quote_fish } else { quote_sh };
        quote(&pool.join(name).to_string_lossy())
    };
    if fish {
        format!("not test -f {file}; or source {file}")
    } else {
        format!("[ ! -f {file} ] || . {file}")
    }
}

/// Returns whether the line is in its file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn has_line(start: &StartLine) -> io::Result<bool> {
    Ok(has(&read(&start.file)?, start))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    files::read_small(file, LARGEST).map(Option::unwrap_or_default)
}

fn has(text: &[u8], start: &StartLine) -> bool {
    text.split(|&b| b == b'\n').any(|line| line == start.line.as_bytes())
}

/// Appends the line to its file unless it is there. Creates the file and its folder if needed, and follows links.
/// Returns whether the line is new.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) fn add_line(start: &StartLine) -> io::Result<bool> {
    let old = read(&start.file)?;
    if has(&old, start) {
        return Ok(false);
    }
    if let Some(folder) = start.file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let gap = if old.is_empty() || old.ends_with(b"\n") { "" } else { "\n" };
    let mut file = files::open_with(OpenOptions::new().append(true).create(true), 0, &start.file)?;
    file.write_all(format!("{gap}{}\n", start.line).as_bytes())?;
    Ok(true)
}

/// Moves the line to the end of its file, so that nothing there undoes it. Follows links.
///
/// # Errors
/// The file cannot be read or replaced, or has another owner or name; it is as it was then.
pub(crate) fn move_line(start: &StartLine) -> io::Result<()> {
    let file = std::fs::canonicalize(&start.file)?;
    let old = read(&file)?;
    let others = old.split_inclusive(|&b| b == b'\n');
    let mut new: Vec<u8> =
        others.filter(|line| line.trim_ascii_end() != start.line.as_bytes()).flatten().copied().collect();
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.push(b'\n');
    }
    new.extend_from_slice(start.line.as_bytes());
    new.push(b'\n');
    let meta = std::fs::metadata(&file)?;
    if meta.nlink() > 1 || meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other("it has another owner, or another name that would keep the old text"));
    }
    files::write_whole_as(&file, &new, meta.mode() & 0o7777, Durability::Durable)
}

/// Returns text as one word for a shell that follows POSIX.
pub(crate) fn quote_sh(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn quote_fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn home<'a>(home: &'a Path, shell: &'a str) -> UserHome<'a> {
        UserHome { home, shell: Path::new(shell), zdotdir: None, config: None }
    }

    #[test]
    fn a_quote_in_a_path_stays_inside_its_quotes() {
        let files = env_files(Path::new(r"/h/it's\bin")).unwrap();
        assert!(files.sh.contains(r"PATH='/h/it'\''s\bin':$PATH"), "{}", files.sh);
        assert!(files.fish.contains(r"'/h/it\'s\\bin'"), "{}", files.fish);
        assert!(!files.sh.contains('@') && !files.fish.contains('@'));
    }

    #[test]
    fn a_folder_that_cannot_stand_in_path_is_refused() {
        assert_eq!(env_files(Path::new("/a:b/bin")), None);
        assert_eq!(env_files(Path::new("/a\nb")), None);
    }

    #[test]
    fn each_shell_has_its_start_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = |shell: &str| -> Vec<String> {
            let pool = dir.path().join(".codex-pool");
            let lines = start_lines(&home(dir.path(), shell), &pool);
            let short = |l: &StartLine| l.file.strip_prefix(dir.path()).unwrap().display().to_string();
            lines.iter().map(short).collect()
        };
        assert_eq!(files("/bin/zsh"), [".zshrc", ".zshenv"]);
        assert_eq!(files("/usr/bin/fish"), [".config/fish/config.fish"]);
        assert_eq!(files("/bin/bash"), [".bashrc", ".profile"]);
        assert_eq!(files(""), [".profile"]);
        std::fs::write(dir.path().join(".bash_profile"), "").unwrap();
        assert_eq!(files("/bin/bash"), [".bashrc", ".bash_profile"]);
    }

    #[test]
    fn a_pool_elsewhere_is_named_in_full() {
        let home = Path::new("/home/a");
        let elsewhere = source_line(home, Path::new("/big disk/pool"), false);
        assert_eq!(elsewhere, "[ ! -f '/big disk/pool/env' ] || . '/big disk/pool/env'");
        let usual = source_line(home, Path::new("/home/a/.codex-pool"), true);
        assert!(usual.starts_with("not test -f \"$HOME/.codex-pool/env.fish\""), "{usual}");
    }

    #[test]
    fn the_line_is_added_once_and_never_glued_to_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/rc");
        let start = StartLine { file, line: "the line".into(), start: Start::Interactive };
        assert!(add_line(&start).unwrap());
        assert!(!add_line(&start).unwrap());
        std::fs::write(&start.file, "no line break").unwrap();
        assert!(add_line(&start).unwrap());
        assert_eq!(std::fs::read_to_string(&start.file).unwrap(), "no line break\nthe line\n");
        std::fs::write(&start.file, "the line\nthe line too\nlast").unwrap();
        std::fs::set_permissions(&start.file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let link = StartLine { file: dir.path().join("link"), ..start };
        std::os::unix::fs::symlink("new/rc", &link.file).unwrap();
        move_line(&link).unwrap();
        assert_eq!(std::fs::read_to_string(&link.file).unwrap(), "the line too\nlast\nthe line\n");
        assert!(link.file.is_symlink());
        assert_eq!(std::fs::metadata(&link.file).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
