//! Finding the real Codex: the one that the user names, or the first `codex` on PATH that is not a copy of the shim. A
//! copy is known by its inode or by a marker in its bytes, not by its folder. Only reads.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::config::Settings;
use crate::env::{Env, names};
use crate::error::Error;
use crate::files;

/// The marker in the bytes of every shim. It is in two halves here, so that other programs do not contain it.
const MARKER: [&str; 2] = ["codex-pool-shim", "-marker"];

/// Gives the marker for the shim's own binary: `codex-pool-shim-marker <version>`.
#[macro_export]
macro_rules! shim_marker {
    () => {
        concat!("codex-pool-shim", "-marker ", env!("CARGO_PKG_VERSION"))
    };
}

/// Larger programs are no shims, bytes. A shim has less than 2 MB, and ten times that in a debug build.
const LARGEST_SHIM: u64 = 48 << 20;

/// The reason why there is no Codex to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCodex {
    /// None on PATH.
    NotFound,
    /// The named one does not exist or cannot be executed: its path, and where it is named.
    Named(PathBuf, &'static str),
    /// The named one is the shim: its path, and where it is named.
    Shim(PathBuf, &'static str),
}

impl From<NoCodex> for Error {
    fn from(no_codex: NoCodex) -> Error {
        match no_codex {
            NoCodex::NotFound => {
                Error::new("Codex is not installed (no `codex` on PATH but codex-pool's own)")
                    .hint("install it with `npm install -g @openai/codex`, or name it in CODEX_POOL_CODEX")
            }
            NoCodex::Named(path, by) => {
                Error::new(format!("{by} names {}, which cannot be executed", path.display()))
                    .hint("name the real Codex there, or nothing")
            }
            NoCodex::Shim(path, by) => {
                Error::new(format!("{by} names {}, which is codex-pool's own shim", path.display()))
                    .hint("name the real Codex")
            }
        }
    }
}

impl std::fmt::Display for NoCodex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Error::from(self.clone()).fmt(f)
    }
}

/// Finds the real Codex. `own`: the file of this program, if it is the shim.
///
/// # Errors
/// See [`NoCodex`].
pub fn find(env: &Env, settings: &Settings, own: Option<&Path>) -> Result<PathBuf, NoCodex> {
    find_beyond(env, settings, own, &[])
}

/// Finds the real Codex beyond the programs that were tried: wrappers of other tools, which called the shim again. A
/// named one that was tried is passed over, too.
///
/// # Errors
/// See [`NoCodex`].
pub fn find_beyond(
    env: &Env,
    settings: &Settings,
    own: Option<&Path>,
    tried: &[PathBuf],
) -> Result<PathBuf, NoCodex> {
    let tried: Vec<(u64, u64)> = tried.iter().filter_map(|path| identity(path)).collect();
    let own = own.and_then(identity);
    let named = env.get(names::CODEX_POOL_CODEX).map(|p| (PathBuf::from(p), names::CODEX_POOL_CODEX));
    let named = named.or_else(|| settings.codex_path.clone().map(|p| (p, "codex_path in config.toml")));
    let mut fallback = None;
    if let Some((path, by)) = named {
        // A bare name is looked for on PATH.
        let path = if path.as_os_str().as_bytes().contains(&b'/') {
            path
        } else {
            on_path(env, path.as_os_str(), own, &[]).ok_or(NoCodex::Named(path, by))?
        };
        match candidate(&path, own) {
            Candidate::Program
                if tried.is_empty() || !identity(&path).is_some_and(|id| tried.contains(&id)) =>
            {
                return Ok(path);
            }
            Candidate::Program => fallback = Some(path),
            Candidate::Shim => return Err(NoCodex::Shim(path, by)),
            Candidate::No => return Err(NoCodex::Named(path, by)),
        }
    }
    // If none is left, the first one may be a Codex that is not known as one, and runs a session.
    let codex = OsStr::new("codex");
    let fallback = || fallback.or_else(|| on_path(env, codex, own, &[]));
    on_path(env, codex, own, &tried).or_else(fallback).ok_or(NoCodex::NotFound)
}

/// Returns device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Returns the first program of this name on PATH that is not a copy of the shim and was not tried.
fn on_path(env: &Env, name: &OsStr, own: Option<(u64, u64)>, tried: &[(u64, u64)]) -> Option<PathBuf> {
    let path = env.get("PATH")?;
    let is_new = |p: &Path| tried.is_empty() || !identity(p).is_some_and(|id| tried.contains(&id));
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|p| candidate(p, own) == Candidate::Program && is_new(p))
}

/// Returns every `codex` on PATH, in order, with whether it is a shim: for the doctor.
pub fn all_on_path(env: &Env) -> Vec<(PathBuf, bool)> {
    let Some(path) = env.get("PATH") else { return Vec::new() };
    std::env::split_paths(path)
        .map(|dir| dir.join("codex"))
        .filter_map(|p| match candidate(&p, None) {
            Candidate::No => None,
            kind => Some((p, kind == Candidate::Shim)),
        })
        .collect()
}

#[derive(PartialEq, Eq)]
enum Candidate {
    No,
    Shim,
    Program,
}

