//! The programs: the shim and its place on PATH, `codex-pool` as the shim finds it, and the real Codex with the known
//! traps of its version.

use std::process::Command;

use codex_pool_core::codex::find::is_shim;
use codex_pool_core::codex::native_start::{self, Way};
use codex_pool_core::codex::probe;
use codex_pool_core::paths::PoolPaths;
use semver::Version;

use super::facts::Facts;
use super::fix::Fix;
use super::{Check, main_home, shells};
use crate::programs::{self, ANSWER, VERSION, version_of_shim};

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(folder) = facts.existing_folder() {
        checks.push(shim(&folder.paths));
        checks.extend(shells::checks(facts, &folder.paths));
        checks.push(admin(&folder.paths));
    }
    checks.extend(codex(facts));
    checks.extend(start(facts));
    checks
}

fn shim(paths: &PoolPaths) -> Check {
    const ID: &str = "shim";
    let file = paths.shim();
    let reinstall = |check: Check| match programs::shim_source() {
        Some(source) => check.fix(Fix::PutShim { source }),
        None => check.advice("install codex-pool again, with install.sh"),
    };
    if file.symlink_metadata().is_err() {
        return reinstall(Check::fail(ID, format!("the shim is missing: there is no {}", file.display())));
    }
    if !is_shim(&file) {
        return Check::fail(ID, format!("{} is not codex-pool's shim", file.display()))
            .advice("move it away, then `codex-pool doctor --fix`");
    }
    match version_of_shim(&file) {
        Some(version) if version == VERSION => Check::ok(ID, format!("{} ({version})", file.display())),
        Some(version) => reinstall(Check::fail(
            ID,
            format!("{} is version {version}, codex-pool is {VERSION}", file.display()),
        )),
        None => reinstall(Check::fail(ID, format!("{} does not run", file.display()))),
    }
}

/// Checks the link through which the shim starts refreshes in the background.
fn admin(paths: &PoolPaths) -> Check {
    const ID: &str = "codex-pool";
    let link = paths.admin_link();
    let Some(own) = programs::own_file() else {
        return Check::warn(ID, "the system does not tell where this codex-pool is");
    };
    let missing = |why: String| Check::warn(ID, why).fix(Fix::LinkAdmin { target: own.clone() });
    match link.canonicalize() {
        Ok(there) if there == own => Check::ok(ID, format!("{} ({VERSION})", own.display())),
        Ok(there) => match probe::answer(Command::new(&there).arg("--version"), ANSWER) {
            Some(text) if text.trim_end() == format!("codex-pool {VERSION}") => {
                Check::ok(ID, format!("the shim uses {}, of the same version as this one", there.display()))
            }
            _ => missing(format!("the shim uses {}, another codex-pool than this one", there.display())),
        },
        Err(_) => missing(format!(
            "{} does not lead to codex-pool, so launches refresh neither usage nor tokens",
            link.display()
        )),
    }
}

fn codex(facts: &Facts<'_>) -> Vec<Check> {
    const ID: &str = "codex";
    let program = match &facts.codex {
        Ok(program) => program,
        Err(error) => return vec![Check::error(ID, error.clone().into(), "`npm install -g @openai/codex`")],
    };
    let Some(version) = probe::version(program) else {
        return vec![
            Check::fail(ID, format!("{} does not say its version", program.display()))
                .advice(format!("see what `{} --version` says", program.display())),
        ];
    };
    let (oldest, newest) = tested();
    let mut checks = vec![Check::ok(ID, format!("{} ({version})", program.display()))];
    if let Ok(version) = Version::parse(&version) {
        checks.push(fit(&version, oldest, newest));
        checks.push(traps(&version));
    }
    checks
}

/// The page with the table of versions that were tested.
const COMPATIBILITY: &str = include_str!("../../../docs/compatibility.md");

/// Returns the oldest and the newest version of Codex that codex-pool is checked with.
fn tested() -> (Version, Version) {
    let first_cell = |row: &str| Version::parse(row.strip_prefix("| ")?.split(' ').next()?).ok();
    let mut versions: Vec<Version> = COMPATIBILITY.lines().filter_map(first_cell).collect();
    versions.sort();
    let nothing = Version::new(0, 0, 0);
    (versions.first().cloned().unwrap_or(nothing.clone()), versions.pop().unwrap_or(nothing))
}

