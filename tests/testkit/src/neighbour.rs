//! A second user of the machine, with an account that is made for one test and removed after it. Only root can do that.

use std::fs::{self, File};
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Cmd, alive, bins, find_program, is_root, leave_out};

/// The beginning of the names of these accounts; the process that made one follows, and a number.
const NAME: &str = "cptest";

/// Another user of the machine.
#[derive(Debug)]
pub struct Neighbour {
    name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's group.
    pub gid: u32,
}

impl Neighbour {
    /// Makes the account. `None` if the tests cannot do that: the test is left out then.
    pub fn new() -> Option<Neighbour> {
        let made = if is_root() { Neighbour::make() } else { Err("only root can make a second user".into()) };
        made.map_err(|why| leave_out(&why)).ok()
    }

    fn make() -> Result<Neighbour, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let _one_at_a_time = lock();
        for (name, ..) in accounts().filter(|(name, ..)| maker(name).is_some_and(|pid| !alive(pid))) {
            remove(&name);
        }
        let name = format!("{NAME}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let options = [
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/bin/sh",
        ];
        run("useradd", &options, &name)?;
        let (_, uid, gid) = accounts().find(|(other, ..)| *other == name).ok_or("useradd made no user")?;
        Ok(Neighbour { name, uid, gid })
    }

    /// Makes a command the neighbour's.
    pub fn runs(&self, mut cmd: Cmd) -> Cmd {
        self.starts(cmd.inner());
        cmd
    }

    /// Makes a command the neighbour's.
    pub fn starts(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Makes a file or folder the neighbour's, and what is in it.
    ///
    /// # Panics
    /// If that fails.
    pub fn takes(&self, path: &Path) {
        lchown(path, Some(self.uid), Some(self.gid)).expect("chown");
        if path.is_dir() && !path.is_symlink() {
            fs::read_dir(path).expect("a folder").flatten().for_each(|entry| self.takes(&entry.path()));
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _one_at_a_time = lock();
        remove(&self.name);
    }
}

/// The programs lock the files of accounts, but give up soon.
fn lock() -> File {
    let folder = bins::target_dir();
    let file = File::create(folder.join(".neighbours")).expect("make a lock");
    file.lock().expect("take the lock");
    file
}

/// Returns the accounts with user and group.
fn accounts() -> impl Iterator<Item = (String, u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let accounts = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields.first()?.to_string(), fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    });
    accounts.collect::<Vec<_>>().into_iter()
}

/// Returns the process that made one of our accounts.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(NAME)?.split('-').next()?.parse().ok()
}

/// Removes an account, also while a process of it is just ending. One that stays is removed by the next test.
fn remove(name: &str) {
    let _ = run("userdel", &["--force"], name);
}

fn run(program: &str, options: &[&str], name: &str) -> Result<(), String> {
    let path = find_program(program).unwrap_or_else(|| PathBuf::from("/usr/sbin").join(program));
    let output = Command::new(&path).args(options).arg(name).output();
    let output = output.map_err(|_| format!("{program} is not installed"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program} {name} failed: {}", said.trim())) }
}
