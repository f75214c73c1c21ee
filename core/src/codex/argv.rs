//! What a Codex command line asks for: which command, which thread, which settings, and where the shim may put its own
//! options. Pure: no I/O, no environment.
//!
//! Codex parses with clap. The rules below were checked against 0.120.0 to 0.169.0. One table serves all levels,
//! because no option is a flag on one level and takes a value on another. An option on the wrong level is a usage
//! error of Codex, however it is read here.

mod words;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use words::{Opt, long, short, sub_command};

/// The command that Codex will run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// No sub-command: the interface, with or without a prompt. An unknown command counts as this, as in Codex, which
    /// takes it for a prompt.
    Interactive,
    /// `agents`
    Agents,
    /// `resume`
    Resume,
    /// `fork`
    Fork,
    /// `exec` with a prompt
    Exec,
    /// `exec resume`
    ExecResume,
    /// `exec fork`
    ExecFork,
    /// `exec review`
    ExecReview,
    /// `review`
    Review,
    /// `login`, but not `login status`
    Login,
    /// `logout`
    Logout,
    /// `queue`
    Queue,
    /// `app-server`, but not `daemon`, `proxy` and `generate-*`
    AppServer,
    /// `mcp-server` (a prompt from 0.159 on)
    McpServer,
    /// `remote-control`, but not its `stop`
    RemoteControl,
    /// `cloud`
    Cloud,
    /// `apply`
    Apply,
    /// `update`
    Update,
    /// A command that needs no account: help, version, `login status`, `mcp`, `doctor` and so on
    Local,
}

/// The thread that a command goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A new one
    None,
    /// One that the user picks from a list (`resume` and `fork` alone)
    Picked,
    /// The latest one (`--last`, and `agents`, which opens it)
    Last,
    /// By id: a UUID in its hyphenated form
    Thread(&'a str),
    /// By name, in UTF-8
    Name(&'a str),
}

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation<'a> {
    /// The command
    pub command: Command,
    /// The thread that it goes on with
    pub target: Target<'a>,
    /// All `-c key=value` in order, both sides trimmed as in Codex. Up to 0.159, Codex drops those before the
    /// sub-command if there are others after it; 0.169 keeps all.
    pub overrides: Vec<(&'a str, &'a str)>,
    /// The last `-m`/`--model`
    pub model: Option<&'a str>,
    /// The last `-p`/`--profile`
    pub profile: Option<&'a str>,
    /// The last `-C`/`--cd`, as typed (relative to the working directory)
    pub cd: Option<&'a OsStr>,
    /// All `--add-dir`, as typed: folders that the tools of the session may change, too
    pub added_dirs: Vec<&'a OsStr>,
    /// The last `-s`/`--sandbox`
    pub sandbox: Option<&'a str>,
    /// Whether `--no-daemon` is given
    pub no_daemon: bool,
    /// Whether `--remote` is given: the interface uses a server elsewhere
    pub remote: bool,
    /// Whether `exec --ignore-user-config` is given
    pub ignores_user_config: bool,
    /// Whether `exec --json` (in the SDKs `--experimental-json`) is given
    pub json: bool,
    /// Whether an option is given with which a session cannot be resumed as it was: nothing of it is kept
    /// (`--ephemeral`), it has a folder of its own (`--worktree`), or needs no account (`--oss`)
    pub cannot_resume: bool,
    /// Where our options go, see [`Invocation::with_extra`]
    insert_at: usize,
    /// What belongs to this one run, by position: prompt, session, images, and the words about them
    once: Vec<usize>,
    /// Where `resume` stands
    resume_at: Option<usize>,
    /// Where `--last` stands
    last_at: Option<usize>,
}

