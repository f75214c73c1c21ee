//! Nothing but the account changes: the probe in Codex's place records how it was started, with and without the shim,
//! and the two records must be equal.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::libc;
use nix::sys::stat::{Mode, umask};
use testkit::probe::{Descriptor, Record, text};
use testkit::{SOON, World, wait_until};

use crate::BOB_FIRST;

/// What a launch means for the pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A command that needs no account.
    PassThrough,
    /// The live account is the pick.
    Stay,
    /// The home changes hands.
    Switch,
    /// The pool cannot be used, which is said on stderr.
    Trouble,
    /// An `exec` that could be carried on: the shim waits for it. Only the parent differs.
    Waiting,
}

pub(crate) const KINDS: [Kind; 5] =
    [Kind::PassThrough, Kind::Stay, Kind::Switch, Kind::Trouble, Kind::Waiting];

pub(crate) fn world() -> World {
    let world = World::probe(&["alice", "bob"]);
    world.usage(&BOB_FIRST[..2]);
    world
}

/// Starts the probe twice, directly and through the shim, and requires equal records. `change` arranges the start.
#[track_caller]
pub(crate) fn same(world: &World, kind: Kind, change: &dyn Fn(&mut Command)) -> (Record, ExitStatus) {
    let registry = world.pool_home().join("accounts.json");
    let kept = fs::read(&registry).expect("read the registry");
    match kind {
        Kind::Trouble => fs::write(&registry, "{ broken").expect("break the registry"),
        Kind::Switch => world.write_live(&fs::read_to_string(world.stored_path("alice")).expect("alice")),
        Kind::Stay | Kind::Waiting => {
            world.write_live(&fs::read_to_string(world.stored_path("bob")).expect("bob"))
        }
        Kind::PassThrough => {}
    }
    let (direct, direct_status) = record(world, &world.real_path(), kind, change);
    let (shim, shim_status) = record(world, &world.shim(), kind, change);
    assert_eq!(shim, direct, "{kind:?}");
    assert_eq!(shim_status, direct_status, "{kind:?}");
    fs::write(&registry, kept).expect("restore the registry");
    if kind == Kind::Switch {
        assert_eq!(world.live_owner().as_deref(), Some("bob"));
    }
    (shim, shim_status)
}

pub(crate) fn record(
    world: &World,
    program: &Path,
    kind: Kind,
    change: &dyn Fn(&mut Command),
) -> (Record, ExitStatus) {
    let out = world.root().join("record.json");
    let _ = fs::remove_file(&out);
    let mut command = world.cmd(program).env("PROBE_OUT", &out).into_inner();
    command.arg0("codex");
    match kind {
        Kind::PassThrough => drop(command.arg("--version")),
        Kind::Waiting => drop(command.arg("exec")),
        _ => {}
    }
    command.stdin(Stdio::null()).stdout(log(world, "stdout")).stderr(log(world, "stderr"));
    change(&mut command);
    let mut child = command.spawn().expect("start the program");
    let status = child.wait().expect("wait for it");
    let mut record = Record::read(&out);
    let started = child.id().cast_signed();
    if kind == Kind::Waiting && program == world.shim() {
        assert_ne!(record.pid, started, "the shim waits");
        assert_eq!(record.ppid, started);
        record.ppid = std::process::id().cast_signed();
    } else {
        assert_eq!(record.pid, started, "the process is the one that was started");
    }
    assert_eq!(record.ppid, std::process::id().cast_signed());
    for id in [&mut record.pgid, &mut record.sid] {
        *id = i32::from(*id == started);
    }
    record.pid = 0;
    record.env.retain(|entry| !text(entry).starts_with("CODEX_POOL_"));
    record.descriptors = ours(world, record.descriptors);
    (record, status)
}

/// Standard descriptors, those that a test opened, and any on a file of this world. The program that runs the tests,
/// and other tests that start programs at the same moment, may leak others.
pub(crate) fn ours(world: &World, all: Vec<Descriptor>) -> Vec<Descriptor> {
    let root = world.root().to_string_lossy().into_owned();
    all.into_iter().filter(|d| d.fd <= 2 || d.fd >= 300 || d.target.starts_with(&root)).collect()
}

/// Returns what the program writes, in a file that is the same for both.
fn log(world: &World, name: &str) -> File {
    fs::OpenOptions::new().create(true).append(true).open(world.root().join(name)).expect("open a log")
}

