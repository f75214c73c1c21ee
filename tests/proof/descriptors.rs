//! When `codex` is started with closed standard descriptors, no file of the pool may take their places: output would
//! end up in a lock or in a login.

use std::fs;

use testkit::backend::LoginSpec;

use testkit::needs;

use crate::lab::Lab;

#[test]
fn closed_standard_descriptors_get_no_file_of_the_pool() {
    let Some(strace) = needs("strace") else { return };
    let world = Lab::new(&["alice", "bob"], "background_refresh = false\n");
    world.reset(&LoginSpec::default());
    let trace = world.root().join("trace");
    let plain = world.exec_as("bob").into_inner();
    let mut traced = std::process::Command::new(strace);
    traced.args(["-qq", "-s", "400", "-e", "trace=open,openat,execve", "-o"]).arg(&trace);
    traced
        .args(["sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"])
        .arg(plain.get_program())
        .args(plain.get_args());
    traced.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.current_dir(plain.get_current_dir().expect("a folder"));
    assert!(traced.status().expect("strace").success());
    let trace = fs::read_to_string(trace).expect("a trace");
    let root = world.root().display().to_string();
    // What happens between the shim's start and Codex's.
    let ours: Vec<&str> = trace.split("execve(").nth(2).expect("the shim").lines().skip(1).collect();
    let opened: Vec<(&str, i32)> = ours
        .iter()
        .filter(|line| line.contains(&root))
        .filter_map(|line| Some((*line, line.rsplit_once("= ")?.1.parse().ok()?)))
        .collect();
    assert!(opened.iter().any(|(line, _)| line.contains("pool.lock")), "{trace}");
    let in_place: Vec<_> = opened.iter().filter(|(_, fd)| (0..=2).contains(fd)).collect();
    assert!(in_place.is_empty(), "{in_place:#?}");
}
