//! The attendant, end to end on the real programs: started directly beside sessions of a stand-in Codex, against the
//! stand-in service. Each test is named after its claim.

mod life;
mod requests;
mod sessions;
mod trouble;

use std::fs;

use testkit::{Cmd, Running, SOON, World, is_root, wait_until};

/// What the tests say of attendants.
trait Attended {
    /// Returns `codex-pool attend` as launches start it, with an environment of its own.
    fn attendant(&self) -> Cmd;

    /// Starts an attendant and waits until it looks after the pool.
    fn attend(&self) -> Running;

    /// Returns whether an attendant holds the lock of this boot and pid namespace.
    fn is_attended(&self) -> bool;

    /// Returns the attendants that run, by pid.
    fn attendants(&self) -> Vec<i32>;
}

impl Attended for World {
    fn attendant(&self) -> Cmd {
        let admin = self.pool_home().join("bin/codex-pool");
        if !admin.exists() {
            self.link_admin();
        }
        let foreign = ["CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_REVOKE_TOKEN_URL_OVERRIDE", "HTTPS_PROXY"];
        foreign.iter().fold(self.cmd(admin).arg("attend"), |cmd, name| cmd.env_remove(name))
    }

    fn attend(&self) -> Running {
        let attendant = self.attendant().spawn();
        wait_until("an attendant", SOON, || self.is_attended());
        attendant
    }

    fn is_attended(&self) -> bool {
        let entries = fs::read_dir(self.pool_home()).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("attend-")
                && fs::File::open(&path).is_ok_and(|file| file.try_lock_shared().is_err())
        })
    }

    fn attendants(&self) -> Vec<i32> {
        let all = self.processes().into_iter();
        all.filter(|process| process.argv.get(1).is_some_and(|arg| arg == "attend")).map(|p| p.pid).collect()
    }
}

/// Returns whether the tests may act as other users; they are left out otherwise.
fn as_root() -> bool {
    is_root() || {
        testkit::leave_out("only root can act as other users");
        false
    }
}
