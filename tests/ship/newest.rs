//! The newest Codex: `scripts/compatibility.sh newest` writes its row, and the scheduled workflow opens an issue when a
//! test fails.

use std::fs;

use crate::runner::{Runner, steps, workflow};

/// The stand-in for `cargo test`: three tests, of which two use the real Codex. The one named in `FAILING` fails.
const CARGO: &str = r#"
suite=
while [ $# -gt 0 ]; do [ "$1" != --test ] || suite=$2; shift; done
echo "tested $suite with $CODEX_POOL_TEST_VERSIONS" >>"$LOG"
printf '%s\n' real::one real::two >>"$CODEX_POOL_TEST_USED"
echo 'test plain ... ok'
echo 'test real::one ... ok'
if [ "$suite" = "${FAILING:-}" ]; then
    printf '%s\n' 'test real::two ... FAILED' 'failures:' 'it broke' 'test result: FAILED'
    exit 101
fi
printf '%s\n' 'test real::two ... ok' 'test result: ok'
"#;

/// A runner where npm's newest Codex is 9.9.9.
fn runner() -> Runner {
    let mut runner = Runner::new();
    let log = runner.place.beside("tested");
    runner.place.env("LOG", log).fake_tool("npm", "echo 9.9.9").fake_tool("cargo", CARGO);
    runner
}

/// Runs the step of the workflow with this name.
fn step(runner: &mut Runner, name: &str) -> crate::place::Said {
    let workflow = workflow("newest-codex.yml");
    let found = steps(&workflow, "test").find(|(step, _)| step.name.as_deref() == Some(name));
    runner.step(found.expect("the step").0, &workflow.jobs["test"], "")
}

fn page(runner: &Runner) -> String {
    fs::read_to_string(runner.checkout.join("docs/compatibility.md")).expect("the page")
}

#[test]
fn newest_codex_gets_its_row_and_the_others_keep_theirs() {
    let mut runner = runner();
    let before = page(&runner);
    step(&mut runner, "Tests with the newest Codex").ok();
    let row = "| 9.9.9 | 2 | 2 | 2 | 2 | 2 | 2 |\n";
    assert_eq!(page(&runner), before.clone() + row, "the newest is the last row");
    let tested = fs::read_to_string(runner.place.beside("tested")).expect("a log");
    assert_eq!(tested.matches(" with 9.9.9\n").count(), 6, "{tested}");
    // Once more: the row is replaced.
    step(&mut runner, "Tests with the newest Codex").ok();
    assert_eq!(page(&runner), before + row);
    step(&mut runner, "Show the table").ok();
    assert!(fs::read_to_string(runner.temp().join("summary.md")).expect("a summary").contains(row));
}

#[test]
fn newest_codex_that_fails_a_test_opens_one_issue() {
    let mut runner = runner();
    runner.place.env("FAILING", "proof");
    let said = step(&mut runner, "Tests with the newest Codex");
    assert!(said.code == 1 && said.err.contains("it broke"), "{said:?}");
    assert!(page(&runner).ends_with("| 9.9.9 | 2 | 2 | 2 | 2 | **1 of 2** | 2 |\n"), "{}", page(&runner));
    let title = "The tests fail with Codex 9.9.9";
    let create =
        format!("gh issue create --title {title} --body See https://github.com/some/fork/actions/runs/17");
    step(&mut runner, "Open an issue").ok();
    assert_eq!(runner.log().matches(&create).count(), 1, "{}", runner.log());
    // It is still open the next day.
    runner.place.fake_tool("gh", &format!("[ \"$2\" = list ] || exit 9; echo '{title}'"));
    step(&mut runner, "Open an issue").ok();
}

#[test]
fn newest_codex_is_not_said_to_pass_when_no_test_used_it() {
    let mut runner = runner();
    runner.place.fake_tool("cargo", "echo 'test result: ok'");
    let before = page(&runner);
    let said = step(&mut runner, "Tests with the newest Codex");
    assert!(said.code == 1 && said.err.contains("no test of homes used the real Codex"), "{said:?}");
    assert_eq!(page(&runner), before);
}

#[test]
fn newest_codex_opens_an_issue_only_when_its_tests_fail() {
    let text = include_str!("../../.github/workflows/newest-codex.yml");
    assert!(text.contains("if: failure() && steps.tests.conclusion == 'failure'"));
    let workflow = workflow("newest-codex.yml");
    let rights: Vec<_> = workflow.jobs["test"].permissions.iter().collect();
    assert_eq!(rights, [(&"contents".into(), &"read".into()), (&"issues".into(), &"write".into())]);
}
