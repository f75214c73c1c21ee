//! The real Codex's background server, as if it had been installed before: its files, 400 MB, are shared by all sandboxes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::{Sandbox, World, bins};

impl World {
    /// Installs what Codex's background server consists of: the first window need not.
    ///
    /// # Panics
    /// If that fails.
    pub fn install_server(&self) {
        let (from, to) = (packages(self), self.codex_home().join("packages/app-server-daemon"));
        fs::create_dir_all(&to).expect("make a folder");
        symlink(from.join("releases"), to.join("releases")).expect("link the releases");
        for name in ["auto-update-version", "install.lock", "selection-history"] {
            let _ = fs::copy(from.join(name), to.join(name));
        }
        let current = fs::read_link(from.join("current")).expect("the current release");
        let release = to.join("releases").join(current.file_name().expect("a release's name"));
        symlink(release, to.join("current")).expect("link the current release");
    }
}

/// Returns the folder with what Codex installs for its background server, once per version.
fn packages(world: &World) -> PathBuf {
    let dir = bins::target_dir().join("codex-server");
    let place = dir.join(world.version());
    fs::create_dir_all(&dir).expect("make a folder");
    let lock = fs::File::create(dir.join(".lock")).expect("make a lock");
    lock.lock().expect("take the lock");
    if !place.exists() {
        let sandbox = Sandbox::builder().codex(world.codex_kind().clone()).build();
        for verb in ["start", "stop"] {
            sandbox.real_codex(&["app-server", "daemon", verb]).run().ok();
        }
        fs::rename(sandbox.codex_home().join("packages/app-server-daemon"), &place).expect("keep it");
    }
    place
}