fn candidate(path: &Path, own: Option<(u64, u64)>) -> Candidate {
    let Ok(meta) = fs::metadata(path) else { return Candidate::No };
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Candidate::No;
    }
    if own == Some((meta.dev(), meta.ino())) || meta.len() <= LARGEST_SHIM && has_marker(path) {
        return Candidate::Shim;
    }
    Candidate::Program
}

/// Returns whether the program of a process has a name that a Codex has (`codex`, `codex-x86_64-…`), or a shim. On Linux
/// the name of a file that was removed or replaced since the process started has an addition.
pub(crate) fn is_codex_name(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().as_bytes();
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    name == b"codex" || name.starts_with(b"codex-") && !name.starts_with(b"codex-pool")
}

/// Returns whether a file is a copy of the shim.
pub fn is_shim(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= LARGEST_SHIM) && has_marker(path)
}

fn has_marker(path: &Path) -> bool {
    let Ok(file) = files::open(path) else { return false };
    let mut head = [0; 1024];
    let Ok(filled) = file.read_at(&mut head, 0) else { return false };
    let head = &head[..filled];
    let marker = MARKER.concat();
    if let Some(notes) = elf_notes(head) {
        let mut note = [0; 4096];
        return notes.into_iter().any(|(offset, size)| {
            let size = usize::try_from(size).map_or(note.len(), |size| size.min(note.len()));
            file.read_exact_at(&mut note[..size], offset).is_ok()
                && memmem::find(&note[..size], marker.as_bytes()).is_some()
        });
    }
    // Scripts, such as npm's launcher, are no shims and need not be read.
    let macho = |magic: &[u8]| {
        matches!(magic, [0xcf, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] | [0xfe, 0xed, 0xfa, 0xcf])
    };
    head.get(..4).is_some_and(macho)
        && files::read_open(&file, LARGEST_SHIM)
            .is_ok_and(|bytes| memmem::find(&bytes, marker.as_bytes()).is_some())
}

/// Returns the note segments (offset and size) of a 64-bit little-endian ELF program, from its first bytes. `None`: it
/// is another file. The marker of the shim is in a note, so that megabytes need not be read for it.
fn elf_notes(head: &[u8]) -> Option<Vec<(u64, u64)>> {
    const NOTE: u32 = 4;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let u16_at = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let table = usize::try_from(u64_at(32)?).ok()?;
    let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    let segment = |i: usize| {
        let at = table.checked_add(i.checked_mul(size)?)?;
        (u32_at(at)? == NOTE).then_some((u64_at(at.checked_add(8)?)?, u64_at(at.checked_add(32)?)?))
    };
    Some((0..count).filter_map(segment).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn copies_of_the_shim_are_skipped_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        let shim = [b"\xcf\xfa\xed\xfe....", MARKER.concat().as_bytes(), b" 1.0"].concat();
        program(&a, "codex", &shim);
        let own = program(&b, "codex", b"\x7fELF itself");
        let real = program(&c, "codex", b"#!/bin/sh\n# speaks of codex-pool-shim-marker\n");
        let path = format!("{}:{}:{}", a.display(), b.display(), c.display());
        let env = Env::of(&[("PATH", &path)], dir.path(), 0);
        assert_eq!(find(&env, &Settings::default(), Some(&own)), Ok(real));
        assert_eq!(all_on_path(&env).iter().map(|(_, shim)| *shim).collect::<Vec<_>>(), [true, false, false]);
        let named = a.join("codex");
        let env = Env::of(&[("PATH", &path), ("CODEX_POOL_CODEX", named.to_str().unwrap())], dir.path(), 0);
        assert_eq!(
            find(&env, &Settings::default(), None),
            Err(NoCodex::Shim(named, "CODEX_POOL_CODEX")),
            "a loop is refused by name"
        );
    }

    #[test]
    fn an_elf_shim_is_known_by_its_note_alone() {
        let dir = tempfile::tempdir().unwrap();
        let marker = MARKER.concat();
        let elf = |kind: u8| {
            let mut elf = vec![0; 64 + 56];
            elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
            elf[32] = 64; // the table of segments
            elf[54] = 56; // the size of an entry
            elf[56] = 1; // how many
            elf[64] = kind;
            elf[64 + 8] = 120; // where the segment is
            elf[64 + 32] = u8::try_from(marker.len()).unwrap();
            elf.extend(marker.as_bytes());
            elf
        };
        assert!(is_shim(&program(dir.path(), "note", &elf(4))));
        assert!(!is_shim(&program(dir.path(), "other", &elf(1))), "another program that speaks of it");
        assert!(!is_shim(&program(dir.path(), "cut", &elf(4)[..100])));
    }

    #[test]
    fn codex_is_known_by_name() {
        let named = |name: &str| is_codex_name(&Path::new("/opt/bin").join(name));
        assert!(
            ["codex", "codex (deleted)", "codex-x86_64-unknown-linux-musl", "codex-acp"]
                .into_iter()
                .all(named)
        );
        assert!(
            !["node", "codex-pool", "codex-pool (deleted)", "codexes", "my-codex"].into_iter().any(named)
        );
    }

    #[test]
    fn what_cannot_be_executed_is_no_codex() {
        let dir = tempfile::tempdir().unwrap();
        let file = program(dir.path(), "codex", b"x");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let env = Env::of(&[("PATH", dir.path().to_str().unwrap())], dir.path(), 0);
        assert_eq!(find(&env, &Settings::default(), None), Err(NoCodex::NotFound));
    }
}
