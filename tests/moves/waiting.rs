//! An interface that waits for a reset, if that is wished.

use testkit::SOON;
use testkit::backend::{Limit, Usage};

use crate::world::{Moves as _, each};

#[test]
fn interface_goes_on_with_its_account_after_the_reset() {
    each(&["alice"], |world| {
        world.settings("background_refresh = false\ncarry_wait = \"1h\"\n");
        let mut ui = world.open(&[]);
        let server = world.wait_for_server();
        let mut usage = Usage::percent(40.0, 40.0);
        usage.primary = usage.primary.map(|window| window.resets_in(10));
        world.backend().set_usage("alice", usage);
        world.backend().limit_after("alice", 2, Limit::Refuse);
        ui.send_line("do the task");
        world.wait_for_refusal("no other account can go on; alice resets first\",\"resets_at\":");
        assert_eq!(world.moved(), 0, "{}", world.moves());
        world.backend().set_usage("alice", Usage::percent(0.0, 40.0));
        world.wait_for_task(&[("alice", 4)]);
        ui.wait_for_text("done by alice", SOON);
        assert_eq!(world.server(&world.codex_home()), Some(server), "no server was stopped");
        world.assert_told_once("alice");
        let list = world.pool(&["list"]).run().ok();
        assert!(list.stdout.contains("went on with alice"), "{list}");
        world.assert_nothing_lost(&["alice"]);
    });
}
