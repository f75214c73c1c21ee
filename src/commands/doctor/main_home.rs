//! The main home: what its `auth.json` contains, what Codex's settings forbid, which account the background server
//! answers as, and whether sessions of two accounts can run side by side.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;

use codex_pool_core::account::AccountId;
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::codex::background_server::BackgroundServer;
use codex_pool_core::codex::configuration::{CodexSettings, CredentialsStore, Unheeded};
use codex_pool_core::config::Parallel;
use codex_pool_core::homes::in_use::account_of_server;
use codex_pool_core::homes::{AuthFile, HomeContent, NoMainHome, Obstacle, own_home, signs, unusable_lock};
use codex_pool_core::launch::{candidates, databases};

use super::Check;
use super::facts::{Facts, MainHomeFacts, PoolFacts};

/// What helps against an old Codex.
pub(super) const UPDATE_CODEX: &str = "`npm install -g @openai/codex`";

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "codex-home";
    let Ok(folder) = facts.folder() else { return Vec::new() };
    let main_home = match &folder.main_home {
        Ok(main_home) => main_home,
        Err(NoMainHome::NoHome) => {
            return vec![Check::fail(ID, "neither HOME nor CODEX_HOME is set").advice("set HOME")];
        }
        Err(NoMainHome::Absent(dir)) => {
            return vec![
                Check::fail(
                    ID,
                    format!("CODEX_HOME is {}, which is not a directory; Codex refuses it", dir.display()),
                )
                .advice(format!("`mkdir -p '{}'`, or `unset CODEX_HOME`", dir.display())),
            ];
        }
    };
    if facts.existing_folder().is_none() {
        return Vec::new();
    }
    let dir = main_home.ctx.main_home.dir();
    let mut checks = Vec::new();
    match Obstacle::of_folder(dir) {
        Some(obstacle) => checks.push(Check::fail(ID, obstacle.to_string()).advice(against(&obstacle))),
        None => checks.push(Check::ok(ID, dir.display().to_string())),
    }
    checks.extend(neighbours(main_home));
    checks.push(auth_json(folder, main_home));
    checks.extend(file(main_home));
    checks.push(locks(main_home));
    checks.push(credential_store(&main_home.ctx.codex, dir));
    checks.extend(restrictions(folder, main_home));
    checks.extend(server(folder, main_home));
    checks.push(parallel(facts, main_home));
    checks
}

/// Checks whether other users lock files in the home, or may write there. Their locks do not count, but Codex's own
/// databases may have to wait for them.
fn neighbours(main_home: &MainHomeFacts) -> Option<Check> {
    let ctx = &main_home.ctx;
    let dir = ctx.main_home.dir();
    let writable = std::fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o022 != 0);
    let what = if signs::strangers_lock(&ctx.main_home, &databases(&ctx.env, &ctx.codex, &ctx.main_home)) {
        "another user holds locks in"
    } else if writable {
        "other users may write in"
    } else {
        return None;
    };
    let check = Check::warn("codex-home", format!("{what} {}", dir.display()));
    Some(check.advice(format!("`chmod 700 '{}'`", dir.display())))
}

/// Checks whether the file of the login can be replaced, and whether it is a file of its own.
fn file(main_home: &MainHomeFacts) -> Vec<Check> {
    const ID: &str = "auth.json";
    let ctx = &main_home.ctx;
    let Ok(file) = AuthFile::find(&ctx.paths, ctx.main_home.auth_json()) else { return Vec::new() };
    let of_folder = Obstacle::of_folder(ctx.main_home.dir());
    let obstacle = Obstacle::of(&file).filter(|obstacle| Some(obstacle) != of_folder.as_ref());
    let stays = obstacle.map(|obstacle| {
        let text = format!(
            "{obstacle}: the login there stays, Codex itself cannot renew it, and launches use homes of their own"
        );
        Check::warn(ID, text).advice(against(&obstacle))
    });
    let names =
        std::fs::symlink_metadata(&file.real).map_or(1, |meta| if meta.is_file() { meta.nlink() } else { 1 });
    let linked = (names > 1).then(|| {
        let real = file.real.display();
        let text = format!(
            "{real} has {names} names (hard links): when it is replaced, the other names keep the old login, whose \
             tokens are used up one day"
        );
        Check::warn(ID, text)
            .advice(format!("`find -L ~ -samefile '{real}'` finds them; make the others symbolic links to it"))
    });
    stays.into_iter().chain(linked).collect()
}

