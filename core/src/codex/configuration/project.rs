//! The settings of a project: `.codex/config.toml` in the working directory and above, up to the root of the project,
//! if the user trusts the project. Only reads.
//!
//! As in Codex (observed on 0.120.0 to 0.169.0), the root is the nearest folder above with one of
//! `project_root_markers` (`.git` if that is not set), or else the working directory. Trust is `trust_level` in
//! `projects."<path>"` of a layer below. The first answer counts, in this order: for the folder itself, for the root of
//! the project, for the main checkout of a linked worktree. Trust in a folder above the root does not count.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::scan::{File, MAX_BYTES};
use crate::files;

#[derive(Debug, Default)]
pub(super) struct Found {
    /// File and table, the nearest to the working directory last
    pub(super) tables: Vec<(PathBuf, Table)>,
    pub(super) unreadable: Vec<PathBuf>,
}

/// Returns the project settings that apply in `dir`. `lower`: the layers below, lowest first; `overrides`: the `-c`
/// table, whose trust and markers count, too.
///
/// Usually there is no such file, or it says nothing of interest. That costs one failed open per folder above, and
/// nothing is parsed.
pub(super) fn settings(dir: &Path, codex_home: &Path, lower: &[File], overrides: &Table) -> Found {
    let mut found = Found::default();
    let mut candidates = Vec::new();
    for folder in dir.ancestors() {
        let dot_codex = folder.join(".codex");
        if dot_codex == codex_home {
            continue;
        }
        // If one that counts cannot be read, Codex itself stops.
        if let Some(file) = File::read(dot_codex.join("config.toml"), &mut Vec::new())
            && file.is_of_interest()
            && !same_folder(&dot_codex, codex_home)
        {
            candidates.push((folder, file));
        }
    }
    if candidates.is_empty() {
        return found;
    }

    let mut layers: Vec<Table> = lower.iter().filter_map(|file| file.table(&mut found.unreadable)).collect();
    layers.push(overrides.clone());
    let root = project_root(dir, &layers);
    let main_checkout = main_checkout(dir);
    for (folder, file) in candidates.into_iter().rev() {
        let trusted = || {
            let places = [Some(folder), Some(root), main_checkout.as_deref()];
            let level = places.into_iter().flatten().find_map(|place| trust_level(place, &layers));
            level.is_some_and(|level| level == "trusted")
        };
        if folder.starts_with(root)
            && trusted()
            && let Some(table) = file.table(&mut found.unreadable)
        {
            found.tables.push((file.path, table));
        }
    }
    found
}

fn same_folder(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn project_root<'a>(dir: &'a Path, layers: &[Table]) -> &'a Path {
    let own = layers.iter().rev().find_map(|table| table.get("project_root_markers")?.as_array());
    let has_marker = |folder: &&Path| match own {
        Some(markers) => markers.iter().filter_map(Value::as_str).any(|marker| folder.join(marker).exists()),
        None => folder.join(".git").exists(),
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

/// Returns the repository that `dir` belongs to. For a linked worktree, that is the main checkout, by its `.git` file:
/// `gitdir: <main>/.git/worktrees/<name>`.
fn main_checkout(dir: &Path) -> Option<PathBuf> {
    let root = dir.ancestors().find(|folder| folder.join(".git").exists())?;
    let dot_git = root.join(".git");
    if dot_git.is_dir() {
        return Some(root.to_owned());
    }
    let text = String::from_utf8(files::read_small(&dot_git, MAX_BYTES).ok()??).ok()?;
    let worktree = root.join(text.trim().strip_prefix("gitdir:")?.trim());
    let worktrees = worktree.parent().filter(|dir| dir.ends_with("worktrees"))?;
    Some(worktrees.parent()?.parent()?.to_owned())
}
