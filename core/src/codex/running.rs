//! The processes that run a Codex, by what they execute and how they were called: the only sign of a Codex that is just
//! starting, which has opened no database and holds no lock yet. Only reads.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::argv::{self, Command};
use super::find;
use crate::process;

/// What a process of Codex does with the login in its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It reads the login, or may, and may renew its tokens.
    UsesLogin,
    /// It connects a client with the background server (`app-server proxy`), whose login is the server's affair.
    Proxy,
    /// It has nothing to do with the login: the updater of the background server (`pid-update-loop`), `queue`, which
    /// leaves a message for a session, other commands that need no account, and what wraps a tool in Codex's sandbox.
    Helper,
}

/// Returns our own processes, or as root root's, that run a Codex which may use the login of its home. `None`: the
/// system does not tell which processes run.
pub(crate) fn using_login() -> Option<Vec<u32>> {
    with_role(Role::UsesLogin)
}

/// Returns those that connect clients with a background server. `None`: as for [`using_login`].
pub(crate) fn proxies() -> Option<Vec<u32>> {
    with_role(Role::Proxy)
}

fn with_role(role: Role) -> Option<Vec<u32>> {
    let mut pids = process::all()?;
    pids.retain(|pid| runs_codex(*pid) && role_of(*pid) == role && process::counts(*pid));
    Some(pids)
}

/// Returns whether a process executes a Codex, which may have been removed or replaced meanwhile. A launcher that Node
/// runs is none: it reads no login. Neither is what cannot be seen: a Codex can be, to its own user.
pub(crate) fn runs_codex(pid: u32) -> bool {
    process::program(pid).is_some_and(|program| find::is_codex_name(&program))
        && !find::is_shim(&process::program_file(pid))
}

/// Returns whether a process is one of this program: a shim that has not become Codex yet, or `codex-pool`.
pub(crate) fn is_of_pool(pid: u32) -> bool {
    let named = |name: &OsStr| name.as_encoded_bytes().starts_with(b"codex-pool");
    process::program_name(pid).is_some_and(|name| named(name.as_ref()))
        || find::is_shim(&process::program_file(pid))
}

fn role_of(pid: u32) -> Role {
    let Some(arguments) = process::arguments(pid) else { return Role::UsesLogin };
    let program = process::program(pid);
    let role = role(program.as_deref().and_then(Path::file_name), &arguments);
    match role {
        // By a name of its own, Codex runs inside a session, or the user calls it by a link.
        None if process::ancestors(pid).skip(1).any(runs_codex) => Role::Helper,
        None => Role::UsesLogin,
        Some(role) => role,
    }
}

/// Returns the role of a Codex by its arguments. `None`: it was called by a name that is neither the program's nor known.
fn role(program: Option<&OsStr>, arguments: &[OsString]) -> Option<Role> {
    let Some((called, arguments)) = arguments.split_first() else { return Some(Role::UsesLogin) };
    let called = Path::new(called).file_name().unwrap_or_default();
    let runs_as = arguments.first().map_or(&b""[..], |arg| arg.as_encoded_bytes());
    let known =
        ["codex-linux-sandbox", "codex-execve-wrapper", "codex-code-mode-host", "apply_patch", "applypatch"];
    if known.iter().any(|name| called == *name) || runs_as.starts_with(b"--codex-run-as-") {
        return Some(Role::Helper);
    }
    if !called.as_encoded_bytes().starts_with(b"codex") && Some(called) != program {
        return None;
    }
    let words = || arguments.iter().filter(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
    Some(match argv::parse(arguments).command {
        Command::Local if words().any(|word| word == "app-server") && words().any(|word| word == "proxy") => {
            Role::Proxy
        }
        Command::Local | Command::Update | Command::Queue => Role::Helper,
        _ => Role::UsesLogin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_is_known_by_the_arguments() {
        let role_of = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            role(Some("codex-x86_64".as_ref()), &arguments)
        };
        for line in [
            "codex",
            "/opt/codex/bin/codex exec hi",
            "codex-x86_64 app-server",
            "codex app-server --listen unix:///x",
            "codex login",
            "codex -- queue",
            "codex exec app-server proxy",
            "codex new-command",
        ] {
            assert_eq!(role_of(line), Some(Role::UsesLogin), "{line}");
        }
        for line in [
            "codex app-server daemon pid-update-loop",
            "codex -c a=b queue --thread x --message continue",
            "codex mcp list",
            "codex sandbox -- codex exec",
            "codex-linux-sandbox --sandbox-policy-cwd /x -- codex exec",
            "/home/u/.codex/tmp/arg0/codex-arg0x/apply_patch exec",
            "codex --codex-run-as-fs-helper",
            "/opt/codex/bin/codex-code-mode-host",
            "codex-code-mode-host --listen grpc+stdio://",
        ] {
            assert_eq!(role_of(line), Some(Role::Helper), "{line}");
        }
        assert_eq!(role_of("codex app-server proxy"), Some(Role::Proxy));
        assert_eq!(role_of("codex app-server --enable x proxy --sock y"), Some(Role::Proxy));
        assert_eq!(role_of("cx exec hi"), None);
    }

    #[test]
    fn this_process_runs_no_codex() {
        assert!(!using_login().unwrap_or_default().contains(&std::process::id()));
        assert!(!is_of_pool(std::process::id()));
    }
}