/// Returns what to do against what keeps a file from being replaced.
fn against(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Mounted(_) => "mount the whole folder into the container, not the file".to_owned(),
        Obstacle::Immutable(path) if cfg!(target_os = "macos") => {
            format!("`chflags nouchg '{}'`", path.display())
        }
        Obstacle::Immutable(path) => format!("`chattr -i -a '{}'` as root", path.display()),
        Obstacle::ReadOnly(dir) => format!("mount the file system of {} for writing", dir.display()),
        Obstacle::NoAccess(dir) => format!("`chmod u+rwx '{}'`, if it is yours", dir.display()),
    }
}

fn auth_json(folder: &PoolFacts, main_home: &MainHomeFacts) -> Check {
    const ID: &str = "auth.json";
    let path = main_home.ctx.main_home.auth_json();
    let file = path.display();
    match &main_home.content {
        HomeContent::Empty if folder.accounts().is_empty() => {
            Check::ok(ID, format!("there is no {file}: Codex is not logged in"))
        }
        HomeContent::Empty => {
            Check::ok(ID, format!("there is no {file}; the next launch puts an account there"))
        }
        HomeContent::Account { id, .. } => {
            let read = AuthFile::find(&folder.paths, path.clone()).and_then(|file| file.read());
            let doc = read.ok().flatten().and_then(|bytes| AuthDoc::parse(bytes).ok());
            let mixed = doc.as_ref().is_some_and(|doc| doc.clone().corrected().bytes() != doc.bytes());
            if mixed {
                return Check::warn(
                    ID,
                    format!("{file} names another account than its token; the next launch puts it right"),
                )
                .advice("`codex-pool list` does it now");
            }
            match folder.accounts().iter().find(|account| account.id == *id) {
                Some(account) => Check::ok(ID, format!("{file} holds {}", account.display())),
                None => {
                    let email = doc.and_then(|doc| doc.email().map(str::to_owned));
                    let whose =
                        email.map_or_else(|| "a login".to_owned(), |email| format!("a login of {email}"));
                    Check::warn(
                        ID,
                        format!(
                            "{file} holds {whose} that is not in the pool yet; the next launch adopts it"
                        ),
                    )
                    .advice("`codex-pool list` does it now")
                }
            }
        }
        HomeContent::Unmanaged(kind) => Check::warn(
            ID,
            format!(
                "{file} holds {kind}, which is never overwritten; the pool's accounts use homes of their own"
            ),
        )
        .advice("`codex logout`, if you do not need that login"),
        HomeContent::Foreign => Check::warn(
            ID,
            format!("{file} holds a login that is not the pool's, so `codex` leaves this CODEX_HOME alone"),
        )
        .advice("`codex-pool init` takes it in; or `unset CODEX_HOME`"),
        HomeContent::BeingWritten => {
            Check::warn(ID, format!("{file} is being written just now")).advice("`codex-pool doctor` again")
        }
        HomeContent::Broken => Check::warn(
            ID,
            format!("{file} is not a whole auth.json; the next launch moves it to lost+found/"),
        )
        .advice("start `codex`, or `codex-pool use --best`"),
        HomeContent::Unreadable(why) => {
            Check::fail(ID, format!("{file} cannot be read ({why})")).advice(format!("see `ls -ld '{file}'`"))
        }
    }
}

/// Returns whether Codex can take its own locks.
fn locks(main_home: &MainHomeFacts) -> Check {
    const ID: &str = "codex-locks";
    match unusable_lock(&main_home.ctx.paths, &main_home.ctx.main_home) {
        None => Check::ok(ID, "Codex can lock auth.json"),
        Some((path, why)) => {
            let path = path.display();
            Check::fail(
                ID,
                format!(
                    "{path} cannot be locked ({why}): a Codex that renews its tokens loses its login here"
                ),
            )
            .advice(format!("end all sessions, then `rm -rf '{path}'`; or move CODEX_HOME to a local disk"))
        }
    }
}

fn credential_store(codex: &CodexSettings, dir: &Path) -> Check {
    const ID: &str = "credential-store";
    let name = match codex.cli_auth_credentials_store {
        None | Some(CredentialsStore::File) => return Check::ok(ID, "Codex reads auth.json"),
        Some(store) => store.as_str(),
    };
    if codex.store_is_enforced {
        return Check::fail(
            ID,
            format!(
                "an administrator set cli_auth_credentials_store = \"{name}\": Codex does not read auth.json"
            ),
        )
        .advice("ask the administrator for \"file\"; without it the pool has no effect");
    }
    Check::warn(
        ID,
        format!(
            "cli_auth_credentials_store is \"{name}\"; the shim tells Codex to read auth.json, but editors use \
             their own login"
        ),
    )
    .advice(format!(
        "set cli_auth_credentials_store = \"file\" in {}",
        dir.join("config.toml").display()
    ))
}

