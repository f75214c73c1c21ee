//! The identity of a file: any change of it shows here.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What was at a path, links followed: `-` for nothing, else a letter and numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stamp(pub(super) String);

impl Stamp {
    /// Of a file, or of a folder of which only matters that it is the same one. `None` if that cannot be told.
    pub(super) fn take(path: &Path) -> Option<Stamp> {
        take(path, false)
    }

    /// Of a folder whose entries matter.
    pub(super) fn of_entries(path: &Path) -> Option<Stamp> {
        take(path, true)
    }

    /// The same kind of stamp, now.
    pub(super) fn again(&self, path: &Path) -> Option<Stamp> {
        take(path, self.0.starts_with('e'))
    }

    /// Whether this is what is there.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        self.again(path).as_ref() == Some(self)
    }
}

fn take(path: &Path, entries: bool) -> Option<Stamp> {
    match fs::metadata(path) {
        Ok(meta) => Some(Stamp(text(&meta, entries))),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Some(Stamp("-".into()))
        }
        Err(_) => None,
    }
}

fn text(m: &Metadata, entries: bool) -> String {
    if m.is_dir() && !entries {
        return format!("d{}.{}", m.dev(), m.ino());
    }
    let kind = if entries { 'e' } else { 'f' };
    let (modified, changed) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
    format!(
        "{kind}{}.{}.{:o}.{}.{}.{}.{}.{}",
        m.dev(),
        m.ino(),
        m.mode(),
        m.size(),
        modified.0,
        modified.1,
        changed.0,
        changed.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_change_of_a_file_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let taken = || Stamp::take(&path).unwrap();
        let absent = taken();
        assert!(absent.is_of(&path) && absent.is_of(&path.join("below")));
        fs::write(&path, "one").unwrap();
        let one = taken();
        assert!(!absent.is_of(&path) && one.is_of(&path));
        // The same size at the same time, in another file.
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::File::options()
            .append(true)
            .open(dir.path().join("new"))
            .unwrap()
            .set_modified(modified)
            .unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        let two = taken();
        assert_ne!(one, two);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!two.is_of(&path));
    }

    #[test]
    fn of_a_folder_only_what_matters_shows() {
        let dir = tempfile::tempdir().unwrap();
        let [itself, entries] = [Stamp::take(dir.path()), Stamp::of_entries(dir.path())].map(Option::unwrap);
        fs::write(dir.path().join("new"), "").unwrap();
        assert!(itself.is_of(dir.path()));
        assert!(!entries.is_of(dir.path()));
    }
}
