//! What `codex` means: in this shell, in new terminals, and for what is started without a terminal.

use codex_pool_core::codex::find::all_on_path;
use codex_pool_core::paths::PoolPaths;

use super::Check;
use super::facts::Facts;
use crate::programs::{VERSION, version_of_shim};
use crate::shell_env::new_shell::{Found, NewShell, Place, Start};
use crate::shell_env::{self, UserHome, quote_sh};

pub(super) fn checks(facts: &Facts<'_>, paths: &PoolPaths) -> Vec<Check> {
    let user = UserHome::of(facts.env);
    let shell = user.as_ref().and_then(|user| NewShell::of(user, facts.env));
    // Without the line of `init`, PATH is made in a way of the user's own.
    let lines = user.as_ref().map(|user| shell_env::start_lines(user, paths.root())).unwrap_or_default();
    let shell = shell.filter(|_| lines.iter().any(|start| shell_env::has_line(start).unwrap_or(false)));
    let terminals = shell.as_ref().and_then(|shell| Terminals::of(shell));
    let mut checks = vec![path(facts, paths, terminals.as_ref())];
    if let (Some(shell), Some(terminals)) = (&shell, terminals) {
        checks.push(terminals.check(facts, shell, paths));
    }
    checks
}

/// What a new terminal finds.
struct Terminals {
    found: Found,
    /// The line that puts another program first.
    place: Option<Place>,
}

impl Terminals {
    fn of(shell: &NewShell<'_>) -> Option<Terminals> {
        let start = shell.of_terminals();
        let found = shell.finds(start)?;
        let place = match &found {
            Found::Other(program) => shell.line_before(start, program),
            Found::Shim | Found::Nothing => None,
        };
        Some(Terminals { found, place })
    }

    fn check(self, facts: &Facts<'_>, shell: &NewShell<'_>, paths: &PoolPaths) -> Check {
        const ID: &str = "new-terminals";
        let name = facts.env.text("SHELL").unwrap_or_default();
        let what = match &self.found {
            Found::Shim => {
                if shell.commands_read_files() && shell.finds(Start::Command) != Some(Found::Shim) {
                    return Check::warn(ID, format!("`{name} -c` and scripts of it do not find the shim"))
                        .advice("`codex-pool init`");
                }
                let without =
                    if shell.commands_read_files() { String::new() } else { format!("`{name} -c`, ") };
                return Check::ok(
                    ID,
                    format!(
                        "they find the shim; {without}cron and commands over ssh read no start file: write {} there, \
                         or PATH={}:…",
                        paths.shim().display(),
                        paths.bin().display()
                    ),
                );
            }
            Found::Other(program) => format!("`codex` is {} there", program.display()),
            Found::Nothing => "there is no `codex` there".to_owned(),
        };
        let why =
            self.place.map_or_else(String::new, |place| format!(", which {place} puts before the shim"));
        Check::fail(ID, format!("{what}{why}")).advice("`codex-pool init`, which puts its own line last")
    }
}

/// Checks what `codex` means in this shell.
fn path(facts: &Facts<'_>, paths: &PoolPaths, terminals: Option<&Terminals>) -> Check {
    const ID: &str = "path";
    let bin = paths.bin();
    let fix = || {
        if terminals.is_some_and(|terminals| terminals.found == Found::Shim) {
            let (shim, bin) =
                (quote_sh(&paths.shim().display().to_string()), quote_sh(&bin.display().to_string()));
            return format!(
                "new terminals find the shim, but this was started without a start file (`bash -c`, cron, ssh): there, \
                 write {shim} instead of `codex`, or PATH={bin}:\"$PATH\" first (in a crontab: all of PATH)"
            );
        }
        let fish = facts.env.text("SHELL").is_some_and(|shell| shell.ends_with("fish"));
        let (command, name) = if fish { ("source", "env.fish") } else { (".", "env") };
        let file = paths.root().join(name);
        if file.is_file() {
            format!(
                "`codex-pool init` for new terminals; `{command} {}` for this one",
                quote_sh(&file.display().to_string())
            )
        } else {
            format!("`codex-pool init`; or put {} first on PATH yourself", bin.display())
        }
    };
    let found = all_on_path(facts.env);
    let shim = found.iter().find(|(_, shim)| *shim);
    match (found.first(), shim) {
        (Some((first, true)), _) => match version_of_shim(first) {
            Some(version) if version == VERSION => {
                Check::ok(ID, format!("`codex` is the shim, {}", first.display()))
            }
            version => Check::fail(
                ID,
                format!(
                    "`codex` is another copy of the shim, {}, {}",
                    first.display(),
                    version.map_or_else(|| "which does not run".to_owned(), |v| format!("of version {v}"))
                ),
            )
            .advice(format!("remove it, so that {} comes first on PATH", bin.display())),
        },
        (Some((first, false)), Some((shim, _))) => Check::fail(
            ID,
            format!(
                "`codex` is {}, which comes before the shim, {}, on PATH",
                first.display(),
                shim.display()
            ),
        )
        .advice(fix()),
        (Some((first, false)), None) => {
            Check::fail(ID, format!("`codex` is {}; the shim is not on PATH", first.display())).advice(fix())
        }
        (None, _) => Check::fail(ID, "there is no `codex` on PATH; the shim is not, either").advice(fix()),
    }
}
