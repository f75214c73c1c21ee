//! The error type: what failed, where, and what to type next. It never contains a secret.

use std::fmt;
use std::path::Path;

/// The kind of a failure. It decides the exit status of `codex-pool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something failed (exit status 1).
    Failed,
    /// A file of the pool is corrupt (exit status 1).
    Corrupt,
    /// Codex itself has locked an `auth.json`, and writes it (exit status 1).
    LockedByCodex,
    /// An `auth.json` cannot be replaced (exit status 1).
    NotReplaceable,
    /// The user said no, or Ctrl-C (exit status 1).
    Stopped,
    /// The command line is wrong (exit status 2).
    Usage,
    /// No such account, or several match (exit status 3).
    NoSuchAccount,
    /// No account can be used now (exit status 4).
    NoUsableAccount,
    /// The account needs a login (exit status 5).
    LoginNeeded,
}

impl ErrorKind {
    /// Returns the exit status of a process that fails in this way.
    pub fn exit_status(self) -> u8 {
        match self {
            ErrorKind::Failed
            | ErrorKind::Corrupt
            | ErrorKind::LockedByCodex
            | ErrorKind::NotReplaceable
            | ErrorKind::Stopped => 1,
            ErrorKind::Usage => 2,
            ErrorKind::NoSuchAccount => 3,
            ErrorKind::NoUsableAccount => 4,
            ErrorKind::LoginNeeded => 5,
        }
    }
}

/// An error: one sentence, and the next step if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// What failed, and on which path.
    pub message: String,
    /// What to do or type next.
    pub hint: Option<String>,
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns an error of the kind [`ErrorKind::Failed`].
    pub fn new(message: impl Into<String>) -> Self {
        Error { kind: ErrorKind::Failed, message: message.into(), hint: None }
    }

    /// Returns an error of this kind.
    pub fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None }
    }

    /// Returns the error of an operation on a file, such as "cannot read /x/y: permission denied". `what` is the verb.
    pub fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Error::new(format!("cannot {what} {}: {}", path.display(), os_text(error)))
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Returns the text of a system error without Rust's "(os error 13)".
pub fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