impl Invocation<'_> {
    /// Returns whether the command uses an account. Unknown commands do.
    pub fn needs_account(&self) -> bool {
        !matches!(self.command, Command::Local | Command::Update)
    }

    /// Returns whether it is a login that replaces the credentials (not `login status`).
    pub fn is_login(&self) -> bool {
        self.command == Command::Login
    }

    /// Returns whether it is a logout.
    pub fn is_logout(&self) -> bool {
        self.command == Command::Logout
    }

    /// Returns what runs, for people: `codex`, `codex exec`.
    pub fn describe(&self) -> &'static str {
        match self.command {
            Command::Interactive => "codex",
            Command::Agents => "codex agents",
            Command::Resume => "codex resume",
            Command::Fork => "codex fork",
            Command::Exec | Command::ExecResume | Command::ExecFork | Command::ExecReview => "codex exec",
            Command::Review => "codex review",
            Command::Login => "codex login",
            Command::Logout => "codex logout",
            Command::Queue => "codex queue",
            Command::AppServer => "codex app-server",
            Command::McpServer => "codex mcp-server",
            Command::RemoteControl => "codex remote-control",
            Command::Cloud => "codex cloud",
            Command::Apply => "codex apply",
            Command::Update => "codex update",
            Command::Local => "codex",
        }
    }

    /// Returns whether it is the interface, which attaches to the background server from 0.159 on.
    pub fn is_interactive(&self) -> bool {
        matches!(self.command, Command::Interactive | Command::Agents | Command::Resume | Command::Fork)
    }

    /// Returns whether it is a session whose tools may change files in its working root, unless the user forbids it.
    pub fn may_change_files(&self) -> bool {
        use Command as C;
        let session = self.is_interactive() || matches!(self.command, C::Exec | C::ExecResume | C::ExecFork);
        session && !self.remote && self.sandbox != Some("read-only")
    }

    /// Returns whether the interface attaches to the background server of its CODEX_HOME, if there is one.
    /// `--no-daemon`, `--remote` and any `-c` prevent it (seen on 0.159.3 and 0.169.0, before and after the
    /// sub-command). `--enable` and `--disable` do so on 0.159.3 but not on 0.169.0, so they do not count.
    pub fn attaches(&self) -> bool {
        self.is_interactive() && !self.no_daemon && !self.remote && self.overrides.is_empty()
    }

    /// Returns `argv`, which was parsed, with `extra` at a place where every version takes options like `-c key=value`
    /// and `--no-daemon`, and where they win over the user's.
    ///
    /// That is the very front, before any list or sub-command. If the user gave a `-c`, it is right after the last one:
    /// up to 0.159, Codex ignores those of the outer level if an inner level has any, and the last one of a key wins.
    pub fn with_extra(&self, argv: &[OsString], extra: &[OsString]) -> Vec<OsString> {
        let (before, after) = argv.split_at(self.insert_at.min(argv.len()));
        [before, extra, after].concat()
    }

    /// Returns the `exec` that goes on with a thread as `argv`, which was parsed, has begun it. Codex remembers nothing
    /// of the first command line, and takes all its options in front of `resume`. Images are in the thread's history.
    pub fn resuming(&self, argv: &[OsString], thread: &str) -> Vec<OsString> {
        let kept =
            argv.iter().enumerate().filter(|(at, _)| !self.once.contains(at)).map(|(_, arg)| arg.clone());
        kept.chain(["resume", thread, "continue"].map(OsString::from)).collect()
    }

    /// Returns `argv`, which was parsed, with the thread in the place of `--last`. `None`: it is no such command.
    pub fn with_thread(&self, argv: &[OsString], thread: &str) -> Option<Vec<OsString>> {
        let (resume, last) = (self.resume_at?, self.last_at?);
        let mut words = argv.to_vec();
        words.insert(resume + 1, thread.into());
        words.remove(if last > resume { last + 1 } else { last });
        Some(words)
    }
}

