//! Whether files have changed, so that what is shown again and again is read only then. Take the stamps before reading:
//! a change in between is seen at the next look.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What files and folders looked like: time, inode and size of each; `None`: it was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<(i64, i64, u64, u64)>>);

impl Stamps {
    pub(crate) fn of(files: &[PathBuf]) -> Stamps {
        let stamp = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.size()))
        };
        Stamps(files.iter().map(stamp).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn new_gone_and_replaced_files_are_changes_and_a_look_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let look = || Stamps::of(&[path.clone(), dir.path().to_owned()]);
        let none = look();
        fs::write(&path, "1").unwrap();
        let first = look();
        assert_ne!(first, none);
        assert_eq!(fs::read(&path).unwrap(), b"1");
        assert_eq!(look(), first);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let other = dir.path().join("b");
        fs::write(&other, "2").unwrap();
        fs::File::open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Stamps::of(std::slice::from_ref(&path)).0[0], first.0[0], "the same time, another file");
        fs::remove_file(&path).unwrap();
        assert_eq!(look().0[0], None);
    }
}