/// Runs `setup` in the child before it becomes the program.
pub(crate) fn in_child(
    command: &mut Command,
    setup: impl Fn() -> std::io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: what the tests do here are single system calls.
    #[expect(unsafe_code, reason = "pre_exec")]
    unsafe {
        command.pre_exec(setup);
    }
}

#[test]
fn arguments_arrive_byte_for_byte() {
    let world = world();
    let long = "x".repeat(100_000);
    let odd = OsString::from_vec(b"a\xff\xfe\x01\nb".to_vec());
    for kind in KINDS {
        let (record, _) = same(&world, kind, &|command| {
            command.args(["", " ", "-", "$HOME", "\"'\\", "ä€", "-ci=1", "-c", "x=1", "exec"]);
            command.arg(&odd).arg(&long).args(["--", "--version", ""]);
        });
        assert!(record.argv.contains(&testkit::probe::hex(odd.as_bytes())), "{kind:?}");
    }
}

#[test]
fn name_that_codex_is_called_by_stays() {
    let world = world();
    for name in ["codex", "/some/where/codex", "-codex", ""] {
        same(&world, Kind::Stay, &|command| {
            command.arg0(name);
        });
    }
}

#[test]
fn environment_stays_in_value_and_order() {
    let world = world();
    for kind in KINDS {
        same(&world, kind, &|command| {
            command
                .env("ODD", OsStr::from_bytes(b"\xff=\n"))
                .env("EMPTY", "")
                .env("LONG", "x".repeat(100_000));
            command.env("CODEX_API", "no variable of the pool's").env("A_first", "1").env("zz", "2");
        });
    }
}

#[test]
fn entries_of_the_environment_that_are_no_variables_stay() {
    let world = world();
    let out = world.root().join("record.json");
    let entries = |program: &Path| {
        let mut env = vec![
            b"no-equals-sign".to_vec(),
            b"=starts=with".to_vec(),
            b"TWICE=1".to_vec(),
            b"TWICE=2".to_vec(),
        ];
        for (name, value) in world.cmd(program).env("PROBE_OUT", &out).into_inner().get_envs() {
            env.push([name.as_bytes(), b"=", value.expect("a value").as_bytes()].concat());
        }
        let c = |bytes: &[u8]| CString::new(bytes).expect("no null");
        let path = c(program.as_os_str().as_bytes());
        let env: Vec<CString> = env.iter().map(|e| c(e)).collect();
        let mut command = world.cmd(program).into_inner();
        in_child(&mut command, move || {
            let mut env: Vec<_> = env.iter().map(|e| e.as_ptr()).collect();
            env.push(std::ptr::null());
            let argv = [path.as_ptr(), std::ptr::null()];
            // SAFETY: C strings and arrays that end with a null pointer.
            #[expect(unsafe_code, reason = "execve")]
            unsafe {
                libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr())
            };
            Err(std::io::Error::last_os_error())
        });
        assert!(command.status().expect("run it").success());
        let mut record = Record::read(&out);
        record.env.retain(|entry| !text(entry).starts_with("CODEX_POOL_"));
        record.env
    };
    assert_eq!(entries(&world.shim()), entries(&world.real_path()));
}

#[test]
fn shim_adds_no_variable_but_its_own() {
    let world = world();
    let out = world.root().join("record.json");
    world.exec().env("PROBE_OUT", &out).run().ok();
    let names: Vec<String> = Record::read(&out).env.iter().map(|e| text(e)).collect();
    let ours: Vec<&str> =
        names.iter().filter_map(|e| e.split('=').next()).filter(|n| n.starts_with("CODEX_")).collect();
    let theirs = ["CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_REVOKE_TOKEN_URL_OVERRIDE"];
    let added: Vec<&&str> = ours.iter().filter(|n| !theirs.contains(n)).collect();
    assert_eq!(added, [&"CODEX_POOL_DEPTH", &"CODEX_POOL_LAUNCH"]);
}

#[test]
fn working_directory_stays_even_an_odd_or_deleted_one() {
    let world = world();
    let odd = world.root().join(OsStr::from_bytes(b"\xfe dir"));
    fs::create_dir(&odd).expect("make a folder");
    let gone = world.root().join("gone");
    fs::create_dir(&gone).expect("make a folder");
    for kind in KINDS {
        same(&world, kind, &|command| {
            command.current_dir(&odd);
        });
        let path = CString::new(gone.as_os_str().as_bytes()).expect("no null");
        same(&world, kind, &|command| {
            fs::create_dir_all(&gone).expect("make a folder");
            command.current_dir(&gone);
            let path = path.clone();
            in_child(command, move || {
                // SAFETY: a C string.
                #[expect(unsafe_code, reason = "rmdir")]
                unsafe {
                    libc::rmdir(path.as_ptr());
                }
                Ok(())
            });
        });
    }
}

