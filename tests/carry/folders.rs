//! Work is carried on only to accounts that may be used in its folder, and that are above their reserve.

use crate::world::{Carry as _, each};

#[test]
fn work_stays_on_the_accounts_of_its_folder() {
    each(&["alice", "bob", "carol"], |version, world| {
        let work = world.work();
        for label in ["alice", "carol"] {
            world.pool(&["set", label, "--folder"]).arg(&work).run().ok();
        }
        world.limit("alice", 2);
        world.exec_with(&["do the task"]).run().ok();
        world.assert_done(&[("alice", 2), ("carol", 2)], version);
        world.pool(&["set", "carol", "--no-folders"]).run().ok();
        world.forget();
        world.rank(&["alice", "bob", "carol"]);
        world.limit("alice", 2);
        let output = world.exec_with(&["do the task"]).run().expect(1);
        assert!(!output.stderr.contains("goes on"), "{version}: {output}");
        assert_eq!(world.steps(), "1 alice\n2 alice\n", "{version}");
    });
}

#[test]
fn work_is_not_carried_on_into_a_reserve() {
    each(&["alice", "bob", "carol"], |version, world| {
        world.pool(&["set", "bob", "--reserve", "90"]).run().ok();
        world.limit("alice", 2);
        world.exec_with(&["do the task"]).run().ok();
        world.assert_done(&[("alice", 2), ("carol", 2)], version);
    });
}
