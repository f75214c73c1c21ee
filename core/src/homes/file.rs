//! The `auth.json` of a home as a file: what is at its path (a file, our link, the user's link), and where its bytes
//! are. Only reads.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::auth_doc::MAX_BYTES;
use crate::files;
use crate::paths::PoolPaths;

/// What is at the path of a home's `auth.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A file, or nothing.
    None,
    /// A link into the pool. It is ours, and is replaced when the home changes hands.
    Ours,
    /// Another link. It is the user's, and is written through.
    Users,
}

/// The `auth.json` of a home.
#[derive(Debug)]
pub struct AuthFile {
    /// Its path in the home.
    pub path: PathBuf,
    /// What is at that path.
    pub link: Link,
    /// Where the bytes are.
    pub real: PathBuf,
}

impl AuthFile {
    /// Looks at the path.
    ///
    /// # Errors
    /// The link leads to a loop or a missing folder.
    pub fn find(paths: &PoolPaths, path: PathBuf) -> io::Result<AuthFile> {
        let target = match std::fs::read_link(&path) {
            Ok(target) => target,
            // EINVAL: not a link. NotFound: nothing there yet.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(AuthFile { link: Link::None, real: path.clone(), path });
            }
            Err(e) => return Err(e),
        };
        let dir = path.parent().unwrap_or(Path::new("/"));
        let target = dir.join(target);
        let real = match std::fs::canonicalize(&target) {
            Ok(real) => real,
            Err(e) if e.kind() == io::ErrorKind::NotFound => dangling(&target)?,
            Err(e) => return Err(e),
        };
        // The homes can be elsewhere than the pool.
        let inside = |dir: &Path| std::fs::canonicalize(dir).is_ok_and(|dir| real.starts_with(dir));
        let ours = target.starts_with(paths.root()) || inside(paths.root()) || inside(&paths.homes());
        Ok(AuthFile { path, link: if ours { Link::Ours } else { Link::Users }, real })
    }

    /// Returns the path that is replaced when the home changes hands: the file behind a link of the user's, else the
    /// path in the home.
    pub fn replaced(&self) -> &Path {
        if self.link == Link::Users { &self.real } else { &self.path }
    }

    /// Opens the document. `Ok(None)`: there is none.
    ///
    /// # Errors
    /// What the system says, also if a link was put there since [`AuthFile::find`].
    pub fn open(&self) -> io::Result<Option<File>> {
        match files::open_with(std::fs::OpenOptions::new().read(true), libc::O_NOFOLLOW, &self.real) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads the document. `Ok(None)`: there is none.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        self.open()?.map(|file| files::read_open(&file, MAX_BYTES)).transpose()
    }
}

/// Returns where a dangling link would create its file: the target of the last link, in a folder that exists.
fn dangling(target: &Path) -> io::Result<PathBuf> {
    let mut at = target.to_owned();
    for _ in 0..16 {
        match std::fs::read_link(&at) {
            Ok(next) => at = at.parent().unwrap_or(Path::new("/")).join(next),
            Err(_) => {
                let dir = std::fs::canonicalize(at.parent().ok_or(io::ErrorKind::NotFound)?)?;
                return Ok(dir.join(at.file_name().ok_or(io::ErrorKind::NotFound)?));
            }
        }
    }
    Err(io::Error::other("too many links"))
}