fn restrictions(folder: &PoolFacts, main_home: &MainHomeFacts) -> Vec<Check> {
    const ID: &str = "restrictions";
    let codex = &main_home.ctx.codex;
    let mut checks: Vec<Check> = codex
        .unreadable
        .iter()
        .map(|file| {
            Check::fail(ID, format!("Codex's {} cannot be read; Codex itself refuses it", file.display()))
                .advice(format!("edit {}", file.display()))
        })
        .collect();
    checks.extend(codex.unheeded.iter().map(|file| {
        Check::warn(ID, file.to_string()).advice(match file.why {
            Unheeded::OfAnotherUser => "make it yours, or take the trust in its folder back",
            Unheeded::TooLarge => "make it shorter",
        })
    }));
    let Ok(pool) = &folder.pool else { return checks };
    let rules = main_home.ctx.rules(pool);
    let has = |id: &AccountId| pool.credentials().has(id);
    let seen =
        candidates(pool, &folder.processes.ledger, folder.live(), codex, &rules, has, main_home.ctx.env.now);
    let excluded: Vec<&str> = seen.iter().filter(|c| !c.allowed).map(|c| &*c.account.label).collect();
    let why = "forced_login_method or forced_chatgpt_workspace_id in Codex's configuration";
    if !excluded.is_empty() && excluded.len() == seen.len() {
        checks.push(
            Check::fail(
                ID,
                format!("{why} forbids every account of the pool here; Codex starts without a login"),
            )
            .advice("`codex-pool add` an account that is allowed, or change the configuration"),
        );
    } else if !excluded.is_empty() {
        checks.push(
            Check::warn(ID, format!("{why} forbids {} here, so they are not picked", excluded.join(", ")))
                .advice("nothing, if that is intended"),
        );
    } else if checks.is_empty() {
        checks.push(Check::ok(ID, "Codex's configuration allows every account"));
    }
    checks
}

/// Returns which account the background server of the main home answers as.
fn server(folder: &PoolFacts, main_home: &MainHomeFacts) -> Vec<Check> {
    const ID: &str = "background-server";
    let main_home = &main_home.ctx.main_home;
    let Some(server) = BackgroundServer::of_home(main_home.dir()) else {
        return vec![Check::ok(ID, "none runs")];
    };
    let memory = folder.pool.as_ref().ok().and_then(|pool| pool.state().home(&main_home.auth_json()));
    let serves = memory.and_then(|memory| account_of_server(memory, &server));
    let pid = server.pid;
    vec![match (&serves, folder.live()) {
        (Some(serves), Some(live)) if serves == live => {
            Check::ok(ID, format!("pid {pid} answers as {}, which is live", folder.label(serves)))
        }
        (serves, _) => {
            let who = serves.as_ref().map_or("an unknown account", |id| folder.label(id));
            Check::warn(
                ID,
                format!(
                    "pid {pid} still answers as {who}; the shim starts interfaces without it (--no-daemon)"
                ),
            )
            .advice("`codex app-server daemon restart`: interfaces on it go on as the live account")
        }
    }]
}

fn parallel(facts: &Facts<'_>, main_home: &MainHomeFacts) -> Check {
    const ID: &str = "parallel";
    if facts.settings.parallel == Parallel::Off {
        return Check::ok(ID, "off: while a session runs, launches stay on its account");
    }
    match own_home::possible(&main_home.ctx.paths, &main_home.ctx.main_home, facts.env) {
        Ok(()) => Check::ok(ID, "sessions of several accounts can run side by side"),
        Err(why) => Check::warn(
            ID,
            format!("while a session runs, launches stay on its account, since {why}"),
        )
        .advice("set CODEX_POOL_HOME to a folder on CODEX_HOME's file system, outside the temporary folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::findings::Grade;

    #[test]
    fn a_store_that_an_administrator_set_needs_the_user() {
        let mut codex = CodexSettings {
            cli_auth_credentials_store: Some(CredentialsStore::Keyring),
            store_is_enforced: true,
            ..CodexSettings::default()
        };
        let check = credential_store(&codex, Path::new("/home/me/.codex"));
        assert!(check.grade == Grade::Fail && check.message.contains("administrator"), "{check:?}");
        codex.store_is_enforced = false;
        assert_eq!(credential_store(&codex, Path::new("/home/me/.codex")).grade, Grade::Warn);
    }
}
