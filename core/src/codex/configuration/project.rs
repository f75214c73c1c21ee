//! The settings of a project: `.codex/config.toml` in the working directory and above, up to the root of the project,
//! if the user trusts the project. Only reads.
//!
//! As in Codex (observed on 0.120.0 to 0.169.0), the root is the nearest folder above with one of
//! `project_root_markers` (`.git` if that is not set), or else the working directory. Trust is `trust_level` in
//! `projects."<path>"` of a layer below. The first answer counts, in this order: for the folder itself, for the root of
//! the project, for the main checkout of a linked worktree. Trust in a folder above the root does not count. A
//! worktree counts only if the main checkout names it back (0.159.3 and 0.169.0; 0.140.0 believes every `.git`).
//!
//! Stricter than Codex: `.git` and `.codex` of another user than ours and root do not count. Where anybody may create
//! files, as in the system's temporary folder, they would decide who runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::scan::File;
use super::{Unheeded, UnheededFile};
use crate::files;

/// How much is read of the settings of projects in all, bytes. Whether they are trusted is asked afterwards.
const MAX_BYTES: u64 = 1 << 20;

/// A `.git` or a file of a worktree that is larger is none.
const MAX_GIT_BYTES: u64 = 1 << 14;

#[derive(Debug, Default)]
pub(super) struct Found {
    /// File and table, the nearest to the working directory last
    pub(super) tables: Vec<(PathBuf, Table)>,
    pub(super) unreadable: Vec<PathBuf>,
    pub(super) unheeded: Vec<UnheededFile>,
}

/// The settings in one folder.
struct Candidate<'a> {
    folder: &'a Path,
    path: PathBuf,
    file: Result<File, Unheeded>,
}

/// Returns the project settings that apply in `dir`. `lower`: the layers below, lowest first; `overrides`: the `-c`
/// table, whose trust and markers count, too.
///
/// Usually there is no such file, or it says nothing of interest. That costs one failed open per folder above, and
/// nothing is parsed.
pub(super) fn settings(dir: &Path, codex_home: &Path, lower: &[File], overrides: &Table) -> Found {
    let mut found = Found::default();
    let mut left = MAX_BYTES;
    let candidates: Vec<_> =
        dir.ancestors().filter_map(|folder| candidate(folder, codex_home, &mut left)).collect();
    if candidates.is_empty() {
        return found;
    }

    let mut layers: Vec<Table> = lower.iter().filter_map(|file| file.table(&mut found.unreadable)).collect();
    layers.push(overrides.clone());
    let root = project_root(dir, &layers);
    let main_checkout = main_checkout(dir);
    for Candidate { folder, path, file } in candidates.into_iter().rev() {
        let trusted = || {
            let places = [Some(folder), Some(root), main_checkout.as_deref()];
            let level = places.into_iter().flatten().find_map(|place| trust_level(place, &layers));
            level.is_some_and(|level| level == "trusted")
        };
        if !folder.starts_with(root) || !trusted() {
            continue;
        }
        match file {
            Ok(file) => found.tables.extend(file.table(&mut found.unreadable).map(|table| (path, table))),
            Err(why) => found.unheeded.push(UnheededFile { path, why }),
        }
    }
    found
}

/// Returns the settings in a folder, if they may matter. `left`: how many bytes may still be read.
fn candidate<'a>(folder: &'a Path, codex_home: &Path, left: &mut u64) -> Option<Candidate<'a>> {
    let dot_codex = folder.join(".codex");
    if dot_codex == codex_home {
        return None;
    }
    let path = dot_codex.join("config.toml");
    let file = match File::read_up_to(path.clone(), *left) {
        Ok(file) => {
            let file = file?;
            *left -= file.len();
            if !file.is_of_interest() {
                return None;
            }
            if files::is_of_another_user(&dot_codex) || files::is_of_another_user(&path) {
                Err(Unheeded::OfAnotherUser)
            } else {
                Ok(file)
            }
        }
        Err(e) if e.kind() == ErrorKind::FileTooLarge => Err(Unheeded::TooLarge),
        // One that cannot be read says nothing: Codex stops there if it counts.
        Err(_) => return None,
    };
    (!same_folder(&dot_codex, codex_home)).then_some(Candidate { folder, path, file })
}

fn same_folder(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn project_root<'a>(dir: &'a Path, layers: &[Table]) -> &'a Path {
    let own = layers.iter().rev().find_map(|table| table.get("project_root_markers")?.as_array());
    let has_marker = |folder: &&Path| match own {
        Some(markers) => {
            markers.iter().filter_map(Value::as_str).any(|marker| is_there(&folder.join(marker)))
        }
        None => is_there(&folder.join(".git")),
    };
    dir.ancestors().find(has_marker).unwrap_or(dir)
}

/// Returns what the layers say about a folder, by its real path or the given one.
fn trust_level<'a>(folder: &Path, layers: &'a [Table]) -> Option<&'a str> {
    let real = folder.canonicalize().ok();
    [real.as_deref(), Some(folder)].into_iter().flatten().filter_map(Path::to_str).find_map(|path| {
        let level = |table: &'a Table| table.get("projects")?.get(path)?.get("trust_level")?.as_str();
        layers.iter().rev().find_map(level)
    })
}

/// Returns whether a file or folder exists and is not another user's.
fn is_there(path: &Path) -> bool {
    path.exists() && !files::is_of_another_user(path)
}

/// Returns the repository that `dir` belongs to. For a linked worktree, that is the main checkout.
fn main_checkout(dir: &Path) -> Option<PathBuf> {
    let root = dir.ancestors().find(|folder| is_there(&folder.join(".git")))?;
    if root.join(".git").is_dir() {
        return Some(root.to_owned());
    }
    main_checkout_of_worktree(root)
}

/// Returns the main checkout of the linked worktree at `root`. Its `.git` is a file, `gitdir: <main>/.git/worktrees/<name>`,
/// which anybody can write about any repository. So the repository must agree: `gitdir` in that folder names this very
/// `.git`, and `commondir` leads to the repository that the folder is in.
fn main_checkout_of_worktree(root: &Path) -> Option<PathBuf> {
    let dot_git = root.join(".git");
    if dot_git.is_symlink() {
        return None;
    }
    let worktree = root.join(line(&dot_git)?.strip_prefix("gitdir:")?.trim()).canonicalize().ok()?;
    let repository = worktree.parent().filter(|dir| dir.ends_with("worktrees"))?.parent()?;
    let named_back = worktree.join(line(&worktree.join("gitdir"))?);
    let is_named = named_back.file_name() == dot_git.file_name()
        && named_back.parent()?.canonicalize().ok()? == root.canonicalize().ok()?;
    let common = worktree.join(line(&worktree.join("commondir"))?).canonicalize().ok()?;
    if !is_named || common != repository || !repository.ends_with(".git") {
        return None;
    }
    Some(repository.parent()?.to_owned())
}

/// Returns the text of a file of Git that has one line.
fn line(path: &Path) -> Option<String> {
    let text = String::from_utf8(files::read_small(path, MAX_GIT_BYTES).ok()??).ok()?;
    Some(text.trim().to_owned())
}
