//! The stand-in Codex and the probe, as they run in a sandbox.

use std::fs;

use testkit::backend::{LoginSpec, Usage};
use testkit::probe::Record;
use testkit::{Codex, Pty, SOON, Sandbox, bins, pty, wait_until};

#[test]
fn standin_answers_as_the_live_account() {
    let sandbox = Sandbox::new();
    sandbox.backend().add("alice");
    sandbox.write_live(&sandbox.backend().auth_json("alice"));
    sandbox.real_codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok().says("hello from alice");
    let report = sandbox.backend().report();
    assert_eq!(report.turns_of("alice")[0].prompt.as_deref(), Some("hi"));
    sandbox.backend().assert_clean();
}

#[test]
fn standin_refreshes_an_expired_token_once_and_writes_it() {
    let sandbox = Sandbox::new();
    let backend = sandbox.backend();
    backend.add("alice");
    sandbox.write_live(&backend.auth_json_with("alice", &LoginSpec::expires_in(-60)));
    sandbox.real_codex(&["exec", "hi"]).run().ok().says("hello from alice");
    sandbox.real_codex(&["exec", "hi"]).run().ok().says("hello from alice");
    assert_eq!(backend.report().refreshes_of("alice").len(), 1);
    assert!(sandbox.live().expect("a live login").contains(&backend.newest_refresh_token("alice")));
    backend.assert_clean();
}

#[test]
fn standin_meets_the_limit() {
    let sandbox = Sandbox::new();
    sandbox.backend().add("alice");
    sandbox.backend().set_usage("alice", Usage::percent(100.0, 20.0));
    sandbox.write_live(&sandbox.backend().auth_json("alice"));
    let output = sandbox.real_codex(&["exec", "hi"]).run().expect(1);
    assert!(output.stderr.contains("hit your usage limit"), "{output}");
}

#[test]
fn standin_login_revokes_what_was_there_and_waits_for_approval() {
    let sandbox = Sandbox::new();
    let backend = sandbox.backend();
    backend.add("alice");
    backend.add("bob");
    let old = backend.auth_json("alice");
    sandbox.write_live(&old);
    let login = sandbox.real_codex(&["login", "--device-auth"]).spawn();
    wait_until("a login that waits", SOON, || backend.pending_logins() == 1);
    assert_eq!(sandbox.live(), None);
    assert!(!backend.is_good(&old));
    backend.approve_login("bob");
    login.wait().ok();
    assert_eq!(backend.owner(&sandbox.live().expect("a live login")).as_deref(), Some("bob"));
    assert_eq!(backend.report().revocations[0].user.as_deref(), Some("alice"));
    sandbox.real_codex(&["exec", "hi"]).run().ok().says("hello from bob");
    sandbox.real_codex(&["logout"]).run().ok();
    assert_eq!(sandbox.live(), None);
}

#[test]
fn standin_leaves_the_login_alone_when_misused() {
    let sandbox = Sandbox::new();
    sandbox.backend().add("alice");
    sandbox.write_live(&sandbox.backend().auth_json("alice"));
    sandbox.real_codex(&["login", "--bogus"]).run().expect(2);
    sandbox.real_codex(&["login", "status"]).run().ok();
    assert!(sandbox.backend().is_good(&sandbox.live().expect("a live login")));
}

#[test]
fn held_turn_ends_when_it_is_let_go() {
    let sandbox = Sandbox::new();
    let backend = sandbox.backend();
    backend.add("alice");
    sandbox.write_live(&backend.auth_json("alice"));
    let hold = backend.hold("alice");
    let mut turn = sandbox.real_codex(&["exec", "hi"]).spawn();
    hold.wait_for(1, SOON);
    assert!(turn.is_running());
    drop(hold);
    turn.wait().ok().says("hello from alice");
}

#[test]
fn probe_records_closed_descriptors_signals_and_bytes() {
    let sandbox = Sandbox::builder().codex(Codex::Probe).build();
    let out = sandbox.root().join("record.json");
    let script = "umask 027; trap '' PIPE; exec \"$0\" \"$(printf 'a\\377b')\" <&- >&- 2>&- 7</dev/null";
    let probe = sandbox.real_path();
    let run = sandbox
        .cmd("/bin/sh")
        .args(["-c", script])
        .arg(&probe)
        .env("PROBE_OUT", &out)
        .env("PROBE_EXIT", "42");
    run.run().expect(42);
    let record = Record::read(&out);
    assert_eq!(record.argv[1], "61ff62");
    assert_eq!(record.umask, 0o027);
    // The program that runs the tests may pass on others.
    let open = |fd| record.descriptors.iter().any(|d| d.fd == fd);
    assert_eq!([0, 1, 2, 7].map(open), [false, false, false, true]);
    assert_eq!(record.ignored, [nix::libc::SIGPIPE]);
    assert_eq!(record.var("HOME").as_deref(), sandbox.home().to_str());
}

#[test]
fn probe_dies_by_the_signal_asked_for() {
    let sandbox = Sandbox::builder().codex(Codex::Probe).build();
    let output = sandbox.real_codex(&[]).env("PROBE_KILL", "15").run();
    assert_eq!(output.signal(), Some(15), "{output}");
}