/// Returns how the installed version stands to those that were tested. A newer patch is none.
fn fit(version: &Version, oldest: Version, newest: Version) -> Check {
    const ID: &str = "version";
    let message = format!("checked with Codex {oldest} to {newest}, you run {version}");
    match (version.major, version.minor) > (newest.major, newest.minor) {
        true => Check::warn(ID, format!("{message}, which is newer"))
            .advice("`codex-pool update`; if something is odd, `CODEX_POOL=off codex` leaves the pool out"),
        false if *version < oldest => {
            Check::warn(ID, format!("{message}, which is older")).advice(main_home::UPDATE_CODEX)
        }
        false => Check::ok(ID, message),
    }
}

/// Whether Codex starts without Node, where it could.
fn start(facts: &Facts<'_>) -> Option<Check> {
    let program = facts.codex.as_ref().ok()?;
    let folder = facts.existing_folder()?;
    let message = match native_start::way(facts.env, &facts.settings, &folder.paths, program)? {
        Way::Native(native) => format!("launches start {} without Node", native.display()),
        Way::NotYet => "launches start Codex through Node, until one has learnt what Node starts".to_owned(),
        Way::Node(why) => format!("launches start Codex through Node: {why}"),
    };
    Some(Check::ok("start", message))
}

/// What Codex does, and from which minor version on. The shim handles each.
const TRAPS: [(u64, &str); 5] = [
    // It waits until the file is whole.
    (0, "auth.json written in place"),
    // Tokens are renewed a day early, by one process.
    (0, "sessions that refresh at once"),
    // The old login is saved and moved aside first.
    (140, "`login` revokes the old login"),
    // `--no-daemon`
    (159, "a background server that stays on its account"),
    // It starts the account that has them.
    (159, "`resume --last` blind to other accounts' sessions"),
];
/// From this minor version on a running Codex can be seen by its database, however it was started.
const SEEN_FROM: u64 = 140;

/// Returns the traps of this version, all of which the shim handles, and what it cannot do for an old one.
fn traps(version: &Version) -> Check {
    const ID: &str = "traps";
    let minor = if version.major > 0 { u64::MAX } else { version.minor };
    let known: Vec<&str> = TRAPS.iter().filter(|(from, _)| *from <= minor).map(|(_, trap)| *trap).collect();
    let handled = format!("the shim handles what Codex {version} is known for: {}", known.join(", "));
    if minor < SEEN_FROM {
        let message = format!(
            "a Codex {version} that was not started through the shim cannot be seen, and its account may be switched \
             while it runs"
        );
        return Check::warn(ID, message).advice(main_home::UPDATE_CODEX);
    }
    Check::ok(ID, handled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::findings::Grade;

    #[test]
    fn each_version_has_its_own_traps() {
        let of = |text: &str| traps(&Version::parse(text).unwrap());
        assert_eq!(of("0.120.0").grade, Grade::Warn);
        let middle = of("0.150.0");
        assert!(middle.grade == Grade::Ok && middle.message.contains("revokes"));
        assert!(!middle.message.contains("background server"));
        assert!(of("0.169.0").message.contains("background server"));
        assert!(of("1.0.0").message.contains("background server"));
    }

    #[test]
    fn versions_beyond_the_tested_ones_are_told() {
        let (oldest, newest) = tested();
        assert_eq!(oldest, Version::new(0, 120, 0));
        assert!(newest >= Version::new(0, 169, 0), "{newest}");
        let of = |version: Version| fit(&version, oldest.clone(), newest.clone());
        assert_eq!(
            of(Version::new(0, 120, 0)).message,
            format!("checked with Codex 0.120.0 to {newest}, you run 0.120.0")
        );
        assert_eq!(of(newest.clone()).grade, Grade::Ok);
        assert_eq!(of(Version::new(0, newest.minor, newest.patch + 3)).grade, Grade::Ok, "a newer patch");
        let newer = of(Version::new(0, newest.minor + 1, 0));
        assert!(newer.grade == Grade::Warn && newer.message.ends_with("which is newer"));
        assert_eq!(of(Version::new(0, 90, 0)).grade, Grade::Warn);
    }
}
