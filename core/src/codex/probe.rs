//! What the installed Codex supports, asked once per installation with `codex --help`.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::configuration::SYSTEM_DIR;
use crate::files;
use crate::hash::short_hash_text;

/// How long Codex may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What a Codex installation supports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `--no-daemon`
    #[serde(default)]
    pub no_daemon: bool,
    /// What it said of `cli_resume_account_check`. `None`: not asked yet
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_check: Option<AccountCheck>,
}

/// Whether only the account that began a thread may go on with it. It is a feature that users can turn on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AccountCheck {
    on: bool,
    /// The configuration that it was asked with.
    configuration: String,
}

impl Capabilities {
    /// Returns whether Codex lets only the account that began a thread go on with it. `None`: that was not asked since
    /// its configuration changed.
    pub fn checks_account(&self, codex_home: &Path) -> Option<bool> {
        let known = self.account_check.as_ref()?;
        (known.configuration == configuration(codex_home)).then_some(known.on)
    }

    /// Remembers the answer.
    pub fn set_checks_account(&mut self, on: bool, codex_home: &Path) {
        self.account_check = Some(AccountCheck { on, configuration: configuration(codex_home) });
    }
}

/// Returns what changes with the files that turn features on.
fn configuration(codex_home: &Path) -> String {
    let files =
        [codex_home, Path::new(SYSTEM_DIR)].map(|dir| stamp(&dir.join("config.toml")).unwrap_or_default());
    let parts: Vec<&[u8]> = files.iter().map(String::as_bytes).collect();
    short_hash_text(&parts)
}

/// Returns the identity of an installation: of the launcher, its package and its native binary. The launcher alone
/// says nothing, since it is the same in some versions. `None`: a script without a package beside it, such as the
/// wrapper of a version manager, behind which anything may change.
pub fn identity(codex: &Path) -> Option<String> {
    let real = fs::canonicalize(codex).ok()?;
    let mut parts = vec![stamp(&real)?];
    match package_root(&real) {
        Some(root) => {
            parts.push(stamp(&root.join("package.json"))?);
            parts.extend(native_binary(&root).and_then(|native| stamp(&native)));
        }
        None if is_script(&real) => return None,
        None => {}
    }
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    Some(short_hash_text(&parts))
}

fn stamp(path: &Path) -> Option<String> {
    let m = fs::metadata(path).ok()?;
    Some(format!("{}:{}:{}:{}.{};", m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}

fn is_script(path: &Path) -> bool {
    let mut head = [0; 2];
    files::read_head(path, &mut head).is_ok() && head == *b"#!"
}

/// Returns `…/@openai/codex` for `…/@openai/codex/bin/codex.js`.
fn package_root(launcher: &Path) -> Option<PathBuf> {
    let root = launcher.parent()?.parent()?;
    root.join("package.json").is_file().then(|| root.to_owned())
}

/// Returns the native binary of an npm package: `vendor/<triple>/bin/codex` in the package of the platform, which is
/// beside it or inside it.
pub fn native_binary(package: &Path) -> Option<PathBuf> {
    let nested = package.join("node_modules/@openai");
    let roots = [package.parent()?.to_owned(), nested];
    let platform = roots
        .iter()
        .flat_map(|dir| entries(dir))
        .filter(|dir| dir.file_name().is_some_and(|name| name.as_bytes().starts_with(b"codex-")));
    let vendors =
        std::iter::once(package.to_owned()).chain(platform).flat_map(|dir| entries(&dir.join("vendor")));
    vendors.flat_map(|triple| [triple.join("bin/codex"), triple.join("codex/codex")]).find(|p| p.is_file())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map_or_else(|_| Vec::new(), |d| d.filter_map(|e| Some(e.ok()?.path())).collect())
}

/// Asks the installed Codex. `None`: it did not answer within 5 seconds.
pub fn ask(codex: &Path) -> Option<Capabilities> {
    let help = answer(Command::new(codex).arg("--help"), ANSWER)?;
    Some(Capabilities { no_daemon: help.contains("--no-daemon"), account_check: None })
}

/// Returns whether Codex lets only the account that began a thread go on with it. `None`: it does not answer within 5
/// seconds. Versions that do not know the feature have no such check.
pub fn checks_account(codex: &Path, codex_home: &Path) -> Option<bool> {
    let features =
        answer(Command::new(codex).args(["features", "list"]).env("CODEX_HOME", codex_home), ANSWER)?;
    let mut words = features.lines().map(str::split_ascii_whitespace);
    let feature =
        words.find_map(|mut words| (words.next() == Some("cli_resume_account_check")).then(|| words.last()));
    Some(feature.flatten() == Some("true"))
}

/// Returns what `codex --version` prints, without the name: `0.169.0`.
pub fn version(codex: &Path) -> Option<String> {
    let text = answer(Command::new(codex).arg("--version"), ANSWER)?;
    text.split_ascii_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// Runs a program and returns its output. `None`: it cannot be started, or does not end within `wait`.
pub fn answer(command: &mut Command, wait: Duration) -> Option<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = loop {
        match command.spawn() {
            // The program was just written, and a child that another thread is starting has inherited the descriptor.
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && start.elapsed() < wait => {
                std::thread::sleep(Duration::from_millis(2));
            }
            started => break started.ok()?,
        }
    };
    let mut stdout = child.stdout.take()?;
    let (sender, text) = mpsc::sync_channel(1);
    let reader = std::thread::Builder::new().spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    // Without a thread that reads, there is no answer either.
    let limit = if reader.is_ok() { wait.saturating_sub(start.elapsed()) } else { Duration::ZERO };
    wait_within(&mut child, limit).ok()??;
    // The output may end later than the program, if a child of it has inherited the pipe.
    text.recv_timeout(wait.saturating_sub(start.elapsed())).ok()
}

/// Waits for a child to end. `None`: it did not within this time, and was killed.
///
/// # Errors
/// It cannot be waited for.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