#[test]
fn umask_stays() {
    let world = world();
    for (kind, mask) in KINDS.into_iter().zip([0o000_u32, 0o027, 0o077, 0o022, 0o007]) {
        let (record, _) = same(&world, kind, &|command| {
            in_child(command, move || {
                umask(Mode::from_bits_truncate(mask as libc::mode_t));
                Ok(())
            });
        });
        assert_eq!(record.umask, mask);
    }
}

#[test]
fn open_descriptors_stay_and_closed_ones_stay_closed() {
    let world = world();
    let file = log(&world, "extra");
    for kind in KINDS {
        for closed in [vec![], vec![0], vec![1], vec![2], vec![0, 1], vec![1, 2], vec![0, 1, 2]] {
            let raw = file.as_raw_fd();
            let close = closed.clone();
            let (record, _) = same(&world, kind, &|command| {
                let close = close.clone();
                in_child(command, move || {
                    // SAFETY: descriptors are duplicated and closed in the child alone.
                    #[expect(unsafe_code, reason = "dup2 and close")]
                    unsafe {
                        libc::dup2(raw, 407);
                        libc::dup2(raw, 300);
                        for fd in &close {
                            libc::close(*fd);
                        }
                    }
                    Ok(())
                });
            });
            let open: Vec<i32> = record.descriptors.iter().map(|d| d.fd).collect();
            assert!([407, 300].iter().all(|fd| open.contains(fd)), "{open:?}");
            assert!(closed.iter().all(|fd| !open.contains(fd)), "{kind:?} {closed:?}: {open:?}");
        }
    }
}

#[test]
fn stdout_stays_untouched_whatever_is_wrong() {
    let world = world();
    fs::write(world.pool_home().join("accounts.json"), "{ broken").expect("break the registry");
    world.settings("nonsense = 1");
    let output = world.exec().env("CODEX_POOL_VERBOSE", "1").run().ok();
    assert_eq!(output.stdout, "");
    assert!(!output.stderr.is_empty());
}

#[test]
fn broken_or_closed_stderr_does_not_keep_codex_from_starting() {
    let world = world();
    fs::write(world.pool_home().join("accounts.json"), "{ broken").expect("break the registry");
    let out = world.root().join("record.json");
    let mut command = world.exec().env("PROBE_OUT", &out).into_inner();
    // A pipe without a reader. The default action of SIGPIPE would kill the writer.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
    assert!(command.status().expect("run it").success());
    assert_eq!(Record::read(&out).ignored, [0; 0]);
}

#[test]
fn environment_of_an_own_home_differs_in_two_variables() {
    let world = world();
    let gate = world.root().join("gate");
    let holder = world.exec().env("PROBE_OUT", world.root().join("holder.json")).env("PROBE_HOLD", &gate);
    let holder = holder.spawn();
    wait_until("a session on the main home", SOON, || world.root().join("holder.json").exists());
    let (direct, _) = record(&world, &world.real_path(), Kind::Stay, &|_| {});
    let (mut home, _) = record(&world, &world.shim(), Kind::Stay, &|command| {
        command.env("CODEX_POOL_ACCOUNT", "alice");
    });
    let id = world.ids()["alice"].clone();
    let codex_home = home.var("CODEX_HOME").expect("a CODEX_HOME");
    assert!(codex_home.starts_with(world.pool_home().join("homes").to_str().expect("UTF-8")), "{codex_home}");
    assert!(codex_home.ends_with(&id));
    assert_eq!(home.var("CODEX_SQLITE_HOME").as_deref(), world.codex_home().to_str());
    home.env.retain(|e| !["CODEX_HOME=", "CODEX_SQLITE_HOME="].iter().any(|name| text(e).starts_with(name)));
    assert_eq!(home, direct);
    fs::write(&gate, "").expect("open the gate");
    holder.wait().ok();
}

#[test]
fn shim_links_neither_network_nor_command_line_parser() {
    let program = fs::read(testkit::bins::shim()).expect("the shim");
    let holds = |word: &str| program.windows(word.len()).any(|w| w == word.as_bytes());
    assert!(holds("codex-pool"));
    for word in ["rustls", "ureq", "clap_builder", "ratatui"] {
        assert!(!holds(word), "the shim holds {word}");
    }
}
