//! Replacing programs, all or none: new ones are written beside the old ones, must say their version, and are then
//! renamed into their places. The caller holds the pool's lock, so the names are fixed, and what a crash left is
//! overwritten.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use codex_pool_core::codex::probe;
use codex_pool_core::env::names::CODEX_POOL_SHIM_VERSION;
use codex_pool_core::files::{self, remove_file, sync_dir};
use codex_pool_core::{Error, Result};

use crate::programs::ANSWER;

/// What helps where a new program cannot be put in place.
const AGAIN: &str = "try again, or run install.sh";

/// One program to replace.
pub(super) struct Part<'a> {
    /// Where it is, or will be
    pub(super) file: &'a Path,
    /// The new program
    pub(super) bytes: &'a [u8],
    /// How it says its version
    pub(super) answers: Answers,
}

/// How a program says its version.
#[derive(Clone, Copy)]
pub(super) enum Answers {
    /// `codex-pool --version`
    Tool,
    /// The shim, by a variable, since its arguments are Codex's
    Shim,
}

/// Replaces all parts, then calls `last`. If any of it fails, everything is as it was.
///
/// # Errors
/// Something failed.
pub(super) fn all(parts: &[Part<'_>], version: &str, last: impl FnOnce() -> Result<()>) -> Result<()> {
    let result = prepare(parts, version).and_then(|()| swap(parts, last));
    for part in parts {
        // A failure leaves a file of no use.
        let _ = remove_file(&beside(part.file, "new"));
    }
    result
}

fn prepare(parts: &[Part<'_>], version: &str) -> Result<()> {
    parts.iter().try_for_each(|part| {
        let new = beside(part.file, "new");
        write(&new, part.bytes).map_err(|e| Error::io("write", &new, &e))?;
        require_version(&new, part.answers, version)
    })
}

fn swap(parts: &[Part<'_>], last: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut begun = Vec::new();
    let swapped = parts.iter().try_for_each(|part| {
        keep(part.file).map_err(|e| Error::io("keep a copy of", part.file, &e))?;
        begun.push(part.file);
        fs::rename(beside(part.file, "new"), part.file).map_err(|e| Error::io("replace", part.file, &e))?;
        part.file.parent().map_or(Ok(()), sync_dir).map_err(|e| Error::io("sync", part.file, &e))
    });
    let Err(error) = swapped.and_then(|()| last()) else {
        for file in begun {
            // It is of no more use.
            let _ = remove_file(&beside(file, "old"));
        }
        return Ok(());
    };
    for file in begun {
        put_back(file).map_err(|e| {
            let old = beside(file, "old");
            Error::io("put back", file, &e).hint(format!("rename {} to it, or run install.sh", old.display()))
        })?;
    }
    let hint = error.hint.clone().unwrap_or_else(|| AGAIN.to_owned());
    Err(Error::new(format!("{}; everything is as it was", error.message)).hint(hint))
}

/// Puts the old program back. Where there was none, there is none again.
fn put_back(file: &Path) -> io::Result<()> {
    let old = beside(file, "old");
    match fs::rename(&old, file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => remove_file(file),
        // A rename between two links of one file does nothing, and leaves both.
        Ok(()) => remove_file(&old),
        failed => failed,
    }
}

/// Keeps the old program under another name, by a hard link where the file system can.
fn keep(file: &Path) -> io::Result<()> {
    let old = beside(file, "old");
    remove_file(&old)?;
    match fs::hard_link(file, &old) {
        Ok(()) => Ok(()),
        Err(_) if file.symlink_metadata().is_err() => Ok(()),
        Err(_) => files::copy_new(file, &old),
    }
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_file(file)?;
    let mut new = files::open_with(OpenOptions::new().write(true).create_new(true).mode(0o755), 0, file)?;
    new.write_all(bytes)?;
    new.sync_all()
}

/// Requires that a new program says this version. It runs with an empty environment, so that it finds no Codex to
/// start.
fn require_version(program: &Path, answers: Answers, version: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.env_clear();
    let expected = match answers {
        Answers::Tool => {
            command.arg("--version");
            format!("codex-pool {version}")
        }
        Answers::Shim => {
            command.env(CODEX_POOL_SHIM_VERSION, "1");
            format!("codex-shim {version}")
        }
    };
    let answer = probe::answer(&mut command, ANSWER).unwrap_or_default();
    let why = match answer.trim_end() {
        answer if answer == expected => return Ok(()),
        "" => "does not run here".to_owned(),
        other => format!("says it is `{}`", other.chars().take(80).collect::<String>()),
    };
    Err(Error::new(format!("the new {expected} {why}; nothing was changed")).hint(AGAIN))
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.codex-pool.{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(answer: &str) -> Vec<u8> {
        format!("#!/bin/sh\necho '{answer}'\n").into_bytes()
    }

    /// Replaces `tool` and `shim` in a folder; gives the result, and what is there afterwards.
    fn replace(
        old: &[&str],
        tool: &[u8],
        shim: &[u8],
        last: impl FnOnce(&Path) -> Result<()>,
    ) -> (Result<()>, Vec<(String, Vec<u8>)>) {
        let dir = tempfile::tempdir().unwrap();
        for name in old {
            fs::write(dir.path().join(name), format!("old {name}")).unwrap();
        }
        let (a, b) = (dir.path().join("tool"), dir.path().join("shim"));
        let parts = [
            Part { file: &a, bytes: tool, answers: Answers::Tool },
            Part { file: &b, bytes: shim, answers: Answers::Shim },
        ];
        let result = all(&parts, "1.2.3", || last(dir.path()));
        let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut left: Vec<_> = files
            .map(|f| (f.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&f).unwrap()))
            .collect();
        left.sort();
        (result, left)
    }

    fn old(names: &[&str]) -> Vec<(String, Vec<u8>)> {
        names.iter().map(|name| ((*name).to_owned(), format!("old {name}").into_bytes())).collect()
    }

    #[test]
    fn both_are_replaced() {
        let (tool, shim) = (script("codex-pool 1.2.3"), script("codex-shim 1.2.3"));
        for before in [&["shim", "tool"][..], &["tool"]] {
            let (result, left) = replace(before, &tool, &shim, |_| Ok(()));
            result.unwrap();
            assert_eq!(left, [("shim".to_owned(), shim.clone()), ("tool".to_owned(), tool.clone())]);
        }
    }

    #[test]
    fn a_program_that_does_not_answer_as_it_should_replaces_nothing() {
        let (tool, shim) = (script("codex-pool 1.2.3"), script("codex-shim 1.2.3"));
        let bad: [&[u8]; 4] =
            [&script("codex-pool 1.2.4"), b"\x7fELF of another machine", b"#!/bin/sh\nexit 1\n", b""];
        for bad in bad {
            for (tool, shim) in [(bad, &shim[..]), (&tool[..], bad)] {
                let (result, left) = replace(&["shim", "tool"], tool, shim, |_| Ok(()));
                assert!(result.unwrap_err().message.contains("nothing was changed"));
                assert_eq!(left, old(&["shim", "tool"]));
            }
        }
    }

    #[test]
    fn if_the_last_step_fails_the_old_ones_come_back() {
        let (tool, shim) = (script("codex-pool 1.2.3"), script("codex-shim 1.2.3"));
        for before in [&["shim", "tool"][..], &["tool"]] {
            let (result, left) = replace(before, &tool, &shim, |dir| {
                assert_eq!(fs::read(dir.join("shim")).unwrap(), shim, "the new ones are in place by now");
                Err(Error::new("no receipt"))
            });
            assert_eq!(result.unwrap_err().message, "no receipt; everything is as it was");
            assert_eq!(left, old(before));
        }
    }

    #[test]
    fn if_the_second_cannot_be_replaced_the_first_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (tool, shim) = (dir.path().join("tool"), dir.path().join("shim"));
        let parts = [
            Part { file: &tool, bytes: b"", answers: Answers::Tool },
            Part { file: &shim, bytes: b"", answers: Answers::Shim },
        ];
        for name in ["tool", "shim"] {
            fs::write(dir.path().join(name), format!("old {name}")).unwrap();
        }
        // There is no new shim to take its place.
        fs::write(beside(&tool, "new"), "new tool").unwrap();
        let error = swap(&parts, || Ok(())).unwrap_err();
        assert!(error.message.contains("everything is as it was"), "{error}");
        assert_eq!(fs::read(&tool).unwrap(), b"old tool");
        assert_eq!(fs::read(&shim).unwrap(), b"old shim");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
