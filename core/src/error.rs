//! The one error type: what failed, where, and what to type next. Never holds a secret.

use std::fmt;
use std::path::Path;

/// What kind of failure it is; the exit status of `codex-pool` follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something failed (exit status 1).
    Failed,
    /// A file of the pool is corrupt (exit status 1).
    Corrupt,
    /// The command line makes no sense (exit status 2).
    Usage,
    /// No such account, or several match (exit status 3).
    NoSuchAccount,
    /// No account can be used now (exit status 4).
    NoUsableAccount,
    /// The account needs a login (exit status 5).
    LoginNeeded,
}

impl ErrorKind {
    /// The process exit status for this kind.
    pub fn exit_status(self) -> u8 {
        match self {
            ErrorKind::Failed | ErrorKind::Corrupt => 1,
            ErrorKind::Usage => 2,
            ErrorKind::NoSuchAccount => 3,
            ErrorKind::NoUsableAccount => 4,
            ErrorKind::LoginNeeded => 5,
        }
    }
}

/// An error for a person: one sentence, and the next step when there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What failed, and on which path.
    pub message: String,
    /// What to do or type next.
    pub hint: Option<String>,
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A plain failure.
    pub fn new(message: impl Into<String>) -> Self {
        Error { kind: ErrorKind::Failed, message: message.into(), hint: None }
    }

    /// A failure of the given kind.
    pub fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None }
    }

    /// An I/O failure on `path`, as in "cannot read /x/y: permission denied".
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

/// An OS error without Rust's "(os error 13)" tail.
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
