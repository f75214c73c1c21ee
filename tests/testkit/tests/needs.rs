//! A test that needs a tool which is not installed is left out, and the test program says so; or it fails.

use testkit::{Cmd, Output, needs, takes};

/// Returns this test program with one of its ignored tests.
fn run(test: &str, all: &str) -> Output {
    let cmd = Cmd::new(std::env::current_exe().expect("this program")).args(["--exact", "--ignored", test]);
    cmd.env("PATH", "/usr/bin:/bin").env("CODEX_POOL_TEST_ALL", all).run()
}

#[test]
#[ignore = "started by the other tests"]
fn needs_two_tools() {
    assert!(needs("sh").is_some());
    assert!(needs("no-such-tool").is_none());
}

#[test]
#[ignore = "started by the other tests"]
fn takes_a_tool() {
    assert!(takes("no-such-tool").is_none());
}

#[test]
fn test_without_its_tool_is_left_out_and_named() {
    let output = run("needs_two_tools", "0").ok();
    assert_eq!(output.stderr.trim(), "left out: 1 (no-such-tool is not installed): needs_two_tools");
}

#[test]
fn test_without_its_tool_fails_where_all_tests_are_asked_for() {
    let output = run("needs_two_tools", "1").expect(101);
    assert!(output.stdout.contains("no-such-tool is not installed, and CODEX_POOL_TEST_ALL=1"), "{output}");
    assert!(!output.stderr.contains("left out"), "{output}");
    let output = run("takes_a_tool", "1").ok();
    assert_eq!(output.stderr.trim(), "left out: 1 (no-such-tool is not installed): takes_a_tool");
}
