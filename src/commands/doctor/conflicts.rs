//! Copies that tools which sync folders make when two machines change one file. A pool or a login that two machines
//! share is renewed by both, and one of them is locked out.

use std::fs;
use std::path::{Path, PathBuf};

use super::Check;
use super::facts::Facts;

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "sync-conflicts";
    let Some(folder) = facts.existing_folder() else { return Vec::new() };
    let paths = &folder.paths;
    let mut folders = vec![(paths.root().to_owned(), paths.root().to_owned())];
    folders.push((paths.auth_dir(), paths.root().to_owned()));
    if let Ok(main_home) = &folder.main_home {
        let dir = main_home.ctx.main_home.dir();
        folders.push((dir.to_owned(), dir.join("auth.json")));
    }
    let found: Vec<Check> = folders
        .iter()
        .flat_map(|(dir, keep_out)| copies(dir).into_iter().map(move |copy| (copy, keep_out)))
        .map(|(copy, keep_out)| {
            let text = format!("{} looks like the conflict copy of a sync tool", copy.display());
            Check::warn(ID, text).advice(format!(
                "keep {} out of the sync tool, since one machine's renewal ends the other's login; then remove the copy",
                keep_out.display()
            ))
        })
        .collect();
    if found.is_empty() { vec![Check::ok(ID, "there are no copies of a sync tool")] } else { found }
}

/// Returns the files of a folder that are such copies, in order.
fn copies(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let is_copy = |name: &&String| {
        says_conflict(name) || original(name).is_some_and(|original| names.binary_search(&original).is_ok())
    };
    names.iter().filter(is_copy).map(|name| dir.join(name)).collect()
}

/// Returns whether a name says itself what it is, as with Syncthing, Dropbox, Nextcloud, Seafile and others.
fn says_conflict(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("sync-conflict-")
        || name.contains("_conflict-")
        || name.split(['(', ')']).nth(1).is_some_and(|inside| inside.contains("conflict"))
}

/// Returns the name that a numbered copy has the number from: `auth (1).json` (Google Drive), `auth 2.json` (iCloud).
fn original(name: &str) -> Option<String> {
    let (stem, extension) = name.rsplit_once('.')?;
    let (stem, number) = stem.rsplit_once(' ')?;
    let number = number.strip_prefix('(').and_then(|number| number.strip_suffix(')')).unwrap_or(number);
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    numbered.then(|| format!("{stem}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_from_what_only_looks_like_one() {
        let dir = tempfile::tempdir().unwrap();
        let copies_of_auth = [
            "auth (1).json",
            "auth (Ann's conflicted copy 2026-11-25).json",
            "auth (SFConflict ann 2026-11-25-10-11-12).json",
            "auth 2.json",
            "auth.sync-conflict-20261125-101112-ABCDEFG.json",
            "auth_conflict-20261125-101112.json",
        ];
        let others =
            ["auth.json", "notes 2.txt", "conflict.md", "conflicts (old).md", "auth 2", "a (b).json"];
        for name in copies_of_auth.iter().chain(&others) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("x_conflict-1")).unwrap();
        assert_eq!(copies(dir.path()), copies_of_auth.map(|name| dir.path().join(name)));
    }
}