#[test]
fn sandbox_takes_its_processes_and_files_with_it() {
    let sandbox = Sandbox::builder().codex(Codex::Missing).build();
    let root = sandbox.root().to_owned();
    let pid_file = root.join("pid");
    let script = format!("setsid sleep 1000 & echo $! > {}", pid_file.display());
    sandbox.cmd("/bin/sh").args(["-c", &script]).run().ok();
    let pid = fs::read_to_string(&pid_file).expect("a pid");
    // A zombie, until its parent takes note of it, has no command line any more.
    let alive = || fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty());
    wait_until("the process in its place", SOON, || sandbox.processes().iter().any(|p| p.argv[0] == "sleep"));
    assert!(alive());
    drop(sandbox);
    assert!(!alive() && !root.exists());
}

#[test]
fn standin_service_serves_scripts_too() {
    let sandbox = Sandbox::builder().codex(Codex::Missing).build();
    let output = sandbox.cmd(bins::standin_backend()).arg("alice").run().ok();
    let hello: serde_json::Value =
        serde_json::from_str(output.stdout.lines().next().expect("a line")).expect("JSON");
    assert!(
        hello["port"].as_u64().is_some() && hello["auth"]["alice"]["tokens"]["refresh_token"].is_string()
    );
}

#[test]
fn leftovers_of_a_killed_test_are_swept_up() {
    let sandbox = Sandbox::builder().codex(Codex::Missing).build();
    let folder = sandbox.root().join("folder");
    let left = folder.join("sleft");
    fs::create_dir_all(&left).and_then(|()| fs::write(left.join(".owned"), "")).expect("make what is left");
    let kept = folder.join("skept");
    fs::create_dir_all(&kept).expect("make what is kept");
    // A test of its own process, so that TESTKIT_DIR is its own as well.
    let me = std::env::current_exe().expect("this test");
    let run =
        sandbox.cmd(me).args(["--exact", "probe_dies_by_the_signal_asked_for"]).env("TESTKIT_DIR", &folder);
    run.run().ok().says("1 passed");
    assert!(!left.exists() && kept.exists());
}

#[test]
fn held_standin_goes_on_with_what_it_read_or_reads_again() {
    for (reread, expected) in [(None, "hello from alice"), (Some("1"), "hello from bob")] {
        let sandbox = Sandbox::new();
        let backend = sandbox.backend();
        backend.add("alice");
        backend.add("bob");
        sandbox.write_live(&backend.auth_json("alice"));
        let gate = sandbox.root().join("gate");
        let mut turn = sandbox.real_codex(&["exec", "hi"]).env("STANDIN_HOLD", &gate);
        turn.inner().envs(reread.map(|yes| ("STANDIN_REREAD", yes)));
        let turn = turn.spawn();
        wait_until("the standin holds", SOON, || turn.stderr().contains("holding"));
        sandbox.write_live(&backend.auth_json("bob"));
        fs::write(&gate, "").expect("open the gate");
        turn.wait().ok().says(expected);
    }
}

#[test]
fn slow_write_can_be_seen_half_done() {
    let sandbox = Sandbox::new();
    let backend = sandbox.backend();
    backend.add("alice");
    sandbox.write_live(&backend.auth_json_with("alice", &LoginSpec::expires_in(-60)));
    let turn = sandbox.real_codex(&["exec", "hi"]).env("STANDIN_SLOW_WRITE", "500").spawn();
    let half = || sandbox.live().is_some_and(|live| live.starts_with('{') && !live.ends_with('}'));
    wait_until("half a file", SOON, half);
    turn.wait().ok();
    assert!(backend.is_good(&sandbox.live().expect("a live login")));
}

#[test]
fn terminal_shows_what_a_person_would_see() {
    let sandbox = Sandbox::new();
    sandbox.backend().add("alice");
    sandbox.write_live(&sandbox.backend().auth_json("alice"));
    let mut codex = Pty::spawn(sandbox.real_codex(&[]), 10, 40);
    codex.wait_for_text("> ", SOON);
    codex.send_line("hi");
    codex.wait_for_text("hello from alice", SOON);
    codex.send(pty::CTRL_D);
    assert!(codex.wait(SOON).success());
}

#[test]
fn terminal_answers_queries_and_has_a_size() {
    let sandbox = Sandbox::builder().codex(Codex::Missing).build();
    // Asks for the cursor's position, and shows the answer's last byte and the size.
    let script = r"stty raw -echo; printf 'ab\033[6n'; reply=$(dd bs=1 count=6 2>/dev/null); stty sane
        printf '\n%s\n' ${reply#?}; stty size; read wait; stty size; read wait";
    let mut shell = Pty::spawn(sandbox.cmd("/bin/sh").args(["-c", script]), 24, 80);
    shell.wait_for_text("[1;3R", SOON);
    shell.wait_for_text("24 80", SOON);
    shell.resize(30, 100);
    shell.send(pty::ENTER);
    shell.wait_for_text("30 100", SOON);
}
