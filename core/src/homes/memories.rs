//! Codex's memories, a folder of texts, one content for a main home and the homes over it. Codex refuses a `memories` that
//! is a link, to read it and to reset it. So each home has a folder of its own, and here all get what one has changed:
//! of two changes the later one, and a deletion where nothing was changed. What was overwritten goes to `lost+found/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, FileTimes, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::CodexHome;
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock};
use crate::paths::PoolPaths;
use crate::store::{LostFound, Why};

pub(super) const NAME: &str = "memories";
/// Beside the homes over a main home: what all of them had last.
const RECORD: &str = ".memories";
/// Larger folders are left alone, files and bytes.
const MOST_FILES: usize = 4_000;
const MOST_BYTES: u64 = 32 << 20;

/// A file, as far as it tells whether it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    modified: SystemTime,
    size: u64,
}

/// What all homes had last.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The names of the homes' folders.
    homes: BTreeSet<String>,
    files: Files,
}

type Files = BTreeMap<PathBuf, Stamp>;

/// The memories of a home.
struct Tree {
    root: PathBuf,
    files: Files,
    /// It had what the record has, so that what is missing was deleted.
    known: bool,
}

/// Brings the memories of a main home, of every home over it that has some, and of the home `into` to one content.
///
/// # Errors
/// A file cannot be read, kept or written.
pub(crate) fn share(
    lock: &PoolLock,
    paths: &PoolPaths,
    main_home: &CodexHome,
    into: Option<&Path>,
    now: i64,
) -> Result<()> {
    let over = main_home.dir_of_homes(paths);
    let Ok(entries) = fs::read_dir(&over) else { return Ok(()) };
    if let Some(into) = into {
        let root = into.join(NAME);
        files::create_private_dir(&root).map_err(|e| Error::io("create", &root, &e))?;
    }
    let is_folder = |dir: &Path| dir.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let homes: BTreeSet<String> = entries
        .flatten()
        .filter(|home| is_folder(&home.path().join(NAME)))
        .filter_map(|home| home.file_name().into_string().ok())
        .collect();
    let main = main_home.dir().join(NAME);
    if homes.is_empty() || main.is_symlink() {
        return Ok(());
    }
    let at = over.join(RECORD);
    let before = files::read_small(&at, MOST_BYTES).map_err(|e| Error::io("read", &at, &e))?;
    let before: Option<Record> = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut trees = vec![tree(main, before.is_some())?];
    let before = before.unwrap_or_default();
    for home in &homes {
        trees.push(tree(over.join(home).join(NAME), before.homes.contains(home))?);
    }
    let names: BTreeSet<&PathBuf> = trees.iter().flat_map(|tree| tree.files.keys()).collect();
    let mut files = Files::new();
    for name in names {
        if let Some(stamp) = agree(lock, paths, &trees, name, before.files.get(name), now)? {
            files.insert(name.clone(), stamp);
        }
    }
    let record = Record { homes, files };
    if record == before {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    files::write_whole(&at, &bytes, Durability::Fast).map_err(|e| Error::io("write", &at, &e))
}

/// Gives all trees the same file. Returns its stamp; `None`: it was deleted.
fn agree(
    lock: &PoolLock,
    paths: &PoolPaths,
    trees: &[Tree],
    name: &Path,
    last: Option<&Stamp>,
    now: i64,
) -> Result<Option<Stamp>> {
    let have = || trees.iter().filter_map(|tree| Some((tree, tree.files.get(name)?)));
    let changed = |stamp: &&Stamp| Some(*stamp) != last;
    let newest = have().filter(|(_, stamp)| changed(stamp)).max_by_key(|(_, stamp)| stamp.modified);
    let deleted = last.is_some() && trees.iter().any(|tree| tree.known && !tree.files.contains_key(name));
    if newest.is_none() && deleted {
        for (tree, _) in have() {
            remove(&tree.root, name)?;
        }
        return Ok(None);
    }
    let Some((from, stamp)) = newest.or_else(|| have().next()) else { return Ok(None) };
    for tree in trees.iter().filter(|tree| tree.files.get(name) != Some(stamp)) {
        let to = tree.root.join(name);
        if tree.files.get(name).as_ref().is_some_and(changed) {
            let bytes = files::read_small(&to, MOST_BYTES).map_err(|e| Error::io("read", &to, &e))?;
            LostFound::new(paths).keep(lock, &bytes.unwrap_or_default(), Why::Replaced, None, now)?;
        }
        copy(&from.root.join(name), &to, stamp.modified).map_err(|e| Error::io("write", &to, &e))?;
    }
    Ok(Some(*stamp))
}

/// Reads a folder and those in it. What is no regular file does not count, and neither does what is just being written.
fn tree(root: PathBuf, known: bool) -> Result<Tree> {
    let mut files = Files::new();
    let (mut folders, mut bytes) = (vec![PathBuf::new()], 0);
    while let Some(folder) = folders.pop() {
        let dir = root.join(&folder);
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|e| Error::io("read", &dir, &e))?,
        };
        for entry in entries.flatten() {
            let name = folder.join(entry.file_name());
            // One that is gone by now is not there.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(name);
            } else if let Some(stamp) = stamp(&meta)
                && name.extension().is_none_or(|end| end != "lock" && end != "tmp")
            {
                bytes += stamp.size;
                files.insert(name, stamp);
            }
        }
        if files.len() > MOST_FILES || bytes > MOST_BYTES {
            return Err(Error::new(format!("{} is too large to be shared", root.display())));
        }
    }
    Ok(Tree { root, files, known })
}

fn stamp(meta: &Metadata) -> Option<Stamp> {
    Some(Stamp { modified: meta.modified().ok().filter(|_| meta.is_file())?, size: meta.len() })
}

fn copy(from: &Path, to: &Path, modified: SystemTime) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        files::create_private_dir(folder)?;
    }
    let Some(bytes) = files::read_small(from, MOST_BYTES)? else { return Ok(()) };
    files::write_whole(to, &bytes, Durability::Fast)?;
    files::open(to)?.set_times(FileTimes::new().set_modified(modified))
}

/// Removes a file, and the folders that are empty then.
fn remove(root: &Path, name: &Path) -> Result<()> {
    let path = root.join(name);
    files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
    let folders = name.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
    for folder in folders {
        if fs::remove_dir(root.join(folder)).is_err() {
            break;
        }
    }
    Ok(())
}