/// Parses the arguments after `argv[0]`. Never fails: for a command line that Codex refuses, any answer will do.
pub fn parse(argv: &[OsString]) -> Invocation<'_> {
    let mut inv = Invocation {
        command: Command::Interactive,
        target: Target::None,
        overrides: Vec::new(),
        model: None,
        profile: None,
        cd: None,
        added_dirs: Vec::new(),
        sandbox: None,
        no_daemon: false,
        remote: false,
        ignores_user_config: false,
        json: false,
        cannot_resume: false,
        insert_at: 0,
        once: Vec::new(),
        resume_at: None,
        last_at: None,
    };
    let mut last = false;
    let mut session: Option<&OsStr> = None;
    let mut positionals = 0;
    let mut only_positionals = false;
    let mut rest = argv.iter();

    while let Some(arg) = rest.next() {
        let bytes = arg.as_bytes();
        let at = argv.len() - rest.len() - 1;
        if only_positionals || !is_option(bytes) {
            // Codex finds a sub-command even after a prompt, but refuses a second prompt.
            if !only_positionals
                && positionals < 2
                && let Some(command) = sub_command(inv.command, bytes)
            {
                inv.command = command;
                (session, positionals) = (None, 0);
                match command {
                    Command::ExecResume | Command::Resume => {
                        inv.resume_at = Some(at);
                        inv.once.push(at);
                    }
                    Command::ExecFork | Command::ExecReview => inv.once.push(at),
                    _ => {}
                }
                if command == Command::Local {
                    return inv;
                }
                continue;
            }
            inv.once.push(at);
            positionals += 1;
            if positionals == 1 {
                session = Some(arg);
            }
            continue;
        }
        if bytes == b"--" {
            inv.once.push(at);
            only_positionals = true;
            continue;
        }

        // `--name`, `--name=value`, or a cluster of letters, the last of which may have a value.
        let (opt, attached) = match bytes.strip_prefix(b"--") {
            Some(body) => match body.iter().position(|b| *b == b'=') {
                Some(eq) => (long(&body[..eq]), Some(&body[eq + 1..])),
                None => (long(body), None),
            },
            None => cluster(&bytes[1..]),
        };
        match opt {
            Opt::Flag => continue,
            Opt::Help => {
                inv.command = Command::Local;
                return inv;
            }
            Opt::Last => {
                last = true;
                inv.last_at = Some(at);
                inv.once.push(at);
                continue;
            }
            Opt::All => {
                inv.once.push(at);
                continue;
            }
            Opt::Json => {
                inv.json = true;
                continue;
            }
            Opt::CannotResume => {
                inv.cannot_resume = true;
                continue;
            }
            Opt::NoDaemon => {
                inv.no_daemon = true;
                continue;
            }
            Opt::IgnoreUserConfig => {
                inv.ignores_user_config = true;
                continue;
            }
            _ => {}
        }
        let value = match attached {
            Some(value) => OsStr::from_bytes(value),
            None => match next_value(&mut rest) {
                Some(value) => value,
                None => continue,
            },
        };
        match opt {
            // A list, which takes all that follows. `exec resume` and `exec fork` take one image at a time.
            Opt::Image
                if attached.is_none() && !matches!(inv.command, Command::ExecResume | Command::ExecFork) =>
            {
                while next_value(&mut rest).is_some() {}
                inv.once.extend(at..argv.len() - rest.len());
            }
            Opt::Image => inv.once.extend(at..argv.len() - rest.len()),
            Opt::Config => {
                inv.insert_at = argv.len() - rest.len();
                if let Some((key, value)) = value.to_str().and_then(|pair| pair.split_once('=')) {
                    inv.overrides.push((key.trim(), value.trim()));
                }
            }
            Opt::Profile => inv.profile = value.to_str(),
            Opt::Model => inv.model = value.to_str(),
            Opt::AddDir => inv.added_dirs.push(value),
            Opt::Sandbox => inv.sandbox = value.to_str(),
            Opt::Cd => inv.cd = Some(value),
            Opt::Remote => inv.remote = true,
            Opt::Thread if inv.command == Command::Queue => session = Some(value),
            _ => {}
        }
    }

    inv.target = match inv.command {
        Command::Agents => Target::Last,
        // With `--last` the first positional is the prompt.
        Command::Resume | Command::Fork | Command::ExecResume if last => Target::Last,
        Command::Resume | Command::Fork => session.map_or(Target::Picked, thread),
        Command::ExecResume | Command::ExecFork | Command::Queue => session.map_or(Target::None, thread),
        _ => Target::None,
    };
    inv
}

/// Returns whether an argument looks like an option. A lone `-` is a value (standard input).
fn is_option(arg: &[u8]) -> bool {
    arg.len() > 1 && arg[0] == b'-'
}

/// Takes the value of an option from the next argument. clap never takes one that looks like an option; the command
/// line is a usage error then.
fn next_value<'a>(rest: &mut std::slice::Iter<'a, OsString>) -> Option<&'a OsStr> {
    let value = rest.as_slice().first().filter(|value| !is_option(value.as_bytes()))?;
    rest.next();
    Some(value)
}

/// Returns the first letter of a cluster that is more than a flag, with the value attached to it: `-V`, `-mo3`,
/// `-c=key=value`.
fn cluster(letters: &[u8]) -> (Opt, Option<&[u8]>) {
    for (at, letter) in letters.iter().enumerate() {
        let opt = short(*letter);
        if opt != Opt::Flag {
            let attached = &letters[at + 1..];
            let value = attached.strip_prefix(b"=").unwrap_or(attached);
            return (opt, (!attached.is_empty()).then_some(value));
        }
    }
    (Opt::Flag, None)
}

fn thread(session: &OsStr) -> Target<'_> {
    match session.to_str() {
        Some(id) if is_uuid(id) => Target::Thread(id),
        Some(name) => Target::Name(name),
        None => Target::None,
    }
}

/// Returns whether a text is a UUID in its hyphenated form, in which Codex prints thread ids.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests;
