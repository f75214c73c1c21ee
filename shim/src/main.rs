//! The program `codex` of codex-pool: picks the account, then becomes the real Codex. All decisions are in
//! `codex_pool_core::launch`; here are only the edges of the process. Standard output is Codex's alone.
//!
//! It has no Rust `main`, since the start of the runtime changes SIGPIPE and opens closed descriptors, and Codex must
//! find both as they were.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![no_main]

mod memory;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use codex_pool_core::Error;
use codex_pool_core::env::{Env, names};
use codex_pool_core::launch::{self, Action, Again, Line, Request};
use codex_pool_core::text::is_deceptive;

/// The mark by which `find` knows a copy of this program. On Linux it is an ELF note (size of name, size of text, type,
/// name, text), which is found without reading the whole program. Elsewhere it is bytes in the program.
#[repr(C)]
struct Marker {
    name_size: u32,
    text_size: u32,
    kind: u32,
    name: [u8; 12],
    text: [u8; TEXT.len()],
}

#[global_allocator]
static MEMORY: memory::Arena = memory::Arena::new();

const TEXT: &str = codex_pool_core::shim_marker!();

#[used]
#[cfg_attr(target_os = "linux", expect(unsafe_code, reason = "a section of its own"))]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".note.codex-pool"))]
static MARKER: Marker = Marker {
    name_size: 11,
    text_size: TEXT.len() as u32,
    kind: 1,
    name: *b"codex-pool\0\0",
    text: {
        let mut text = [0; TEXT.len()];
        text.copy_from_slice(TEXT.as_bytes());
        text
    },
};

/// The entry of the process.
///
/// # Safety
/// The C runtime calls it with `argc` valid C strings in `argv`.
#[expect(unsafe_code, reason = "the C entry point")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    memory::Arena::take();
    let count = usize::try_from(argc).unwrap_or(0);
    let arg = |i: usize| {
        // SAFETY: `i` is below `argc`, so this is a C string that lives as long as the process.
        let bytes = unsafe { CStr::from_ptr(*argv.add(i)) }.to_bytes();
        OsString::from_vec(bytes.to_vec())
    };
    let args: Vec<OsString> = (0..count).map(arg).collect();
    hold_closed_descriptors();
    keep_secrets_out_of_core_dumps();
    run(&args)
}

fn run(args: &[OsString]) -> c_int {
    let env = Env::of_process();
    // Arguments are for Codex, whatever the environment says: a review that is not made must not succeed.
    if args.len() <= 1 && env.flag(names::CODEX_POOL_SHIM_VERSION) {
        let _ = writeln!(std::io::stdout(), "codex-shim {}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let (argv0, rest) =
        args.split_first().map_or((OsStr::new("codex"), args), |(a, rest)| (a.as_os_str(), rest));
    let own = own_file(&env, argv0);
    survive_panics(args.to_vec());
    let request = Request {
        env: &env,
        argv0,
        args: rest,
        own: own.as_deref(),
        named: None,
        best: false,
        again: Again { argv0, args: &[] },
        program: None,
    };
    match launch::prepare(&request) {
        Action::Exec(program, lines) => {
            say(&env, &lines);
            let error = launch::become_program(&program);
            refuse(&Error::io("execute", program.path(), &error).hint("`codex-pool doctor`"));
            if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
        }
        Action::Child(command, program, lines) => {
            say(&env, &lines);
            c_int::from(command.run(&program, |lines| say(&env, lines)))
        }
        Action::Carried(exec, program, lines) => {
            say(&env, &lines);
            c_int::from(exec.run(&program, |lines| say(&env, lines)))
        }
        Action::Fail(status, error) => {
            refuse(&error);
            c_int::from(status)
        }
    }
}

/// Lets a panic start Codex without the pool. A bug, or a standard library that gives up on a broken disk, must not
/// keep Codex from starting. It starts inside the panic, since this program does not unwind.
#[expect(clippy::exit, reason = "a panic hook cannot return a status")]
fn survive_panics(args: Vec<OsString>) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        let env = Env::of_process();
        let argv0 = args.first().map_or(OsStr::new("codex"), OsString::as_os_str);
        let own = own_file(&env, argv0);
        let program = launch::untouched(&env, argv0, args.get(1..).unwrap_or_default(), own.as_deref());
        match program {
            Ok(program) => {
                complain(&format!("internal error{place}; Codex starts without the pool"));
                launch::become_program(&program);
            }
            Err(why) => complain(&format!("internal error{place}, and {why}")),
        }
        // The status of a launch that has no account. Without unwinding there is no other way out.
        std::process::exit(4);
    }));
}

/// Returns this program's own file: from the kernel, else from argv[0].
fn own_file(env: &Env, argv0: &OsStr) -> Option<PathBuf> {
    if cfg!(target_os = "linux") {
        return Some(PathBuf::from("/proc/self/exe"));
    }
    if argv0.as_bytes().contains(&b'/') {
        return env.absolute(Path::new(argv0));
    }
    std::env::current_exe().ok()
}

/// Prints what is wrong, and on a terminal that the account changed.
fn say(env: &Env, lines: &[Line]) {
    if env.flag(names::CODEX_POOL_QUIET) {
        return;
    }
    let verbose = env.flag(names::CODEX_POOL_VERBOSE);
    for line in lines {
        match line {
            Line::Wrong(text) => complain(text),
            Line::Switched(text) if verbose || std::io::stderr().is_terminal() => complain(text),
            Line::Verbose(text) if verbose => complain(text),
            Line::Switched(_) | Line::Verbose(_) => {}
        }
    }
}

/// Prints one line on stderr, in one write. A closed or broken stderr does not matter.
fn complain(text: &str) {
    print(&format!("codex-pool: {}\n", plain(text)));
}

/// Prints an error and the next step, in the form of `codex-pool`.
fn refuse(error: &Error) {
    let next = error.hint.as_deref().unwrap_or("`codex-pool doctor`");
    print(&format!("codex-pool: error: {}\n  next: {}\n", plain(&error.message), plain(next)));
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if is_deceptive(c) { ' ' } else { c }).collect()
}

fn print(text: &str) {
    // A pipe without a reader must not end this process before Codex has started.
    let on_broken_pipe = |handler| {
        // SAFETY: one of the two constants, or what signal itself returned.
        #[expect(unsafe_code, reason = "signal")]
        unsafe {
            libc::signal(libc::SIGPIPE, handler)
        }
    };
    let before = on_broken_pipe(libc::SIG_IGN);
    let _ = std::io::stderr().write_all(text.as_bytes());
    if before != libc::SIG_ERR {
        on_broken_pipe(before);
    }
}

/// Opens closed standard descriptors until exec, so that no lock or document becomes a standard descriptor.
fn hold_closed_descriptors() {
    loop {
        // SAFETY: a constant C string.
        #[expect(unsafe_code, reason = "open")]
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd > 2 {
            // SAFETY: it was opened just now, and is used by nothing else.
            #[expect(unsafe_code, reason = "close")]
            unsafe {
                libc::close(fd);
            }
        }
        if !(0..=2).contains(&fd) {
            return;
        }
    }
}

/// Keeps the memory, which has credentials, out of core dumps and from other processes of this user. It ends with exec,
/// so it does not concern Codex.
fn keep_secrets_out_of_core_dumps() {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl with constants.
    #[expect(unsafe_code, reason = "prctl")]
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}
