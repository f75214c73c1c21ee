//! A machine to install on: a home in a temporary folder, a cleared environment, and a PATH that has only the
//! tools that a test allows. Scripts run in a session of their own, so that none can ask a real terminal.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use testkit::{find_program, takes};

/// What install.sh may use, besides a downloader and a checksum tool.
const TOOLS: &[&str] = &[
    "sh", "cat", "chmod", "cp", "cut", "date", "dirname", "env", "find", "grep", "gzip", "head", "id", "ln",
    "mkdir", "mktemp", "mv", "readlink", "rm", "rmdir", "sed", "sysctl", "tail", "tar", "uname", "wc",
];

/// How a script ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit status; 128 + the signal, as a shell would say, if one ended it
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The same, if it went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Said {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The same, if it failed with a message that has this text, and said what to do next.
    #[track_caller]
    pub(crate) fn fails_with(self, text: &str) -> Said {
        let said = self.stops_with(text);
        said.says_what_is_next();
        said
    }

    /// The same for a script that no user runs, which says what is wrong and no more.
    #[track_caller]
    pub(crate) fn stops_with(self, text: &str) -> Said {
        assert_eq!(self.code, 1, "{self:?}");
        assert!(self.err.contains(text), "{self:?}");
        self
    }

    /// Requires an error, and what to do next as the last line.
    #[track_caller]
    pub(crate) fn says_what_is_next(&self) {
        assert!(self.err.lines().any(|line| line.starts_with("error: ")), "{self:?}");
        assert!(self.err.lines().last().is_some_and(|line| line.starts_with("  next: ")), "{self:?}");
    }
}

/// The machine.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) home: PathBuf,
    tools: PathBuf,
    env: BTreeMap<OsString, OsString>,
    /// The shell and its arguments
    shell: Vec<OsString>,
}

impl Place {
    /// A machine with curl and sha256sum (or shasum, on macOS), and a home without a space.
    pub(crate) fn new() -> Place {
        Place::named("home")
    }

    /// The same, with this name for the home.
    pub(crate) fn named(home: &str) -> Place {
        testkit::heed_the_terminal();
        let dir = TempDir::with_prefix("ship").expect("temporary folder");
        let root = dir.path().canonicalize().expect("temporary folder");
        let (home, tools) = (root.join(home), root.join("tools"));
        fs::create_dir_all(&home).expect("home");
        fs::create_dir_all(&tools).expect("tools");
        let mut place = Place { dir, home, tools, env: BTreeMap::new(), shell: vec!["/bin/sh".into()] };
        for tool in TOOLS.iter().chain(&["curl", "sha256sum", "shasum"]) {
            place.add_tool(tool);
        }
        let path = place.tools.clone();
        let home = place.home.clone();
        place.env("HOME", home).env("PATH", path);
        place
    }

    pub(crate) fn env(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Place {
        self.env.insert(name.into(), value.as_ref().to_owned());
        self
    }

    pub(crate) fn unset(&mut self, name: &str) -> &mut Place {
        self.env.remove(OsStr::new(name));
        self
    }

    /// Uses this shell instead of /bin/sh.
    pub(crate) fn shell(&mut self, shell: &[&OsStr]) -> &mut Place {
        self.shell = shell.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Links a tool of this machine into PATH, if there is one.
    pub(crate) fn add_tool(&mut self, name: &str) -> &mut Place {
        if let Some(found) = find_program(name) {
            let _ = fs::remove_file(self.tools.join(name));
            symlink(found, self.tools.join(name)).expect("link a tool");
        }
        self
    }

    /// Links any program into PATH.
    pub(crate) fn link_tool(&mut self, name: &str, program: &Path) -> &mut Place {
        symlink(program, self.tools.join(name)).expect("link a tool");
        self
    }

    /// Takes tools away from PATH.
    pub(crate) fn without(&mut self, names: &[&str]) -> &mut Place {
        for name in names {
            let _ = fs::remove_file(self.tools.join(name));
        }
        self
    }

    /// Puts a script of the test's own on PATH.
    pub(crate) fn fake_tool(&mut self, name: &str, script: &str) -> &mut Place {
        let _ = fs::remove_file(self.tools.join(name));
        write_program(&self.tools.join(name), format!("#!/bin/sh\n{script}\n").as_bytes());
        self
    }

    /// Makes every tool busybox's. `None` if there is no busybox here.
    pub(crate) fn busybox(&mut self) -> Option<&mut Place> {
        let busybox = takes("busybox")?;
        for tool in TOOLS.iter().chain(&["wget", "sha256sum"]).filter(|&&tool| tool != "sysctl") {
            let _ = fs::remove_file(self.tools.join(tool));
            symlink(&busybox, self.tools.join(tool)).expect("link a tool");
        }
        self.without(&["curl", "shasum"]);
        Some(self.shell(&[busybox.as_os_str(), OsStr::new("sh")]))
    }

    /// Runs install.sh as `curl … | sh` does: read from standard input.
    pub(crate) fn install(&self, args: &[&str]) -> Said {
        self.pipe(&fs::read(repository().join("install.sh")).expect("install.sh"), args)
    }

    /// install.sh as a release has it, which knows this repository.
    pub(crate) fn published(repository_name: &str) -> String {
        let script = fs::read_to_string(repository().join("install.sh")).expect("install.sh");
        let filled = format!("\nRELEASE_REPOSITORY=\"{repository_name}\"\n");
        let published = script.replace("\nRELEASE_REPOSITORY=\"\"\n", &filled);
        assert_ne!(script, published);
        published
    }

    /// Runs a script from standard input.
    pub(crate) fn pipe(&self, script: &[u8], args: &[&str]) -> Said {
        let mut command = self.command(&[OsStr::new("-s"), OsStr::new("--")]);
        finish(spawn(command.args(args)), script)
    }

    /// Runs a script file.
    pub(crate) fn run(&self, script: &Path, args: &[&str]) -> Said {
        finish(spawn(self.command(&[script.as_os_str()]).args(args)), b"")
    }

    /// Runs a line of shell.
    pub(crate) fn sh(&self, line: &str) -> Said {
        finish(spawn(&mut self.command(&[OsStr::new("-c"), OsStr::new(line)])), b"")
    }

    /// The shell with these arguments, ready to start.
    pub(crate) fn command(&self, args: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.shell[0]);
        command.args(&self.shell[1..]).args(args).env_clear().envs(&self.env).current_dir(&self.home);
        command
    }

    /// Its environment.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.env.iter()
    }

