//! What else a program inherits: signals, limits, process group, session and terminal, and how it ends. Recorded with
//! and without the shim, as in [`super::transparency`].

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use testkit::probe::Record;
use testkit::{Pty, SOON, wait_until};

use crate::transparency::{KINDS, Kind, in_child, ours, same, world};

#[test]
fn blocked_and_ignored_signals_stay() {
    let world = world();
    let sets: [(&[Signal], &[Signal]); 4] = [
        (&[], &[]),
        (&[Signal::SIGPIPE], &[]),
        (&[Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGCHLD], &[Signal::SIGTERM]),
        (&[], &[Signal::SIGPIPE, Signal::SIGUSR1, Signal::SIGCHLD, Signal::SIGINT]),
    ];
    for kind in KINDS {
        for (ignored, blocked) in sets {
            let (record, _) = same(&world, kind, &|command| {
                let (ignored, blocked) = (ignored.to_vec(), blocked.to_vec());
                in_child(command, move || {
                    for signal in &ignored {
                        // SAFETY: no handler of ours is installed.
                        #[expect(unsafe_code, reason = "signal")]
                        unsafe {
                            nix::sys::signal::signal(*signal, SigHandler::SigIgn)?;
                        }
                    }
                    let set: SigSet = blocked.iter().copied().collect();
                    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
                    Ok(())
                });
            });
            let numbers = |signals: &[Signal]| {
                let mut numbers: Vec<i32> = signals.iter().map(|s| *s as i32).collect();
                numbers.sort_unstable();
                numbers
            };
            assert_eq!((record.ignored, record.blocked), (numbers(ignored), numbers(blocked)), "{kind:?}");
        }
    }
}

#[test]
fn resource_limits_stay() {
    let world = world();
    for kind in KINDS {
        let (record, _) = same(&world, kind, &|command| {
            in_child(command, || {
                setrlimit(Resource::RLIMIT_NOFILE, 64, 80)?;
                setrlimit(Resource::RLIMIT_CORE, 4096, getrlimit(Resource::RLIMIT_CORE)?.1)?;
                setrlimit(Resource::RLIMIT_FSIZE, 1 << 30, 1 << 31)?;
                Ok(())
            });
        });
        assert_eq!((record.limits["nofile"], record.limits["fsize"]), ((64, 80), (1 << 30, 1 << 31)));
    }
}

#[test]
fn process_group_and_session_stay() {
    let world = world();
    for kind in KINDS {
        let (inherited, _) = same(&world, kind, &|_| {});
        assert_eq!((inherited.pgid, inherited.sid), (0, 0));
        let (grouped, _) = same(&world, kind, &|command| {
            command.process_group(0);
        });
        assert_eq!((grouped.pgid, grouped.sid), (1, 0));
        let (alone, _) = same(&world, kind, &|command| {
            in_child(command, || Ok(nix::unistd::setsid().map(drop)?));
        });
        assert_eq!((alone.pgid, alone.sid, alone.terminal), (1, 1, false));
    }
}

#[test]
fn terminal_stays_with_the_program_in_its_foreground() {
    let world = world();
    let out = world.root().join("record.json");
    let on_terminal = |program: &Path, said: &str| {
        let _ = fs::remove_file(&out);
        let mut pty = Pty::spawn(world.cmd(program).env("PROBE_OUT", &out), 24, 80);
        assert!(pty.wait(SOON).success());
        let record = Record::read(&out);
        assert_eq!(record.pid, pty.pid().cast_signed());
        assert_eq!((record.pgid, record.sid, record.foreground), (record.pid, record.pid, record.pid));
        let open: Vec<_> = ours(&world, record.descriptors).iter().map(|d| (d.fd, d.flags)).collect();
        let is_said = |raw: &str| match said {
            "" => raw.is_empty(),
            said => raw.starts_with(said) && raw.lines().count() == 1,
        };
        wait_until(&format!("{said:?} on the terminal"), SOON, || is_said(pty.raw().trim_end()));
        (record.terminal, open)
    };
    let direct = on_terminal(&world.real_path(), "");
    assert!(direct.0);
    // On a terminal a switch prints one line and nothing else.
    assert_eq!(on_terminal(&world.shim(), "codex-pool: running as bob"), direct);
    assert_eq!(on_terminal(&world.shim(), ""), direct);
}

#[test]
fn exit_status_and_killing_signal_are_codexs_own() {
    let world = world();
    for kind in [Kind::PassThrough, Kind::Stay, Kind::Waiting] {
        for code in [0, 1, 2, 42, 126, 127, 255] {
            let (_, status) = same(&world, kind, &|command| {
                command.env("PROBE_EXIT", code.to_string());
            });
            assert_eq!(status.code(), Some(code));
        }
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGINT, libc::SIGPIPE, libc::SIGHUP] {
            let (_, status) = same(&world, kind, &|command| {
                command.env("PROBE_KILL", signal.to_string());
            });
            assert_eq!(status.signal(), Some(signal));
        }
    }
}

#[test]
fn signals_reach_codex_itself() {
    let world = world();
    let (out, gate) = (world.root().join("record.json"), world.root().join("gate"));
    let running = world.exec().env("PROBE_OUT", &out).env("PROBE_HOLD", &gate).spawn();
    wait_until("the probe", SOON, || out.exists());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait().signal(), Some(libc::SIGTERM));
}
