//! Becoming the program: `execve` with everything as it came. The `exec` of the standard library is not used, since it
//! resets the signal mask and SIGPIPE.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::execve;

use crate::codex::argv::Invocation;
use crate::codex::native_start::NativeStart;
use crate::env::{self, Env};
use crate::files;

/// A program to execute, with its arguments and environment.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    argv0: OsString,
    args: Vec<OsString>,
    /// Every entry of the environment: `NAME=value`, and those that are no variables.
    env: Vec<OsString>,
    /// The program that it starts, if it is a launcher of which that is known. It is executed instead.
    native: Option<NativeStart>,
}

impl std::fmt::Debug for Program {
    /// Leaves out the environment, which may hold other programs' secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("path", &self.path).field("args", &self.args).finish_non_exhaustive()
    }
}

impl Program {
    /// Returns a program with these arguments and the environment of this process.
    pub(super) fn new(path: PathBuf, argv0: &OsStr, args: &[OsString], env: &Env) -> Self {
        Program {
            path,
            argv0: argv0.to_owned(),
            args: args.to_vec(),
            env: env.entries().to_vec(),
            native: None,
        }
    }

    /// Executes this program instead of the launcher.
    pub(super) fn set_native(&mut self, native: NativeStart) {
        self.native = Some(native);
    }

    /// Returns the program that is executed instead of the launcher.
    pub fn native(&self) -> Option<&NativeStart> {
        self.native.as_ref()
    }

    /// Returns this program, to be executed anew with these arguments and that variable.
    pub(super) fn anew(
        path: PathBuf,
        argv0: &OsStr,
        args: Vec<OsString>,
        env: &Env,
        variable: (&str, &OsStr),
    ) -> Self {
        let mut program = Program::new(path, argv0, &[], env);
        program.args = args;
        program.set_env(variable.0, Some(variable.1));
        program
    }

    /// Returns whether Codex itself is executed, not a launcher of which it would be a child.
    pub(super) fn is_native(&self) -> bool {
        self.native.is_some() || is_executable_code(&self.path)
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the arguments after argv[0].
    pub fn args(&self) -> &[OsString] {
        &self.args
    }

    /// Returns a variable of its environment.
    pub fn env(&self, name: &str) -> Option<&OsStr> {
        self.env.iter().find_map(|entry| env::value_of(entry, name))
    }

    /// Sets or removes a variable. One that is set already keeps its place.
    pub(super) fn set_env(&mut self, name: &str, value: Option<&OsStr>) {
        env::set(&mut self.env, name, value);
    }

    /// Replaces the arguments.
    pub(super) fn set_args(&mut self, args: Vec<OsString>) {
        self.args = args;
    }

    /// Adds our options where this command line takes them.
    pub(super) fn insert_args(&mut self, call: &Invocation<'_>, args: &[OsString], extra: &[OsString]) {
        if !extra.is_empty() {
            self.args = call.with_extra(args, extra);
        }
    }
}

/// Becomes the program. Returns only if that fails.
pub fn become_program(program: &Program) -> io::Error {
    if let Some(native) = &program.native {
        raise_descriptor_limit();
        let mut env = program.env.clone();
        native.change_env(&mut env);
        // If it fails, the program is started through Node, which does the same itself.
        execute(native.program(), native.argv0(), &native.args(&program.args), &env);
    }
    let error = execute(&program.path, &program.argv0, &program.args, &program.env);
    if error.raw_os_error() == Some(Errno::ENOEXEC as i32) && is_text(&program.path) {
        // A script without `#!`. Shells and execvp run it with sh.
        let words: Vec<OsString> =
            std::iter::once(program.path.clone().into()).chain(program.args.iter().cloned()).collect();
        execute(Path::new("/bin/sh"), "sh".as_ref(), &words, &program.env);
    }
    error
}

fn execute(path: &Path, argv0: &OsStr, args: &[OsString], env: &[OsString]) -> io::Error {
    let c = |text: &OsStr| CString::new(text.as_bytes());
    let strings = || -> io::Result<(CString, Vec<CString>, Vec<CString>)> {
        let argv = std::iter::once(argv0).chain(args.iter().map(OsString::as_os_str)).map(c);
        let env = env.iter().map(|entry| c(entry));
        Ok((c(path.as_os_str())?, argv.collect::<Result<_, _>>()?, env.collect::<Result<_, _>>()?))
    };
    match strings() {
        Ok((path, argv, env)) => {
            let Err(error) = execve(&path, &argv, &env);
            error.into()
        }
        Err(e) => e,
    }
}

/// Raises the limit of open files as far as allowed, as Node does for the program that it starts.
fn raise_descriptor_limit() {
    // SAFETY: plain system calls on a structure of ours.
    #[expect(unsafe_code, reason = "setrlimit")]
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 || limit.rlim_cur == limit.rlim_max {
            return;
        }
        // Without an upper bound, the kernel has one that it does not tell. As in Node, halving finds it.
        let (mut low, mut high) = match limit.rlim_max {
            libc::RLIM_INFINITY => (limit.rlim_cur, 1 << 20),
            most => (most, most),
        };
        loop {
            limit.rlim_cur = low + high.saturating_sub(low) / 2;
            match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                0 => low = limit.rlim_cur,
                _ => high = limit.rlim_cur,
            }
            if low + 1 >= high {
                return;
            }
        }
    }
}

/// Returns whether a file is a program for the system itself (ELF, Mach-O), by its first bytes.
fn is_executable_code(path: &Path) -> bool {
    const MAGIC: [[u8; 4]; 4] =
        [*b"\x7fELF", [0xcf, 0xfa, 0xed, 0xfe], [0xfe, 0xed, 0xfa, 0xcf], [0xca, 0xfe, 0xba, 0xbe]];
    let mut head = [0; 4];
    files::read_head(path, &mut head).is_ok() && MAGIC.contains(&head)
}

/// Returns whether a file looks like a script rather than a damaged program, by its first bytes as in bash.
fn is_text(path: &Path) -> bool {
    let mut head = [0; 80];
    files::read_head(path, &mut head).is_ok_and(|n| !head[..n].contains(&0) && head[0] != 0x7f)
}