    pub(crate) fn pool(&self) -> PathBuf {
        self.home.join(".codex-pool")
    }

    pub(crate) fn shim(&self) -> PathBuf {
        self.pool().join("bin/codex")
    }

    pub(crate) fn tool(&self) -> PathBuf {
        self.home.join(".local/bin/codex-pool")
    }

    /// A folder beside the home.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("temporary folder").join(name)
    }

    /// Every file below the home, with its content: to see that nothing changed.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.home, &mut files);
        files
    }
}

/// Starts a script with nothing of the test's terminal.
pub(crate) fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: setsid is safe to call between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(|_| ()).map_err(Into::into));
    }
    command.spawn().expect("start a script")
}

/// Gives a script its input and waits for its end.
pub(crate) fn finish(mut child: Child, input: &[u8]) -> Said {
    let mut stdin = child.stdin.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("text");
        text
    });
    // A script that ends early closes its input; that is no failure.
    let _ = stdin.write_all(input);
    drop(stdin);
    let mut out = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    let status = child.wait().expect("wait for a script");
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).expect("a status");
    Said { code, out, err: errors.join().expect("read errors") }
}

/// The same, with a limit for what may hang: it is killed then, and the test fails.
#[track_caller]
pub(crate) fn finish_soon(child: Child) -> Said {
    let group = Pid::from_raw(child.id().cast_signed());
    let (sender, ended) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let said = finish(child, b"");
        // Nobody listens after the limit.
        let _ = sender.send(());
        said
    });
    let in_time = ended.recv_timeout(Duration::from_secs(60)).is_ok();
    if !in_time {
        // It may just have ended.
        let _ = killpg(group, Signal::SIGKILL);
    }
    let said = waiting.join().expect("wait for a script");
    assert!(in_time, "it hangs: {said:?}");
    said
}

/// Whether the tests run as root, and so can play another user; a test is left out where not.
pub(crate) fn plays_others() -> bool {
    if !testkit::is_root() {
        testkit::leave_out("only root can be another user");
    }
    testkit::is_root()
}

/// Another user of this machine.
pub(crate) const NEIGHBOUR: u32 = 65_533;

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Writes a program, in a process of its own: if we had it open, a child that another test is just starting could
/// have it open, too, and then it cannot be run.
pub(crate) fn write_program(file: &Path, bytes: &[u8]) {
    fs::create_dir_all(file.parent().expect("a folder")).expect("make a folder");
    let script = "cat >\"$0\" && chmod 755 \"$0\"";
    let mut command = Command::new("/bin/sh");
    let said = finish(spawn(command.args(["-c", script]).arg(file)), bytes);
    assert_eq!(said.code, 0, "{said:?}");
}

pub(crate) fn mode(file: &Path) -> u32 {
    fs::symlink_metadata(file).expect("metadata").permissions().mode() & 0o7777
}

fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("read a folder") {
        let path = entry.expect("entry").path();
        let meta = path.symlink_metadata().expect("metadata");
        if meta.is_dir() {
            files.insert(path.clone(), Vec::new());
            collect(&path, files);
        } else if meta.is_symlink() {
            files.insert(
                path.clone(),
                fs::read_link(&path).expect("link").into_os_string().into_encoded_bytes(),
            );
        } else {
            // A real program is big: one that was replaced or written to shows in its metadata.
            let big = (meta.len() > 1 << 20)
                .then(|| format!("{} {} {:?}", meta.ino(), meta.len(), meta.modified()));
            let content = big.map_or_else(|| fs::read(&path).expect("read a file"), String::into_bytes);
            files.insert(path.clone(), content);
        }
    }
}
