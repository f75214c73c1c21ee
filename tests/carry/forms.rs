//! Every form of `exec`, with the limit in every place.

use crate::world::{Carry, assert_one_conversation, each};

#[test]
fn plain_exec_finishes_on_the_next_account() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let output = world.exec_with(&["do the task"]).run();
        assert_eq!(output.stdout, "done by bob\n", "{version}: {output}");
        assert_eq!(output.code(), Some(0), "{version}: {output}");
        assert!(
            output.stderr.contains("codex-pool: alice is at its limit; bob goes on\n"),
            "{version}: {output}"
        );
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}

#[test]
fn json_exec_is_one_conversation() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let output = world.exec_with(&["--json", "do the task"]).run().ok();
        assert_one_conversation(&output, version);
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}
